//! A table in the catalog, and the table that the job writes: whether they are the same, can become the same, or cannot.
//!
//! Athena finds a Parquet column by its name, so what can be done without touching a file is: a column is added at the end (older files
//! read it as NULL), comments and our own properties change. A column that the job has no longer stays in the catalog: its old rows
//! keep their values, new rows read NULL. All else would make Athena fail on old files or new ones, or hide rows, and is refused with
//! every difference.

use super::{Catalog, Column, Definition, Format};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// The property that says that the projection of a table comes from its job, and goes with it.
pub const PROJECTED_BY_JOB: &str = "tributary.projection";

/// What a table in the catalog needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evolution {
    /// It is not there.
    Missing,
    /// It is as the job has it.
    Same,
    /// It can be changed to this; what changes, in words.
    Change {
        to: Box<Definition>,
        changes: Vec<String>,
    },
    /// It does not fit: every difference.
    Unfit(Vec<String>),
}

/// What the catalog's table needs to become the job's.
pub fn evolve(there: &Definition, wanted: &Definition) -> Evolution {
    let differences = differences(there, wanted);
    if !differences.is_empty() {
        return Evolution::Unfit(differences);
    }
    let mut changes = Vec::new();
    let columns = merged(&there.columns, &wanted.columns, "column", &mut changes);
    let keys = (&there.partition_keys, &wanted.partition_keys);
    let partition_keys = merged(keys.0, keys.1, "partition key", &mut changes);
    let parameters = parameters(&there.parameters, &wanted.parameters, &mut changes);
    if changes.is_empty() {
        return Evolution::Same;
    }
    let to = Definition {
        columns,
        partition_keys,
        parameters,
        ..there.clone()
    };
    Evolution::Change {
        to: Box::new(to),
        changes,
    }
}

fn differences(there: &Definition, wanted: &Definition) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: String, there: &str, wanted: &str| {
        found.push(format!(
            "{what}: {there} in the catalog, {wanted} in the job"
        ));
    };
    if let Format::Other(what) = &there.format {
        differ("format".to_owned(), what, "Parquet");
    }
    if plain(&there.location) != plain(&wanted.location) {
        differ("location".to_owned(), &there.location, &wanted.location);
    }
    for column in &wanted.columns {
        let known = there.columns.iter().find(|known| known.name == column.name);
        if let Some(known) = known
            && plain_type(&known.hive_type) != plain_type(&column.hive_type)
        {
            let what = format!("column {}", column.name);
            differ(what, &known.hive_type, &column.hive_type);
        }
    }
    let names = |keys: &[Column]| {
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        match names.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        }
    };
    let keys = (&there.partition_keys, &wanted.partition_keys);
    if names(keys.0) == names(keys.1) {
        for (known, key) in keys.0.iter().zip(keys.1) {
            if plain_type(&known.hive_type) != plain_type(&key.hive_type) {
                let what = format!("partition key {}", key.name);
                differ(what, &known.hive_type, &key.hive_type);
            }
        }
    } else {
        differ("partition keys".to_owned(), &names(keys.0), &names(keys.1));
    }
    found
}

/// A location without what makes no difference.
fn plain(location: &str) -> String {
    let location = location.trim_end_matches('/');
    match location.split_once("://") {
        Some(("s3" | "s3a" | "s3n", rest)) => format!("s3://{rest}"),
        Some(("file", rest)) => format!("/{}", rest.trim_start_matches('/')),
        _ => match location.strip_prefix("file:") {
            Some(path) => path.to_owned(),
            None => location.to_owned(),
        },
    }
}

/// A type without what makes no difference.
fn plain_type(hive_type: &str) -> String {
    let text: String = hive_type.chars().filter(|next| *next != ' ').collect();
    match text.to_lowercase().as_str() {
        "integer" => "int".to_owned(),
        other => other.to_owned(),
    }
}

