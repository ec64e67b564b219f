//! Results for people and for programs: a table, JSON lines, or CSV.

use crate::error::{Error, Result};
use arrow::array::{ArrayRef, StringArray};
use arrow::csv::writer::{Writer as CsvWriter, WriterBuilder as CsvBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::writer::LineDelimited;
use arrow::json::{Writer as JsonWriter, WriterBuilder as JsonBuilder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::Arc;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Table,
    Json,
    Csv,
}

/// Writes one result, batch by batch, so that it may be larger than memory.
pub struct Printer<'a> {
    form: Form<'a>,
    rows: u64,
}

enum Form<'a> {
    Table(Table<'a>),
    Json(Box<JsonWriter<&'a mut dyn Write, LineDelimited>>),
    Csv {
        writer: Box<CsvWriter<&'a mut dyn Write>>,
        schema: SchemaRef,
    },
}

/// A table's columns are as wide as its first rows need; a longer value further down only pushes its own line.
struct Table<'a> {
    out: &'a mut dyn Write,
    headings: Vec<String>,
    right: Vec<bool>,
    waiting: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
}

/// So many rows are looked at before the widths are settled.
const FIRST_ROWS: usize = 1_000;

const NULL: &str = "NULL";

impl<'a> Printer<'a> {
    pub fn new(format: Format, schema: &SchemaRef, out: &'a mut dyn Write) -> Self {
        let form = match format {
            Format::Table => Form::Table(Table {
                out,
                headings: schema
                    .fields()
                    .iter()
                    .map(|field| field.name().clone())
                    .collect(),
                right: schema
                    .fields()
                    .iter()
                    .map(|field| field.data_type().is_numeric())
                    .collect(),
                waiting: Vec::new(),
                widths: None,
            }),
            Format::Json => {
                let writer = JsonBuilder::new()
                    .with_explicit_nulls(true)
                    .with_timestamp_format("%Y-%m-%d %H:%M:%S%.f".to_owned())
                    .with_timestamp_tz_format("%Y-%m-%d %H:%M:%S%.fZ".to_owned())
                    .build(out);
                Form::Json(Box::new(writer))
            }
            Format::Csv => {
                let writer = CsvBuilder::new()
                    .with_header(true)
                    .with_timestamp_format("%Y-%m-%d %H:%M:%S%.f".to_owned())
                    .with_timestamp_tz_format("%Y-%m-%d %H:%M:%S%.fZ".to_owned())
                    .build(out);
                Form::Csv {
                    writer: Box::new(writer),
                    schema: flat(schema),
                }
            }
        };
        Printer { form, rows: 0 }
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        match &mut self.form {
            Form::Table(table) => table.write(batch),
            Form::Json(writer) => Ok(writer.write(batch)?),
            Form::Csv { writer, schema } => {
                let columns = batch
                    .columns()
                    .iter()
                    .map(flat_column)
                    .collect::<Result<_>>()?;
                Ok(writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?)
            }
        }
    }

    /// Writes what is left, and returns how many rows there were.
    pub fn finish(mut self) -> Result<u64> {
        match &mut self.form {
            Form::Table(table) => {
                table.settle()?;
                table.out.flush().map_err(cannot_write)?;
            }
            Form::Json(writer) => writer.finish()?,
            // A header is due even where no row is.
            Form::Csv { writer, schema } if self.rows == 0 => {
                writer.write(&RecordBatch::new_empty(schema.clone()))?;
            }
            Form::Csv { .. } => {}
        }
        Ok(self.rows)
    }
}

impl Table<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let options = FormatOptions::new()
            .with_null(NULL)
            .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
            .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.fZ"));
        let columns = batch.columns().iter();
        let columns: Vec<_> = columns
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let cells: Vec<_> = columns
                .iter()
                .map(|column| Ok(one_line(&column.value(row).try_to_string()?)))
                .collect::<Result<_>>()?;
            match &self.widths {
                Some(widths) => line(self.out, &cells, widths, &self.right)?,
                None => self.waiting.push(cells),
            }
            if self.widths.is_none() && self.waiting.len() >= FIRST_ROWS {
                self.settle()?;
            }
        }
        Ok(())
    }

    /// Settles the widths and writes the headings and every row that waited for them.
    fn settle(&mut self) -> Result<()> {
        if self.widths.is_some() {
            return Ok(());
        }
        let mut widths: Vec<_> = self
            .headings
            .iter()
            .map(|heading| heading.chars().count())
            .collect();
        for row in &self.waiting {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        line(self.out, &self.headings, &widths, &self.right)?;
        let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
        line(self.out, &rule, &widths, &self.right)?;
        for row in std::mem::take(&mut self.waiting) {
            line(self.out, &row, &widths, &self.right)?;
        }
        self.widths = Some(widths);
        Ok(())
    }
}

/// Where results go. A reader that has seen enough (`| head`) closes its end: that ends the query, and is no failure.
pub struct Pipe<'a> {
    pub out: &'a mut dyn Write,
    pub gone: Rc<Cell<bool>>,
}

impl Pipe<'_> {
    fn unless_gone<T>(
        &mut self,
        instead: T,
        write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
    ) -> io::Result<T> {
        match write(self.out) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone.set(true);
                Ok(instead)
            }
            written => written,
        }
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_gone(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_gone((), |out| out.flush())
    }
}

fn line(out: &mut dyn Write, cells: &[String], widths: &[usize], right: &[bool]) -> Result<()> {
    let mut text = String::new();
    for ((cell, width), right) in cells.iter().zip(widths).zip(right) {
        if !text.is_empty() {
            text.push_str("  ");
        }
        let space = " ".repeat(width.saturating_sub(cell.chars().count()));
        match right {
            true => text.extend([space.as_str(), cell]),
            false => text.extend([cell, space.as_str()]),
        }
    }
    writeln!(out, "{}", text.trim_end()).map_err(cannot_write)
}

/// Control characters would break the table, or do things to a terminal.
fn one_line(text: &str) -> String {
    match text.contains(char::is_control) {
        true => text
            .chars()
            .map(|char| if char.is_control() { '␤' } else { char })
            .collect(),
        false => text.to_owned(),
    }
}

fn cannot_write(error: io::Error) -> Error {
    Error::retry("the result cannot be written").caused_by(error)
}

/// CSV has no nested values: they become text.
fn flat(schema: &SchemaRef) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .map(|field| match field.data_type().is_nested() {
            true => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
            false => Arc::clone(field),
        });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn flat_column(column: &ArrayRef) -> Result<ArrayRef> {
    if !column.data_type().is_nested() {
        return Ok(Arc::clone(column));
    }
    let options = FormatOptions::new().with_null(NULL);
    let cells = ArrayFormatter::try_new(column, &options)?;
    let text = (0..column.len()).map(|row| match column.is_null(row) {
        true => Ok(None),
        false => Ok(Some(cells.value(row).try_to_string()?)),
    });
    Ok(Arc::new(text.collect::<Result<StringArray>>()?))
}
