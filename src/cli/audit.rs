//! `tributary audit`: the books of a job, from its last epoch.

use super::job::{Job, override_of};
use crate::catalog::owed::Owed;
use crate::epoch::{Checkpoint, Ledger};
use crate::error::{Error, Result};
use crate::time::EventTime;

#[derive(clap::Args)]
pub struct Args {
    #[arg(value_name = "JOB.sql")]
    job: String,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// A setting in place of the job file's.
    #[arg(short = 'D', value_name = "key=value", value_parser = override_of)]
    settings: Vec<(String, String)>,
}

pub fn audit(args: &Args) -> Result<u8> {
    let job = Job::load(&args.job, &args.settings)?;
    let runtime = super::runtime()?;
    let store = job.epochs()?;
    let Some(checkpoint) = runtime.block_on(store.latest())? else {
        return Err(Error::job(format!(
            "{}: there is no epoch of job '{}' yet; run it first, or name its 'execution.checkpointing.dir'",
            job.settings.checkpoint_dir, job.settings.name
        )));
    };
    let balance = checkpoint.ledger.check();
    if args.json {
        let report = serde_json::json!({
            "job": checkpoint.job,
            "epoch": checkpoint.epoch,
            "owner": checkpoint.owner,
            "committed_at_ms": checkpoint.committed_at_ms,
            "balanced": balance.is_ok(),
            "problem": balance.as_ref().err().map(ToString::to_string),
            "ledger": checkpoint.ledger,
            "catalog": checkpoint.catalog,
        });
        say!("{report}");
    } else {
        print(&checkpoint);
        print_catalog(&checkpoint.catalog);
        match &balance {
            Ok(()) => say!("\nThe books balance."),
            Err(error) => say!("\nThe books do NOT balance: {error}"),
        }
    }
    Ok(u8::from(balance.is_err()))
}

fn print(checkpoint: &Checkpoint) {
    let Ledger {
        sources,
        operators,
        sinks,
        letters,
    } = &checkpoint.ledger;
    let at =
        chrono::DateTime::from_timestamp_millis(checkpoint.committed_at_ms).unwrap_or_default();
    say!(
        "job {}, epoch {}, committed {} UTC by {} (process {})\n",
        checkpoint.job,
        checkpoint.epoch,
        at.format("%Y-%m-%d %H:%M:%S"),
        checkpoint.owner.host,
        checkpoint.owner.pid,
    );
    say!(
        "{:<28}{:>12}{:>12}{:>9}{:>11}{:>9}{:>12}{:>12}{:>9}",
        "read from",
        "records",
        "decoded",
        "null",
        "malformed",
        "ignored",
        "rows",
        "accepted",
        "refused"
    );
    for (table, book) in sources {
        say!(
            "{table:<28}{:>12}{:>12}{:>9}{:>11}{:>9}{:>12}{:>12}{:>9}",
            book.records,
            book.decoded,
            book.null,
            book.malformed,
            book.ignored,
            book.rows,
            book.accepted,
            book.refused
        );
    }
    say!(
        "\n{:<28}{:>12}{:>12}{:>12}{:>9}{:>9}",
        "operator",
        "rows in",
        "used",
        "filtered",
        "late",
        "refused"
    );
    for (node, book) in operators {
        say!(
            "{node:<28}{:>12}{:>12}{:>12}{:>9}{:>9}",
            book.rows_in,
            book.used,
            book.filtered,
            book.late,
            book.refused
        );
    }
    say!(
        "\n{:<28}{:>12}{:>12}{:>12}{:>9}{:>9}{:>14}",
        "written to",
        "written",
        "published",
        "carried",
        "rejected",
        "files",
        "bytes"
    );
    for (table, book) in sinks {
        say!(
            "{table:<28}{:>12}{:>12}{:>12}{:>9}{:>9}{:>14}",
            book.written,
            book.published,
            book.carried,
            book.rejected,
            book.files,
            book.bytes
        );
    }
    if !letters.is_empty() {
        say!("\n{:<28}{:>24}{:>12}", "dead letters of", "reason", "count");
    }
    for (source, reasons) in letters {
        for (reason, count) in reasons {
            say!("{source:<28}{reason:>24}{count:>12}");
        }
    }
}

/// What the catalog, and whoever waits for complete partitions, has not been told yet.
fn print_catalog(owed: &Owed) {
    if !owed.tables.is_empty() {
        say!(
            "\n{:<28}{:<28}{:>12}{:>12}{:>12}",
            "partitions of",
            "registered as",
            "to register",
            "incomplete",
            "to be marked"
        );
    }
    for (table, owed) in &owed.tables {
        let unregistered = owed.unregistered().map(|count| count.to_string());
        say!(
            "{table:<28}{:<28}{:>12}{:>12}{:>12}",
            owed.registered_as.as_deref().unwrap_or("-"),
            unregistered.as_deref().unwrap_or("all"),
            owed.incomplete.len(),
            owed.success.len()
        );
    }
    if !owed.crawlers.is_empty() {
        say!(
            "\n{:<28}{:<12}{:<12}{:<25}owed",
            "crawler",
            "state",
            "last run",
            "last start"
        );
    }
    for (name, crawler) in &owed.crawlers {
        let text = |text: &str| if text.is_empty() { "-" } else { text }.to_string();
        let started = crawler.started_ms.map(|ms| EventTime(ms).to_string());
        say!(
            "{name:<28}{:<12}{:<12}{:<25}{}",
            text(&crawler.state),
            text(crawler.last_status.as_deref().unwrap_or_default()),
            text(&started.unwrap_or_default()),
            if crawler.start.is_some() { "yes" } else { "no" }
        );
        if let Some(message) = &crawler.last_message {
            say!("  {message}");
        }
    }
}