/// The catalog's columns in their order, with the job's comments; those that only the job has come last.
fn merged(
    there: &[Column],
    wanted: &[Column],
    word: &str,
    changes: &mut Vec<String>,
) -> Vec<Column> {
    let mut all = there.to_vec();
    for column in wanted {
        match all.iter_mut().find(|known| known.name == column.name) {
            Some(known) => {
                // A comment that somebody wrote into the catalog is theirs, unless the job has one.
                if column.comment.is_some() && column.comment != known.comment {
                    known.comment.clone_from(&column.comment);
                    changes.push(format!("{word} {}: another comment", column.name));
                }
            }
            None => {
                all.push(column.clone());
                changes.push(format!(
                    "{word} {}: added as {}",
                    column.name, column.hive_type
                ));
            }
        }
    }
    all
}

/// The catalog's properties with ours over them. Ours that the job has no longer go; those of others stay.
fn parameters(
    there: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
    changes: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let projection_is_ours = there.contains_key(PROJECTED_BY_JOB);
    let is_ours = |key: &str| {
        let projects = key.starts_with("projection.") || key == "storage.location.template";
        key.starts_with("tributary.") || (projects && projection_is_ours)
    };
    let mut all = there.clone();
    all.retain(|key, _| {
        let stays = wanted.contains_key(key) || !is_ours(key);
        if !stays {
            changes.push(format!("property {key}: removed"));
        }
        stays
    });
    for (key, value) in wanted {
        if all.get(key) != Some(value) {
            changes.push(format!("property {key}: {value}"));
            all.insert(key.clone(), value.clone());
        }
    }
    all
}

/// What became of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    Created,
    Same,
    /// What was changed, in words.
    Changed(Vec<String>),
}

/// What each table needs, without doing it.
pub async fn inspect(catalog: &dyn Catalog, tables: &[Definition]) -> Result<Vec<Evolution>> {
    let mut found = Vec::with_capacity(tables.len());
    for table in tables {
        let there = catalog.table(&table.database, &table.name).await?;
        found.push(there.map_or(Evolution::Missing, |there| evolve(&there, table)));
    }
    Ok(found)
}

/// Creates what is missing and changes what can be changed; nothing at all where a table does not fit. Repeating it is harmless.
///
/// An error of the kind `Retry` says that the catalog is away: ask again later. One of the kind `Job` holds the differences of all
/// tables that do not fit, or says what is not allowed.
pub async fn prepare(catalog: &dyn Catalog, tables: &[Definition]) -> Result<Vec<Prepared>> {
    let found = inspect(catalog, tables).await?;
    if let Some(error) = misfits(tables, &found) {
        return Err(error);
    }
    let mut done = Vec::with_capacity(tables.len());
    for (table, evolution) in tables.iter().zip(found) {
        done.push(match evolution {
            Evolution::Missing => {
                catalog.create_database(&table.database).await?;
                if !catalog.create_table(table).await? {
                    // Somebody was faster, a crawler, say, and may have another table in mind.
                    fit(catalog, table).await?;
                }
                Prepared::Created
            }
            Evolution::Change { to, changes } => {
                catalog.update_table(&to).await?;
                Prepared::Changed(changes)
            }
            Evolution::Same | Evolution::Unfit(_) => Prepared::Same,
        });
    }
    Ok(done)
}

/// Changes what has to be changed of a table that is there.
async fn fit(catalog: &dyn Catalog, table: &Definition) -> Result<()> {
    let tables = std::slice::from_ref(table);
    let found = inspect(catalog, tables).await?;
    if let Some(error) = misfits(tables, &found) {
        return Err(error);
    }
    for evolution in found {
        if let Evolution::Change { to, .. } = evolution {
            catalog.update_table(&to).await?;
        }
    }
    Ok(())
}

