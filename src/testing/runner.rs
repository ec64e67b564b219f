//! Executes a case in many ways, and holds each against the one expectation.

use super::case::{Case, Expectation, Job as CaseJob, Step};
use super::compare::difference;
use super::world::{Seen, World};
use crate::cli::Job;
use crate::error::{Error, Result};
use std::path::Path;

/// What became of a case that passed.
#[derive(Debug)]
pub struct Outcome {
    /// In how many ways it was executed.
    pub ways: usize,
}

/// One way to execute a case.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    /// How many records arrive together; drawn anew each time from 1 to this, where `random` is set.
    batch: usize,
    random: Option<u64>,
    lanes: &'static [usize],
    crash: Crash,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Crash {
    /// Only where the case says so.
    AsWritten,
    /// After every step, before it is in an epoch.
    AfterEachStep,
    /// After every step, when it is.
    AfterEachEpoch,
}

const WAYS: [Way; 8] = [
    Way {
        name: "plain",
        batch: usize::MAX,
        random: None,
        lanes: &[1],
        crash: Crash::AsWritten,
    },
    Way {
        name: "row by row",
        batch: 1,
        random: None,
        lanes: &[1],
        crash: Crash::AsWritten,
    },
    Way {
        name: "random batches",
        batch: 5,
        random: Some(1),
        lanes: &[1],
        crash: Crash::AsWritten,
    },
    Way {
        name: "random batches on 3 lanes",
        batch: 7,
        random: Some(2),
        lanes: &[3],
        crash: Crash::AsWritten,
    },
    Way {
        name: "crash after each step",
        batch: usize::MAX,
        random: None,
        lanes: &[2],
        crash: Crash::AfterEachStep,
    },
    Way {
        name: "crash after each epoch",
        batch: usize::MAX,
        random: None,
        lanes: &[2],
        crash: Crash::AfterEachEpoch,
    },
    Way {
        name: "row by row, crash after each",
        batch: 1,
        random: None,
        lanes: &[1],
        crash: Crash::AfterEachEpoch,
    },
    Way {
        name: "lanes changed at each crash",
        batch: 3,
        random: Some(3),
        lanes: &[1, 3, 2],
        crash: Crash::AfterEachEpoch,
    },
];

/// Runs the case in a file. With `complete`, what the first way sees is written into the file.
pub fn run_file(path: &Path, complete: bool) -> Result<Outcome> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::job(format!("{name}: the case cannot be read")).caused_by(error))?;
    let case = Case::parse(&name, &text)?;
    if complete {
        return complete_file(path, &text, &case);
    }
    if let Some(Expectation::Error { place, text, line }) = case
        .expectations
        .iter()
        .find(|e| matches!(e, Expectation::Error { .. }))
    {
        return refused(&case, path, place, text).map_err(|e| e.at(format!("{name}:{}", line + 1)));
    }
    let mut ways = 0;
    for way in &WAYS {
        if !case.crashes && way.crash != Crash::AsWritten {
            continue;
        }
        let seen = execute(&case, path, way).map_err(|e| e.at(format!("{name} ({})", way.name)))?;
        for expectation in &case.expectations {
            if let Some(difference) = judge(expectation, &seen)? {
                return Err(Error::data(format!(
                    "{name} ({}): {}\n{difference}  (- expected, + seen)",
                    way.name,
                    title(expectation)
                )));
            }
        }
        ways += 1;
    }
    Ok(Outcome { ways })
}

