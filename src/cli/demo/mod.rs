//! `tributary demo`: a job at work, with everything it needs in one process.
//!
//! The broker is librdkafka's own mock cluster: it speaks the real protocol, and forgets everything at the end. What else a job would need
//! a server for is files (`stand_ins`). `jobs` is the table of what can be shown.

mod display;
mod feed;
mod jobs;
mod stand_ins;
mod topics;

use super::job::Job;
use super::run::{self, Options};
use super::status::Reporter;
use crate::clock::{Clock, SystemClock};
use crate::epoch::Mode;
use crate::error::{Error, Result};
use crate::runtime::Stop;
use crate::source::Waker;
use crate::source::embedded::Embedded;
use display::Display;
use feed::Feed;
use jobs::{Demo, Fed};
use stand_ins::{Documents, Places};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::debug;

const PARTITIONS: i32 = 4;

#[derive(clap::Args)]
pub struct Args {
    /// The job to show, by the name of its file in jobs/; medical is medical-entries, login is login-analytics.
    #[arg(long, value_name = "NAME", default_value = "emergency", value_parser = jobs::parser())]
    job: &'static Demo,
    /// Stop after this time; without it, at Ctrl-C.
    #[arg(long, value_name = "30s", value_parser = duration)]
    duration: Option<Duration>,
    /// Events a second; without it, as many as suit the job.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    rate: Option<u64>,
    /// Where the tables are written; a new folder for temporary files by default.
    #[arg(long, value_name = "DIR")]
    lake: Option<PathBuf>,
    /// Where health, metrics and the page are served, or `off`. Default 127.0.0.1:9090, where that is free.
    #[arg(long, env = "TRIBUTARY_HTTP", value_name = "ADDR|off")]
    http: Option<String>,
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    let parsed = crate::sql::values::duration(text);
    parsed.ok_or_else(|| "needs a time such as 30s or 5 min".to_string())
}

pub fn demo(args: Args) -> Result<u8> {
    let demo = args.job;
    let began = SystemClock.now_ms();
    let scratch = std::env::temp_dir().join(format!("tributary-demo-{}", std::process::id()));
    let broker = Embedded::start(&[], PARTITIONS)?;
    let places = Places {
        servers: broker.bootstrap_servers(),
        lake: match &args.lake {
            Some(lake) => absolute(lake)?,
            None => scratch.join("lake"),
        },
        checkpoints: scratch.join(format!("checkpoints-{began}")),
        entries: scratch.join(format!("entries-{began}")),
    };
    let (job, documents) = stand_ins::load(demo, &places)?;
    for topic in topics::of(&job) {
        broker.create(&topic, PARTITIONS)?;
    }
    if demo.fed == Fed::Files {
        let made = std::fs::create_dir_all(&places.entries);
        made.map_err(|error| {
            let what = format!("'{}' cannot be made", places.entries.display());
            Error::retry(what).caused_by(error)
        })?;
    }
    introduce(demo, &places, &documents);

    let runtime = super::runtime()?;
    let reporter = Reporter::new(&job);
    let page = run::serve(&runtime, args.http.as_deref(), &reporter)?;
    let waker = Waker::default();
    let stop = Stop::new(waker.clone());
    run::stop_on_signals(&runtime, stop.clone());
    if let Some(duration) = args.duration {
        let stop = stop.clone();
        runtime.spawn(async move {
            tokio::time::sleep(duration).await;
            stop.ask();
        });
    }
    let rate = args.rate.unwrap_or(demo.rate);
    let status = reporter.status();
    let feed = Feed::start(demo, rate, began, &places, status, stop.clone());
    let mut shown = vec![("lake", places.lake.display().to_string())];
    shown.extend(page.map(|page| ("page", format!("http://{page}/"))));
    let folder = demo.newest.as_ref().and_then(|newest| {
        let table = job.tables.iter().find(|table| table.name == newest.table)?;
        table.options.get("path").map(PathBuf::from)
    });
    let made = std::sync::Arc::clone(&feed.made);
    let display = Display::start(demo, folder, reporter.status(), made, shown);
    let options = Options {
        bounded: false,
        mode: Mode::Normal,
    };
    let result = run::work(
        &job,
        &options,
        &runtime,
        waker,
        &stop,
        &reporter,
        &mut |event| {
            reporter.observe(&event);
            display.observe(&event);
        },
    );
    stop.ask();
    feed.join();
    reporter.finished(&result);
    display.finish();
    result?;
    // The next demo begins anew.
    for folder in [&places.checkpoints, &places.entries] {
        if let Err(error) = std::fs::remove_dir_all(folder) {
            debug!("{}: {error}", folder.display());
        }
    }
    // Unless the lake is in it.
    let _ = std::fs::remove_dir(&scratch);
    reporter.print_summary(&mut std::io::stdout());
    tell_of_topics(&places, &topics::written(&job));
    tell_of_documents(&documents, &kept(&job, &documents));
    tell_of_tables(demo, &places.lake);
    Ok(0)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    if path.to_string_lossy().contains("://") {
        return Err(Error::job(format!(
            "--lake {}: a demo writes to a local folder; 'tributary run' writes to object stores",
            path.display()
        )));
    }
    std::path::absolute(path)
        .map_err(|error| Error::job(format!("--lake {}", path.display())).caused_by(error))
}