/// The refusal of all tables that do not fit, if there are any.
pub fn misfits(tables: &[Definition], found: &[Evolution]) -> Option<Error> {
    let mut text = String::new();
    for (table, evolution) in tables.iter().zip(found) {
        if let Evolution::Unfit(differences) = evolution {
            text.push_str(&format!(
                "the table {}.{} of the catalog does not fit the job's\n  {}\n",
                table.database,
                table.name,
                differences.join("\n  ")
            ));
        }
    }
    if text.is_empty() {
        return None;
    }
    text.push_str(
        "  hint: files that are there cannot be changed: write into a new folder, under a new name ('tributary.glue.table'); \
         or drop the table of the catalog, if it is not the job's: its files stay",
    );
    Some(Error::job(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::memory::MemoryCatalog;
    use crate::error::Kind;

    fn column(name: &str, hive_type: &str) -> Column {
        Column {
            name: name.into(),
            hive_type: hive_type.into(),
            comment: None,
        }
    }

    fn table() -> Definition {
        let parameters = [
            ("classification", "parquet"),
            ("tributary.job", "emergency"),
        ];
        Definition {
            database: "lake".into(),
            name: "breaches".into(),
            columns: vec![
                column("id", "string"),
                column("severity", "int"),
                column("place", "struct<latitude:double,longitude:double>"),
            ],
            partition_keys: vec![column("dt", "string"), column("hour", "string")],
            location: "s3://b/lake/breaches".into(),
            parameters: parameters
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            format: Format::Parquet,
        }
    }

    /// What the job's table becomes by a change.
    fn wanted(change: impl FnOnce(&mut Definition)) -> Definition {
        let mut table = table();
        change(&mut table);
        table
    }

    #[track_caller]
    fn unfit(there: &Definition, wanted: &Definition, expected: &[&str]) {
        match evolve(there, wanted) {
            Evolution::Unfit(differences) => assert_eq!(differences, expected),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn changed(there: &Definition, wanted: &Definition, expected: &[&str]) -> Definition {
        match evolve(there, wanted) {
            Evolution::Change { to, changes } => {
                assert_eq!(changes, expected);
                assert_eq!(evolve(&to, wanted), Evolution::Same, "one change is enough");
                *to
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_makes_no_difference_is_none() {
        let there = wanted(|table| {
            table.location = "s3a://b/lake/breaches/".into();
            table.columns[1].hive_type = "INTEGER".into();
            table.columns[2].hive_type = "struct<latitude: double, longitude: double>".into();
            table.columns[0].comment = Some("somebody's".into());
            table.columns.swap(0, 1);
            table
                .parameters
                .insert("projection.enabled".into(), "false".into());
        });
        assert_eq!(evolve(&there, &table()), Evolution::Same);
        let local = wanted(|table| table.location = "file:/lake/breaches".into());
        let job = wanted(|table| table.location = "file:///lake/breaches".into());
        assert_eq!(evolve(&local, &job), Evolution::Same);
    }

    #[test]
    fn a_new_column_comes_last() {
        let job = wanted(|table| table.columns.insert(1, column("heart_rate", "int")));
        let to = changed(&table(), &job, &["column heart_rate: added as int"]);
        assert_eq!(to.columns[3], column("heart_rate", "int"));
    }

    #[test]
    fn a_column_that_the_job_has_no_longer_stays() {
        let job = wanted(|table| drop(table.columns.remove(1)));
        assert_eq!(evolve(&table(), &job), Evolution::Same);
        // It cannot come back as something else.
        let back = wanted(|table| table.columns[1].hive_type = "string".into());
        unfit(
            &table(),
            &back,
            &["column severity: int in the catalog, string in the job"],
        );
    }

    #[test]
    fn comments_and_properties_are_ours_only_where_we_made_them() {
        let there = wanted(|table| {
            for (key, value) in [
                ("UPDATED_BY_CRAWLER", "c"),
                ("projection.enabled", "true"),
                ("tributary.old", "x"),
            ] {
                table.parameters.insert(key.into(), value.into());
            }
        });
        let job = wanted(|table| {
            table.columns[0].comment = Some("whose it is".into());
            table
                .parameters
                .insert("tributary.job".into(), "other".into());
        });
        let to = changed(
            &there,
            &job,
            &[
                "column id: another comment",
                "property tributary.old: removed",
                "property tributary.job: other",
            ],
        );
        assert_eq!(to.parameters["UPDATED_BY_CRAWLER"], "c");
        assert_eq!(to.parameters["projection.enabled"], "true", "made by hand");

        let there = wanted(|table| {
            for (key, value) in [("projection.enabled", "true"), (PROJECTED_BY_JOB, "true")] {
                table.parameters.insert(key.into(), value.into());
            }
        });
        let to = changed(
            &there,
            &table(),
            &[
                "property projection.enabled: removed",
                "property tributary.projection: removed",
            ],
        );
        assert!(!to.is_projected());
    }

    #[test]
    fn every_difference_is_told() {
        let job = wanted(|table| {
            table.columns[1].hive_type = "bigint".into();
            table.columns[2].hive_type = "struct<latitude:double>".into();
            table.partition_keys[1].hive_type = "int".into();
            table.location = "s3://b/other/breaches".into();
        });
        unfit(
            &table(),
            &job,
            &[
                "location: s3://b/lake/breaches in the catalog, s3://b/other/breaches in the job",
                "column severity: int in the catalog, bigint in the job",
                "column place: struct<latitude:double,longitude:double> in the catalog, struct<latitude:double> in the job",
                "partition key hour: string in the catalog, int in the job",
            ],
        );
        let job = wanted(|table| drop(table.partition_keys.pop()));
        unfit(
            &table(),
            &job,
            &["partition keys: dt, hour in the catalog, dt in the job"],
        );
        let job = wanted(|table| table.partition_keys.clear());
        unfit(
            &table(),
            &job,
            &["partition keys: dt, hour in the catalog, none in the job"],
        );
        let there = wanted(|table| table.format = Format::Other("a view".into()));
        unfit(
            &there,
            &table(),
            &["format: a view in the catalog, Parquet in the job"],
        );
    }

    /// Two that want one name find it free, and only the first of them creates it.
    #[tokio::test]
    async fn whoever_is_faster_is_looked_at() {
        let wider = wanted(|table| table.columns.push(column("added", "bigint")));
        let catalog = MemoryCatalog::default();
        let created = prepare(&catalog, &[table(), wider.clone()]).await.unwrap();
        assert_eq!(created, [Prepared::Created, Prepared::Created]);
        let there = catalog.table("lake", "breaches").await.unwrap().unwrap();
        assert_eq!(there, wider);

        let unfit = wanted(|table| table.columns[0].hive_type = "bigint".into());
        let catalog = MemoryCatalog::default();
        let error = prepare(&catalog, &[table(), unfit]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Job);
        assert!(error.to_string().contains("column id: "), "{error}");
    }

    #[tokio::test]
    async fn tables_are_prepared_all_or_none() {
        let catalog = MemoryCatalog::default();
        let other = wanted(|table| table.name = "vitals".into());
        let both = [table(), other.clone()];
        let created = prepare(&catalog, &both).await.unwrap();
        assert_eq!(created, [Prepared::Created, Prepared::Created]);
        let same = prepare(&catalog, &both).await.unwrap();
        assert_eq!(same, [Prepared::Same, Prepared::Same]);

        let wider = wanted(|table| table.columns.push(column("added", "bigint")));
        let unfit = Definition {
            columns: vec![column("id", "bigint")],
            ..other.clone()
        };
        let error = prepare(&catalog, &[wider.clone(), unfit.clone()])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Job);
        let text = error.to_string();
        assert!(
            text.contains("the table lake.vitals of the catalog does not fit the job's\n  column id: string in the catalog, bigint in the job\n  hint: "),
            "{text}"
        );
        let there = catalog.table("lake", "breaches").await.unwrap().unwrap();
        assert_eq!(
            there,
            table(),
            "nothing is changed where something does not fit"
        );

        let changed = prepare(&catalog, &[wider.clone(), other]).await.unwrap();
        let what = vec!["column added: added as bigint".to_owned()];
        assert_eq!(changed, [Prepared::Changed(what), Prepared::Same]);
        let there = catalog.table("lake", "breaches").await.unwrap().unwrap();
        assert_eq!(there.columns, wider.columns);
    }
}
