//! What a query finds by a catalog, against a catalog and a store in memory.

use super::query::{Format, Registry, Tables, query};
use crate::catalog::memory::MemoryCatalog;
use crate::catalog::{self, Catalog, Column, Definition, Partition};
use crate::clock::ManualClock;
use crate::error::{Kind, Result};
use crate::store;
use arrow::array::{
    ArrayRef, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field};
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use std::sync::Arc;

/// 2024-03-02 12:00:00 UTC.
const NOW_MS: i64 = 1_709_380_800_000;

/// A database in a lake of its own.
struct World {
    lake: String,
    catalog: MemoryCatalog,
}

impl World {
    async fn new(name: &str) -> World {
        let catalog = MemoryCatalog::default();
        catalog.create_database("med").await.unwrap();
        World {
            lake: format!("memory://{name}/lake"),
            catalog,
        }
    }

    fn table(&self, name: &str, columns: &[(&str, &str)], keys: &[(&str, &str)]) -> Definition {
        let described = |columns: &[(&str, &str)]| {
            let column = |(name, hive_type): &(&str, &str)| Column {
                name: (*name).to_owned(),
                hive_type: (*hive_type).to_owned(),
                comment: None,
            };
            columns.iter().map(column).collect()
        };
        Definition {
            database: "med".into(),
            name: name.into(),
            columns: described(columns),
            partition_keys: described(keys),
            location: format!("{}/{name}", self.lake),
            parameters: [].into(),
            format: catalog::Format::Parquet,
        }
    }

    /// A file of one batch.
    async fn put(&self, path: &str, columns: Vec<(&str, ArrayRef)>) {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        self.put_bytes(path, bytes).await;
    }

    async fn put_bytes(&self, path: &str, bytes: Vec<u8>) {
        let lake = store::open(&self.lake).unwrap();
        let path = object_store::path::Path::parse(format!("{}/{path}", lake.path)).unwrap();
        let payload = PutPayload::from(bytes);
        lake.store.put(&path, payload).await.unwrap();
    }

    async fn add(&self, table: &Definition, values: &[&str], location: &str) {
        let partition = Partition {
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            location: location.to_owned(),
        };
        self.catalog.create_table(table).await.unwrap();
        self.catalog
            .add_partitions(table, &[partition])
            .await
            .unwrap();
    }

    async fn ask(&self, sql: &str) -> Result<String> {
        let registry = Registry {
            catalog: Arc::new(self.catalog.clone()),
            database: "med".into(),
            clock: Arc::new(ManualClock::at(NOW_MS)),
        };
        let mut out = Vec::new();
        let tables = Tables::Catalog(&registry);
        query(sql, tables, |_| {}, Format::Csv, &mut out).await?;
        let text = String::from_utf8(out).unwrap();
        Ok(text.lines().collect::<Vec<_>>().join("; "))
    }

    async fn answer(&self, sql: &str) -> String {
        self.ask(sql).await.unwrap()
    }

    async fn refusal(&self, sql: &str) -> String {
        let error = self.ask(sql).await.unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    }
}

