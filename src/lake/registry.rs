//! The tables of a catalog, by the names that a query calls them: `table`, `database.table`, or with Athena's own name for
//! the catalog before them.

use super::catalogued::Catalogued;
use super::query::refused;
use crate::catalog::{Catalog, Definition};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::sql::refusal::did_you_mean;
use arrow::array::{Int64Array, RecordBatch, StringArray};
use datafusion::catalog::{MemorySchemaProvider, Session};
use datafusion::common::TableReference;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;

/// What Athena calls the Glue catalog.
const CATALOG: &str = "awsdatacatalog";
/// Where DataFusion tells of the tables that it knows.
const INFORMATION: &str = "information_schema";

/// A catalog, and the database whose tables need no name before theirs.
pub struct Registry {
    pub catalog: Arc<dyn Catalog>,
    pub database: String,
    /// Says how far a projection goes that ends now.
    pub clock: Arc<dyn Clock>,
}

impl Registry {
    pub(super) async fn tables(&self) -> Result<Vec<Definition>> {
        self.catalog.tables(&self.database).await
    }

    pub(super) fn name_in(&self, config: SessionConfig) -> SessionConfig {
        config.with_default_catalog_and_schema(CATALOG, &self.database)
    }

    /// Makes a table known; `tables` are those of the registry's own database.
    pub(super) async fn register(
        &self,
        reference: TableReference,
        tables: &[Definition],
        context: &SessionContext,
    ) -> Result<()> {
        if let Some(catalog) = reference.catalog()
            && catalog != CATALOG
        {
            return Err(Error::job(format!(
                "there is no catalog '{catalog}': write database.table, or {CATALOG}.database.table"
            )));
        }
        if reference.schema() == Some(INFORMATION) {
            // It tells of all tables that can be read.
            for table in tables {
                if let Ok(provider) = self.provider(table) {
                    let name = TableReference::bare(table.name.clone());
                    add(context, &self.database, name, provider)?;
                }
            }
            return Ok(());
        }
        let database = reference.schema().unwrap_or(&self.database).to_owned();
        let name = reference.table();
        let found = match database == self.database {
            true => tables.iter().find(|table| table.name == name).cloned(),
            false => self.catalog.table(&database, name).await?,
        };
        let Some(found) = found else {
            let others = match database == self.database {
                true => tables,
                false => &self.catalog.tables(&database).await?,
            };
            return Err(unknown(&database, name, others));
        };
        let provider = self.provider(&found)?;
        add(context, &database, reference, provider)
    }

    fn provider(&self, table: &Definition) -> Result<Catalogued> {
        let (catalog, clock) = (Arc::clone(&self.catalog), Arc::clone(&self.clock));
        Catalogued::new(table.clone(), catalog, clock)
    }

    /// The tables with how much is in them.
    pub(super) async fn list(
        &self,
        tables: &[Definition],
        session: &dyn Session,
    ) -> Result<RecordBatch> {
        if tables.is_empty() {
            // Not a result: those go to stdout alone.
            tracing::info!("there are no tables in database '{}'", self.database);
        }
        let (mut files, mut bytes) = (Vec::new(), Vec::new());
        for table in tables {
            // What cannot be read is a table all the same.
            let found = match self.provider(table) {
                Ok(provider) => provider.files(session, &[]).await,
                Err(error) => Err(error),
            };
            let found = found.inspect_err(|error| tracing::warn!("{error}")).ok();
            let found = found.as_ref().map(|found| {
                let files = found.iter().flat_map(|found| &found.files);
                files.fold((0, 0), |(count, bytes), file| {
                    (count + 1, bytes + file.object_meta.size as i64)
                })
            });
            files.push(found.map(|(files, _)| files));
            bytes.push(found.map(|(_, bytes)| bytes));
        }
        let names = tables.iter().map(|table| &table.name);
        let locations = tables.iter().map(|table| &table.location);
        Ok(RecordBatch::try_from_iter_with_nullable([
            (
                "table",
                Arc::new(StringArray::from_iter_values(names)) as _,
                false,
            ),
            ("files", Arc::new(Int64Array::from(files)) as _, true),
            ("bytes", Arc::new(Int64Array::from(bytes)) as _, true),
            (
                "location",
                Arc::new(StringArray::from_iter_values(locations)) as _,
                false,
            ),
        ])?)
    }
}

fn add(
    context: &SessionContext,
    database: &str,
    reference: TableReference,
    provider: Catalogued,
) -> Result<()> {
    let catalog = context.catalog(CATALOG);
    let catalog = catalog.ok_or_else(|| Error::bug("the session has no catalog"))?;
    if catalog.schema(database).is_none() {
        let schema = Arc::new(MemorySchemaProvider::new());
        catalog.register_schema(database, schema).map_err(refused)?;
    }
    // Named twice in one query, it is registered once.
    if !context.table_exist(reference.clone()).map_err(refused)? {
        context
            .register_table(reference, Arc::new(provider))
            .map_err(refused)?;
    }
    Ok(())
}

fn unknown(database: &str, name: &str, tables: &[Definition]) -> Error {
    let names = tables.iter().map(|table| table.name.as_str());
    Error::job(match tables.is_empty() {
        true => format!(
            "there is no table '{name}': database '{database}' of the catalog has no tables; --database names another"
        ),
        false => format!(
            "there is no table '{name}' in database '{database}' of the catalog: {}",
            did_you_mean(name, names)
        ),
    })
}
