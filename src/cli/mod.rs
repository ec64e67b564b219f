//! The command line: the contract that users' scripts rely on.
//!
//! stdout is for results, stderr for logs. Exit codes: 0 done, 1 failed (trying again may help), 2 fix the job or the
//! command, 3 another instance owns the job.

/// A line on stdout. Whoever reads it may have seen enough: `println!` would panic then.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($line)*);
    }};
}

/// A line on stderr, in the same way.
macro_rules! complain {
    ($($line:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($line)*);
    }};
}

mod audit;
mod check;
mod compact;
mod demo;
mod explain;
mod generate;
mod job;
mod outside;
mod run;
mod share;
mod status;
mod test;

pub use job::Job;

use crate::catalog::glue::GlueCatalog;
use crate::clock::SystemClock;
use crate::error::{Error, Result};
use crate::lake::query::{self, Lake, Registry, Tables};
use clap::{Parser, Subcommand, ValueEnum};
use datafusion::execution::FunctionRegistry;
use datafusion::prelude::SessionContext;
use std::io::IsTerminal;
use std::sync::Arc;

/// What is logged by default. The client of object stores would tell of each try in an outage, of which there is one warning already.
const QUIET: &str = "info,object_store=warn";

/// Where tables are looked for by default.
const LAKE: &str = "./lake";

/// Events from Kafka, joined and windowed by event time, landed exactly once as Parquet.
#[derive(Parser)]
#[command(name = "tributary", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How logs are written to stderr; by default for people on a terminal, else as JSON.
    #[arg(long, global = true, value_enum, env = "TRIBUTARY_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, or a filter such as tributary=debug.
    #[arg(long, global = true, env = "TRIBUTARY_LOG", default_value = QUIET, value_parser = filter)]
    log: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
    /// Set to nothing in an environment file, it is not set.
    #[value(name = "", hide = true)]
    Unset,
}

#[derive(Subcommand)]
enum Command {
    /// A job at work with everything it needs in one process: broker, generator, lake, page.
    Demo(demo::Args),
    /// Run a job.
    Run(run::Args),
    /// Parse, plan and lint jobs; exit code 2 and file:line:column on a refusal.
    Check(check::Args),
    /// Show how a job will be run.
    Explain(explain::Args),
    /// Test jobs by the cases that lie beside them.
    Test(test::Args),
    /// Make events of a known kind, into Kafka or a folder.
    Generate(generate::Args),
    /// Query what is published, as Athena would.
    Query(QueryArgs),
    /// Merge the small files of closed partitions into large ones.
    Compact(compact::Args),
    /// The books of a job: exit code 1 when they do not balance.
    Audit(audit::Args),
}

#[derive(clap::Args)]
struct QueryArgs {
    /// The SQL to run; without it the tables are listed.
    sql: Option<String>,
    /// Folders, or s3://, gs:// or az:// addresses, whose folders are tables.
    #[arg(
        long = "lake",
        value_name = "URL",
        env = "LAKE",
        default_value = LAKE
    )]
    lakes: Vec<String>,
    /// Read the tables of a catalog instead, as Athena does.
    #[arg(long, value_enum)]
    catalog: Option<QueryCatalog>,
    /// The database whose tables need no name before theirs.
    #[arg(
        long,
        value_name = "NAME",
        env = "GLUE_DATABASE",
        default_value = "default"
    )]
    database: String,
    #[arg(long, value_enum, default_value = "table")]
    format: QueryFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum QueryCatalog {
    Glue,
}

#[derive(Clone, Copy, ValueEnum)]
enum QueryFormat {
    Table,
    Json,
    Csv,
}

