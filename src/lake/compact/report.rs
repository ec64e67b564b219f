//! What a run saved, or would save, for people.

use super::{Report, Saved};
use crate::error::Result;
use crate::lake::print::{Format, Printer};
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use std::io::Write;
use std::sync::Arc;

/// A line for each table.
pub fn print(report: &Report, out: &mut dyn Write) -> Result<()> {
    let numbers = |of: fn(&Saved) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(report.values().map(of)))
    };
    let tables: ArrayRef = Arc::new(StringArray::from_iter_values(report.keys()));
    let batch = RecordBatch::try_from_iter([
        ("table", tables),
        ("partitions", numbers(|saved| saved.partitions)),
        ("files_before", numbers(|saved| saved.files_before)),
        ("files_after", numbers(|saved| saved.files_after)),
        ("bytes_before", numbers(|saved| saved.bytes_before)),
        ("bytes_after", numbers(|saved| saved.bytes_after)),
    ])?;
    let mut printer = Printer::new(Format::Table, &batch.schema(), out);
    printer.write(&batch)?;
    printer.finish().map(drop)
}
