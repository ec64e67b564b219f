//! `tributary check`: everything that can be known of a job without opening anything; with `--catalog`, also what the catalog says.

use super::job::{Job, override_of};
use crate::catalog::evolve::{Evolution, inspect, misfits};
use crate::catalog::glue::GlueCatalog;
use crate::catalog::{Catalog, preflight};
use crate::error::{Error, Result};
use crate::plan::Op;
use std::collections::BTreeSet;

#[derive(clap::Args)]
pub struct Args {
    /// Job files.
    #[arg(required = true, value_name = "JOB.sql")]
    jobs: Vec<String>,
    /// A setting in place of the job file's.
    #[arg(short = 'D', value_name = "key=value", value_parser = override_of)]
    settings: Vec<(String, String)>,
    /// Ask the catalog too what would become of the tables; nothing is changed there.
    #[arg(long)]
    catalog: bool,
}

/// Each job by itself; the first refusal's exit code comes back.
pub fn check(args: &Args) -> Result<u8> {
    let mut code = 0;
    for path in &args.jobs {
        if let Err(error) = check_one(path, args) {
            super::report(&error);
            if code == 0 {
                code = error.exit_code();
            }
        }
    }
    Ok(code)
}

fn check_one(path: &str, args: &Args) -> Result<()> {
    let job = Job::load(path, &args.settings)?;
    for warning in &job.warnings {
        complain!("warning: {warning}");
    }
    let registered = match args.catalog {
        true => ask(path, &job)?,
        false => String::new(),
    };
    let count = |wanted: fn(&Op) -> bool| {
        job.graph
            .nodes
            .iter()
            .filter(|node| wanted(&node.op))
            .count()
    };
    say!(
        "{path}: ok: {} read, {} written, {} keyed",
        tables(count(|op| matches!(op, Op::Scan(_)))),
        tables(count(|op| matches!(op, Op::Sink(_)))),
        operators(count(Op::is_keyed)),
    );
    if !registered.is_empty() {
        say!("{}", registered.trim_end());
    }
    Ok(())
}

/// What the catalog says of the job's tables and crawlers: lines to print, or that some do not fit.
fn ask(path: &str, job: &Job) -> Result<String> {
    let wanted = job.definitions();
    let crawlers: BTreeSet<&str> = job
        .tables
        .iter()
        .filter_map(|table| preflight::crawler(job.judged(), table))
        .collect();
    if wanted.is_empty() && crawlers.is_empty() {
        return Err(Error::job(format!(
            "{path}: no table is registered, and no crawler started; SET 'tributary.glue.database' = '..' registers them"
        )));
    }
    let catalog = GlueCatalog::default();
    super::runtime()?.block_on(async {
        let found = inspect(&catalog, &wanted).await?;
        if let Some(error) = misfits(&wanted, &found) {
            return Err(error);
        }
        for name in crawlers {
            match catalog.crawler(name).await? {
                Some(crawler) => {
                    for warning in preflight::crawled(job.judged(), name, &crawler) {
                        complain!("warning: {}", warning.warning(path));
                    }
                }
                None if job.settings.glue.crawler_role.is_some() => {}
                None => {
                    return Err(Error::job(format!(
                        "{path}: there is no crawler '{name}'; create it, or SET 'tributary.glue.crawler.role' so that it is created"
                    )));
                }
            }
        }
        let lines = wanted.iter().zip(found);
        Ok(lines
            .map(|(table, evolution)| {
                let becomes = match evolution {
                    Evolution::Missing => "would be created".to_owned(),
                    Evolution::Change { changes, .. } => {
                        format!("would be changed: {}", changes.join("; "))
                    }
                    Evolution::Same | Evolution::Unfit(_) => "is as the job has it".to_owned(),
                };
                format!("  {}.{} {becomes}\n", table.database, table.name)
            })
            .collect())
    })
}

fn tables(count: usize) -> String {
    format!("{count} table{}", if count == 1 { "" } else { "s" })
}

fn operators(count: usize) -> String {
    format!("{count} operator{}", if count == 1 { "" } else { "s" })
}
