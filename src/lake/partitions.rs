//! Which partitions of a catalog's table a query has to read, and which files are in them.
//!
//! Filters are tried on the values of the partitions before anything is listed: what they rule out is never looked at.

use super::visible::is_visible;
use crate::catalog::hive::NULL_PARTITION;
use crate::catalog::projection::Projection;
use crate::catalog::{Catalog, Definition};
use crate::error::{Error, Result};
use crate::store::{self, Located};
use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, Fields, Schema};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many folders are listed at the same time.
const AT_A_TIME: usize = 64;
/// From here on one list of the table's folder costs less than one for each partition.
const MANY: usize = 1_000;
/// So many partitions can be projected at most, behind the filters.
const MOST: usize = 1_000_000;

/// A partition, or the whole of a table that has none: a value for each key, and where its files are.
#[derive(Debug)]
pub struct Partition {
    values: Vec<ScalarValue>,
    location: String,
}

/// The partitions that some filters leave; each filter is over partition keys alone.
pub struct Chosen<'a> {
    pub table: &'a Definition,
    pub keys: &'a Fields,
    pub session: &'a dyn Session,
    pub filters: &'a [Expr],
}

impl Chosen<'_> {
    pub async fn partitions(&self, catalog: &dyn Catalog, now_ms: i64) -> Result<Vec<Partition>> {
        if self.keys.is_empty() {
            return Ok(vec![Partition {
                values: Vec::new(),
                location: self.table.location.clone(),
            }]);
        }
        match Projection::of(self.table)? {
            Some(projection) => self.projected(&projection, now_ms),
            None => self.registered(catalog).await,
        }
    }

    async fn registered(&self, catalog: &dyn Catalog) -> Result<Vec<Partition>> {
        let all = catalog
            .partitions(&self.table.database, &self.table.name)
            .await?;
        if let Some(odd) = all.iter().find(|one| one.values.len() != self.keys.len()) {
            return Err(self.trouble(&format!(
                "the partition at {} has {} values for {} keys",
                odd.location,
                odd.values.len(),
                self.keys.len()
            )));
        }
        let column = |key: usize| {
            let texts = all.iter().map(|one| one.values[key].as_str());
            let texts = texts.map(|text| (text != NULL_PARTITION).then_some(text));
            self.typed(key, texts.collect())
        };
        let columns = (0..self.keys.len()).map(column).collect::<Result<_>>()?;
        let kept = self.kept(self.keys, columns, all.len(), self.filters)?;
        let kept = kept.into_iter().map(|(row, values)| Partition {
            values,
            location: all[row].location.clone(),
        });
        Ok(kept.collect())
    }

    fn projected(&self, projection: &Projection, now_ms: i64) -> Result<Vec<Partition>> {
        // First each key for itself, so that there is less to combine.
        let mut texts: Vec<Vec<String>> = Vec::new();
        for (index, (column, key)) in projection.columns.iter().zip(self.keys).enumerate() {
            let mine = |filter: &&Expr| expr_applicable_for_cols(&[key.name()], filter);
            let filters: Vec<Expr> = self.filters.iter().filter(mine).cloned().collect();
            let all = match column.values(now_ms)? {
                Some(values) => values,
                None => self.asked_for(key)?,
            };
            let typed = self.typed(index, all.iter().map(|text| Some(text.as_str())).collect())?;
            let alone = Fields::from(vec![Arc::clone(key)]);
            let kept = self.kept(&alone, vec![typed], all.len(), &filters)?;
            texts.push(kept.into_iter().map(|(row, _)| all[row].clone()).collect());
        }
        let count = texts.iter().map(Vec::len).try_fold(1, usize::checked_mul);
        let count = count.filter(|count| *count <= MOST).ok_or_else(|| {
            Error::job(format!(
                "table {}: more than {MOST} partitions are projected for this query: filter on {}",
                self.name(),
                self.key_names().join(", ")
            ))
        })?;
        let row = |mut number: usize| -> Vec<&str> {
            let mut row: Vec<&str> = Vec::new();
            for column in texts.iter().rev() {
                row.push(&column[number % column.len()]);
                number /= column.len();
            }
            row.reverse();
            row
        };
        let rows: Vec<Vec<&str>> = (0..count).map(row).collect();
        let column = |key: usize| self.typed(key, rows.iter().map(|row| Some(row[key])).collect());
        let columns = (0..self.keys.len()).map(column).collect::<Result<_>>()?;
        let kept = self.kept(self.keys, columns, count, self.filters)?;
        let kept = kept.into_iter().map(|(row, values)| Partition {
            values,
            location: projection.location(&rows[row]),
        });
        Ok(kept.collect())
    }

    /// The values that the query itself names for an injected key.
    fn asked_for(&self, key: &Field) -> Result<Vec<String>> {
        let guarantees = match conjunction(self.filters.iter().cloned()) {
            Some(filter) => {
                let filter = self
                    .session
                    .create_physical_expr(filter, &schema(self.keys)?)?;
                LiteralGuarantee::analyze(&filter)
            }
            None => Vec::new(),
        };
        let named = guarantees.into_iter().find(|guarantee| {
            guarantee.guarantee == Guarantee::In && guarantee.column.name() == key.name()
        });
        let named = named.ok_or_else(|| {
            Error::job(format!(
                "table {}: the values of partition key '{1}' are not known (its projection is 'injected'), so the query has to name \
                 them: WHERE {1} = '...'",
                self.name(),
                key.name()
            ))
        })?;
        let texts = named.literals.iter().map(ScalarValue::to_string);
        let mut texts: Vec<String> = texts.collect();
        texts.sort();
        Ok(texts)
    }

    /// The texts of a key's values as its type.
    fn typed(&self, key: usize, texts: Vec<Option<&str>>) -> Result<ArrayRef> {
        let key = &self.keys[key];
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let texts = StringArray::from(texts);
        cast_with_options(&texts, key.data_type(), &strict).map_err(|error| {
            let what = format!("a value of partition key '{}' cannot be read", key.name());
            self.trouble(&what).caused_by(error)
        })
    }

    /// The rows that some filters leave, each with its values.
    fn kept(
        &self,
        keys: &Fields,
        columns: Vec<ArrayRef>,
        count: usize,
        filters: &[Expr],
    ) -> Result<Vec<(usize, Vec<ScalarValue>)>> {
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let whole = Arc::new(Schema::new(keys.clone()));
        let batch = RecordBatch::try_new_with_options(whole, columns, &options)?;
        let mask = match conjunction(filters.iter().cloned()) {
            Some(filter) => {
                let filter = self.session.create_physical_expr(filter, &schema(keys)?)?;
                Some(filter.evaluate(&batch)?.into_array(count)?)
            }
            None => None,
        };
        let mask = mask.as_ref().map(|mask| mask.as_boolean());
        let stays = |row: &usize| {
            mask.is_none_or(|mask| arrow::array::Array::is_valid(mask, *row) && mask.value(*row))
        };
        let values = |row| {
            let columns = batch.columns().iter();
            let values = columns.map(|column| ScalarValue::try_from_array(column, row));
            Ok((row, values.collect::<Result<_, _>>()?))
        };
        (0..count).filter(stays).map(values).collect()
    }

    fn name(&self) -> String {
        format!("{}.{}", self.table.database, self.table.name)
    }

    fn key_names(&self) -> Vec<&str> {
        self.keys.iter().map(|key| key.name().as_str()).collect()
    }

    fn trouble(&self, what: &str) -> Error {
        Error::data(format!("table {}: {what}", self.name()))
    }
}

