//! The head of a lane: from what a reader returned to rows of the scan's node.

use super::engine::millis;
use super::letters::{self, Letters};
use super::splits::SplitView;
use crate::decode::dead_letters::rows_as_json;
use crate::decode::{self, Decoded, Decoder, Reason};
use crate::epoch::SourceBook;
use crate::error::{Error, Result};
use crate::operator::hidden;
use crate::operator::watermark::{SplitWatermark, WatermarkStage};
use crate::plan::{Metadata, MetadataKey, Node, Scan};
use crate::source::filesystem::Shape;
use crate::source::{Columns, FileFacts, Records};
use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Array, Int64Array, MapBuilder, MapFieldNames, StringArray,
    StringBuilder, TimestampMillisecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// One scan on one lane.
pub struct LaneScan {
    table: String,
    /// None where the reader gives columns.
    decoder: Option<Box<dyn Decoder>>,
    /// The same for records of files, where some columns are in the path of the file.
    in_path: Option<InPath>,
    metadata: Vec<(MetadataKey, Field)>,
    /// Decoded columns, then metadata columns.
    base: SchemaRef,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    watermark: Option<WatermarkStage>,
    hidden: bool,
    output: SchemaRef,
    /// The file that is being read.
    file: Option<FileFacts>,
}

/// Decodes records of files that lie in folders of partitions. A test gives records that lie nowhere: they hold all columns themselves.
struct InPath {
    shape: Shape,
    decoder: Box<dyn Decoder>,
}

impl InPath {
    /// None where no column that is used is in the path.
    fn of(scan: &Scan) -> Result<Option<InPath>> {
        let shape = Shape::of(scan);
        let fields = scan.decoded.fields().iter();
        let in_path: Vec<bool> = fields.map(|field| shape.is_in_path(field.name())).collect();
        if !in_path.contains(&true) {
            return Ok(None);
        }
        let required = scan.required.iter().zip(&in_path);
        let required: Vec<bool> = required
            .filter(|(_, in_path)| !**in_path)
            .map(|(required, _)| *required)
            .collect();
        let decoder = decode::open(&scan.table, shape.in_files(), &required)?;
        Ok(Some(InPath { shape, decoder }))
    }
}

/// Rows with the records that they came from.
struct Rows<'a> {
    /// The decoded columns.
    batch: RecordBatch,
    /// For each row the record it came from.
    origin: Vec<u32>,
    records: Option<&'a Records>,
    first_offset: i64,
}

impl Rows<'_> {
    fn offset(&self, row: usize) -> i64 {
        let record = self.origin[row] as usize;
        match self.records {
            Some(records) => records.offsets[record],
            None => self.first_offset + record as i64,
        }
    }
}

impl LaneScan {
    pub fn new(node: &Node, scan: &Scan, max_future_ms: i64) -> Result<LaneScan> {
        let options = &scan.table.options;
        let columnar =
            options.get("connector") == Some("datagen") || options.get("format") == Some("parquet");
        let decoder = match columnar {
            true => None,
            false => Some(decode::open(
                &scan.table,
                Arc::clone(&scan.decoded),
                &scan.required,
            )?),
        };
        let in_path = match columnar || options.get("connector") != Some("filesystem") {
            true => None,
            false => InPath::of(scan)?,
        };
        let max_future_ms = match scan.table.options.duration("tributary.max-future") {
            Some(own) => millis(own),
            None => max_future_ms,
        };
        let metadata: Vec<_> = scan
            .metadata
            .iter()
            .map(|column| (column.key, metadata_field(column)))
            .collect();
        let fields = scan.decoded.fields().iter().cloned();
        let base = fields.chain(metadata.iter().map(|(_, field)| Arc::new(field.clone())));
        Ok(LaneScan {
            table: scan.table.name.clone(),
            decoder,
            in_path,
            base: Arc::new(Schema::new(base.collect::<Vec<_>>())),
            metadata,
            exprs: scan.exprs.clone(),
            watermark: scan.watermark.as_ref().map(|watermark| {
                WatermarkStage::new(
                    Arc::clone(&watermark.rowtime),
                    Arc::clone(&watermark.value),
                    max_future_ms,
                )
            }),
            hidden: scan.hidden,
            output: Arc::clone(&node.schema),
            file: None,
        })
    }

