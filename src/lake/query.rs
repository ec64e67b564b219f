//! SQL over what is published, as Athena would see it.
//!
//! Without a catalog, every folder of a lake that holds Parquet is a table by its name; `key=value` folders below it are
//! columns of type STRING. With one, the tables are those of the catalog. Only the tables that a query names are looked into.

use super::print::{Pipe, Printer};
use super::tables::{Found, choose, find_tables, list};
use crate::catalog::Definition;
use crate::error::{Error, Result};
use arrow::record_batch::RecordBatch;
use datafusion::common::TableReference;
use datafusion::config::Dialect;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use std::error::Error as StdError;
use std::io::Write;
use std::rc::Rc;

pub use super::print::Format;
pub use super::registry::Registry;
pub use super::tables::Lake;

/// Where the tables of a query are.
#[derive(Clone, Copy)]
pub enum Tables<'a> {
    /// In folders: what lies there is what there is.
    Lakes(&'a [Lake]),
    /// In a catalog.
    Catalog(&'a Registry),
}

/// The same, with the names of the tables.
enum Shelf<'a> {
    Folders(&'a [Lake], Vec<Found>),
    Catalog(&'a Registry, Vec<Definition>),
}

/// Runs one statement over the tables and writes its rows; returns how many they are. Without a statement, or with
/// `SHOW TABLES`, it lists the tables. `prepare` may register more functions.
pub async fn query(
    sql: &str,
    tables: Tables<'_>,
    prepare: impl FnOnce(&SessionContext),
    format: Format,
    out: &mut dyn Write,
) -> Result<u64> {
    let shelf = Shelf::open(tables).await?;
    let sql = sql.trim().trim_end_matches(';');
    let context = shelf.context()?;
    if sql.is_empty() || sql.eq_ignore_ascii_case("show tables") {
        let batch = shelf.list(&context).await?;
        let mut printer = Printer::new(format, &batch.schema(), out);
        printer.write(&batch)?;
        return printer.finish();
    }
    prepare(&context);
    let state = context.state();
    let statement = state
        .sql_to_statement(sql, &Dialect::Generic)
        .map_err(refused)?;
    for reference in state
        .resolve_table_references(&statement)
        .map_err(refused)?
    {
        shelf.register(reference, &context).await?;
    }
    let plan = context
        .state()
        .statement_to_plan(statement)
        .await
        .map_err(refused)?;
    reads_only(&plan)?;
    let frame = context.execute_logical_plan(plan).await.map_err(refused)?;
    let mut batches = frame.execute_stream().await.map_err(refused)?;
    let gone = Rc::default();
    let mut pipe = Pipe {
        out,
        gone: Rc::clone(&gone),
    };
    let mut printer = Printer::new(format, &batches.schema(), &mut pipe);
    while !gone.get()
        && let Some(batch) = batches.try_next().await.map_err(failed)?
    {
        printer.write(&batch)?;
    }
    printer.finish()
}

impl<'a> Shelf<'a> {
    async fn open(tables: Tables<'a>) -> Result<Shelf<'a>> {
        Ok(match tables {
            Tables::Lakes(lakes) => Shelf::Folders(lakes, find_tables(lakes).await?),
            Tables::Catalog(registry) => Shelf::Catalog(registry, registry.tables().await?),
        })
    }

    fn context(&self) -> Result<SessionContext> {
        let config = SessionConfig::new().with_information_schema(true);
        Ok(SessionContext::new_with_config(match self {
            Shelf::Folders(..) => config,
            Shelf::Catalog(registry, _) => registry.name_in(config),
        }))
    }

    /// The tables with how much is in them.
    async fn list(&self, context: &SessionContext) -> Result<RecordBatch> {
        match self {
            Shelf::Folders(lakes, tables) => list(tables, lakes).await,
            Shelf::Catalog(registry, tables) => registry.list(tables, &context.state()).await,
        }
    }

    /// Makes a table known to the query that names it.
    async fn register(&self, reference: TableReference, context: &SessionContext) -> Result<()> {
        match self {
            // A name with a schema before it is one of DataFusion's own tables.
            Shelf::Folders(..) if reference.schema().is_some() => Ok(()),
            Shelf::Folders(lakes, tables) => {
                let table = choose(tables, reference.table(), lakes)?;
                let provider = table.open(context).await?;
                let registered = context.register_table(reference, provider);
                registered.map(|_| ()).map_err(refused)
            }
            Shelf::Catalog(registry, tables) => registry.register(reference, tables, context).await,
        }
    }
}

/// Refuses all that would change something: files that COPY writes would be beside every promise of a job.
fn reads_only(plan: &LogicalPlan) -> Result<()> {
    let nothing = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    nothing.verify_plan(plan).map_err(|error| {
        let what = "a query only reads what is published; a job's INSERT INTO is what writes";
        Error::job(what).caused_by(error)
    })
}

/// The statement cannot be run as it is written.
pub fn refused(error: DataFusionError) -> Error {
    explained(error, |error| {
        Error::job("the query cannot be run").caused_by(error)
    })
}

/// The statement came to no good end.
fn failed(error: DataFusionError) -> Error {
    explained(error, |error| {
        Error::data("the query failed").caused_by(error)
    })
}

/// An error of ours that only passed through DataFusion stays what it was.
fn explained(error: DataFusionError, other: impl FnOnce(DataFusionError) -> Error) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(one) = cause {
        if let Some(ours) = one.downcast_ref::<Error>() {
            return ours.again();
        }
        cause = one.source();
    }
    other(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int32Array, ListArray, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::Int32Type;
    use object_store::local::LocalFileSystem;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStoreExt, PutPayload};
    use parquet::arrow::ArrowWriter;
    use std::io;
    use std::sync::Arc;

    fn lake(url: &str) -> Lake {
        Lake {
            store: Arc::new(InMemory::new()),
            path: Path::from(".warm/lake"),
            url: url.to_owned(),
        }
    }

    async fn put(lake: &Lake, path: &str, columns: Vec<(&str, ArrayRef)>) {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let path = Path::parse(format!("{}/{path}", lake.path)).unwrap();
        lake.store
            .put(&path, PutPayload::from(bytes))
            .await
            .unwrap();
    }

    fn ints(values: &[i32]) -> ArrayRef {
        Arc::new(Int32Array::from(values.to_vec()))
    }

    async fn vitals() -> Lake {
        let lake = lake("memory://lake");
        put(
            &lake,
            "vitals/dt=2024-03-01/hour=00/a.parquet",
            vec![("id", ints(&[1, 2]))],
        )
        .await;
        put(
            &lake,
            "vitals/dt=2024-03-01/hour=01/b.parquet",
            vec![("id", ints(&[3])), ("extra", ints(&[9]))],
        )
        .await;
        put(
            &lake,
            "vitals/dt=2024-03-02/hour=00/_c.parquet",
            vec![("id", ints(&[4]))],
        )
        .await;
        put(
            &lake,
            "vitals/_temporary/dt=2024-03-02/d.parquet",
            vec![("id", ints(&[5]))],
        )
        .await;
        put(
            &lake,
            "_tributary/staged/e.parquet",
            vec![("id", ints(&[6]))],
        )
        .await;
        put(&lake, "Other/f.parquet", vec![("Id", ints(&[7]))]).await;
        let nothing = Path::parse(format!("{}/empty/_SUCCESS", lake.path)).unwrap();
        lake.store.put(&nothing, PutPayload::new()).await.unwrap();
        lake
    }

    async fn ask(sql: &str, lakes: &[Lake], format: Format) -> Result<String> {
        let mut out = Vec::new();
        let rows = query(sql, Tables::Lakes(lakes), |_| {}, format, &mut out).await?;
        let text = String::from_utf8(out).unwrap();
        if format == Format::Json {
            assert_eq!(rows, text.lines().count() as u64);
        }
        Ok(text)
    }

    #[tokio::test]
    async fn folders_are_tables_and_columns() {
        let lakes = [vitals().await];
        let sql = "SELECT id, extra, dt, hour FROM vitals ORDER BY id";
        let expected = [
            r#"{"id":1,"extra":null,"dt":"2024-03-01","hour":"00"}"#,
            r#"{"id":2,"extra":null,"dt":"2024-03-01","hour":"00"}"#,
            r#"{"id":3,"extra":9,"dt":"2024-03-01","hour":"01"}"#,
        ];
        assert_eq!(
            ask(sql, &lakes, Format::Json)
                .await
                .unwrap()
                .lines()
                .collect::<Vec<_>>(),
            expected
        );
        let one = ask(
            "SELECT id FROM vitals WHERE hour = '01'",
            &lakes,
            Format::Csv,
        )
        .await
        .unwrap();
        assert_eq!(one, "id\n3\n");
        let quoted = ask(r#"SELECT "Id" FROM "Other""#, &lakes, Format::Csv)
            .await
            .unwrap();
        assert_eq!(quoted, "Id\n7\n");
        let with = ask(
            "WITH v AS (SELECT * FROM vitals) SELECT COUNT(*) AS n FROM v;",
            &lakes,
            Format::Json,
        )
        .await;
        assert_eq!(with.unwrap(), "{\"n\":3}\n");
        assert_eq!(
            ask("SELECT 1 AS one", &[], Format::Json).await.unwrap(),
            "{\"one\":1}\n"
        );
    }

    #[tokio::test]
    async fn a_reader_may_leave() {
        struct Left(usize);
        impl Write for Left {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let lakes = [vitals().await];
        for format in [Format::Table, Format::Json, Format::Csv] {
            let mut left = Left(0);
            query(
                "SELECT * FROM vitals",
                Tables::Lakes(&lakes),
                |_| {},
                format,
                &mut left,
            )
            .await
            .unwrap();
            assert!(left.0 > 0);
        }
    }

    #[tokio::test]
    async fn tables_are_listed() {
        let lakes = [vitals().await];
        for sql in ["", "show tables;"] {
            let text = ask(sql, &lakes, Format::Csv).await.unwrap();
            let names: Vec<_> = text
                .lines()
                .map(|line| line.split(',').take(2).collect::<Vec<_>>().join(" "))
                .collect();
            assert_eq!(names, ["table files", "Other 1", "vitals 2"]);
        }
        let empty = ask("", &[lake("memory://none")], Format::Csv)
            .await
            .unwrap();
        assert_eq!(empty, "table,files,bytes,lake\n");
    }

    #[tokio::test]
    async fn refusals_say_what_to_do() {
        let lakes = [vitals().await];
        let refusal = async |sql: &str, lakes: &[Lake]| {
            let error = ask(sql, lakes, Format::Table).await.unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        };
        let text = refusal("SELECT * FROM vital", &lakes).await;
        assert_eq!(
            text,
            "there is no table 'vital' in memory://lake; is it 'vitals'?"
        );
        assert!(
            refusal("SELECT * FROM Other", &lakes)
                .await
                .contains("is it \"Other\" (in double quotes")
        );
        assert!(
            refusal("SELECT * FROM empty", &lakes)
                .await
                .contains("has no files yet")
        );
        let lines = Path::parse(format!("{}/lines/a.jsonl", lakes[0].path)).unwrap();
        let bytes = PutPayload::from_static(b"{}\n");
        lakes[0].store.put(&lines, bytes).await.unwrap();
        assert!(
            refusal("SELECT * FROM lines", &lakes)
                .await
                .contains("no Parquet files")
        );
        assert!(
            refusal("SELECT * FROM x", &[lake("memory://none")])
                .await
                .ends_with("has no tables yet")
        );
        assert!(
            refusal("SELECT nothing FROM vitals", &lakes)
                .await
                .contains("nothing")
        );
        assert!(
            refusal("SELEC", &lakes)
                .await
                .starts_with("the query cannot be run")
        );
        let twice = [vitals().await, vitals().await];
        assert!(
            refusal("SELECT * FROM vitals", &twice)
                .await
                .contains("give only one --lake")
        );
        let away = Lake {
            url: "./no/such/lake".to_owned(),
            ..lake("")
        };
        assert_eq!(
            refusal("", &[away]).await,
            "there is no lake at ./no/such/lake: no such folder"
        );
        for (statement, word) in [
            ("COPY vitals TO 'x.csv'", "COPY"),
            ("EXPLAIN ANALYZE COPY vitals TO 'x.csv'", "COPY"),
            ("CREATE TABLE vitals AS SELECT 1 AS id", "CreateMemoryTable"),
            ("DELETE FROM vitals", "Delete"),
            ("DROP TABLE vitals", "DropTable"),
            ("SET datafusion.execution.batch_size = 1", "SetVariable"),
        ] {
            let text = refusal(statement, &lakes).await;
            assert!(text.starts_with("a query only reads"), "{text}");
            assert!(text.contains(word), "{text}");
        }
        put(
            &lakes[0],
            "vitals/dt=2024-03-03/g.parquet",
            vec![("id", ints(&[8]))],
        )
        .await;
        let mixed = ask("SELECT * FROM vitals", &lakes, Format::Json)
            .await
            .unwrap_err();
        assert!(mixed.to_string().contains("unlike partitions"), "{mixed}");
    }

    #[tokio::test]
    async fn the_folder_for_null_is_null() {
        let lake = lake("memory://lake");
        for (folder, id) in [("dt=a", 1), ("dt=__HIVE_DEFAULT_PARTITION__", 2)] {
            let path = format!("t/{folder}/hour=00/x.parquet");
            put(&lake, &path, vec![("id", ints(&[id]))]).await;
        }
        let lakes = [lake];
        for (rest, expected) in [
            ("ORDER BY id", "id,dt,hour\n1,a,00\n2,,00\n"),
            ("WHERE dt IS NULL", "id,dt,hour\n2,,00\n"),
            ("WHERE dt = 'a' AND hour = '00'", "id,dt,hour\n1,a,00\n"),
            ("WHERE dt <> 'a'", "id,dt,hour\n"),
        ] {
            let sql = format!("SELECT * FROM t {rest}");
            let text = ask(&sql, &lakes, Format::Csv).await.unwrap();
            assert_eq!(text, expected, "{rest}");
        }
    }

    #[tokio::test]
    async fn a_bad_file_is_named() {
        let lakes = [vitals().await];
        let failure = async |sql: &str| {
            let error = ask(sql, &lakes, Format::Csv).await.unwrap_err();
            error.to_string()
        };
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let file = "vitals/dt=2024-03-03/hour=00/g.parquet";
        put(&lakes[0], file, vec![("id", text)]).await;
        let sql = "SELECT COUNT(*) FROM vitals";
        assert_eq!(
            failure(sql).await,
            "table 'vitals' in memory://lake: column 'id' is INT in .warm/lake/vitals/dt=2024-03-01/hour=00/a.parquet, but STRING in \
             .warm/lake/vitals/dt=2024-03-03/hour=00/g.parquet"
        );
        let damaged = Path::parse(format!("{}/{file}", lakes[0].path)).unwrap();
        let bytes = PutPayload::from_static(b"this is no Parquet file");
        lakes[0].store.put(&damaged, bytes).await.unwrap();
        let text = failure(sql).await;
        assert!(text.contains("g.parquet cannot be read"), "{text}");
    }

    #[tokio::test]
    async fn a_local_folder_is_a_lake_too() {
        let folder = std::env::temp_dir().join(format!("tributary-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let lake = Lake {
            store: Arc::new(LocalFileSystem::new()),
            path: Path::from_absolute_path(&folder).unwrap(),
            url: folder.display().to_string(),
        };
        let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_709_294_400_000_001]));
        let tags: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([
            Some(1),
            None,
        ])]));
        let columns = vec![
            ("id", ints(&[10])),
            (
                "name",
                Arc::new(StringArray::from(vec!["a\nb"])) as ArrayRef,
            ),
            ("at", at),
            ("tags", tags),
        ];
        put(&lake, "t/dt=x y/a.parquet", columns).await;
        let read = async |format| {
            ask("SELECT * FROM t", std::slice::from_ref(&lake), format)
                .await
                .unwrap()
        };
        let table = "id  name  at                          tags       dt\n\
                     --  ----  --------------------------  ---------  ---\n\
                     10  a␤b   2024-03-01 12:00:00.000001  [1, NULL]  x y\n";
        assert_eq!(read(Format::Table).await, table);
        assert_eq!(
            read(Format::Csv).await,
            "id,name,at,tags,dt\n10,\"a\nb\",2024-03-01 12:00:00.000001,\"[1, NULL]\",x y\n"
        );
        let json = "{\"id\":10,\"name\":\"a\\nb\",\"at\":\"2024-03-01 12:00:00.000001\",\"tags\":[1,null],\"dt\":\"x y\"}\n";
        assert_eq!(read(Format::Json).await, json);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
