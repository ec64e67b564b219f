//! `tributary check`: everything that can be known of a job without opening anything.

use super::job::{Job, override_of};
use crate::error::Result;
use crate::plan::Op;

#[derive(clap::Args)]
pub struct Args {
    /// Job files.
    #[arg(required = true, value_name = "JOB.sql")]
    jobs: Vec<String>,
    /// A setting in place of the job file's.
    #[arg(short = 'D', value_name = "key=value", value_parser = override_of)]
    settings: Vec<(String, String)>,
}

/// Each job by itself; the first refusal's exit code comes back.
pub fn check(args: &Args) -> Result<u8> {
    let mut code = 0;
    for path in &args.jobs {
        match Job::load(path, &args.settings) {
            Ok(job) => {
                for warning in &job.settings.warnings {
                    eprintln!("warning: {warning}");
                }
                let count = |wanted: fn(&Op) -> bool| {
                    job.graph
                        .nodes
                        .iter()
                        .filter(|node| wanted(&node.op))
                        .count()
                };
                println!(
                    "{path}: ok: {} read, {} written, {} keyed",
                    tables(count(|op| matches!(op, Op::Scan(_)))),
                    tables(count(|op| matches!(op, Op::Sink(_)))),
                    operators(count(|op| matches!(
                        op,
                        Op::Window(_) | Op::IntervalJoin(_)
                    ))),
                );
            }
            Err(error) => {
                eprintln!("error: {error}");
                if code == 0 {
                    code = error.exit_code();
                }
            }
        }
    }
    Ok(code)
}

fn tables(count: usize) -> String {
    format!("{count} table{}", if count == 1 { "" } else { "s" })
}

fn operators(count: usize) -> String {
    format!("{count} operator{}", if count == 1 { "" } else { "s" })
}
