//! `tributary run`: one job, from its last epoch on.

use super::job::{Job, override_of};
use super::outside::{self, Outside};
use super::status::Reporter;
use crate::catalog::evolve::{inspect, misfits};
use crate::catalog::glue::GlueCatalog;
use crate::catalog::keeper;
use crate::clock::{Clock, SystemClock};
use crate::epoch::{self, Claim, Coordinator, Hook, KillAt, Mode, Owner};
use crate::error::{Error, Kind, Result};
use crate::http;
use crate::runtime::{Connections, Engine, Event, Finish, Parts, Run, Stop, ask_sources, millis};
use crate::sink::Publisher;
use crate::source::{Share, Waker};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How long a start waits for the catalog to say whether it has room for the job's tables.
const CATALOG_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub struct Args {
    #[arg(value_name = "JOB.sql")]
    job: String,
    /// Read to the ends that are there now, close every window, publish, and exit.
    #[arg(long)]
    bounded: bool,
    /// A setting in place of the job file's.
    #[arg(short = 'D', value_name = "key=value", value_parser = override_of)]
    settings: Vec<(String, String)>,
    /// Memory for Kafka's queues, operator state and open files.
    #[arg(long, env = "TRIBUTARY_MEMORY", value_name = "SIZE")]
    memory: Option<String>,
    /// Lanes; one for each core by default.
    #[arg(long, env = "TRIBUTARY_PARALLELISM", value_name = "N")]
    parallelism: Option<String>,
    /// Read these partitions of every topic only: other processes read the others, each with its own. For jobs without windows and joins.
    #[arg(long, value_name = "0-3,8", value_parser = clap::value_parser!(Share))]
    partitions: Option<Share>,
    /// Where health, metrics and the page are served, or `off`. Default 127.0.0.1:9090, where that is free.
    #[arg(long, env = "TRIBUTARY_HTTP", value_name = "ADDR|off")]
    http: Option<String>,
    /// Wait, for as long as it takes, until the instance that owns the job is gone.
    #[arg(long, conflicts_with = "takeover")]
    standby: bool,
    /// Take the job from the instance that owns it, now.
    #[arg(long)]
    takeover: bool,
}

/// How a job is to be run.
pub struct Options {
    pub bounded: bool,
    pub mode: Mode,
}

impl Args {
    fn overrides(&self) -> Vec<(String, String)> {
        let mut all = self.settings.clone();
        let given = [
            ("tributary.memory", &self.memory),
            ("parallelism.default", &self.parallelism),
        ];
        for (key, value) in given {
            // Set to nothing in an environment file, it is not set.
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                all.push((key.to_string(), value.clone()));
            }
        }
        all
    }
}

pub fn run(args: Args) -> Result<u8> {
    let mut job = Job::load(&args.job, &args.overrides())?;
    if let Some(share) = &args.partitions {
        job.take_share(share.clone())?;
    }
    for warning in &job.warnings {
        warn!("{warning}");
    }
    let mode = match (args.standby, args.takeover) {
        (true, _) => Mode::Standby,
        (_, true) => Mode::Takeover,
        _ => Mode::Normal,
    };
    let options = Options {
        bounded: args.bounded,
        mode,
    };
    let runtime = super::runtime()?;
    runtime.block_on(fits_the_catalog(&job))?;
    let reporter = Reporter::new(&job);
    serve(&runtime, args.http.as_deref(), &reporter)?;
    let waker = Waker::default();
    let stop = Stop::new(waker.clone());
    stop_on_signals(&runtime, stop.clone());
    let started = SystemClock.now_ms();
    let result = work(
        &job,
        &options,
        &runtime,
        waker,
        &stop,
        &reporter,
        &mut |event| {
            reporter.observe(&event);
        },
    );
    reporter.finished(&result);
    // A client that waits for a server which is away would keep it.
    runtime.shutdown_background();
    let finish = result?;
    let seconds = (SystemClock.now_ms() - started) as f64 / 1000.0;
    info!(
        job = job.settings.name,
        seconds,
        "{}",
        match finish {
            Finish::Ended => "every source came to its end; all is published",
            Finish::Stopped => "stopped; all that was read is published or kept in the checkpoint",
            Finish::Waiting =>
                "stopped while a server was away; what was read since the last epoch is read again",
        }
    );
    if finish == Finish::Ended {
        reporter.print_summary(&mut std::io::stderr());
    }
    Ok(0)
}