fn ints(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

const ID: (&str, &str) = ("id", "int");
const DT: (&str, &str) = ("dt", "string");
const HOUR: (&str, &str) = ("hour", "int");

#[tokio::test]
async fn registered_partitions_are_read_where_they_are() {
    let world = World::new("registered").await;
    let table = world.table("vitals", &[ID], &[DT, HOUR]);
    let lake = world.lake.clone();
    world
        .put("vitals/dt=a/hour=07/x.parquet", vec![("id", ints(&[1]))])
        .await;
    world
        .put("_tributary/compacted/9/y", vec![("id", ints(&[2, 3]))])
        .await;
    world
        .put("vitals/dt=c/hour=1/z.parquet", vec![("id", ints(&[4]))])
        .await;
    world
        .put("vitals/dt=b%3Ac/hour=2/w.parquet", vec![("id", ints(&[5]))])
        .await;
    world
        .put("vitals/dt=n/hour=3/v.parquet", vec![("id", ints(&[6]))])
        .await;
    // Neither of these is data, and there may be folders in a partition.
    world
        .put("vitals/dt=a/hour=07/_u.parquet", vec![("id", ints(&[7]))])
        .await;
    world
        .put("vitals/dt=a/hour=07/.t/s.parquet", vec![("id", ints(&[8]))])
        .await;
    world
        .put_bytes("vitals/dt=a/hour=07/r.parquet", Vec::new())
        .await;
    world
        .put("vitals/dt=a/hour=07/more/q", vec![("id", ints(&[9]))])
        .await;
    world
        .add(&table, &["a", "7"], &format!("{lake}/vitals/dt=a/hour=07"))
        .await;
    world
        .add(
            &table,
            &["a", "8"],
            &format!("{lake}/_tributary/compacted/9/"),
        )
        .await;
    world
        .add(
            &table,
            &["b:c", "2"],
            &format!("{lake}/vitals/dt=b%3Ac/hour=2"),
        )
        .await;
    let null = "__HIVE_DEFAULT_PARTITION__";
    world
        .add(&table, &["n", null], &format!("{lake}/vitals/dt=n/hour=3"))
        .await;
    world
        .add(&table, &["a", "9"], &format!("{lake}/vitals/dt=a/hour=9"))
        .await;

    assert_eq!(
        world.answer("SELECT * FROM vitals ORDER BY id").await,
        "id,dt,hour; 1,a,7; 2,a,8; 3,a,8; 5,b:c,2; 6,n,; 9,a,7",
        "dt=c is not registered"
    );
    let count = world
        .answer("SELECT count(*) AS n FROM vitals WHERE hour IS NULL")
        .await;
    assert_eq!(count, "n; 1");
    assert_eq!(
        world
            .answer("SELECT dt, sum(hour) AS h FROM med.vitals v GROUP BY dt ORDER BY dt")
            .await,
        "dt,h; a,30; b:c,2; n,"
    );
    assert_eq!(
        world
            .answer("SELECT id FROM awsdatacatalog.med.vitals WHERE hour = 8 AND id > 2")
            .await,
        "id; 3"
    );
    assert_eq!(
        world.answer("").await,
        format!(
            "table,files,bytes,location; vitals,5,{},{lake}/vitals",
            world.bytes(&table).await
        )
    );
}

impl World {
    /// What is in the partitions of a table, asked of the store.
    async fn bytes(&self, table: &Definition) -> u64 {
        use futures::TryStreamExt;
        let mut sum = 0;
        let hidden = |path: &str| path.contains("/_u") || path.contains("/.t");
        for partition in self.catalog.partitions("med", &table.name).await.unwrap() {
            let at = store::open(&partition.location).unwrap();
            let files: Vec<_> = at.store.list(Some(&at.path)).try_collect().await.unwrap();
            let files = files.iter().filter(|file| !hidden(file.location.as_ref()));
            sum += files.map(|file| file.size).sum::<u64>();
        }
        sum
    }
}

#[tokio::test]
async fn filters_rule_partitions_out_before_they_are_listed() {
    let world = World::new("pruned").await;
    let table = world.table("t", &[ID], &[DT, HOUR]);
    world.put("t/1/x", vec![("id", ints(&[1]))]).await;
    world
        .add(&table, &["2024-03-01", "1"], &format!("{}/t/1", world.lake))
        .await;
    // A place that nobody can list.
    world
        .add(&table, &["2024-03-02", "2"], "wasb://bucket/x")
        .await;
    for filter in [
        "dt = '2024-03-01'",
        "dt < '2024-03-02'",
        "hour IN (1, 3)",
        "dt LIKE '%-01' AND id = 1",
        "hour + 1 = 2",
        "(dt = '2024-03-01' AND id = 1) AND hour BETWEEN 0 AND 1",
    ] {
        let sql = format!("SELECT id FROM t WHERE {filter}");
        assert_eq!(world.answer(&sql).await, "id; 1", "{filter}");
    }
    let error = world.refusal("SELECT id FROM t WHERE hour > 0").await;
    assert!(
        error.starts_with("wasb://bucket/x: wasb:// is not supported"),
        "{error}"
    );
    assert_eq!(world.answer("SELECT id FROM t WHERE hour > 9").await, "id");
}

#[tokio::test]
async fn a_projection_says_which_partitions_there_are() {
    let world = World::new("projected").await;
    let mut table = world.table("p", &[ID], &[DT, HOUR]);
    for (key, value) in [
        ("projection.enabled", "true"),
        ("projection.dt.type", "date"),
        ("projection.dt.format", "yyyy-MM-dd"),
        ("projection.dt.range", "2024-03-01,NOW"),
        ("projection.hour.type", "integer"),
        ("projection.hour.range", "0,23"),
        ("projection.hour.digits", "2"),
    ] {
        table.parameters.insert(key.into(), value.into());
    }
    for (id, folder) in [
        (1, "dt=2024-03-01/hour=00"),
        (2, "dt=2024-03-02/hour=23"),
        // Before the range, behind it, and not as the projection writes an hour.
        (3, "dt=2024-02-29/hour=00"),
        (4, "dt=2024-03-03/hour=00"),
        (5, "dt=2024-03-01/hour=7"),
    ] {
        world
            .put(&format!("p/{folder}/x.parquet"), vec![("id", ints(&[id]))])
            .await;
    }
    // Registered beside a projection, it is not seen.
    world
        .add(
            &table,
            &["2024-03-03", "0"],
            &format!("{}/p/dt=2024-03-03/hour=00", world.lake),
        )
        .await;
    assert_eq!(
        world.answer("SELECT * FROM p ORDER BY id").await,
        "id,dt,hour; 1,2024-03-01,0; 2,2024-03-02,23"
    );
    assert_eq!(
        world
            .answer("SELECT id FROM p WHERE hour = 23 AND dt = '2024-03-02'")
            .await,
        "id; 2"
    );

    // So many that the table's folder is listed as one.
    table.name = "wide".into();
    table
        .parameters
        .insert("projection.dt.range".into(), "2023-01-01,NOW".into());
    world.catalog.create_table(&table).await.unwrap();
    assert_eq!(
        world.answer("SELECT id, hour FROM wide ORDER BY id").await,
        "id,hour; 1,0; 2,23; 3,0"
    );
    table.name = "endless".into();
    table
        .parameters
        .insert("projection.hour.range".into(), "0,9999".into());
    world.catalog.create_table(&table).await.unwrap();
    assert_eq!(
        world.refusal("SELECT id FROM endless").await,
        "table med.endless: more than 1000000 partitions are projected for this query: filter on dt, hour"
    );
    let few = "SELECT id FROM endless WHERE dt = '2024-03-02' AND hour < 30";
    assert_eq!(world.answer(few).await, "id; 2");

    table.name = "injected".into();
    table
        .parameters
        .insert("projection.dt.type".into(), "injected".into());
    table
        .parameters
        .insert("projection.hour.range".into(), "0,23".into());
    world.catalog.create_table(&table).await.unwrap();
    let sql = "SELECT id FROM injected WHERE dt IN ('2024-03-01', '2024-03-03') ORDER BY id";
    assert_eq!(world.answer(sql).await, "id; 1; 4");
    let error = world
        .refusal("SELECT id FROM injected WHERE dt > '2024'")
        .await;
    assert!(
        error.contains("so the query has to name them: WHERE dt = '...'"),
        "{error}"
    );
    // Which files such a table has is not known either, and it is a table all the same.
    let listed = world.answer("show tables").await;
    assert!(listed.contains("; injected,,,memory://"), "{listed}");
}

#[tokio::test]
async fn columns_are_found_by_name_and_read_as_the_catalogs_types() {
    let world = World::new("columns").await;
    let columns = [
        ("id", "bigint"),
        ("name", "string"),
        ("at", "timestamp"),
        ("place", "struct<latitude:double,tags:array<string>>"),
    ];
    let table = world.table("t", &columns, &[]);
    world.catalog.create_table(&table).await.unwrap();
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    // Another order, other letters, a narrower number, a finer time, and columns that the catalog does not know.
    let latitude: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![48.5]));
    let place = StructArray::from(vec![
        (
            Arc::new(Field::new("extra", DataType::Int32, true)),
            ints(&[1]),
        ),
        (
            Arc::new(Field::new("Latitude", DataType::Float64, true)),
            latitude,
        ),
    ]);
    let at = TimestampMicrosecondArray::from(vec![1_709_380_800_000_600]);
    world
        .put(
            "t/a.parquet",
            vec![
                ("other", text("x")),
                ("Place", Arc::new(place)),
                ("At", Arc::new(at)),
                ("ID", Arc::new(Int16Array::from(vec![1]))),
            ],
        )
        .await;
    world
        .put(
            "t/b",
            vec![
                ("name", text("n")),
                ("id", Arc::new(Int64Array::from(vec![2]))),
            ],
        )
        .await;
    assert_eq!(
        world.answer("SELECT * FROM t ORDER BY id").await,
        "id,name,at,place; 1,,2024-03-02 12:00:00.001,\"{latitude: 48.5, tags: NULL}\"; 2,n,,"
    );
    assert_eq!(
        world
            .answer("SELECT id, place.latitude AS l FROM t WHERE id < 2 AND place.latitude > 48")
            .await,
        "id,l; 1,48.5"
    );
    assert_eq!(
        world
            .answer("SELECT count(*) AS n FROM t WHERE name IS NULL")
            .await,
        "n; 1"
    );
    assert_eq!(
        world
            .answer("SELECT data_type FROM information_schema.columns WHERE column_name = 'at'")
            .await,
        "data_type; Timestamp(ms)"
    );

    world
        .put(
            "t/c.parquet",
            vec![("name", ints(&[5])), ("id", ints(&[3]))],
        )
        .await;
    // Only who looks at that column is in trouble.
    assert_eq!(world.answer("SELECT max(id) AS m FROM t").await, "m; 3");
    let error = world.ask("SELECT name FROM t").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    assert_eq!(
        error.to_string(),
        "memory://columns/lake/t/c.parquet: column 'name' is STRING in the catalog and INT in the file, and Athena reads no such \
         file (HIVE_BAD_DATA): change the table's column, or write the file anew"
    );
    world
        .put_bytes("t/d.parquet", b"no Parquet at all".to_vec())
        .await;
    let error = world.ask("SELECT id FROM t").await.unwrap_err().to_string();
    assert!(
        error.starts_with("memory://columns/lake/t/d.parquet cannot be read: "),
        "{error}"
    );
}

