//! `tributary audit`: the books of a job, from its last epoch.

use super::job::{Job, override_of};
use crate::epoch::{Checkpoint, EpochStore, Ledger};
use crate::error::{Error, Result};

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
    let folder = &job.settings.checkpoint_dir;
    let store = EpochStore::new(crate::store::open(folder)?, job.settings.name.as_str());
    let Some(checkpoint) = runtime.block_on(store.latest())? else {
        return Err(Error::job(format!(
            "{folder}: there is no epoch of job '{}' yet; run it first, or name its 'execution.checkpointing.dir'",
            job.settings.name
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
        });
        println!("{report}");
    } else {
        print(&checkpoint);
        match &balance {
            Ok(()) => println!("\nThe books balance."),
            Err(error) => println!("\nThe books do NOT balance: {error}"),
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
    println!(
        "job {}, epoch {}, committed {} UTC by {} (process {})\n",
        checkpoint.job,
        checkpoint.epoch,
        at.format("%Y-%m-%d %H:%M:%S"),
        checkpoint.owner.host,
        checkpoint.owner.pid,
    );
    println!(
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
        println!(
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
    println!(
        "\n{:<28}{:>12}{:>12}{:>12}{:>9}",
        "operator", "rows in", "used", "filtered", "late"
    );
    for (node, book) in operators {
        println!(
            "{node:<28}{:>12}{:>12}{:>12}{:>9}",
            book.rows_in, book.used, book.filtered, book.late
        );
    }
    println!(
        "\n{:<28}{:>12}{:>12}{:>12}{:>9}{:>9}{:>14}",
        "written to", "written", "published", "carried", "rejected", "files", "bytes"
    );
    for (table, book) in sinks {
        println!(
            "{table:<28}{:>12}{:>12}{:>12}{:>9}{:>9}{:>14}",
            book.written, book.published, book.carried, book.rejected, book.files, book.bytes
        );
    }
    if !letters.is_empty() {
        println!("\n{:<28}{:>24}{:>12}", "dead letters of", "reason", "count");
    }
    for (source, reasons) in letters {
        for (reason, count) in reasons {
            println!("{source:<28}{reason:>24}{count:>12}");
        }
    }
}