    /// From here on rows come of this file.
    pub fn reads(&mut self, file: Option<FileFacts>) {
        self.file = file;
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    /// Decodes records and takes them through the rest of the scan.
    pub fn records(
        &mut self,
        records: &Records,
        split: &SplitView,
        watermark: &mut SplitWatermark,
        letters: &mut Letters,
        book: &mut SourceBook,
    ) -> Result<RecordBatch> {
        let place = || {
            format!(
                "table '{}', {} partition {}",
                self.table, split.split.topic, split.split.partition
            )
        };
        let in_path = self.in_path.as_mut().filter(|_| self.file.is_some());
        let decoded = match (in_path, &mut self.decoder) {
            (Some(InPath { shape, decoder }), _) => decoder.decode(records).and_then(|decoded| {
                let batch = shape.complete(&decoded.batch, &split.split.topic)?;
                Ok(Decoded { batch, ..decoded })
            }),
            (None, Some(decoder)) => decoder.decode(records),
            (None, None) => Err(Error::bug("it has columns, not records")),
        };
        let decoded = decoded.map_err(|error| error.at(place()))?;
        book.records += records.len() as u64;
        book.null += decoded.nulls;
        book.ignored += decoded.ignored;
        book.malformed += decoded.bad.len() as u64;
        book.decoded += letters::distinct_runs(&decoded.origin);
        for bad in &decoded.bad {
            letters.record(
                bad.reason,
                bad.error.clone(),
                &self.table,
                split,
                records,
                bad.record as usize,
            );
        }
        let rows = Rows {
            batch: decoded.batch,
            origin: decoded.origin,
            records: Some(records),
            first_offset: 0,
        };
        self.finish(rows, split, watermark, letters, book)
    }

    /// Takes rows that are columns already through the rest of the scan.
    pub fn columns(
        &mut self,
        columns: Columns,
        split: &SplitView,
        watermark: &mut SplitWatermark,
        letters: &mut Letters,
        book: &mut SourceBook,
    ) -> Result<RecordBatch> {
        book.records += columns.records() as u64;
        book.decoded += columns.origin.len() as u64;
        book.malformed += columns.bad.len() as u64;
        for bad in columns.bad {
            let offset = columns.first_offset + i64::from(bad.record);
            letters.row(bad.reason, bad.error, &self.table, split, offset, bad.value);
        }
        let rows = Rows {
            batch: columns.batch,
            origin: columns.origin,
            records: None,
            first_offset: columns.first_offset,
        };
        self.finish(rows, split, watermark, letters, book)
    }

    fn finish(
        &mut self,
        rows: Rows<'_>,
        split: &SplitView,
        watermark: &mut SplitWatermark,
        letters: &mut Letters,
        book: &mut SourceBook,
    ) -> Result<RecordBatch> {
        book.rows += rows.batch.num_rows() as u64;
        let mut base = self.with_metadata(&rows, split)?;
        let mut keep = None;
        let mut before: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN; 0]));
        if let Some(stage) = &self.watermark {
            let assigned = stage.assign(
                watermark,
                &base,
                split.others,
                split.source_watermark,
                split.now_ms,
            )?;
            for (refused, reason) in [
                (&assigned.null_rows, Reason::NullEventTime),
                (&assigned.future_rows, Reason::FutureEventTime),
            ] {
                for &row in refused {
                    self.refuse(reason, row as usize, &rows, &base, split, letters)?;
                }
            }
            before = Arc::new(assigned.watermark_before);
            if !assigned.null_rows.is_empty() || !assigned.future_rows.is_empty() {
                keep = Some(assigned.keep);
            }
        } else if self.hidden {
            before = Arc::new(Int64Array::from(vec![i64::MIN; base.num_rows()]));
        }
        let mut offsets: Option<ArrayRef> = self.hidden.then(|| {
            let offsets = (0..base.num_rows()).map(|row| rows.offset(row));
            Arc::new(offsets.collect::<Int64Array>()) as ArrayRef
        });
        if let Some(keep) = keep {
            base = filter_record_batch(&base, &keep)?;
            before = arrow::compute::filter(&before, &keep)?;
            offsets = offsets
                .map(|o| arrow::compute::filter(&o, &keep))
                .transpose()?;
        }
        let count = base.num_rows();
        book.accepted += count as u64;
        book.refused += (rows.batch.num_rows() - count) as u64;
        let mut columns = Vec::with_capacity(self.output.fields().len());
        for expr in &self.exprs {
            columns.push(expr.evaluate(&base)?.into_array(count)?);
        }
        if let Some(offsets) = offsets {
            columns.push(Arc::new(Int32Array::from(vec![split.ordinal; count])));
            columns.push(offsets);
            columns.push(before);
            debug_assert_eq!(hidden::COUNT, 3);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.output),
            columns,
            &options,
        )?)
    }

    /// A row that cannot be placed in time becomes a dead letter: with its record's bytes, or as JSON where there are none.
    fn refuse(
        &self,
        reason: Reason,
        row: usize,
        rows: &Rows<'_>,
        base: &RecordBatch,
        split: &SplitView,
        letters: &mut Letters,
    ) -> Result<()> {
        let error = match reason {
            Reason::NullEventTime => "the event-time column is NULL".to_string(),
            _ => "the event time is further ahead of the clock than 'tributary.max-future' allows"
                .to_string(),
        };
        match rows.records {
            Some(records) => {
                let record = rows.origin[row] as usize;
                letters.record(reason, error, &self.table, split, records, record);
                Ok(())
            }
            None => {
                let value = rows_as_json(&base.slice(row, 1))?.pop();
                letters.row(reason, error, &self.table, split, rows.offset(row), value);
                Ok(())
            }
        }
    }

    fn with_metadata(&self, rows: &Rows<'_>, split: &SplitView) -> Result<RecordBatch> {
        if self.metadata.is_empty() {
            return Ok(rows.batch.clone());
        }
        let count = rows.batch.num_rows();
        let mut columns = rows.batch.columns().to_vec();
        for (key, field) in &self.metadata {
            let column = metadata_column(*key, rows, (split, self.file), count)?;
            columns.push(if column.data_type() == field.data_type() {
                column
            } else {
                arrow::compute::cast(&column, field.data_type())?
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.base),
            columns,
            &options,
        )?)
    }
}

