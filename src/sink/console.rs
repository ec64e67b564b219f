//! `print`, which shows rows on stdout as Flink does, and `blackhole`, which counts them.
//!
//! The lines of a `print` table are in their token, so they are committed with the epoch and shown after it. Guarantee: at
//! least once, unlike all other tables; lines can come again after a crash. It is meant for looking at a job, not for much data.

use super::options::TableSpec;
use super::{Carry, Publisher, Rejected, Sink, Staging, Token, expect_columns};
use crate::error::{Error, Result};
use crate::operator::changes::{self, Kind};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

const IDENTIFIER: &str = "print-identifier";
const STANDARD_ERROR: &str = "standard-error";

/// Rows as lines: `+I[1, a]`; where results change, what is taken back too: `-U[1, a]`, `+U[1, b]`, `-D[1, b]`.
pub(super) struct PrintSink {
    table: TableSpec,
    prefix: String,
    lines: String,
    rows: u64,
    written: u64,
}

impl PrintSink {
    pub fn open(table: &TableSpec) -> Result<PrintSink> {
        table.only(&["connector", IDENTIFIER, STANDARD_ERROR], &["tributary."])?;
        table.flag(STANDARD_ERROR)?;
        let prefix = table
            .get(IDENTIFIER)
            .map(|name| format!("{name}> "))
            .unwrap_or_default();
        Ok(PrintSink {
            table: table.clone(),
            prefix,
            lines: String::new(),
            rows: 0,
            written: 0,
        })
    }

    fn append(&mut self, batch: &RecordBatch, kinds: Option<&[Kind]>) -> Result<()> {
        let options = FormatOptions::default()
            .with_null("null")
            .with_display_error(false);
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            self.lines.push_str(&self.prefix);
            let kind = kinds.map_or(Kind::Insert, |kinds| kinds[row]);
            self.lines.push_str(kind.sign());
            self.lines.push('[');
            for (index, column) in columns.iter().enumerate() {
                if index > 0 {
                    self.lines.push_str(", ");
                }
                // A value that has no text, such as a date beyond the calendar, must not stop a job that only looks.
                if write!(self.lines, "{}", column.value(row)).is_err() {
                    self.lines.push('?');
                }
            }
            self.lines.push_str("]\n");
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }
}

impl Sink for PrintSink {
    fn write(&mut self, batch: RecordBatch) -> Result<Rejected> {
        let (kinds, batch) = changes::split(&batch)?;
        expect_columns(&self.table, &batch, false)?;
        self.written += batch.num_rows() as u64;
        self.append(&batch, kinds.as_deref())?;
        Ok(Rejected::new())
    }

    fn restore(&mut self, carried: RecordBatch) -> Result<()> {
        expect_columns(&self.table, &carried, true)?;
        self.append(&carried, None)
    }

    fn stage(&mut self, _epoch: u64, _close: bool) -> Result<Staging> {
        let rows = std::mem::take(&mut self.rows);
        let name = std::mem::take(&mut self.lines);
        let token = Token {
            rows,
            bytes: name.len() as u64,
            name,
        };
        Ok(staging_of(
            (rows > 0).then_some(token),
            std::mem::take(&mut self.written),
        ))
    }

    fn buffered_bytes(&self) -> usize {
        self.lines.capacity()
    }

    fn shrink(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Shows the lines of committed epochs.
pub(super) struct PrintPublisher {
    table: String,
    out: Mutex<Box<dyn Write + Send>>,
}

impl PrintPublisher {
    pub fn of(table: &TableSpec) -> Result<PrintPublisher> {
        let out: Box<dyn Write + Send> = match table.flag(STANDARD_ERROR)? {
            Some(true) => Box::new(std::io::stderr()),
            _ => Box::new(std::io::stdout()),
        };
        Ok(PrintPublisher {
            table: table.name.clone(),
            out: Mutex::new(out),
        })
    }

    fn show(&self, tokens: &[Token]) -> Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = tokens
            .iter()
            .try_for_each(|token| out.write_all(token.name.as_bytes()));
        shown.and_then(|()| out.flush()).map_err(|error| {
            Error::retry(format!("table '{}' could not be printed", self.table)).caused_by(error)
        })
    }
}

impl Publisher for PrintPublisher {
    fn publish<'a>(&'a self, tokens: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        futures::future::ready(self.show(tokens)).boxed()
    }

