//! What the catalog is told of a job's tables: which of them, under which names, with which columns.
//!
//! A definition follows from the job alone, so it is known before anything is opened, and the same job gives the same one always.

use super::{Column, Definition, Format, Partition, hive, projected};
use crate::config::{GLUE_DATABASE, Settings};
use crate::plan::Graph;
use crate::sink::{TableSpec, default_partition, folder_values};
use crate::source::filesystem::unescaped;
use crate::sql::connectors::filesystem::{METASTORE, POLICY};
use crate::sql::refusal::{Parsed, Refusal};
use crate::sql::{OptionValue, Place, Script, Table};
use std::collections::BTreeMap;

/// The property that names the job which a table belongs to.
pub const JOB: &str = "tributary.job";

/// A table of the job that the catalog is told of.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// Its name in the job.
    pub table: String,
    pub definition: Definition,
    /// The value in folders' names that stands for NULL.
    null: String,
}

impl Registered {
    /// A table that the catalog is told of; `null` is the value in folders' names that stands for NULL.
    pub fn new(table: &str, definition: Definition, null: &str) -> Registered {
        Registered {
            table: table.to_owned(),
            definition,
            null: null.to_owned(),
        }
    }

    /// Whether each of its partitions has to be registered: there are some, and Athena does not work them out by itself.
    pub fn has_partitions(&self) -> bool {
        !self.definition.partition_keys.is_empty() && !self.definition.is_projected()
    }

    /// Whether this folder below the table's is that of a partition: it names each of the keys, in their order.
    pub fn has_folder(&self, folder: &str) -> bool {
        let named = folder.split('/').map(|part| {
            let (key, _) = part.split_once('=')?;
            Some(hive::lower(&unescaped(key)))
        });
        let keys = self.definition.partition_keys.iter();
        named.eq(keys.map(|key| Some(key.name.clone())))
    }

    /// The partition whose files are in this folder below the table's: `dt=2024-03-01/hour=07`.
    pub fn partition(&self, folder: &str) -> Partition {
        let values = folder_values(folder).into_iter().map(|value| {
            if value == self.null {
                hive::NULL_PARTITION.to_owned()
            } else {
                value
            }
        });
        Partition {
            values: values.collect(),
            location: format!(
                "{}/{}",
                self.definition.location,
                spelled(folder, &self.definition.location)
            ),
        }
    }
}

/// Everything of a job that is judged here.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub script: &'a Script,
    pub settings: &'a Settings,
    pub graph: &'a Graph,
    /// The tables that are written.
    pub tables: &'a [TableSpec],
}

/// The tables that the catalog is told of, and what the user had better know of them.
pub fn registered(job: Job<'_>) -> Parsed<(Vec<Registered>, Vec<Refusal>)> {
    let mut all: Vec<Registered> = Vec::new();
    let mut warnings = Vec::new();
    for spec in job.tables {
        let declared = job.declared(spec);
        let Some(database) = job.database(spec, declared, &mut warnings)? else {
            continue;
        };
        let projection = match declared {
            Some(table) => projected::of(table, job.graph)?,
            None => projected::Projected::default(),
        };
        warnings.extend(projection.warnings);
        let definition = job.definition(spec, declared, &database, projection.parameters)?;
        let place = declared.map_or(Place::default(), |table| {
            table.option_place("tributary.glue.table")
        });
        let same = |other: &&Registered| {
            (&other.definition.database, &other.definition.name)
                == (&definition.database, &definition.name)
        };
        if let Some(other) = all.iter().find(same) {
            let message = format!(
                "the tables '{}' and '{}' would both be {}.{} in the catalog",
                other.table, spec.name, definition.database, definition.name
            );
            return Err(Refusal::new(place, message)
                .hint("give one of them another name with 'tributary.glue.table'"));
        }
        all.push(Registered::new(
            &spec.name,
            definition,
            default_partition(spec),
        ));
    }
    Ok((all, warnings))
}