fn metadata_field(column: &Metadata) -> Field {
    Field::new(&column.name, column.key.data_type(), true)
}

fn metadata_column(
    key: MetadataKey,
    rows: &Rows<'_>,
    (split, file): (&SplitView, Option<FileFacts>),
    count: usize,
) -> Result<ArrayRef> {
    let topic = || Arc::new(StringArray::from(vec![split.split.topic.as_ref(); count])) as ArrayRef;
    let records = || {
        rows.records.ok_or_else(|| {
            Error::job(format!(
                "the connector has no metadata column {key:?} for its rows"
            ))
        })
    };
    let moments = |at: Option<i64>| {
        let moments = TimestampMillisecondArray::from(vec![at; count]);
        Arc::new(moments.with_timezone("UTC")) as ArrayRef
    };
    Ok(match key {
        MetadataKey::Clock => moments(Some(split.now_ms)),
        MetadataKey::FileName => {
            let path = split.split.topic.as_ref();
            let name = path.rsplit('/').next().unwrap_or(path);
            Arc::new(StringArray::from(vec![name; count]))
        }
        MetadataKey::FileSize => {
            let size = file.map(|file| file.size as i64);
            Arc::new(Int64Array::from(vec![size; count]))
        }
        MetadataKey::FileModificationTime => moments(file.map(|file| file.modified_ms)),
        MetadataKey::Topic | MetadataKey::FilePath => topic(),
        MetadataKey::Partition => Arc::new(Int32Array::from(vec![split.split.partition; count])),
        MetadataKey::Offset => Arc::new(
            (0..count)
                .map(|row| rows.offset(row))
                .collect::<Int64Array>(),
        ),
        MetadataKey::Timestamp => {
            let records = records()?;
            let times = rows.origin.iter().map(|&record| {
                Some(records.timestamps[record as usize]).filter(|&timestamp| timestamp >= 0)
            });
            Arc::new(
                times
                    .collect::<TimestampMillisecondArray>()
                    .with_timezone("UTC"),
            )
        }
        MetadataKey::TimestampType => {
            let records = records()?;
            let types = rows.origin.iter().map(|&record| {
                let appended = records.appended.get(record as usize);
                if records.timestamps[record as usize] < 0 {
                    "NoTimestampType"
                } else if appended.is_some_and(|appended| *appended) {
                    "LogAppendTime"
                } else {
                    "CreateTime"
                }
            });
            Arc::new(StringArray::from_iter_values(types))
        }
        MetadataKey::Headers => {
            let records = records()?;
            let names = MapFieldNames {
                entry: "entries".into(),
                key: "key".into(),
                value: "value".into(),
            };
            let mut map = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
            for &record in &rows.origin {
                for (name, value) in records.headers.get(record as usize).into_iter().flatten() {
                    map.keys().append_value(name);
                    map.values().append_value(value);
                }
                map.append(true)?;
            }
            Arc::new(map.finish())
        }
    })
}