    fn discard_except<'a>(&'a self, _keep: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        futures::future::ready(Ok(())).boxed()
    }
}

/// Takes rows and keeps nothing but their number.
pub(super) struct BlackholeSink {
    table: TableSpec,
    rows: u64,
    written: u64,
}

impl BlackholeSink {
    pub fn open(table: &TableSpec) -> Result<BlackholeSink> {
        table.only(&["connector"], &["tributary."])?;
        Ok(BlackholeSink {
            table: table.clone(),
            rows: 0,
            written: 0,
        })
    }
}

impl Sink for BlackholeSink {
    fn write(&mut self, batch: RecordBatch) -> Result<Rejected> {
        let (_, batch) = changes::split(&batch)?;
        expect_columns(&self.table, &batch, false)?;
        self.rows += batch.num_rows() as u64;
        self.written += batch.num_rows() as u64;
        Ok(Rejected::new())
    }

    fn restore(&mut self, carried: RecordBatch) -> Result<()> {
        self.rows += carried.num_rows() as u64;
        Ok(())
    }

    fn stage(&mut self, _epoch: u64, _close: bool) -> Result<Staging> {
        let rows = std::mem::take(&mut self.rows);
        let token = Token {
            name: String::new(),
            rows,
            bytes: 0,
        };
        Ok(staging_of(
            (rows > 0).then_some(token),
            std::mem::take(&mut self.written),
        ))
    }

    fn buffered_bytes(&self) -> usize {
        0
    }

    fn shrink(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Shows nothing.
pub(super) struct BlackholePublisher;

impl Publisher for BlackholePublisher {
    fn publish<'a>(&'a self, _tokens: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        futures::future::ready(Ok(())).boxed()
    }

    fn discard_except<'a>(&'a self, _keep: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        futures::future::ready(Ok(())).boxed()
    }
}

fn staging_of(token: Option<Token>, written: u64) -> Staging {
    let tokens = token
        .into_iter()
        .map(|token| futures::future::ready(Ok(token)).boxed());
    Staging {
        tokens: tokens.collect(),
        carry: Carry::default(),
        written,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_printed_when_they_are_published() {
        let mut world = World::in_memory("print", "");
        world.set(IDENTIFIER, "letters");
        let mut sink = world.sink("o1");
        sink.write(world.rows(&[(1, "a", "x"), (2, "b", "y")]))
            .unwrap();
        let mut staging = sink.stage(1, false).unwrap();
        let tokens = world.tokens(&mut staging).unwrap();
        assert_eq!((staging.written, tokens[0].rows), (2, 2));
        assert!(sink.stage(2, true).unwrap().tokens.is_empty());

        let screen = Screen::default();
        let out = Mutex::new(Box::new(screen.clone()) as Box<dyn Write + Send>);
        let publisher = PrintPublisher {
            table: "t".into(),
            out,
        };
        // Another process may publish: the token is all it needs.
        let stored = serde_json::to_string(&tokens).unwrap();
        let tokens: Vec<Token> = serde_json::from_str(&stored).unwrap();
        world.wait(publisher.publish(&tokens)).unwrap();
        let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "letters> +I[1, a, x]\nletters> +I[2, b, y]\n");
    }

    #[test]
    fn a_black_hole_counts() {
        let world = World::in_memory("blackhole", "");
        let mut sink = world.sink("o1");
        sink.write(world.rows(&[(1, "a", "x"), (2, "b", "y")]))
            .unwrap();
        let mut staging = sink.stage(1, false).unwrap();
        let tokens = world.tokens(&mut staging).unwrap();
        assert_eq!((staging.written, tokens[0].rows), (2, 2));
        world.wait(world.publisher().publish(&tokens)).unwrap();
        assert!(world.shown().is_empty());
    }
}
