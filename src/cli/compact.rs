//! `tributary compact`: the small files of closed partitions become large ones.

mod progress;

use super::job::{Job, override_of};
use crate::catalog::Catalog;
use crate::catalog::glue::GlueCatalog;
use crate::catalog::keeper::Duties;
use crate::clock::{Clock, SystemClock, sleeper};
use crate::epoch::{KillAt, Owner};
use crate::error::{Error, Kind, Result};
use crate::lake::compact::{
    Compaction, Options, Registration, Report, Sort, Subject, Writer, report,
};
use crate::lake::query::Lake;
use crate::lake::tables::find_tables;
use crate::sink::{self, TableSpec};
use crate::sql::{self, values};
use crate::store::{self, Located};
use progress::Progress;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

#[derive(clap::Args)]
pub struct Args {
    /// The job whose tables are compacted.
    #[arg(value_name = "JOB.sql", required_unless_present = "lake")]
    job: Option<String>,
    /// In place of a job: every table of a lake. Needs --offline.
    #[arg(long, value_name = "URL", conflicts_with = "job")]
    lake: Option<String>,
    /// Only this table; may be given several times.
    #[arg(long = "table", value_name = "NAME")]
    tables: Vec<String>,
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
    /// For tables that no catalog can swap: you promise that nobody reads them, and no job writes, until it has ended.
    #[arg(long)]
    offline: bool,
    /// Leave a partition alone that has a younger file.
    #[arg(long, value_name = "DURATION", default_value = "1 h", value_parser = duration)]
    older_than: Duration,
    /// How long queries may still read the files that they have listed; it passes twice.
    #[arg(long, value_name = "DURATION", default_value = "10 min", value_parser = duration)]
    grace: Duration,
    /// About how large files become. Those below half of it are merged.
    #[arg(long, value_name = "SIZE", default_value = "128 MB", value_parser = size)]
    target_size: usize,
    /// Sort by these columns; by default by the primary key, or else the event time, where the job declares one.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    sort: Vec<String>,
    /// Memory for sorting, and for files being read and written.
    #[arg(long, env = "TRIBUTARY_MEMORY", value_name = "SIZE", value_parser = size_or_nothing)]
    memory: Option<usize>,
    /// Go on where another process was, which is gone for good.
    #[arg(long)]
    takeover: bool,
    /// A setting in place of the job file's.
    #[arg(short = 'D', value_name = "key=value", value_parser = override_of)]
    settings: Vec<(String, String)>,
}

const DEFAULT_MEMORY: usize = 384 << 20;
/// How long a run that ends early tries to leave nothing behind.
const GIVE_UP_WITHIN: Duration = Duration::from_secs(10);