impl<'a> Job<'a> {
    /// The statement that a table was made by; the usual dead letters have none.
    pub fn declared(&self, spec: &TableSpec) -> Option<&'a Table> {
        let tables = self.script.tables.iter();
        tables
            .map(AsRef::as_ref)
            .find(|table| table.name == spec.name)
    }

    /// The database that a table is registered in, if it is.
    fn database(
        &self,
        spec: &TableSpec,
        declared: Option<&Table>,
        warnings: &mut Vec<Refusal>,
    ) -> Parsed<Option<String>> {
        if spec.options.get("connector") != Some("filesystem") {
            return Ok(None);
        }
        let own = spec.options.entries.get(GLUE_DATABASE);
        let asked = spec.options.entries.get(POLICY).filter(|_| {
            let policies = spec.options.list(POLICY);
            policies.iter().any(|policy| policy == METASTORE)
        });
        let database = match own {
            Some(own) => Some(&own.value).filter(|name| !name.is_empty()),
            None => self.settings.glue.database.as_ref(),
        };
        if spec.options.get("format") != Some("parquet") {
            let wish = asked.or(own.filter(|own| !own.value.is_empty()));
            return match wish {
                None => Ok(None),
                Some(wish) => Err(Refusal::new(
                    wish.place,
                    format!("the table '{}' cannot be registered in the catalog: only Parquet tables can", spec.name),
                )
                .hint("write 'format' = 'parquet', or leave the option out")),
            };
        }
        let Some(database) = database else {
            if let Some(asked) = asked {
                return Err(Refusal::new(
                    asked.place,
                    format!("'{POLICY}' = '{METASTORE}' needs a database to register the table '{}' in", spec.name),
                )
                .hint(format!("SET '{GLUE_DATABASE}' = '..' names it for the whole job, the table's option of that name for the table alone")));
            }
            let idle = spec.options.entries.iter().find(|(key, _)| {
                key.starts_with("tributary.glue.") && !key.starts_with("tributary.glue.crawler")
            });
            if let (Some((key, OptionValue { place, .. })), None, Some(_)) = (idle, own, declared) {
                warnings.push(Refusal::new(
                    *place,
                    format!("'{key}' has no effect: there is no database to register the table in"),
                ));
            }
            return Ok(None);
        };
        let place = own.map_or_else(|| self.setting_place(GLUE_DATABASE), |own| own.place);
        if let Some(trouble) = trouble_with_outer_name(database) {
            return Err(Refusal::new(
                place,
                format!("'{database}' cannot be the name of a database: it {trouble}"),
            )
            .hint("Athena takes letters, digits and underscores, and a hyphen in quotes"));
        }
        Ok(Some(hive::lower(database)))
    }

    /// Where a setting was made; nowhere where it comes from the command line.
    pub fn setting_place(&self, key: &str) -> Place {
        let settings = self.script.settings.iter();
        settings
            .filter(|setting| setting.key == key)
            .map(|setting| setting.place)
            .next_back()
            .unwrap_or_default()
    }

    fn definition(
        &self,
        spec: &TableSpec,
        declared: Option<&Table>,
        database: &str,
        projection: BTreeMap<String, String>,
    ) -> Parsed<Definition> {
        let own = spec.options.get("tributary.glue.table");
        let name = match declared {
            Some(_) => own.unwrap_or(&spec.name),
            None => &self.settings.glue.dead_letters_table,
        };
        if let Some(trouble) = trouble_with_outer_name(name) {
            let place = declared.map_or(Place::default(), |table| {
                table.option_place("tributary.glue.table")
            });
            return Err(Refusal::new(
                place,
                format!("'{name}' cannot be the name of a table in the catalog: it {trouble}"),
            )
            .hint(
                "give it another one with 'tributary.glue.table': letters, digits and underscores",
            ));
        }
        let mut columns = Vec::new();
        let mut partition_keys = Vec::new();
        for field in spec.schema.fields() {
            let column = declared.and_then(|table| table.column(field.name()));
            let hive_type = hive::hive_type(field.data_type()).map_err(|(word, instead)| {
                Refusal::new(
                    column.map_or(Place::default(), |column| column.place),
                    format!(
                        "the column '{}' of '{}' cannot be registered: Athena has no {word}",
                        field.name(),
                        spec.name
                    ),
                )
                .hint(instead)
            })?;
            let described = Column {
                name: hive::lower(field.name()),
                hive_type,
                comment: column
                    .and_then(|column| column.comment.as_deref().and_then(hive::comment)),
            };
            if spec.partitioned_by.contains(field.name()) {
                partition_keys.push(described);
            } else {
                columns.push(described);
            }
        }
        // Folders stand in the order of PARTITIONED BY, whatever the order of the columns is.
        let rank = |key: &Column| {
            let names = spec.partitioned_by.iter();
            names
                .map(|name| hive::lower(name))
                .position(|name| name == key.name)
        };
        partition_keys.sort_by_key(rank);
        let location = spec.options.get("path").map(location).unwrap_or_default();
        let mut parameters = projection;
        let compression = match spec.options.text("tributary.parquet.compression") {
            Some("none") => "UNCOMPRESSED",
            Some("snappy") => "SNAPPY",
            _ => "ZSTD",
        };
        for (key, value) in [
            ("EXTERNAL", "TRUE"),
            ("classification", "parquet"),
            ("parquet.compression", compression),
            (JOB, &self.settings.name),
        ] {
            parameters.insert(key.to_owned(), value.to_owned());
        }
        if let Some(comment) = declared.and_then(|table| table.comment.as_deref()) {
            parameters
                .extend(hive::comment(comment).map(|comment| ("comment".to_owned(), comment)));
        }
        Ok(Definition {
            database: database.to_owned(),
            name: hive::lower(name),
            columns,
            partition_keys,
            location,
            parameters,
            format: Format::Parquet,
        })
    }
}

