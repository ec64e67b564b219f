//! The form of a case file.
//!
//! ```text
//! # a comment
//! env HEART_RATE_MAX=170
//! job                         (the SQL follows, indented; or `job ../emergency.sql`)
//!   CREATE TABLE ...
//! input orders                (one record a line, as bytes; `input orders 2` is partition 2)
//!   {"id":1,"ts":"2024-01-01 00:00:01"}
//! input customers             (a table that rows are looked up in has what was put in, in JSON where it has no format)
//!   {"id":7,"name":"Ann"}
//! end orders                  (the table was bounded: this run reads no more of it, the one after a crash does)
//! clock +10 s                 (the time of day moves)
//! epoch                       (an epoch is committed)
//! crash                       (the process dies, and another starts from the last epoch)
//! output daily                (all rows of the table at the end, in any order; NULLs are left out)
//!   {"window_start":"2024-01-01 00:00:00","total":5}
//! dead letters                (reason, source, partition, offset and error of each)
//!   {"reason":"late","source":"orders"}
//! catalog                     (the partitions that the catalog knows)
//!   {"table":"lake.daily","dt":"2024-01-01"}
//! success files               (those that say that a partition is complete)
//!   {"table":"daily","file":"dt=2024-01-01/_SUCCESS"}
//! error 3:14 unknown column   (instead of outputs: the job is refused there, with this in the message)
//! ```
//!
//! Behind the last step every input ends, so that windows close. `no end` leaves the inputs open. `no crash` keeps the runner from
//! adding crashes of its own, where what is seen depends on the time of day.

use crate::error::{Error, Result};
use std::time::Duration;

/// A case as read.
#[derive(Debug, Default)]
pub struct Case {
    pub env: Vec<(String, String)>,
    pub job: Job,
    pub steps: Vec<Step>,
    pub expectations: Vec<Expectation>,
    pub ends: bool,
    pub crashes: bool,
}

#[derive(Debug)]
pub enum Job {
    Inline(String),
    File(String),
}

