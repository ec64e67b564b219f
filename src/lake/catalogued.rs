//! A table of a catalog, as DataFusion reads it: the catalog's columns and types, and the files of its partitions.

use super::conform::{self, ByName};
use super::partitions::{Chosen, Files, files};
use crate::catalog::{Catalog, Column, Definition, Format, hive};
use crate::clock::Clock;
use crate::error::{Error, Result};
use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::project_schema;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchemaBuilder;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::union::UnionExec;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A table that can be read.
pub struct Catalogued {
    table: Definition,
    catalog: Arc<dyn Catalog>,
    clock: Arc<dyn Clock>,
    /// The columns in the files, and behind them the partition keys.
    schema: SchemaRef,
    inside: SchemaRef,
    keys: Fields,
}

impl Catalogued {
    pub fn new(
        table: Definition,
        catalog: Arc<dyn Catalog>,
        clock: Arc<dyn Clock>,
    ) -> Result<Catalogued> {
        let name = format!("table {}.{}", table.database, table.name);
        if let Format::Other(kind) = &table.format {
            return Err(Error::job(format!(
                "{name} is {kind}: only tables of Parquet files can be read"
            )));
        }
        let fields = |columns: &[Column]| -> Result<Fields> {
            let field = |column: &Column| {
                let place = |error: Error| error.at(format!("{name}, column '{}'", column.name));
                let data_type = hive::data_type(&column.hive_type).map_err(place)?;
                Ok(Arc::new(Field::new(&column.name, data_type, true)))
            };
            columns.iter().map(field).collect()
        };
        let (inside, keys) = (fields(&table.columns)?, fields(&table.partition_keys)?);
        let all: Vec<_> = inside.iter().chain(&keys).cloned().collect();
        Ok(Catalogued {
            schema: Arc::new(Schema::new(all)),
            inside: Arc::new(Schema::new(inside)),
            table,
            catalog,
            clock,
            keys,
        })
    }

    fn is_over_keys(&self, filter: &Expr) -> bool {
        let keys: Vec<_> = self.keys.iter().map(|key| key.name().as_str()).collect();
        !keys.is_empty() && expr_applicable_for_cols(&keys, filter)
    }

    /// The files that a query has to read.
    pub async fn files(&self, session: &dyn Session, filters: &[Expr]) -> Result<Vec<Files>> {
        let chosen = Chosen {
            table: &self.table,
            keys: &self.keys,
            session,
            filters,
        };
        let now = self.clock.now_ms();
        let partitions = chosen.partitions(self.catalog.as_ref(), now).await?;
        files(&self.table, partitions).await
    }

    /// The columns of the files that a query looks at.
    fn looked_at(&self, projection: Option<&Vec<usize>>, filters: &[Expr]) -> Schema {
        let named = |name: &String| {
            let filters = filters.iter();
            let mut filters = filters.flat_map(Expr::column_refs);
            filters.any(|column| column.name() == name)
        };
        let fields = self.inside.fields().iter().enumerate();
        let fields = fields.filter(|(index, field)| {
            projection.is_none_or(|projection| projection.contains(index)) || named(field.name())
        });
        Schema::new(
            fields
                .map(|(_, field)| Arc::clone(field))
                .collect::<Fields>(),
        )
    }
}

impl fmt::Debug for Catalogued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Catalogued({})", self.table.name)
    }
}

/// An error of ours on its way through DataFusion.
pub fn carried(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[async_trait]
impl TableProvider for Catalogued {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match self.is_over_keys(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let over_keys = filters.iter().filter(|filter| self.is_over_keys(filter));
        let over_keys: Vec<Expr> = over_keys.cloned().collect();
        let found = self.files(session, &over_keys).await.map_err(carried)?;
        let looked_at = Arc::new(self.looked_at(projection, filters));
        let mut plans: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        for Files { base, store, files } in found {
            if files.is_empty() {
                continue;
            }
            let url = ObjectStoreUrl::parse(&base)?;
            let runtime = session.runtime_env();
            runtime.register_object_store(url.as_ref(), Arc::clone(&store));
            let cache = runtime.cache_manager.get_file_metadata_cache();
            let readers = Checked {
                inner: Arc::new(CachedParquetFileReaderFactory::new(store, cache)),
                base,
                looked_at: Arc::clone(&looked_at),
            };
            let schema = TableSchemaBuilder::new(Arc::clone(&self.inside))
                .with_table_partition_cols(self.keys.clone())
                .build();
            let source =
                ParquetSource::new(schema).with_parquet_file_reader_factory(Arc::new(readers));
            let groups = FileGroup::new(files).split_files(session.config().target_partitions());
            let scan = FileScanConfigBuilder::new(url, Arc::new(source))
                .with_file_groups(groups)
                .with_projection_indices(projection.cloned())?
                .with_limit(limit)
                .with_expr_adapter(Some(Arc::new(ByName)))
                .build();
            plans.push(DataSourceExec::from_data_source(scan));
        }
        match plans.len() {
            0 => Ok(Arc::new(EmptyExec::new(project_schema(
                &self.schema,
                projection,
            )?))),
            1 => Ok(plans.remove(0)),
            _ => UnionExec::try_new(plans),
        }
    }
}

/// Opens files, and names the one that cannot be read as the table's.
#[derive(Debug)]
struct Checked {
    inner: Arc<dyn ParquetFileReaderFactory>,
    base: String,
    looked_at: SchemaRef,
}

impl ParquetFileReaderFactory for Checked {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> PlanResult<Box<dyn AsyncFileReader + Send>> {
        let name = format!("{}/{}", self.base, file.object_meta.location);
        Ok(Box::new(CheckedFile {
            inner: self
                .inner
                .create_reader(partition, file, size_hint, metrics)?,
            name,
            looked_at: Arc::clone(&self.looked_at),
        }))
    }
}

struct CheckedFile {
    inner: Box<dyn AsyncFileReader + Send>,
    name: String,
    looked_at: SchemaRef,
}

impl AsyncFileReader for CheckedFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let unreadable = |error: ParquetError| {
                let error = Error::data(format!("{} cannot be read", self.name)).caused_by(error);
                ParquetError::External(Box::new(error))
            };
            let metadata = self.inner.get_metadata(options).await.map_err(unreadable)?;
            let file = metadata.file_metadata();
            let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
            conform::check(&schema, &self.looked_at)
                .map_err(|error| ParquetError::External(Box::new(error.at(&self.name))))?;
            Ok(metadata)
        }
        .boxed()
    }
}
