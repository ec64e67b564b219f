//! Definitions and partitions in Glue's own types, and back.
//!
//! What somebody else put into a table or a partition (an owner, a description, properties, the bucketing, a crawler's marks) goes back
//! as it came.

use super::fault::incomplete;
use crate::catalog::{Column, Crawler, CrawlerSpec, Definition, Format, Partition};
use crate::error::Result;
use aws_sdk_glue::types::{
    self, DeleteBehavior, PartitionInput, S3Target, SchemaChangePolicy, SerDeInfo,
    StorageDescriptor, Table, TableInput, UpdateBehavior,
};
use std::collections::HashMap;

const INPUT_FORMAT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat";
const OUTPUT_FORMAT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat";
const SERDE: &str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";

/// What a crawler of ours may do with tables: a column that is new is added, all else stays as the table has it.
pub(super) const CRAWLER: &str = r#"{"Version":1.0,"CrawlerOutput":{"Tables":{"AddOrUpdateBehavior":"MergeNewColumns"},"Partitions":{"AddOrUpdateBehavior":"InheritFromTable"}},"Grouping":{"TableGroupingPolicy":"CombineCompatibleSchemas"}}"#;

/// What is in a table's folder and is no data. That crawlers pass over such names is written nowhere, so they are told.
const NO_DATA: &[&str] = &["_*", "_*/**", "**/_*", "**/_*/**"];

/// A table as the job sees it.
pub(super) fn definition(database: &str, table: &Table) -> Definition {
    let storage = table.storage_descriptor();
    let parameters = table.parameters().cloned().unwrap_or_default();
    Definition {
        database: database.to_owned(),
        name: table.name().to_owned(),
        columns: storage.map_or(Vec::new(), |storage| {
            storage.columns().iter().map(column).collect()
        }),
        partition_keys: table.partition_keys().iter().map(column).collect(),
        location: location(storage),
        parameters: parameters.into_iter().collect(),
        format: format(table),
    }
}

fn format(table: &Table) -> Format {
    if table.table_type() == Some("VIRTUAL_VIEW") || table.view_definition().is_some() {
        return Format::Other("a view".to_owned());
    }
    let kind = table.parameters().and_then(|all| all.get("table_type"));
    if let Some(kind) = kind.filter(|kind| !kind.is_empty()) {
        return Format::Other(format!("a table of {kind}"));
    }
    if table.target_table().is_some() {
        return Format::Other("a link to another table".to_owned());
    }
    let storage = table.storage_descriptor();
    let serde = storage
        .and_then(StorageDescriptor::serde_info)
        .and_then(SerDeInfo::serialization_library);
    match serde {
        Some(SERDE) => Format::Parquet,
        Some(other) => Format::Other(format!("files of {other}")),
        None => Format::Other("a table without a SerDe".to_owned()),
    }
}

fn column(column: &types::Column) -> Column {
    Column {
        name: column.name().to_owned(),
        hive_type: column.r#type().unwrap_or_default().to_owned(),
        comment: column.comment().map(str::to_owned),
    }
}

/// A location with a slash at its end: without one, some readers take it for the beginning of other folders' names.
fn folder(location: &str) -> String {
    format!("{}/", location.trim_end_matches('/'))
}

fn location(storage: Option<&StorageDescriptor>) -> String {
    let location = storage.and_then(StorageDescriptor::location);
    let location = location.unwrap_or_default();
    location.strip_suffix('/').unwrap_or(location).to_owned()
}

/// The columns as Glue wants them, each with what is known there of one of its name.
fn columns(columns: &[Column], there: &[types::Column]) -> Result<Vec<types::Column>> {
    let column = |column: &Column| {
        let known = there.iter().find(|known| known.name() == column.name);
        let parameters = known.and_then(|known| known.parameters().cloned());
        incomplete(
            types::Column::builder()
                .name(&column.name)
                .r#type(&column.hive_type)
                .set_comment(column.comment.clone())
                .set_parameters(parameters)
                .build(),
        )
    };
    columns.iter().map(column).collect()
}

