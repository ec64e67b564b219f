//! Tables with a folder for the rows whose partition is NULL.

use crate::catalog::hive::NULL_PARTITION;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::{
    Expr, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, ident, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use object_store::path::Path;
use std::sync::Arc;

/// Whether a file lies in such a folder.
pub fn is_in_null(file: &Path) -> bool {
    file.parts().any(|folder| {
        let value = folder.as_ref().split_once('=').map(|(_, value)| value);
        value == Some(NULL_PARTITION)
    })
}

/// The table with NULL where a folder is named for it; filters still choose folders.
pub fn with_nulls(
    table: Arc<dyn TableProvider>,
    keys: &[String],
) -> Result<Arc<dyn TableProvider>> {
    let schema = table.schema();
    let columns = schema.fields().iter().map(|field| {
        let column = ident(field.name());
        if !keys.contains(field.name()) {
            return column;
        }
        nullif(column, lit(NULL_PARTITION)).alias(field.name())
    });
    let source = provider_as_source(Arc::new(Foldered(table)));
    let plan = LogicalPlanBuilder::scan("files", source, None)?
        .project(columns)?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// A table whose rows are filtered once more: of a folder of which a filter says NULL, DataFusion keeps all.
#[derive(Debug)]
struct Foldered(Arc<dyn TableProvider>);

#[async_trait]
impl TableProvider for Foldered {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        self.0.table_type()
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.0.scan(session, projection, filters, limit).await
    }
}