/// What is wrong with the name of a database or a table, which are stricter than columns.
fn trouble_with_outer_name(name: &str) -> Option<String> {
    let usual = name.replace('-', "_");
    if let Some(odd) = usual
        .chars()
        .find(|next| next.is_alphanumeric() && !next.is_ascii())
    {
        return Some(format!("has the letter '{odd}' in it"));
    }
    hive::trouble_with_name(&usual)
}

/// A folder as the catalog names it: `s3://`, or an absolute `file://`.
pub fn location(path: &str) -> String {
    let path = path.trim_end_matches('/');
    if let Some(bucket) = path.strip_prefix("s3a://") {
        return format!("s3://{bucket}");
    }
    if path.contains("://") && !path.starts_with("file://") {
        return path.to_owned();
    }
    match crate::store::open(path) {
        Ok(located) => format!("file:///{}", spelled(located.path.as_ref(), "file:///")),
        // The store says the same, with the reason, when the table is opened.
        Err(_) => path.to_owned(),
    }
}

/// A path as it is spelled in a location: on a disk that is a URL, in which some characters mean something.
pub fn spelled(path: &str, location: &str) -> String {
    match location.starts_with("file://") {
        true => path
            .replace('%', "%25")
            .replace('#', "%23")
            .replace('?', "%3F"),
        false => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_absolute() {
        let here = std::env::current_dir().unwrap();
        let here = here.display();
        for (path, expected) in [
            ("s3a://b/lake/t/", "s3://b/lake/t".to_owned()),
            ("s3://b/t", "s3://b/t".to_owned()),
            ("./lake/t", format!("file://{here}/lake/t")),
            ("lake/../t/", format!("file://{here}/t")),
            ("/lake/t", "file:///lake/t".to_owned()),
            ("file:///lake/t", "file:///lake/t".to_owned()),
            ("memory://m/t", "memory://m/t".to_owned()),
        ] {
            assert_eq!(location(path), expected, "{path}");
        }
    }

    fn table(location: &str) -> Registered {
        let key = |name: &str| Column {
            name: name.into(),
            hive_type: "string".into(),
            comment: None,
        };
        let definition = Definition {
            database: "d".into(),
            name: "t".into(),
            columns: Vec::new(),
            partition_keys: vec![key("dt"), key("hour")],
            location: location.into(),
            parameters: BTreeMap::new(),
            format: Format::Parquet,
        };
        Registered::new("T", definition, "none")
    }

    #[test]
    fn a_folder_is_a_partition() {
        let table = table("s3://b/t");
        assert!(table.has_partitions());
        let partition = table.partition("dt=none/hour=07%3A15");
        assert_eq!(partition.values, [hive::NULL_PARTITION, "07:15"]);
        assert_eq!(partition.location, "s3://b/t/dt=none/hour=07%3A15");
    }

    #[test]
    fn other_folders_are_none() {
        let table = table("s3://b/t");
        assert!(table.has_folder("dt=x/hour=07%3A15"));
        assert!(table.has_folder("Dt=x/%48our=07"));
        for folder in [
            "",
            "dt=x",
            "hour=07/dt=x",
            "dt=x/hour=07/minute=1",
            "dt=x/07",
        ] {
            assert!(!table.has_folder(folder), "{folder}");
        }
    }

    #[test]
    fn a_location_on_a_disk_leads_back_to_its_folder() {
        let path = |location: &str| crate::store::open(location).unwrap().path.to_string();
        let table = table(&location("/lake/100% #1?/t"));
        assert_eq!(path(&table.definition.location), "lake/100% #1?/t");
        let partition = table.partition("dt=x/hour=07%3A15");
        assert_eq!(
            path(&partition.location),
            "lake/100% #1?/t/dt=x/hour=07%3A15"
        );
    }
}