/// What to log, where it can be understood. Set to nothing in an environment file, it is not set.
fn filter(text: &str) -> Result<String, String> {
    let text = if text.is_empty() { QUIET } else { text };
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Starts logging, to stderr.
pub fn logging(cli: &Cli) {
    let terminal = std::io::stderr().is_terminal();
    let json = match cli.log_format {
        Some(LogFormat::Json) => true,
        Some(LogFormat::Text) => false,
        Some(LogFormat::Unset) | None => !terminal,
    };
    let filter = tracing_subscriber::EnvFilter::new(&cli.log);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would be said on stderr, which may be what cannot be written to.
        .log_internal_errors(false);
    // A second start within one process (a test) keeps the first one's logging.
    let _ = if json {
        builder
            .json()
            .flatten_event(true)
            .with_target(false)
            .try_init()
    } else {
        builder.with_target(false).with_ansi(terminal).try_init()
    };
}

/// Says what went wrong.
pub fn report(error: &Error) {
    complain!("error: {error}");
}

/// Does what was asked; the exit code comes back.
pub fn dispatch(cli: Cli) -> Result<u8> {
    match cli.command {
        Command::Demo(args) => demo::demo(args),
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::check(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Test(args) => test::test(&args),
        Command::Generate(args) => generate::generate(&args),
        Command::Query(args) => run_query(&args),
        Command::Compact(args) => compact::compact(&args),
        Command::Audit(args) => audit::audit(&args),
    }
}

fn run_query(args: &QueryArgs) -> Result<u8> {
    let format = match args.format {
        QueryFormat::Table => query::Format::Table,
        QueryFormat::Json => query::Format::Json,
        QueryFormat::Csv => query::Format::Csv,
    };
    let sql = args.sql.as_deref().unwrap_or_default();
    let mut out = std::io::stdout().lock();
    let asked = async {
        match args.catalog {
            Some(QueryCatalog::Glue) => {
                let registry = registry(args);
                query::query(
                    sql,
                    Tables::Catalog(&registry),
                    with_flinks_functions,
                    format,
                    &mut out,
                )
                .await
            }
            None => {
                let lakes = lakes(args)?;
                query::query(
                    sql,
                    Tables::Lakes(&lakes),
                    with_flinks_functions,
                    format,
                    &mut out,
                )
                .await
            }
        }
    };
    runtime()?.block_on(asked)?;
    Ok(0)
}

/// What SQL itself has keeps the meaning that a reader of the lake expects, all else is Flink's; so is DATE_FORMAT, for a pattern of Java's is
/// mere text to DataFusion.
fn with_flinks_functions(context: &SessionContext) {
    for function in crate::sql::functions::all() {
        let name = function.name();
        if name == "date_format" || context.udf(name).is_err() {
            context.register_udf(function.as_ref().clone());
        }
    }
}

fn lakes(args: &QueryArgs) -> Result<Vec<Lake>> {
    let lake = |url: &String| {
        // Set to nothing in an environment file, it is not set.
        let url = if url.is_empty() { LAKE } else { url };
        Ok(Lake::from(&crate::store::open(url)?))
    };
    args.lakes.iter().map(lake).collect()
}

fn registry(args: &QueryArgs) -> Registry {
    // In the environment of a job without a catalog the name is there, and empty.
    let database = match args.database.as_str() {
        "" => "default",
        name => name,
    };
    Registry {
        catalog: Arc::new(GlueCatalog::default()),
        database: database.to_lowercase(),
        clock: Arc::new(SystemClock),
    }
}

/// The threads that wait for networks and disks.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("io")
        .build()
        .map_err(|error| Error::retry("cannot start threads for input and output").caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn what_is_set_to_nothing_is_not_set() {
        let nothing = [
            "tributary",
            "--log",
            "",
            "--log-format",
            "",
            "query",
            "--lake",
            "",
        ];
        let cli = Cli::try_parse_from(nothing).unwrap();
        assert_eq!(cli.log, QUIET);
        assert!(cli.log_format == Some(LogFormat::Unset));
        let Command::Query(args) = &cli.command else {
            panic!("another command");
        };
        let lakes = lakes(args).unwrap();
        let usual = Lake::from(&crate::store::open(LAKE).unwrap());
        assert_eq!((lakes.len(), &lakes[0].path), (1, &usual.path));
    }

    #[test]
    fn who_serves_a_page_asks_the_environment_where() {
        let cli = Cli::command();
        for name in ["demo", "run"] {
            let command = cli.find_subcommand(name).unwrap();
            let http = command.get_arguments().find(|arg| arg.get_id() == "http");
            let variable = http.and_then(|http| http.get_env()).unwrap();
            assert_eq!(variable, "TRIBUTARY_HTTP", "{name}");
        }
    }

    #[tokio::test]
    async fn a_query_has_flinks_functions() {
        for (call, expected) in [
            (
                "DATE_FORMAT(TIMESTAMP '2024-03-01 07:15:00', 'yyyy-MM')",
                "2024-03",
            ),
            ("CONCAT('a', 1)", "a1"),
            ("SPLIT_INDEX('a,b', ',', 1)", "b"),
            ("CHARACTER_LENGTH('abc')", "3"),
        ] {
            let context = SessionContext::new();
            with_flinks_functions(&context);
            let frame = context.sql(&format!("SELECT {call} AS v")).await.unwrap();
            let rows = frame.collect().await.unwrap();
            let shown = arrow::util::pretty::pretty_format_batches(&rows).unwrap();
            let shown = shown.to_string();
            assert!(shown.contains(&format!("| {expected} ")), "{call}: {shown}");
        }
    }
}