fn schema(keys: &Fields) -> Result<DFSchema> {
    Ok(DFSchema::from_unqualified_fields(
        keys.clone(),
        std::collections::HashMap::new(),
    )?)
}

/// Files that lie in one store.
pub struct Files {
    /// The store's own address: `s3://bucket`.
    pub base: String,
    pub store: Arc<dyn ObjectStore>,
    pub files: Vec<PartitionedFile>,
}

/// The files of some partitions, by their stores.
pub async fn files(table: &Definition, partitions: Vec<Partition>) -> Result<Vec<Files>> {
    let mut stores: BTreeMap<String, Arc<dyn ObjectStore>> = BTreeMap::new();
    let mut by_store: BTreeMap<String, Vec<(Partition, Located)>> = BTreeMap::new();
    for partition in partitions {
        let mut at = store::open(&partition.location)?;
        let base = base(&partition.location);
        // One store for all of them, though a location is opened on its own.
        at.store = Arc::clone(stores.entry(base.clone()).or_insert(at.store));
        by_store.entry(base).or_default().push((partition, at));
    }
    let mut all = Vec::new();
    for (base, store) in stores {
        let mut partitions = by_store.remove(&base).unwrap_or_default();
        let mut files = Vec::new();
        if partitions.len() > MANY {
            let folder = store::open(&table.location)?.path;
            let inside = |(_, at): &mut (Partition, Located)| at.path.prefix_matches(&folder);
            let together: Vec<_> = partitions.extract_if(.., inside).collect();
            files.extend(listed_together(&folder, &together).await?);
        }
        let alone: Vec<_> = partitions
            .iter()
            .map(|(partition, at)| listed(partition, at).boxed())
            .collect();
        let alone = futures::stream::iter(alone)
            .buffered(AT_A_TIME)
            .try_collect::<Vec<Vec<_>>>()
            .await?;
        files.extend(alone.into_iter().flatten());
        all.push(Files { base, store, files });
    }
    Ok(all)
}

