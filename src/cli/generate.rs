//! `tributary generate`: events of a known kind, the same for the same seed.

use crate::error::{Error, Result};
use crate::generate::{self, GenerateOptions, Generator, System};
use std::io::{IsTerminal, Write};

/// All keys are in memory, with what is known of each: so many take a gigabyte or two.
const MOST_KEYS: u64 = 10_000_000;
/// Events in one file where there is no end of them, unless they take longer than a second.
const A_FILE: u64 = 100_000;

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
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=MOST_KEYS))]
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
    let servers = servers(&args.to)?;
    let events = Generator::new(system, &options);
    let terminal = std::io::stderr().is_terminal();
    let mut progress = |sent: u64| {
        if terminal {
            let _ = write!(std::io::stderr(), "\r{sent} events");
        }
    };
    let (to, rate) = (&args.to, args.rate);
    let sent = match (servers, args.count) {
        (Some(servers), count) => {
            let count = count.unwrap_or(u64::MAX);
            generate::to_kafka(servers, system, events, count, rate, &mut progress)?
        }
        (None, Some(count)) => generate::to_folder(to, system, events, count, rate, &mut progress)?,
        (None, None) => {
            let at_a_time = rate.unwrap_or(A_FILE).clamp(1, A_FILE);
            generate::to_new_files(to, system, events, at_a_time, rate, &mut progress)?
        }
    };
    if terminal {
        complain!();
    }
    say!("{sent} events to {}", args.to);
    Ok(0)
}

/// The brokers that events go to, or none for a folder. What looks like an address is no name of a folder.
fn servers(to: &str) -> Result<Option<&str>> {
    let refuse = |what: &str| Err(Error::job(format!("--to '{to}': {what}")));
    match to.strip_prefix("kafka:") {
        Some(rest) => match rest.strip_prefix("//") {
            Some(servers) if !servers.is_empty() => Ok(Some(servers)),
            _ => refuse("names no broker; for example kafka://localhost:9092"),
        },
        None if to.is_empty() => refuse("give kafka://HOST:PORT, or a folder (. is this one)"),
        None if to.contains("://") => refuse("events go to kafka://HOST:PORT or to a local folder"),
        None if is_address(to) => refuse(&format!("write kafka://{to}, or ./{to} for a folder")),
        None => Ok(None),
    }
}

/// Whether it is HOST:PORT.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn an_address_is_no_folder() {
        assert_eq!(servers("kafka://a:1,b:2").unwrap(), Some("a:1,b:2"));
        for folder in ["out", "./out", "/tmp/a:1/b", "./localhost:9092", "a:b"] {
            assert_eq!(servers(folder).unwrap(), None, "{folder}");
        }
        for (to, hint) in [
            ("", "kafka://HOST:PORT"),
            ("kafka:", "kafka://localhost:9092"),
            ("kafka://", "kafka://localhost:9092"),
            ("kafka:/localhost", "kafka://localhost:9092"),
            ("kafka:localhost:9092", "kafka://localhost:9092"),
            (
                "localhost:9092",
                "write kafka://localhost:9092, or ./localhost:9092",
            ),
            ("a:1,b:2", "kafka://a:1,b:2"),
            ("s3://bucket", "local folder"),
        ] {
            let error = servers(to).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(hint), "{error}");
        }
    }

    #[test]
    fn there_are_as_many_keys_as_memory_holds() {
        let keys = |keys| {
            let line = ["generate", "retail", "--to", "out", "--keys", keys];
            Line::try_parse_from(line).map(|line| line.args.keys)
        };
        assert_eq!(keys("10000000").unwrap(), MOST_KEYS);
        for wrong in ["0", "10000001", "3000000000", "18446744073709551615"] {
            let error = keys(wrong).err().unwrap().to_string();
            assert!(error.contains("1..=10000000"), "{error}");
        }
    }
}