/// Refuses a job whose tables do not fit those of the catalog, before anything is read or written. A catalog that does not answer holds
/// nobody back: the keeper asks it again, and says so.
async fn fits_the_catalog(job: &Job) -> Result<()> {
    let wanted = job.definitions();
    if wanted.is_empty() {
        return Ok(());
    }
    let catalog = GlueCatalog::default();
    match tokio::time::timeout(CATALOG_ANSWERS_WITHIN, inspect(&catalog, &wanted)).await {
        Ok(Ok(found)) => misfits(&wanted, &found).map_or(Ok(()), Err),
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Claims the job, recovers its last epoch, and works until it ends.
pub fn work(
    job: &Job,
    options: &Options,
    runtime: &tokio::runtime::Runtime,
    waker: Waker,
    stop: &Stop,
    reporter: &Reporter,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Finish> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let me = Owner::this_process();
    let unhindered = runtime.block_on(unless_stopped(stop, job.check_share()))?;
    if unhindered.is_none() {
        return Ok(Finish::Stopped);
    }
    let store = job.epochs()?;
    let outside: Arc<dyn Connections> = Arc::new(Outside::new(
        job,
        options.bounded,
        &me,
        waker.clone(),
        runtime.handle().clone(),
        Arc::clone(&clock),
        stop,
    ));
    let mut publishers: BTreeMap<String, Arc<dyn Publisher>> = BTreeMap::new();
    for table in &job.tables {
        publishers.insert(table.name.clone(), outside.publisher(table)?);
    }
    let hook: Arc<dyn Hook> = KillAt::from_env()?.into();
    let claim = Claim {
        store: &store,
        me: &me,
        interval: job.settings.checkpoint_interval,
        mode: options.mode,
        clock: clock.as_ref(),
        sleep: &crate::clock::sleeper(),
        notify: &|message: String| {
            warn!("{message}");
            reporter.waiting(&message);
        },
    };
    let Some(claimed) = runtime.block_on(unless_stopped(stop, claim.run()))? else {
        return Ok(Finish::Stopped);
    };
    let checkpoint = &claimed.checkpoint;
    let sources = ask_sources(&job.graph, checkpoint, outside.as_ref(), &waker)?;
    let recovering = async {
        // Once more, now that its own epochs can be seen: another share may have started at the same moment.
        job.check_share().await?;
        epoch::recover(&store, &claimed, &publishers, hook.as_ref()).await
    };
    // To break it off is as safe as to be killed; the claim stays.
    let Some(recovered) = runtime.block_on(unless_stopped(stop, recovering))? else {
        return Ok(Finish::Waiting);
    };
    reporter.goes_on_from(&checkpoint.ledger);
    if let Some(previous) = &claimed.previous {
        info!(epoch = previous.epoch, "going on from the last epoch");
    }
    let engine = match Engine::new(
        Parts {
            graph: Arc::clone(&job.graph),
            connections: outside,
            sources,
            tables: job.tables.clone(),
            letters: job.letters.clone(),
            clock: Arc::clone(&clock),
            lanes: job.settings.parallelism.unwrap_or_else(cores),
            max_future_ms: millis(job.settings.max_future),
            idle_timeout_ms: job.settings.idle_timeout.map_or(0, millis),
            max_drift_ms: millis(job.settings.max_drift),
            sink_memory: job.memory() / 16,
            allow_dropped_state: job.settings.allow_dropped_state,
            waker: waker.clone(),
        },
        Some(recovered),
    ) {
        Err(error) if error.kind() == Kind::Stopped => {
            info!("{error}");
            return Ok(Finish::Waiting);
        }
        engine => engine?,
    };
    reporter.running();
    let keeper = outside::keeper(
        job,
        keeper::guard(&store, &me.id),
        &publishers,
        &clock,
        &hook,
        runtime.handle(),
    )?;
    let mut coordinator = Coordinator::new(store, &claimed, publishers, Arc::clone(&clock), hook);
    if let Some(keeper) = keeper {
        reporter.watch(keeper.watch());
        coordinator = coordinator.with_keeper(keeper);
    }
    Run {
        engine,
        coordinator,
        interval: job.settings.checkpoint_interval,
        clock,
        waker,
        runtime: runtime.handle().clone(),
    }
    .run(stop, observe)
}

/// What comes of something that may take long; None where the job is to stop first.
async fn unless_stopped<T>(
    stop: &Stop,
    work: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    tokio::select! {
        done = work => done.map(Some),
        () = stopped(stop) => Ok(None),
    }
}

async fn stopped(stop: &Stop) {
    while !stop.asked() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// SIGTERM and Ctrl-C finish the epoch; a second one ends the process at once, and loses nothing.
pub fn stop_on_signals(runtime: &tokio::runtime::Runtime, stop: Stop) {
    runtime.spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut term), Ok(mut int)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            warn!("signals cannot be caught here: the process will end without closing its files");
            return;
        };
        let mut asked = false;
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if asked {
                std::process::exit(130);
            }
            asked = true;
            info!(
                "stopping: the epoch is finished and published first; a second signal stops at once"
            );
            stop.ask();
        }
    });
}

/// The page on its default address is a convenience: where the port is taken the job runs without.
pub fn serve(
    runtime: &tokio::runtime::Runtime,
    address: Option<&str>,
    reporter: &Reporter,
) -> Result<Option<std::net::SocketAddr>> {
    // Set to nothing in an environment file, it is not set.
    let address = address.filter(|address| !address.is_empty());
    if address == Some("off") {
        return Ok(None);
    }
    let wanted = address.unwrap_or("127.0.0.1:9090");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // The server ends with the process: until then it shows how the job ended.
    let served = http::serve(wanted, reporter.status(), clock, std::future::pending());
    match runtime.block_on(served) {
        Ok(server) => {
            let bound = server.address;
            info!("health, metrics and the page: http://{bound}/");
            Ok(Some(bound))
        }
        Err(error) if address.is_none() => {
            warn!("{error}; going on without it");
            Ok(None)
        }
        Err(error) => Err(Error::job(error.to_string())),
    }
}
