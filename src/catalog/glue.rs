//! The AWS Glue Data Catalog, which is Athena's.
//!
//! Credentials, the region and another endpoint (AWS_ENDPOINT_URL_GLUE, else AWS_ENDPOINT_URL) come from where all AWS tools take them.
//! Only a stumble is repeated down here: when to ask a catalog again that is away is the caller's to say.

mod fault;
mod shape;

use super::{Catalog, Crawler, CrawlerSpec, Definition, Partition, Start};
use crate::aws;
use crate::error::{Error, Kind, Result};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_glue::Client;
use aws_sdk_glue::config::Builder;
use aws_sdk_glue::operation::get_table::GetTableOutput;
use aws_sdk_glue::types::{CrawlerTargets, DatabaseInput, PartitionInput, Table};
use fault::{failed, is};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::OnceCell;

/// How many partitions one request can hold.
const BATCH: usize = 100;

const MISSING: &str = "EntityNotFoundException";
const THERE: &str = "AlreadyExistsException";

/// Nothing is asked, nor are credentials looked for, before the first call.
#[derive(Debug, Default)]
pub struct GlueCatalog {
    client: OnceCell<Client>,
}

impl GlueCatalog {
    /// The catalog on the server that a test is given.
    #[cfg(test)]
    fn at(endpoint: &str) -> GlueCatalog {
        use aws_sdk_glue::config::{BehaviorVersion, Credentials, Region};
        let config = settings(Builder::new())
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws::http_client())
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .region(Region::from_static("us-east-1"))
            .endpoint_url(endpoint);
        GlueCatalog {
            client: OnceCell::new_with(Some(Client::from_conf(config.build()))),
        }
    }

    async fn client(&self) -> &Client {
        self.client
            .get_or_init(|| async {
                let shared = aws::config().await;
                let config = settings(Builder::from(&shared));
                Client::from_conf(config.build())
            })
            .await
    }

    /// A table as Glue has it.
    async fn get(&self, database: &str, name: &str) -> Result<Option<Table>> {
        let request = self.client().await.get_table();
        match request.database_name(database).name(name).send().await {
            Ok(GetTableOutput { table, .. }) => Ok(table),
            Err(error) if is(&error, MISSING) => Ok(None),
            Err(error) => Err(failed("GetTable", &format!("{database}.{name}"), error)),
        }
    }

    async fn add(&self, table: &Definition, partitions: &[Partition]) -> Result<usize> {
        let place = format!("{}.{}", table.database, table.name);
        let inputs = partitions
            .iter()
            .map(|partition| shape::partition_input(table, partition))
            .collect::<Result<Vec<PartitionInput>>>()?;
        let request = self.client().await.batch_create_partition();
        let answer = request
            .database_name(&table.database)
            .table_name(&table.name)
            .set_partition_input_list(Some(inputs))
            .send()
            .await
            .map_err(|error| failed("BatchCreatePartition", &place, error))?;
        for error in answer.errors() {
            let detail = error.error_detail();
            let code = detail.and_then(|detail| detail.error_code());
            if code != Some(THERE) {
                let values = error.partition_values().join("/");
                let message = detail.and_then(|detail| detail.error_message());
                return Err(fault::of_partition(&place, &values, code, message));
            }
        }
        Ok(partitions.len().saturating_sub(answer.errors().len()))
    }
}

/// How long an answer is waited for, and how often a question repeated.
fn settings(config: Builder) -> Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(20))
        .operation_timeout(Duration::from_secs(45));
    let retries = RetryConfig::standard()
        .with_max_attempts(2)
        .with_initial_backoff(Duration::from_millis(200))
        .with_max_backoff(Duration::from_secs(1));
    config
        .timeout_config(timeouts.build())
        .retry_config(retries)
}