pub fn compact(args: &Args) -> Result<u8> {
    let runtime = super::runtime()?;
    let compactions = match (&args.job, &args.lake) {
        (Some(path), _) => of_job(args, &Job::load(path, &args.settings)?, &runtime)?,
        (None, Some(url)) => vec![runtime.block_on(of_lake(args, url))?],
        (None, None) => return Err(Error::job("name a job, or a lake with --lake")),
    };
    let work = async {
        let (mut saved, mut refused) = (Report::new(), None);
        for compaction in &compactions {
            match one(args, compaction).await {
                Ok(report) => {
                    for (table, more) in report {
                        saved.entry(table).or_default().add(&more);
                    }
                }
                // What has to be changed for one lake keeps no other from being compacted.
                Err(error) if error.kind() == Kind::Job => {
                    if let Some(earlier) = refused.replace(error) {
                        warn!("{earlier}");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok((saved, refused))
    };
    let (saved, refused) = runtime.block_on(async {
        let done = tokio::select! {
            done = work => done,
            () = signal() => Err(Error::retry(
                "stopped; nothing is lost, and the next 'tributary compact' goes on where this one was",
            )),
        };
        if !args.dry_run && !matches!(done, Ok((_, None))) {
            for compaction in &compactions {
                give_up(compaction).await;
            }
        }
        done
    })?;
    if refused.is_none() || !saved.is_empty() {
        report::print(&saved, &mut std::io::stdout().lock())?;
    }
    refused.map_or(Ok(0), Err)
}

/// Lets the next run begin at once, wherever it is: on another host nobody sees that this process has ended.
async fn give_up(compaction: &Compaction) {
    let why = match tokio::time::timeout(GIVE_UP_WITHIN, compaction.give_up()).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(late) => late.to_string(),
    };
    let url = &compaction.lake.url;
    warn!(
        "{url}: this run could not be given up, so on another host the next one may want --takeover: {why}"
    );
}

/// Compacts one lake, or shows what that would do.
async fn one(args: &Args, compaction: &Compaction) -> Result<Report> {
    let url = &compaction.lake.url;
    if !args.dry_run {
        let saved = compaction.run().await?;
        if saved.is_empty() {
            info!("{url}: there is nothing to compact");
        }
        return Ok(saved);
    }
    if let Some(unfinished) = compaction.unfinished().await? {
        warn!("{url}: {unfinished}");
    }
    info!("{url}: this is what would be done; the sizes of files to come are those of their parts");
    Ok(compaction.survey().await?.estimate(args.target_size))
}

/// The tables of a job, lake by lake.
fn of_job(args: &Args, job: &Job, runtime: &tokio::runtime::Runtime) -> Result<Vec<Compaction>> {
    for warning in &job.settings.warnings {
        warn!("{warning}");
    }
    let files = |table: &&TableSpec| {
        table.options.get("connector") == Some("filesystem")
            && table.options.get("format") == Some("parquet")
    };
    let tables: Vec<&TableSpec> = job.tables.iter().filter(files).collect();
    args.check_tables(tables.iter().map(|table| table.name.as_str()))?;
    let duties = Duties::of(job.judged(), &job.registered)?;
    let mut lakes: BTreeMap<String, Compaction> = BTreeMap::new();
    for table in tables.into_iter().filter(|table| args.wants(&table.name)) {
        let (url, folder) = sink::folder(table)?;
        let lake = store::open_with(url, &job.settings.encryption)?;
        let declared = job.script.tables.iter().find(|it| it.name == table.name);
        let subject = Subject {
            spec: table.clone(),
            folder,
            sort: args.sort_of(declared.map(Arc::as_ref)),
            registered: registration(job, &table.name),
            tells_complete: duties.tell_complete(&table.name),
        };
        // `./lake` and `lake` are one.
        let key = format!("{} {}", lake.store, lake.path);
        let compaction = match lakes.remove(&key) {
            Some(compaction) => compaction,
            None => Compaction {
                writer: Some(Writer {
                    store: job.epochs()?,
                    tables: job.tables.clone(),
                    may_be_new: args.offline,
                }),
                catalog: (!job.registered.is_empty())
                    .then(|| Arc::new(GlueCatalog::default()) as Arc<dyn Catalog>),
                ..args.compaction(lake, args.memory().unwrap_or_else(|| job.memory()))?
            },
        };
        let mut compaction = compaction;
        compaction.tables.push(subject);
        lakes.insert(key, compaction);
    }
    if lakes.is_empty() {
        return Err(Error::job(format!(
            "job '{}' writes no Parquet files, so there is nothing to compact",
            job.settings.name
        )));
    }
    if args.offline && !args.dry_run {
        runtime.block_on(expect_stopped(job))?;
    }
    Ok(lakes.into_values().collect())
}

/// Where the catalog has a table's partitions, if it is registered with them.
fn registration(job: &Job, table: &str) -> Option<Registration> {
    let mut all = job.registered.iter();
    let found = all.find(|it| it.table == table && it.has_partitions())?;
    Some(Registration {
        database: found.definition.database.clone(),
        table: found.definition.name.clone(),
    })
}

/// Who promises too much is told so.
async fn expect_stopped(job: &Job) -> Result<()> {
    let Some(latest) = job.epochs()?.latest().await? else {
        return Ok(());
    };
    let silent_ms = SystemClock.now_ms() - latest.committed_at_ms;
    let patience_ms = i64::try_from(latest.interval_ms.saturating_mul(3)).unwrap_or(i64::MAX);
    let gone = latest.released
        || latest.owner.is_provably_dead(&Owner::this_process())
        || silent_ms > patience_ms.max(10_000);
    match gone {
        true => Ok(()),
        false => Err(Error::fenced(format!(
            "job '{}' is being run by {}: stop it first, since --offline promises that nobody writes",
            latest.job, latest.owner
        ))),
    }
}

/// Every table that is found in a lake.
async fn of_lake(args: &Args, url: &str) -> Result<Compaction> {
    if !args.offline && !args.dry_run {
        return Err(Error::job(format!(
            "{url}: which files the next start of a job publishes again is not known here: stop the jobs that write into this lake and whoever reads \
             it, and say --offline; or name the job"
        )));
    }
    let lake = store::open(url)?;
    let found = find_tables(&[Lake::from(&lake)]).await?;
    args.check_tables(found.iter().map(|table| table.name.as_str()))?;
    let mut compaction = args.compaction(lake, args.memory().unwrap_or(DEFAULT_MEMORY))?;
    for table in found.into_iter().filter(|table| args.wants(&table.name)) {
        compaction.tables.push(Subject {
            spec: TableSpec::unknown(&table.name),
            folder: table.name,
            sort: args.sort_of(None),
            registered: None,
            tells_complete: false,
        });
    }
    Ok(compaction)
}

impl Args {
    fn wants(&self, table: &str) -> bool {
        self.tables.is_empty() || self.tables.iter().any(|wanted| wanted == table)
    }

    fn check_tables<'a>(&self, known: impl Iterator<Item = &'a str>) -> Result<()> {
        let known: Vec<&str> = known.collect();
        match self
            .tables
            .iter()
            .find(|wanted| !known.contains(&wanted.as_str()))
        {
            None => Ok(()),
            Some(unknown) => Err(Error::job(format!(
                "--table {unknown}: there is no such table of Parquet files; there are {}",
                known.join(", ")
            ))),
        }
    }

    /// The columns to sort a table by.
    fn sort_of(&self, declared: Option<&sql::Table>) -> Sort {
        if !self.sort.is_empty() {
            return Sort::Asked(self.sort.clone());
        }
        let Some(declared) = declared else {
            return Sort::Usual(Vec::new());
        };
        let event_time = declared.watermark.iter().map(|it| it.column.clone());
        Sort::Usual(match declared.primary_key.as_slice() {
            [] => event_time.collect(),
            key => key.to_vec(),
        })
    }

    /// Set to nothing in an environment file, it is not set.
    fn memory(&self) -> Option<usize> {
        self.memory.filter(|bytes| *bytes > 0)
    }

    fn compaction(&self, lake: Located, memory: usize) -> Result<Compaction> {
        let progress = Progress::new(std::io::stderr().is_terminal());
        Ok(Compaction {
            lake,
            tables: Vec::new(),
            catalog: None,
            writer: None,
            options: Options {
                target: self.target_size,
                older_than: self.older_than,
                grace: self.grace,
                memory,
                offline: self.offline,
                takeover: self.takeover,
            },
            me: Owner::this_process(),
            clock: Arc::new(SystemClock),
            sleep: sleeper(),
            hook: KillAt::from_env()?.into(),
            observe: Arc::new(move |event| progress.show(&event)),
        })
    }
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    values::duration(text).ok_or_else(|| "needs the form '10 min' or '30 s'".to_string())
}

fn size_or_nothing(text: &str) -> std::result::Result<usize, String> {
    if text.is_empty() { Ok(0) } else { size(text) }
}

fn size(text: &str) -> std::result::Result<usize, String> {
    let bytes = values::size(text).and_then(|bytes| usize::try_from(bytes).ok());
    bytes
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "needs the form '128 MB' or '1 GB'".to_string())
}

/// Until somebody wants it to stop.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