/// The job of a case, with the variables that the case sets; the environment of whoever runs the tests does not matter.
fn load(case: &Case, path: &Path) -> Result<Job> {
    let name = &path.display().to_string();
    let folder = path.parent().unwrap_or(Path::new("."));
    let variable = |name: &str| {
        case.env
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    match &case.job {
        CaseJob::Inline(sql) => Job::parse(name, sql, &[], &variable),
        CaseJob::File(file) => {
            let path = folder.join(file);
            let text = std::fs::read_to_string(&path).map_err(|error| {
                Error::job(format!("{}: the job cannot be read", path.display())).caused_by(error)
            })?;
            Job::parse(file, &text, &[], &variable)
        }
    }
}

fn refused(case: &Case, path: &Path, place: &str, text: &str) -> Result<Outcome> {
    match load(case, path) {
        Ok(_) => Err(Error::data(
            "the job is accepted, but a refusal was expected",
        )),
        Err(error) => {
            let seen = error.to_string();
            if seen.contains(&format!(":{place}:")) && seen.contains(text) {
                Ok(Outcome { ways: 1 })
            } else {
                Err(Error::data(format!(
                    "expected a refusal at {place} with '{text}', but saw:\n{seen}"
                )))
            }
        }
    }
}

fn execute(case: &Case, path: &Path, way: &Way) -> Result<Seen> {
    let job = load(case, path)?;
    let mut world = World::new(job, &partitions(case))?;
    let mut random = way.random.map(fastrand::Rng::with_seed);
    let mut lanes = way.lanes.iter().copied().cycle();
    world.start(lanes.next().unwrap_or(1))?;
    for step in &case.steps {
        match step {
            Step::Input {
                table,
                partition,
                records,
            } => {
                let mut rest = &records[..];
                while !rest.is_empty() {
                    let most = way.batch.min(rest.len());
                    let count = random
                        .as_mut()
                        .map_or(most, |random| random.usize(1..=most));
                    let (now, later) = rest.split_at(count);
                    world.feed(table, *partition, now)?;
                    world.settle()?;
                    rest = later;
                }
            }
            Step::End { table } => {
                world.end(table)?;
                world.settle()?;
            }
            Step::Clock { by } => {
                world.advance_clock(*by);
                world.settle()?;
            }
            Step::Epoch => world.epoch()?,
            Step::Crash => world.crash(lanes.next().unwrap_or(1))?,
        }
        if way.crash == Crash::AfterEachEpoch {
            world.epoch()?;
        }
        if way.crash != Crash::AsWritten {
            world.crash(lanes.next().unwrap_or(1))?;
            world.settle()?;
        }
    }
    world.finish(case.ends)
}

/// How many partitions each table of the case has, so that all are there from the start.
fn partitions(case: &Case) -> Vec<(String, i32)> {
    let inputs = case.steps.iter().filter_map(|step| match step {
        Step::Input {
            table, partition, ..
        } => Some((table.clone(), partition + 1)),
        _ => None,
    });
    inputs.collect()
}

fn title(expectation: &Expectation) -> String {
    match expectation {
        Expectation::Output { table, .. } => format!("output {table}"),
        Expectation::DeadLetters { .. } | Expectation::DeadLetterCount { .. } => {
            "dead letters".to_string()
        }
        Expectation::Catalog { .. } => "catalog".to_string(),
        Expectation::SuccessFiles { .. } => "success files".to_string(),
        Expectation::Error { .. } => "error".to_string(),
    }
}

fn judge(expectation: &Expectation, seen: &Seen) -> Result<Option<String>> {
    match expectation {
        Expectation::Output { table, rows, .. } => match seen.tables.get(table) {
            Some(found) => difference(rows, found),
            None => Err(Error::job(format!(
                "the case expects output of '{table}', which the job does not write"
            ))),
        },
        Expectation::DeadLetters { rows, .. } => difference(rows, &seen.dead_letters),
        Expectation::Catalog { rows, .. } => difference(rows, &seen.catalog),
        Expectation::SuccessFiles { rows, .. } => difference(rows, &seen.success_files),
        Expectation::DeadLetterCount { count, .. } if seen.dead_letters.len() != *count => Ok(
            Some(format!("  - {count}\n  + {}\n", seen.dead_letters.len())),
        ),
        Expectation::DeadLetterCount { .. } | Expectation::Error { .. } => Ok(None),
    }
}

/// Writes what is seen in place of what was expected, from the last expectation to the first, so that lines stay where they are.
fn complete_file(path: &Path, text: &str, case: &Case) -> Result<Outcome> {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    let refusal = load(case, path).err().map(|error| error.to_string());
    let seen = match &refusal {
        None => Some(execute(case, path, &WAYS[0])?),
        Some(_) => None,
    };
    for expectation in case.expectations.iter().rev() {
        let (span, rows) = match (expectation, &seen) {
            (Expectation::Output { table, lines, .. }, Some(seen)) => {
                (*lines, seen.tables.get(table).cloned().unwrap_or_default())
            }
            (Expectation::DeadLetters { lines, .. }, Some(seen)) => {
                (*lines, seen.dead_letters.clone())
            }
            (Expectation::Catalog { lines, .. }, Some(seen)) => (*lines, seen.catalog.clone()),
            (Expectation::SuccessFiles { lines, .. }, Some(seen)) => {
                (*lines, seen.success_files.clone())
            }
            (Expectation::DeadLetterCount { line, .. }, Some(seen)) => {
                lines[*line] = format!("dead letters: {}", seen.dead_letters.len());
                continue;
            }
            (Expectation::Error { line, .. }, None) => {
                let message = refusal.clone().unwrap_or_default();
                let first = message.lines().next().unwrap_or_default();
                let (_, rest) = first.split_once(':').unwrap_or(("", first));
                lines[*line] = format!("error {}", rest.replacen(": ", " ", 1));
                continue;
            }
            _ => {
                return Err(Error::job(
                    refusal.unwrap_or_else(|| "the job is accepted".to_string()),
                ));
            }
        };
        lines.splice(
            span.0..span.1,
            rows.into_iter().map(|row| format!("  {row}")),
        );
    }
    let text = lines.join("\n") + "\n";
    std::fs::write(path, text).map_err(|error| {
        Error::job(format!("{}: cannot be written", path.display())).caused_by(error)
    })?;
    Ok(Outcome { ways: 1 })
}
