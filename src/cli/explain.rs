//! `tributary explain`: the plan, for people or for a drawing program.

use super::job::{Job, override_of};
use crate::error::Result;
use crate::plan;
use clap::ValueEnum;

#[derive(clap::Args)]
pub struct Args {
    #[arg(value_name = "JOB.sql")]
    job: String,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// A setting in place of the job file's.
    #[arg(short = 'D', value_name = "key=value", value_parser = override_of)]
    settings: Vec<(String, String)>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Mermaid,
    Dot,
}

pub fn explain(args: &Args) -> Result<u8> {
    let job = Job::load(&args.job, &args.settings)?;
    let format = match args.format {
        Format::Text => plan::Format::Text,
        Format::Mermaid => plan::Format::Mermaid,
        Format::Dot => plan::Format::Dot,
    };
    say!("{}", plan::explain(&job.graph, format).trim_end());
    Ok(0)
}