#[tokio::test]
async fn names_are_looked_up_in_every_database() {
    let world = World::new("names").await;
    let mut table = world.table("vitals", &[ID], &[]);
    world.put("vitals/x", vec![("id", ints(&[1]))]).await;
    assert_eq!(
        world.refusal("SELECT 1 FROM vitals").await,
        "there is no table 'vitals': database 'med' of the catalog has no tables; --database names another"
    );
    world.catalog.create_table(&table).await.unwrap();
    world.catalog.create_database("other").await.unwrap();
    table.database = "other".into();
    world.catalog.create_table(&table).await.unwrap();
    assert_eq!(
        world
            .answer("SELECT a.id FROM vitals a JOIN other.vitals b ON a.id = b.id JOIN vitals c ON a.id = c.id")
            .await,
        "id; 1"
    );
    let refused = async |sql: &str, why: &str| {
        let error = world.refusal(sql).await;
        assert!(error.contains(why), "{error}");
    };
    refused(
        "SELECT 1 FROM vital",
        "in database 'med' of the catalog: did you mean 'vitals'?",
    )
    .await;
    refused(
        "SELECT 1 FROM other.vital",
        "in database 'other' of the catalog: did you mean 'vitals'?",
    )
    .await;
    refused(
        "SELECT 1 FROM third.x",
        "database 'third' of the catalog has no tables",
    )
    .await;
    refused(
        "SELECT 1 FROM hive.med.vitals",
        "there is no catalog 'hive'",
    )
    .await;
    refused("SELECT idd FROM vitals", "Did you mean 'vitals.id'?").await;

    let mut view = world.table("report", &[ID], &[]);
    view.format = catalog::Format::Other("a view".into());
    world.catalog.create_table(&view).await.unwrap();
    refused(
        "SELECT 1 FROM report",
        "table med.report is a view: only tables of Parquet files can be read",
    )
    .await;
    let odd = world.table("odd", &[("x", "uniontype<int>")], &[]);
    world.catalog.create_table(&odd).await.unwrap();
    refused(
        "SELECT 1 FROM odd",
        "table med.odd, column 'x': the type 'uniontype<int>' cannot be read",
    )
    .await;
    let listed = world.answer("show tables").await;
    assert!(listed.contains("; odd,,,memory://"), "{listed}");
}

#[tokio::test]
async fn odd_partitions_are_named() {
    let world = World::new("odd").await;
    let table = world.table("t", &[ID], &[HOUR]);
    world
        .add(&table, &["x"], &format!("{}/t/x", world.lake))
        .await;
    let error = world.ask("SELECT * FROM t").await.unwrap_err().to_string();
    assert!(
        error.starts_with("table med.t: a value of partition key 'hour' cannot be read: "),
        "{error}"
    );
    let table = world.table("u", &[ID], &[HOUR]);
    world.add(&table, &["1", "2"], "memory://odd/u").await;
    let error = world.ask("SELECT * FROM u").await.unwrap_err().to_string();
    assert_eq!(
        error,
        "table med.u: the partition at memory://odd/u has 2 values for 1 keys"
    );
}
