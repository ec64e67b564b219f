//! `tributary generate`: events of a known kind, the same for the same seed.

use crate::error::{Error, Result};
use crate::generate::{self, GenerateOptions, Generator, System};
use std::io::{IsTerminal, Write};

#[derive(clap::Args)]
pub struct Args {
    /// What to make: emergency, medical, retail or login.
    name: String,
    /// kafka://HOST:PORT, or a folder for files.
    #[arg(long, value_name = "kafka://HOST:PORT|DIR")]
    to: String,
    /// How many events; without it, until stopped.
    #[arg(long)]
    count: Option<u64>,
    /// Events a second; without it, as fast as they are taken.
    #[arg(long)]
    rate: Option<u64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Patients, customers or users.
    #[arg(long, default_value_t = 20)]
    keys: u64,
    /// The share of events whose bytes are no good.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    malformed: f64,
    /// The share of events that come after the watermark has passed them.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    late: f64,
    /// The share of events that come twice.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    duplicates: f64,
}

fn share(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("needs a share from 0 to 1".to_string()),
    }
}

pub fn generate(args: &Args) -> Result<u8> {
    let system = System::named(&args.name).ok_or_else(|| {
        let known = System::ALL.map(System::name).join(", ");
        Error::job(format!(
            "there is no generator '{}'; there are: {known}",
            args.name
        ))
    })?;
    let options = GenerateOptions {
        seed: args.seed,
        keys: args.keys,
        malformed: args.malformed,
        late: args.late,
        duplicates: args.duplicates,
        ..GenerateOptions::default()
    };
    let events = Generator::new(system, &options);
    let terminal = std::io::stderr().is_terminal();
    let mut progress = |sent: u64| {
        if terminal {
            let _ = write!(std::io::stderr(), "\r{sent} events");
        }
    };
    let count = args.count.unwrap_or(u64::MAX);
    let sent = match args.to.strip_prefix("kafka://") {
        Some("") => {
            return Err(Error::job(
                "--to kafka:// names no broker; for example kafka://localhost:9092",
            ));
        }
        Some(servers) => {
            generate::to_kafka(servers, system, events, count, args.rate, &mut progress)?
        }
        None if args.to.contains("://") => {
            let what = format!(
                "--to {}: events go to kafka://HOST:PORT or to a local folder",
                args.to
            );
            return Err(Error::job(what));
        }
        None => generate::to_folder(&args.to, system, events, count, args.rate, &mut progress)?,
    };
    if terminal {
        complain!();
    }
    say!("{sent} events to {}", args.to);
    Ok(0)
}
