//! `tributary demo`: the emergency job at work, with everything it needs in one process.
//!
//! The broker is librdkafka's own mock cluster: it speaks the real protocol, and forgets everything at the end. Event time runs about
//! a hundred times faster than the clock, so that windows close and dispatches fail to come while one watches.

use super::display::Display;
use super::job::Job;
use super::run::{self, Options};
use super::status::Reporter;
use crate::clock::{Clock, SystemClock};
use crate::epoch::Mode;
use crate::error::{Error, Result};
use crate::generate::{self, GenerateOptions, Generator, System};
use crate::http::SharedStatus;
use crate::runtime::Stop;
use crate::source::Waker;
use crate::source::embedded::Embedded;
use crate::sql::{OptionValue, Place};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tracing::warn;

/// The job itself, so that a binary alone can show it.
const EMERGENCY: &str = include_str!("../../jobs/emergency.sql");
const TOPICS: [&str; 3] = ["patient_data", "emergency_vehicle_data", "emergency-alerts"];
const PARTITIONS: i32 = 4;
/// Milliseconds of event time in a second: it runs a hundred times faster than the clock.
const SPEED_MS: i64 = 100_000;
/// Event time begins this long ago, so that it does not overtake the clock within hours.
const BEGIN_MS_AGO: i64 = 30 * 24 * 3_600_000;
/// The mock cluster keeps 5 MB a partition; the generator waits before it would forget what nobody has read.
const MOST_UNREAD: u64 = 40_000;

#[derive(clap::Args)]
pub struct Args {
    /// The job to show: emergency.
    #[arg(long, default_value = "emergency")]
    job: String,
    /// Stop after this time; without it, at Ctrl-C.
    #[arg(long, value_name = "30s", value_parser = duration)]
    duration: Option<Duration>,
    /// Events a second.
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// Where the tables are written; a new folder for temporary files by default.
    #[arg(long, value_name = "DIR")]
    lake: Option<PathBuf>,
    /// Where health, metrics and the page are served, or `off`. Default 127.0.0.1:9090, where that is free.
    #[arg(long, value_name = "ADDR|off")]
    http: Option<String>,
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    let parsed = crate::sql::values::duration(text);
    parsed.ok_or_else(|| "needs a time such as 30s or 5 min".to_string())
}

pub fn demo(args: Args) -> Result<u8> {
    if args.job != "emergency" {
        return Err(Error::job(format!(
            "there is no demo of '{}'; there is: emergency",
            args.job
        )));
    }
    if args.rate == 0 {
        return Err(Error::job("--rate must be at least 1"));
    }
    let began = SystemClock.now_ms();
    let scratch = std::env::temp_dir().join(format!("tributary-demo-{}", std::process::id()));
    let lake = match &args.lake {
        Some(lake) => absolute(lake)?,
        None => scratch.join("lake"),
    };
    let checkpoints = scratch.join(format!("checkpoints-{began}"));
    let broker = Embedded::start(&TOPICS, PARTITIONS)?;
    let servers = broker.bootstrap_servers();
    let mut job = load(&servers, &lake, &checkpoints)?;
    roll_every_two_seconds(&mut job);

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
    let sent = Arc::new(AtomicU64::new(0));
    let generator = start_generator(
        servers,
        args.rate,
        began,
        reporter.status(),
        stop.clone(),
        Arc::clone(&sent),
    );
    let display = Display::start(reporter.status(), Arc::clone(&sent), lake.clone(), page);
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
    if generator.join().is_err() {
        warn!("the generator ended badly; see the message above");
    }
    reporter.finished(&result);
    display.finish();
    result?;
    reporter.print_summary(&mut std::io::stdout());
    let binary = std::env::args()
        .next()
        .unwrap_or_else(|| "tributary".to_string());
    println!("\nLook at them with:\n");
    println!("  {binary} query --lake {}", lake.display());
    println!(
        "  {binary} query --lake {} \"SELECT severity, answered, count(*) AS breaches, round(avg(seconds_to_arrival) / 60) AS minutes \
         FROM emergency_responses GROUP BY severity, answered ORDER BY severity, answered\"",
        lake.display()
    );
    Ok(0)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Error::job(format!("--lake {}", path.display())).caused_by(error))
}

fn load(servers: &str, lake: &Path, checkpoints: &Path) -> Result<Job> {
    let variable = |name: &str| match name {
        "KAFKA_BOOTSTRAP_SERVERS" => Some(servers.to_string()),
        "LAKE" => Some(lake.display().to_string()),
        "CHECKPOINTS" => Some(checkpoints.display().to_string()),
        // The mock cluster keeps no transactions.
        "ALERTS_GUARANTEE" => Some("at-least-once".to_string()),
        // What it makes is for this moment only: no catalog is told.
        "GLUE_DATABASE" | "GLUE_CRAWLER" => None,
        // Thresholds may be tried out from the environment, as with the real job.
        other => std::env::var(other).ok(),
    };
    let every_second = (
        "execution.checkpointing.interval".to_string(),
        "1 s".to_string(),
    );
    Job::parse("jobs/emergency.sql", EMERGENCY, &[every_second], &variable)
}

/// Whoever watches wants to see rows soon.
fn roll_every_two_seconds(job: &mut Job) {
    for table in &mut job.tables {
        let two_seconds = OptionValue {
            value: "2 s".to_string(),
            place: Place::default(),
        };
        let key = "sink.rolling-policy.rollover-interval".to_string();
        table.options.entries.insert(key, two_seconds);
    }
}

fn start_generator(
    servers: String,
    rate: u64,
    began_ms: i64,
    status: SharedStatus,
    stop: Stop,
    sent: Arc<AtomicU64>,
) -> std::thread::JoinHandle<()> {
    let options = GenerateOptions {
        seed: began_ms.unsigned_abs(),
        malformed: 0.002,
        late: 0.002,
        start_ms: began_ms - BEGIN_MS_AGO,
        step_ms: (SPEED_MS / rate.cast_signed()).max(1),
        ..GenerateOptions::default()
    };
    let mut made = 0;
    let events = Generator::new(System::Emergency, &options).take_while(move |_| {
        made += 1;
        sent.store(made, Ordering::Relaxed);
        // Asking for the status costs more than making an event.
        while made % 256 == 0 && !stop.asked() && made.saturating_sub(read(&status)) > MOST_UNREAD {
            std::thread::sleep(Duration::from_millis(20));
        }
        !stop.asked()
    });
    std::thread::spawn(move || {
        let system = System::Emergency;
        let sent = generate::to_kafka(&servers, system, events, u64::MAX, Some(rate), &mut |_| {});
        if let Err(error) = sent {
            warn!("the generator has ended: {error}");
        }
    })
}

/// How many records the job has read. The broker began empty, so that offsets count.
fn read(status: &SharedStatus) -> u64 {
    status
        .get()
        .splits
        .iter()
        .map(|split| split.offset.unsigned_abs())
        .sum()
}
