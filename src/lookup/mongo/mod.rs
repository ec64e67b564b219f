//! A MongoDB collection in which rows are looked up.
//!
//! The keys of a batch travel in one question, or a few (`query`), and the documents that come are made columns (`read`). A document is
//! found by its fields, as with Flink. Where the table has a PRIMARY KEY, the sinks of both have made `_id` of it; so it is asked for first,
//! since every collection has an index on it, and the fields only where that finds nothing.

mod query;
mod read;
#[cfg(test)]
mod tests;

use super::index::KeyIndex;
use super::patient::Patient;
use super::{Lookup, LookupContext};
use crate::error::{Error, Result};
use crate::mongo::fault::explain;
use crate::mongo::{Address, PATIENCE};
use crate::operator::lookup::Found;
use crate::plan::LookupJoin;
use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::datatypes::Field;
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use read::Reader;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;

/// The collections that the lanes of a process ask, each by one client.
#[derive(Clone, Default)]
pub struct Servers(Arc<Mutex<BTreeMap<String, Arc<Server>>>>);

/// A collection, and who waits for it.
struct Server {
    address: Address,
    collection: Collection<Document>,
    patient: Patient,
}

impl Servers {
    /// The collection of a table. Whoever asks first waits until the server has said that it is there.
    fn of(&self, join: &LookupJoin, context: &LookupContext) -> Result<Arc<Server>> {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let table = &join.table;
        if let Some(known) = servers.get(&table.name) {
            return Ok(Arc::clone(known));
        }
        let address = Address::of(&table.name, &table.options, "read")?;
        let patient = Patient::new(Arc::clone(&context.stopped));
        let place = address.place();
        let opened = patient.until_answered(&place, || Server::open(&address));
        let collection = context.runtime.block_on(opened)?;
        let server = Arc::new(Server {
            address,
            collection,
            patient,
        });
        servers.insert(table.name.clone(), Arc::clone(&server));
        Ok(server)
    }
}

impl Server {
    async fn open(address: &Address) -> Result<Collection<Document>> {
        let options = address.options().await?;
        let failed = |error| explain(address, "looking for the collection", error);
        let database = Client::with_options(options)
            .map_err(failed)?
            .database(&address.database);
        let named = doc! { "name": &address.collection };
        let asked = database.list_collection_names().filter(named);
        let names = in_time(address, asked.into_future())
            .await?
            .map_err(failed)?;
        // Not every server heeds the filter.
        if !names.contains(&address.collection) {
            return Err(Error::job(format!(
                "{}: there is no such collection, so nothing can be looked up in it; create it, or name the one that is meant",
                address.place()
            )));
        }
        Ok(database.collection(&address.collection))
    }

    async fn find(&self, filter: &Document, fields: &Document) -> Result<Vec<Document>> {
        let documents = async {
            let found = self.collection.find(filter.clone());
            let found = found.projection(fields.clone()).await?;
            found.try_collect::<Vec<Document>>().await
        };
        in_time(&self.address, documents)
            .await?
            .map_err(|error| explain(&self.address, "looking rows up", error))
    }
}

async fn in_time<T>(address: &Address, answer: impl Future<Output = T>) -> Result<T> {
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    answer.map_err(|_| {
        let seconds = PATIENCE.as_secs();
        Error::retry(format!("{}: no answer for {seconds} s", address.place()))
    })
}

/// Looks rows up among documents.
pub struct MongoLookup {
    runtime: Handle,
    server: Arc<Server>,
    reader: Reader,
    /// Which fields are asked for.
    projection: Document,
    /// Which of the keys make the primary key, where all of it is asked for and it is not called as MongoDB's own.
    primary: Vec<usize>,
}

impl MongoLookup {
    pub fn open(join: &LookupJoin, context: &LookupContext) -> Result<MongoLookup> {
        let reader = Reader::of(join);
        Ok(MongoLookup {
            runtime: context.runtime.clone(),
            server: context.servers.of(join, context)?,
            projection: reader.projection(),
            primary: reader.primary_among_keys(),
            reader,
        })
    }

    fn ask(&self, filters: &[Document]) -> Result<Vec<Document>> {
        let place = self.server.address.place();
        let mut documents = Vec::new();
        for filter in filters {
            let find = || self.server.find(filter, &self.projection);
            let found = self.server.patient.until_answered(&place, find);
            documents.extend(self.runtime.block_on(found)?);
        }
        documents.retain(|document| !self.reader.is_tombstone(document));
        Ok(documents)
    }

    /// The keys that are not among documents by what makes their primary key.
    fn missing(&self, keys: &RecordBatch, documents: &[Document]) -> Result<RecordBatch> {
        let primary = keys.project(&self.primary)?;
        let index = KeyIndex::of(&primary)?;
        let fields: Vec<&Field> = primary
            .schema_ref()
            .fields()
            .iter()
            .map(|field| field.as_ref())
            .collect();
        let columns = self.reader.keys_of(documents, &fields)?;
        let seen = index.numbers(&columns, documents.len())?;
        let seen: BTreeSet<u32> = seen.into_iter().flatten().collect();
        let own = index.numbers(primary.columns(), primary.num_rows())?;
        let missing = own.iter().enumerate();
        let missing =
            missing.filter(|(_, number)| number.is_none_or(|number| !seen.contains(&number)));
        let missing: Vec<u32> = missing.map(|(row, _)| row as u32).collect();
        Ok(take_record_batch(keys, &UInt32Array::from(missing))?)
    }
}

impl Lookup for MongoLookup {
    fn find(&mut self, keys: &RecordBatch) -> Result<Found> {
        let mut documents = Vec::new();
        let mut left = keys.clone();
        if !self.primary.is_empty() {
            documents = self.ask(&query::by_id(keys, &self.primary))?;
            left = self.missing(keys, &documents)?;
        }
        documents.extend(self.ask(&query::by_fields(&left))?);
        self.reader.rows(&documents, &KeyIndex::of(keys)?)
    }
}