/// A table for Glue; `there` is the one that it takes the place of.
pub(super) fn table_input(table: &Definition, there: Option<&Table>) -> Result<TableInput> {
    let old_storage = there.and_then(Table::storage_descriptor);
    let storage = storage(table, &table.location, old_storage)?;
    let old_keys = there.map_or(&[][..], Table::partition_keys);
    let mut input = TableInput::builder()
        .name(&table.name)
        .table_type("EXTERNAL_TABLE")
        .set_parameters(Some(table.parameters.clone().into_iter().collect()))
        .set_partition_keys(Some(columns(&table.partition_keys, old_keys)?))
        .storage_descriptor(storage);
    if let Some(there) = there {
        input = input
            .set_description(there.description().map(str::to_owned))
            .set_owner(there.owner().map(str::to_owned))
            .set_last_access_time(there.last_access_time().copied())
            .set_last_analyzed_time(there.last_analyzed_time().copied())
            .retention(there.retention())
            .set_table_type(there.table_type().map(str::to_owned));
    }
    incomplete(input.build())
}

/// Where files are and how they are read.
fn storage(
    table: &Definition,
    location: &str,
    there: Option<&StorageDescriptor>,
) -> Result<StorageDescriptor> {
    let old_columns = there.map_or(&[][..], StorageDescriptor::columns);
    let columns = columns(&table.columns, old_columns)?;
    if let Some(there) = there {
        let mut storage = there.clone();
        storage.columns = Some(columns);
        storage.location = Some(folder(location));
        return Ok(storage);
    }
    let serde = SerDeInfo::builder()
        .serialization_library(SERDE)
        .parameters("serialization.format", "1");
    Ok(StorageDescriptor::builder()
        .set_columns(Some(columns))
        .location(folder(location))
        .input_format(INPUT_FORMAT)
        .output_format(OUTPUT_FORMAT)
        .compressed(false)
        // Not bucketed: readers want to be told.
        .number_of_buckets(-1)
        .serde_info(serde.build())
        .set_bucket_columns(Some(Vec::new()))
        .set_sort_columns(Some(Vec::new()))
        .set_parameters(Some(HashMap::new()))
        .stored_as_sub_directories(false)
        .build())
}

/// A new partition for Glue.
pub(super) fn partition_input(table: &Definition, partition: &Partition) -> Result<PartitionInput> {
    Ok(PartitionInput::builder()
        .set_values(Some(partition.values.clone()))
        .storage_descriptor(storage(table, &partition.location, None)?)
        .set_parameters(Some(HashMap::new()))
        .build())
}

/// A partition that is there, at another place.
pub(super) fn moved(there: &types::Partition, to: &Partition) -> PartitionInput {
    let mut storage = there.storage_descriptor().cloned();
    if let Some(storage) = &mut storage {
        storage.location = Some(folder(&to.location));
    }
    PartitionInput::builder()
        .set_values(Some(to.values.clone()))
        .set_storage_descriptor(storage)
        .set_parameters(there.parameters().cloned())
        .set_last_access_time(there.last_access_time().copied())
        .set_last_analyzed_time(there.last_analyzed_time().copied())
        .build()
}

pub(super) fn partition(partition: &types::Partition) -> Partition {
    let storage = partition.storage_descriptor();
    Partition {
        values: partition.values().to_vec(),
        location: location(storage),
    }
}

pub(super) fn crawler(crawler: &types::Crawler) -> Crawler {
    let last = crawler.last_crawl();
    let targets = crawler.targets().map_or(&[][..], |all| all.s3_targets());
    let started = last.and_then(|last| last.start_time());
    Crawler {
        state: crawler
            .state()
            .map_or("", |state| state.as_str())
            .to_owned(),
        last_status: last
            .and_then(|last| last.status())
            .map(|status| status.as_str().to_owned()),
        last_message: last
            .and_then(|last| last.error_message())
            .map(str::to_owned),
        last_started_ms: started.and_then(|at| at.to_millis().ok()),
        targets: targets
            .iter()
            .filter_map(|target| target.path().map(str::to_owned))
            .collect(),
        exclusions: targets
            .iter()
            .flat_map(|target| target.exclusions().iter().cloned())
            .collect(),
    }
}

pub(super) fn s3_targets(spec: &CrawlerSpec) -> Vec<S3Target> {
    let exclusions: Vec<String> = NO_DATA.iter().map(|glob| (*glob).to_owned()).collect();
    let target = |path: &String| {
        S3Target::builder()
            .path(path)
            .set_exclusions(Some(exclusions.clone()))
            .build()
    };
    spec.targets.iter().map(target).collect()
}

/// A table is never dropped because of files that are gone for a moment.
pub(super) fn schema_changes() -> SchemaChangePolicy {
    SchemaChangePolicy::builder()
        .update_behavior(UpdateBehavior::UpdateInDatabase)
        .delete_behavior(DeleteBehavior::Log)
        .build()
}