impl Default for Job {
    fn default() -> Self {
        Job::Inline(String::new())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Input {
        table: String,
        partition: i32,
        records: Vec<Option<String>>,
    },
    End {
        table: String,
    },
    Clock {
        by: Duration,
    },
    Epoch,
    Crash,
}

/// What must be seen, with the lines of the file that say so: `--complete` writes there.
#[derive(Debug, PartialEq)]
pub enum Expectation {
    Output {
        table: String,
        rows: Vec<String>,
        lines: (usize, usize),
    },
    DeadLetters {
        rows: Vec<String>,
        lines: (usize, usize),
    },
    Catalog {
        rows: Vec<String>,
        lines: (usize, usize),
    },
    SuccessFiles {
        rows: Vec<String>,
        lines: (usize, usize),
    },
    DeadLetterCount {
        count: usize,
        line: usize,
    },
    Error {
        place: String,
        text: String,
        line: usize,
    },
}

impl Case {
    /// Reads a case; `path` is for messages.
    pub fn parse(path: &str, text: &str) -> Result<Case> {
        let lines: Vec<&str> = text.lines().collect();
        let mut case = Case {
            ends: true,
            crashes: true,
            ..Case::default()
        };
        let mut has_job = false;
        let mut at = 0;
        while at < lines.len() {
            let line = lines[at].trim_end();
            let number = at + 1;
            at += 1;
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let body_start = at;
            while at < lines.len() && (lines[at].starts_with(' ') || lines[at].trim().is_empty()) {
                at += 1;
            }
            // Blank lines behind the body belong to nobody.
            let mut body_end = at;
            while body_end > body_start && lines[body_end - 1].trim().is_empty() {
                body_end -= 1;
            }
            let body = &lines[body_start..body_end];
            let span = (body_start, body_end);
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let rest = rest.trim();
            match (word, rest) {
                ("job", "") => {
                    has_job = true;
                    // Blank lines in front, and the indentation kept: so a refusal's place is one in this file.
                    let sql = "\n".repeat(body_start) + &body.join("\n");
                    case.job = Job::Inline(sql);
                }
                ("job", file) => {
                    has_job = true;
                    case.job = Job::File(file.to_string());
                }
                ("env", pair) => match pair.split_once('=') {
                    Some((name, value)) => case.env.push((name.to_string(), value.to_string())),
                    None => return Err(wrong(path, number, "env needs NAME=value")),
                },
                ("input", target) => {
                    let (table, partition) = target.split_once(' ').unwrap_or((target, "0"));
                    let partition = partition.trim().parse().map_err(|_| {
                        wrong(
                            path,
                            number,
                            "the word behind the table must be a partition's number",
                        )
                    })?;
                    let records = body.iter().map(|line| match line.trim() {
                        "(null)" => None,
                        "(empty)" => Some(String::new()),
                        record => Some(record.to_string()),
                    });
                    let records = records.collect();
                    case.steps.push(Step::Input {
                        table: table.to_string(),
                        partition,
                        records,
                    });
                }
                ("end", table) if !table.is_empty() => case.steps.push(Step::End {
                    table: table.to_string(),
                }),
                ("clock", by) => {
                    let by = by.strip_prefix('+').and_then(crate::sql::values::duration);
                    let by = by.ok_or_else(|| {
                        wrong(
                            path,
                            number,
                            "clock needs a time to move by, such as `clock +10 s`",
                        )
                    })?;
                    case.steps.push(Step::Clock { by });
                }
                ("epoch", "") => case.steps.push(Step::Epoch),
                ("crash", "") => case.steps.push(Step::Crash),
                ("no", "end") => case.ends = false,
                ("no", "crash") => case.crashes = false,
                ("output", table) if !table.is_empty() => {
                    case.expectations.push(Expectation::Output {
                        table: table.to_string(),
                        rows: rows(body),
                        lines: span,
                    });
                }
                ("dead", "letters") => {
                    case.expectations.push(Expectation::DeadLetters {
                        rows: rows(body),
                        lines: span,
                    });
                }
                ("catalog", "") => case.expectations.push(Expectation::Catalog {
                    rows: rows(body),
                    lines: span,
                }),
                ("success", "files") => case.expectations.push(Expectation::SuccessFiles {
                    rows: rows(body),
                    lines: span,
                }),
                ("dead", rest) if rest.starts_with("letters:") => {
                    let count = rest["letters:".len()..].trim().parse();
                    let count =
                        count.map_err(|_| wrong(path, number, "dead letters: needs a number"))?;
                    case.expectations.push(Expectation::DeadLetterCount {
                        count,
                        line: number - 1,
                    });
                }
                ("error", rest) => {
                    let (place, text) = rest.split_once(' ').unwrap_or((rest, ""));
                    case.expectations.push(Expectation::Error {
                        place: place.to_string(),
                        text: text.trim().to_string(),
                        line: number - 1,
                    });
                }
                _ => {
                    return Err(wrong(
                        path,
                        number,
                        "expected one of: env, job, input, end, clock, epoch, crash, no end, no crash, output, dead letters, catalog, success files, error",
                    ));
                }
            }
        }
        if !has_job {
            return Err(wrong(path, lines.len(), "the case has no job"));
        }
        if case.expectations.is_empty() {
            return Err(wrong(
                path,
                lines.len(),
                "the case expects nothing, so it could not fail",
            ));
        }
        Ok(case)
    }
}

fn rows(body: &[&str]) -> Vec<String> {
    let rows = body
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty());
    rows.map(str::to_string).collect()
}

fn wrong(path: &str, line: usize, message: &str) -> Error {
    Error::job(format!("{path}:{line}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_in_its_parts() {
        let text = "# a comment\nenv A=1\njob\n  CREATE TABLE t (a INT);\n\n  INSERT INTO o SELECT a FROM t;\ninput t 2\n  {\"a\":1}\n  (null)\nepoch\ncrash\nclock +2 s\noutput o\n  {\"a\":1}\ndead letters: 0\n";
        let case = Case::parse("x.case", text).unwrap();
        assert_eq!(case.env, [("A".to_string(), "1".to_string())]);
        let Job::Inline(sql) = &case.job else {
            panic!("inline")
        };
        assert_eq!(
            sql,
            "


  CREATE TABLE t (a INT);

  INSERT INTO o SELECT a FROM t;"
        );
        assert_eq!(case.steps.len(), 4);
        assert_eq!(
            case.steps[0],
            Step::Input {
                table: "t".into(),
                partition: 2,
                records: vec![Some("{\"a\":1}".into()), None]
            }
        );
        assert_eq!(
            case.steps[3],
            Step::Clock {
                by: Duration::from_secs(2)
            }
        );
        assert_eq!(case.expectations.len(), 2);
    }

    #[test]
    fn a_case_that_could_not_fail_is_refused() {
        let error = Case::parse("x.case", "job\n  SELECT\n").unwrap_err();
        assert!(error.to_string().contains("could not fail"), "{error}");
        let error = Case::parse("x.case", "jb\n").unwrap_err();
        assert!(
            error.to_string().starts_with("x.case:1: expected one of"),
            "{error}"
        );
    }
}