/// What a location has before its path.
fn base(location: &str) -> String {
    match location.split_once("://") {
        Some((scheme, rest)) if scheme != "file" => {
            let bucket = rest.split('/').next().unwrap_or(rest);
            format!("{scheme}://{bucket}")
        }
        _ => "catalog://file".to_owned(),
    }
}

fn part(file: ObjectMeta, partition: &Partition) -> PartitionedFile {
    PartitionedFile::new_from_meta(file).with_partition_values(partition.values.clone())
}

async fn listed(partition: &Partition, at: &Located) -> Result<Vec<PartitionedFile>> {
    let visible = |file: &ObjectMeta| {
        std::future::ready(file.size > 0 && is_visible(&at.path, &file.location))
    };
    let files = at.store.list(Some(&at.path)).try_filter(visible);
    files
        .map_ok(|file| part(file, partition))
        .map_err(|error| at.explain(&at.path, error))
        .try_collect()
        .await
}

/// Lists one folder, and gives each file to the partitions that it lies in.
async fn listed_together(
    folder: &Path,
    partitions: &[(Partition, Located)],
) -> Result<Vec<PartitionedFile>> {
    let Some((_, first)) = partitions.first() else {
        return Ok(Vec::new());
    };
    let mut by_path: BTreeMap<&Path, Vec<&Partition>> = BTreeMap::new();
    for (partition, at) in partitions {
        by_path.entry(&at.path).or_default().push(partition);
    }
    let mut listed = first.store.list(Some(folder));
    let mut files = Vec::new();
    while let Some(file) = listed
        .try_next()
        .await
        .map_err(|error| first.explain(folder, error))?
    {
        let parts: Vec<_> = file.location.parts().collect();
        for depth in 1..parts.len() {
            let above: Path = parts[..depth].iter().cloned().collect();
            if let Some(partitions) = by_path.get(&above)
                && file.size > 0
                && is_visible(&above, &file.location)
            {
                files.extend(partitions.iter().map(|one| part(file.clone(), one)));
            }
        }
    }
    Ok(files)
}
