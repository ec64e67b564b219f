//! The rows of several files, one file after another or sorted, and a sum by which two sets of rows are compared.

use super::Sort;
use crate::error::{Error, Result};
use crate::store::{ParquetObject, unreadable};
use arrow::array::new_null_array;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

const BATCH_ROWS: usize = 8192;

/// An open file.
#[derive(Clone)]
pub struct Input {
    pub object: ParquetObject,
    pub metadata: ArrowReaderMetadata,
}

/// Rows on their way, all with the same columns.
pub type Rows = BoxStream<'static, Result<RecordBatch>>;

/// How many rows there are, and a sum of their hashes: the same for the same rows in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    pub rows: u64,
    hashes: u64,
}

impl Input {
    pub async fn open(mut object: ParquetObject) -> Result<Input> {
        // What other programs say of Arrow's types beside Parquet's own is not needed, and is not written either.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load_async(&mut object, options).await;
        Ok(Input {
            metadata: metadata.map_err(|error| unreadable(error).at(&object.path))?,
            object,
        })
    }

    fn rows(self, schema: SchemaRef) -> Result<Rows> {
        let path = self.object.path.clone();
        let builder =
            ParquetRecordBatchStreamBuilder::new_with_metadata(self.object, self.metadata);
        let batches = builder.with_batch_size(BATCH_ROWS).build();
        let failed = {
            let path = path.clone();
            move |error| unreadable(error).at(&path)
        };
        let batches = batches.map_err(&failed)?.map_err(failed);
        Ok(batches
            .and_then(move |batch| std::future::ready(arrange(&batch, &schema)))
            .boxed())
    }
}

impl Sum {
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut hashes = vec![0; batch.num_rows()];
        create_hashes(batch.columns(), &RandomState::with_seed(0), &mut hashes)?;
        self.rows += hashes.len() as u64;
        for hash in hashes {
            // Spread once more: the hash of a single number column is not much more than the number.
            self.hashes = self.hashes.wrapping_add(spread(hash));
        }
        Ok(())
    }
}

fn spread(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

/// The rows of some files in these columns, one file after another; `sum` has them all once the last has come.
pub fn rows_of(inputs: Vec<Input>, schema: &SchemaRef, sum: &Arc<Mutex<Sum>>) -> Rows {
    let (schema, sum) = (Arc::clone(schema), Arc::clone(sum));
    stream::iter(inputs)
        .map(move |input| input.rows(Arc::clone(&schema)))
        .try_flatten()
        .and_then(move |batch| {
            let added = sum
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(&batch);
            std::future::ready(added.map(|()| batch))
        })
        .boxed()
}

/// A column that the file does not have is NULL in it.
fn arrange(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let there = batch.column_by_name(field.name());
        there.map_or_else(
            || new_null_array(field.data_type(), batch.num_rows()),
            Arc::clone,
        )
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect())?)
}

/// The order by those of the columns that are there and can be compared; none where no column is.
pub fn ordering(sort: &Sort, table: &str, schema: &Schema) -> Result<Option<LexOrdering>> {
    let (Sort::Usual(by) | Sort::Asked(by)) = sort;
    let mut columns = Vec::new();
    for name in by {
        let column = schema.column_with_name(name);
        match column.filter(|(_, field)| !field.data_type().is_nested()) {
            Some((index, _)) => columns.push(PhysicalSortExpr::new_default(Arc::new(Column::new(
                name, index,
            )))),
            None if matches!(sort, Sort::Usual(_)) => {}
            None => {
                return Err(Error::job(format!(
                    "--sort {name}: the files of table '{table}' have no such column that can be compared; leave it out, or name with --table the \
                     tables that have it"
                )));
            }
        }
    }
    Ok(LexOrdering::new(columns))
}

/// The rows in order. What does not fit into the memory goes to temporary files.
pub fn sorted(
    rows: Rows,
    schema: &SchemaRef,
    ordering: LexOrdering,
    memory: &Arc<RuntimeEnv>,
) -> Result<Rows> {
    let cannot = |error| Error::bug("rows cannot be sorted").caused_by(error);
    let failure = Arc::new(Mutex::new(None));
    let once = Once {
        schema: Arc::clone(schema),
        rows: Mutex::new(Some(rows)),
        failure: Arc::clone(&failure),
    };
    let once: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(once)];
    let input = StreamingTableExec::try_new(Arc::clone(schema), once, None, [], false, None);
    let sort = SortExec::new(ordering, Arc::new(input.map_err(cannot)?));
    let context = TaskContext::default().with_runtime(Arc::clone(memory));
    let sorted = sort.execute(0, Arc::new(context)).map_err(cannot)?;
    let explain = move |error: DataFusionError| {
        let known = failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        known.unwrap_or_else(|| {
            match error.find_root() {
                DataFusionError::ResourcesExhausted(_) => Error::job(
                    "sorting needs more memory, or more room for temporary files: raise --memory, or set TMPDIR to a larger disk",
                ),
                _ => Error::retry("rows could not be sorted"),
            }
            .caused_by(error)
        })
    };
    Ok(sorted.map_err(explain).boxed())
}

/// The rows as DataFusion takes them in. It passes failures on as its own, so the real one is kept aside.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<Rows>>,
    failure: Arc<Mutex<Option<Error>>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rows of several files")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self
            .rows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let rows = rows.unwrap_or_else(|| stream::empty().boxed());
        let failure = Arc::clone(&self.failure);
        let rows = rows.map_err(move |error| {
            let text = error.to_string();
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            DataFusionError::Execution(text)
        });
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            rows,
        ))
    }
}
