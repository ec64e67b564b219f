//! What the tables of a job ask of its keeper.

use super::complete::Rule;
use super::definition::{self, Job, Registered};
use super::keeper::{CrawlerDuty, Duties, Duty};
use super::owed::Terms;
use super::{CrawlerSpec, preflight};
use crate::config::CrawlerStart;
use crate::error::{Error, Result};
use crate::sink::TableSpec;
use crate::sql::connectors::filesystem::{POLICY, SUCCESS_FILE, SUCCESS_FILE_NAME};

impl Duties {
    /// What the options of the job's tables and its settings ask for.
    pub fn of(job: Job<'_>, registered: &[Registered]) -> Result<Duties> {
        let mut duties = Duties::default();
        for spec in job.tables {
            let known = registered.iter().find(|known| known.table == spec.name);
            let terms = terms(job, spec, known)?;
            if let Some((crawler, _)) = &terms.crawler {
                duties.crawl(job, spec, crawler)?;
            }
            let any = known.is_some() || terms.crawler.is_some() || terms.complete.is_some();
            if any {
                let registered = known.cloned();
                let duty = Duty { terms, registered };
                duties.tables.insert(spec.name.clone(), duty);
            }
        }
        Ok(duties)
    }

    /// Whether a catalog has to be there.
    pub fn ask_the_catalog(&self) -> bool {
        let mut tables = self.tables.values();
        !self.crawlers.is_empty() || tables.any(|duty| duty.registered.is_some())
    }

    /// Whether the job knows of a table when a partition of it is complete.
    pub fn tell_complete(&self, table: &str) -> bool {
        let rule = self
            .tables
            .get(table)
            .and_then(|duty| duty.terms.complete.as_ref());
        rule.is_some_and(Rule::waits)
    }

    /// A table of which something is told when a partition is complete.
    pub fn first_that_completes(&self) -> Option<&str> {
        let mut tables = self.tables.iter();
        let found = tables.find(|(_, duty)| duty.terms.complete.is_some());
        found.map(|(table, _)| table.as_str())
    }

    /// One more table for a crawler.
    fn crawl(&mut self, job: Job<'_>, spec: &TableSpec, name: &str) -> Result<()> {
        let glue = &job.settings.glue;
        let interval_ms = i64::try_from(glue.crawler_min_interval.as_millis());
        let duty = self
            .crawlers
            .entry(name.to_owned())
            .or_insert_with(|| CrawlerDuty {
                min_interval_ms: interval_ms.unwrap_or(i64::MAX),
                create: None,
            });
        let Some(role) = &glue.crawler_role else {
            return Ok(());
        };
        let Some(database) = &glue.database else {
            return Err(Error::job(format!(
                "the crawler '{name}' is created where it is missing, since 'tributary.glue.crawler.role' is set, and needs a database to put \
                 tables into: SET 'tributary.glue.database' = '..'"
            )));
        };
        let spec_of_crawler = duty.create.get_or_insert_with(|| CrawlerSpec {
            name: name.to_owned(),
            role: role.clone(),
            database: database.clone(),
            targets: Vec::new(),
            schedule: glue.crawler_schedule.clone(),
        });
        if let Some(path) = spec.options.get("path") {
            spec_of_crawler.targets.push(definition::location(path));
        }
        Ok(())
    }
}

fn terms(job: Job<'_>, spec: &TableSpec, registered: Option<&Registered>) -> Result<Terms> {
    if spec.options.get("connector") != Some("filesystem") {
        return Ok(Terms::default());
    }
    let registered = registered.filter(|known| known.has_partitions());
    let policies = spec.options.list(POLICY);
    let success_file = policies
        .iter()
        .any(|policy| policy == SUCCESS_FILE)
        .then(|| spec.options.text(SUCCESS_FILE_NAME).map(str::to_owned));
    let success_file = success_file.flatten();
    // A table without partitions has none that could become complete.
    let start = match job.settings.glue.crawler_start {
        CrawlerStart::PartitionCommit if spec.partitioned_by.is_empty() => CrawlerStart::NewFiles,
        start => start,
    };
    let crawler = preflight::crawler(job, spec).map(|name| (name.to_owned(), start));
    let waits = matches!(&crawler, Some((_, CrawlerStart::PartitionCommit)));
    let complete = (success_file.is_some() || waits)
        .then(|| Rule::of(spec))
        .transpose()?;
    Ok(Terms {
        registered_as: registered
            .map(|known| format!("{}.{}", known.definition.database, known.definition.name)),
        complete,
        success_file,
        crawler,
    })
}
