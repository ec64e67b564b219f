//! From a job file to a plan: what every command that takes a job begins with.

use crate::catalog::definition::{self, Registered};
use crate::catalog::{Definition, preflight};
use crate::config::Settings;
use crate::decode;
use crate::epoch::EpochStore;
use crate::error::{Error, Result};
use crate::plan::{self, Graph, Op};
use crate::runtime::Addresses;
use crate::sink::{self, TableSpec, dead_letters};
use crate::source::Share;
use crate::sql::refusal::refuse;
use crate::sql::{self, Script, Table};
use crate::store::{self, Encryption};
use arrow::compute::can_cast_types;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A job that was read, checked and planned; nothing of it is opened.
pub struct Job {
    pub script: Script,
    pub settings: Settings,
    pub graph: Arc<Graph>,
    /// The tables that are written, the usual dead letters last.
    pub tables: Vec<TableSpec>,
    /// Which of them takes whose dead letters.
    pub letters: Addresses,
    /// The tables that the catalog is told of.
    pub registered: Vec<Registered>,
    /// The partitions that this process reads.
    pub share: Share,
    /// What the user should know, each with its place.
    pub warnings: Vec<String>,
}

impl Job {
    /// Reads a job file; `${NAME}` is filled from the environment.
    pub fn load(path: &str, overrides: &[(String, String)]) -> Result<Job> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::job(format!(
                "{path}: the job file cannot be read; name a .sql file that is there"
            ))
            .caused_by(error)
        })?;
        Job::parse(path, &text, overrides, &|name| std::env::var(name).ok())
    }

    /// How many tables are read.
    pub fn sources(&self) -> usize {
        self.graph
            .nodes
            .iter()
            .filter(|node| matches!(node.op, Op::Scan(_)))
            .count()
    }

    /// The memory budget in bytes.
    pub fn memory(&self) -> usize {
        usize::try_from(self.settings.memory).unwrap_or(usize::MAX)
    }

    /// What the catalog is to say of its tables.
    pub fn definitions(&self) -> Vec<Definition> {
        let tables = self.registered.iter();
        tables.map(|table| table.definition.clone()).collect()
    }

    /// Where its epochs are kept.
    pub fn epochs(&self) -> Result<EpochStore> {
        let settings = &self.settings;
        let folder = store::open_with(&settings.checkpoint_dir, &settings.encryption)?;
        Ok(EpochStore::new(folder, settings.name.clone()))
    }

    pub fn parse(
        path: &str,
        text: &str,
        overrides: &[(String, String)],
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Job> {
        let script = sql::parse(path, text, variable)?;
        // The environment goes before the file, and the command line before both.
        let mut overrides_of_file = Encryption::from_env(variable)?.settings();
        overrides_of_file.extend_from_slice(overrides);
        let settings = Settings::from_script(&script, &overrides_of_file)?;
        let graph = Arc::new(plan::plan(&script, &settings.name)?);
        let written = written(&graph);
        if let Some(table) = written
            .iter()
            .find(|table| table.name == dead_letters::NAME)
        {
            return Err(refuse(
                path,
                table.place,
                format!(
                    "the name '{}' is taken by the table that every job has for rows that cannot be used",
                    dead_letters::NAME
                ),
                "give the table another name",
            ));
        }
        let mut tables: Vec<_> = written.iter().map(|table| TableSpec::of(table)).collect();
        let letters = addresses(path, &script, &graph, &mut tables)?;
        for table in &tables {
            sink::check(table).map_err(|error| error.at(path))?;
        }
        sink::check_together(&tables).map_err(|error| error.at(path))?;
        let usual = match &settings.dead_letters_path {
            Some(path) => path.clone(),
            None => {
                let written: Vec<&Table> = written.iter().map(Arc::as_ref).collect();
                dead_letters::path(&written, &settings.checkpoint_dir)
            }
        };
        tables.push(dead_letters::table(&usual, decode::dead_letters::schema()));
        let judged = definition::Job {
            script: &script,
            settings: &settings,
            graph: &graph,
            tables: &tables,
        };
        let (registered, mut told) =
            definition::registered(judged).map_err(|refusal| refusal.in_file(path))?;
        let findings = preflight::findings(judged, &registered);
        if !findings.refused.is_empty() {
            let refusals = findings.refused.iter();
            let texts: Vec<String> = refusals
                .map(|refusal| refusal.in_file(path).to_string())
                .collect();
            return Err(Error::job(texts.join("\n")));
        }
        told.extend(findings.warnings);
        let mut warnings = script.warnings.clone();
        warnings.extend(settings.warnings.iter().cloned());
        warnings.extend(told.iter().map(|warning| warning.warning(path)));
        Ok(Job {
            script,
            settings,
            graph,
            tables,
            letters,
            registered,
            share: Share::default(),
            warnings,
        })
    }

    /// The job as the catalog's judges see it.
    pub fn judged(&self) -> definition::Job<'_> {
        definition::Job {
            script: &self.script,
            settings: &self.settings,
            graph: &self.graph,
            tables: &self.tables,
        }
    }
}

/// Which table takes whose dead letters. A table that only takes letters is one that is written, too.
fn addresses(
    path: &str,
    script: &Script,
    graph: &Graph,
    tables: &mut Vec<TableSpec>,
) -> Result<Addresses> {
    let mut addresses = Addresses {
        usual: dead_letters::NAME.to_string(),
        own: BTreeMap::new(),
        schemas: BTreeMap::new(),
    };
    let columns = decode::dead_letters::schema();
    for node in &graph.nodes {
        let Op::Scan(scan) = &node.op else { continue };
        let Some(name) = scan.table.options.get(sql::options::DEAD_LETTERS) else {
            continue;
        };
        let Some(table) = script.tables.iter().find(|table| table.name == name) else {
            continue;
        };
        let spec = TableSpec::of(table);
        for field in spec.schema.fields() {
            let known = columns.fields().iter().map(|column| column.name().as_str());
            let fits = columns.field_with_name(field.name()).is_ok_and(|column| {
                let same = !column.is_nullable() && column.data_type() == field.data_type();
                can_cast_types(column.data_type(), field.data_type())
                    && (field.is_nullable() || same)
            });
            if !fits {
                return Err(refuse(
                    path,
                    table.place,
                    format!(
                        "'{name}' takes the dead letters of '{}', which have nothing for its column '{}'",
                        scan.table.name,
                        field.name()
                    ),
                    format!("their columns are {}", known.collect::<Vec<_>>().join(", ")),
                ));
            }
        }
        addresses
            .schemas
            .insert(name.to_string(), Arc::clone(&spec.schema));
        addresses
            .own
            .insert(scan.table.name.clone(), name.to_string());
        if !tables.iter().any(|table| table.name == name) {
            tables.push(spec);
        }
    }
    Ok(addresses)
}

/// The tables of a plan that are written, each once.
fn written(graph: &Graph) -> Vec<Arc<Table>> {
    let mut tables: Vec<Arc<Table>> = Vec::new();
    for node in &graph.nodes {
        if let Op::Sink(sink) = &node.op
            && !tables.iter().any(|table| table.name == sink.table.name)
        {
            tables.push(Arc::clone(&sink.table));
        }
    }
    tables
}

/// Reads `-D key=value`.
pub fn override_of(argument: &str) -> std::result::Result<(String, String), String> {
    match argument.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((
            key.trim().to_string(),
            value.trim().trim_matches('\'').to_string(),
        )),
        _ => Err("needs the form key=value".to_string()),
    }
}