impl Catalog for GlueCatalog {
    fn create_database<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        async move {
            // Who may not create databases can still use one that is there.
            let client = self.client().await;
            match client.get_database().name(name).send().await {
                Ok(_) => return Ok(()),
                Err(error) if is(&error, MISSING) => {}
                Err(error) => return Err(failed("GetDatabase", name, error)),
            }
            let input = DatabaseInput::builder().name(name).build();
            let input = fault::incomplete(input)?;
            match client.create_database().database_input(input).send().await {
                Ok(_) => Ok(()),
                Err(error) if is(&error, THERE) => Ok(()),
                Err(error) => Err(failed("CreateDatabase", name, error)),
            }
        }
        .boxed()
    }

    fn table<'a>(
        &'a self,
        database: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Definition>>> {
        async move {
            let table = self.get(database, name).await?;
            Ok(table.map(|table| shape::definition(database, &table)))
        }
        .boxed()
    }

    fn tables<'a>(&'a self, database: &'a str) -> BoxFuture<'a, Result<Vec<Definition>>> {
        async move {
            let mut found = Vec::new();
            let request = self.client().await.get_tables().database_name(database);
            let mut pages = request.into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| failed("GetTables", database, error))?;
                let tables = page.table_list().iter();
                found.extend(tables.map(|table| shape::definition(database, table)));
            }
            found.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(found)
        }
        .boxed()
    }

    fn create_table<'a>(&'a self, table: &'a Definition) -> BoxFuture<'a, Result<bool>> {
        async move {
            let request = self.client().await.create_table();
            let input = shape::table_input(table, None)?;
            let sent = request.database_name(&table.database).table_input(input);
            match sent.send().await {
                Ok(_) => Ok(true),
                Err(error) if is(&error, THERE) => Ok(false),
                Err(error) => {
                    let place = format!("{}.{}", table.database, table.name);
                    Err(failed("CreateTable", &place, error))
                }
            }
        }
        .boxed()
    }

    fn update_table<'a>(&'a self, table: &'a Definition) -> BoxFuture<'a, Result<()>> {
        async move {
            let place = format!("{}.{}", table.database, table.name);
            let there = self.get(&table.database, &table.name).await?;
            let there =
                there.ok_or_else(|| Error::job(format!("the catalog has no table {place}")))?;
            let request = self.client().await.update_table();
            let sent = request
                .database_name(&table.database)
                .table_input(shape::table_input(table, Some(&there))?)
                // Whoever changed it since is not overwritten.
                .set_version_id(there.version_id().map(str::to_owned));
            match sent.send().await {
                Ok(_) => Ok(()),
                Err(error) => Err(failed("UpdateTable", &place, error)),
            }
        }
        .boxed()
    }

    fn partitions<'a>(
        &'a self,
        database: &'a str,
        table: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Partition>>> {
        async move {
            let mut found = Vec::new();
            let request = self.client().await.get_partitions();
            let mut pages = request
                .database_name(database)
                .table_name(table)
                // Each would else repeat all columns of the table.
                .exclude_column_schema(true)
                .into_paginator()
                .send();
            while let Some(page) = pages.next().await {
                let place = format!("{database}.{table}");
                let page = page.map_err(|error| failed("GetPartitions", &place, error))?;
                found.extend(page.partitions().iter().map(shape::partition));
            }
            found.sort();
            Ok(found)
        }
        .boxed()
    }

    fn add_partitions<'a>(
        &'a self,
        table: &'a Definition,
        partitions: &'a [Partition],
    ) -> BoxFuture<'a, Result<usize>> {
        async move {
            // One request must not name a partition twice.
            let mut unique: BTreeMap<&[String], &Partition> = BTreeMap::new();
            for partition in partitions {
                unique.entry(&partition.values).or_insert(partition);
            }
            let unique: Vec<Partition> = unique.into_values().cloned().collect();
            let (mut added, mut refused) = (0, None);
            for batch in unique.chunks(BATCH) {
                match self.add(table, batch).await {
                    Ok(new) => added += new,
                    // What is refused keeps nothing behind it from being told.
                    Err(error) if error.kind() == Kind::Job => refused = refused.or(Some(error)),
                    Err(error) => return Err(error),
                }
            }
            refused.map_or(Ok(added), Err)
        }
        .boxed()
    }

    fn move_partition<'a>(
        &'a self,
        table: &'a Definition,
        partition: &'a Partition,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let values = || Some(partition.values.clone());
            let place = format!(
                "{}.{} {}",
                table.database,
                table.name,
                partition.values.join("/")
            );
            let client = self.client().await;
            let there = client
                .get_partition()
                .database_name(&table.database)
                .table_name(&table.name)
                .set_partition_values(values());
            let there = match there.send().await {
                Ok(answer) => answer.partition,
                Err(error) => return Err(failed("GetPartition", &place, error)),
            };
            let there =
                there.ok_or_else(|| Error::job(format!("the catalog has no partition {place}")))?;
            let sent = client
                .update_partition()
                .database_name(&table.database)
                .table_name(&table.name)
                .set_partition_value_list(values())
                .partition_input(shape::moved(&there, partition));
            match sent.send().await {
                Ok(_) => Ok(()),
                Err(error) => Err(failed("UpdatePartition", &place, error)),
            }
        }
        .boxed()
    }

    fn crawler<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Crawler>>> {
        async move {
            match self.client().await.get_crawler().name(name).send().await {
                Ok(answer) => Ok(answer.crawler().map(shape::crawler)),
                Err(error) if is(&error, MISSING) => Ok(None),
                Err(error) => Err(failed("GetCrawler", name, error)),
            }
        }
        .boxed()
    }

    fn create_crawler<'a>(&'a self, spec: &'a CrawlerSpec) -> BoxFuture<'a, Result<()>> {
        async move {
            let request = self.client().await.create_crawler();
            let targets = CrawlerTargets::builder().set_s3_targets(Some(shape::s3_targets(spec)));
            let sent = request
                .name(&spec.name)
                .role(&spec.role)
                .database_name(&spec.database)
                .targets(targets.build())
                .set_schedule(spec.schedule.clone())
                .schema_change_policy(shape::schema_changes())
                .configuration(shape::CRAWLER);
            match sent.send().await {
                Ok(_) => Ok(()),
                Err(error) if is(&error, THERE) => Ok(()),
                Err(error) => Err(failed("CreateCrawler", &spec.name, error)),
            }
        }
        .boxed()
    }

    fn start_crawler<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Start>> {
        async move {
            match self.client().await.start_crawler().name(name).send().await {
                Ok(_) => Ok(Start::Started),
                Err(error) if is(&error, "CrawlerRunningException") => Ok(Start::Running),
                // It ends, and cannot be started before it has.
                Err(error) if is(&error, "CrawlerStoppingException") => Ok(Start::Running),
                Err(error) => Err(failed("StartCrawler", name, error)),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