/// What is real here, and what stands in for something.
fn introduce(demo: &Demo, places: &Places, documents: &[Documents]) {
    say!(
        "{}, with everything it needs in this process:\n",
        demo.path()
    );
    say!(
        "  Kafka    an embedded broker at {}, which forgets all at the end and keeps no transactions",
        places.servers
    );
    if demo.fed == Fed::Files {
        say!("  entries  new CSV files in {}", places.entries.display());
    }
    if !documents.is_empty() {
        say!(
            "  MongoDB  replaced by JSON files for this demo, in {}",
            places.lake.join("documents").display()
        );
    }
    say!();
}

fn tell_of_topics(places: &Places, topics: &[String]) {
    if topics.is_empty() {
        return;
    }
    say!("\nThe last record of each topic, which is gone now with its broker:\n");
    for topic in topics {
        let last = topics::last_record(&places.servers, topic, PARTITIONS);
        let last = last.unwrap_or_else(|error| {
            debug!("{error}");
            None
        });
        let last = last.unwrap_or_else(|| "(none)".to_string());
        say!("  {topic:<24} {}", last.replace('\n', " "));
    }
}

/// The documents that the job keeps itself, without MongoDB.
fn kept<'a>(job: &'a Job, documents: &[Documents]) -> BTreeSet<&'a str> {
    let tables = job.tables.iter();
    tables
        .filter(|table| table.options.get("connector") == Some("tributary-json-file"))
        .filter_map(|table| table.options.get("path"))
        .filter(|path| !documents.iter().any(|there| there.path == Path::new(path)))
        .collect()
}

fn tell_of_documents(documents: &[Documents], kept: &BTreeSet<&str>) {
    if !documents.is_empty() {
        say!("\nThe documents that MongoDB would hold:\n");
        for Documents { collection, path } in documents {
            say!("  {collection:<24} {}", path.display());
        }
    }
    for path in kept {
        say!("\nThe document that the job keeps: {path}");
    }
}

fn tell_of_tables(demo: &Demo, lake: &Path) {
    if demo.queries.is_empty() {
        return;
    }
    let binary = std::env::args()
        .next()
        .unwrap_or_else(|| "tributary".to_string());
    let lake = lake.display();
    say!("\nLook at the tables with:\n");
    say!("  {binary} query --lake {lake}");
    for query in demo.queries {
        say!("  {binary} query --lake {lake} \"{query}\"");
    }
}
