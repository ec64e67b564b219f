//! Flink's `avro-confluent` format: Avro behind the id of the schema that it was written with.
//!
//! The schemas come with the records (`source/registered.rs` has waited for them), so nothing is asked of a server here. For each schema it
//! is worked out once how its values become those of the columns (`plan`), and each record is read by that, straight into the
//! columns (`read`).

mod plan;
mod read;

use super::columns::Row;
use super::fault::{Fault, Parsed};
use super::{Format, Value};
use crate::avro::{self, Schema};
use crate::registry::Written;
use crate::source::Records;
use arrow::datatypes::Fields;
use plan::RowPlan;
use read::Reader;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

pub struct Avro {
    /// The columns that are decoded.
    fields: Fields,
    /// The schema that the user has given for the table: it knows defaults and other names.
    own: Option<Arc<Schema>>,
    /// The schemas of this run of records.
    written: Written,
    /// What was worked out, by the schema's id. A schema never changes.
    plans: HashMap<u32, Known, ahash::RandomState>,
}

struct Known {
    schema: Arc<Schema>,
    plan: RowPlan,
}

impl Avro {
    pub fn new(fields: Fields, own: Option<Schema>) -> Avro {
        Avro {
            fields,
            own: own.map(Arc::new),
            written: Written::default(),
            plans: HashMap::default(),
        }
    }

    /// How records with this schema are read.
    fn known(&mut self, id: u32) -> Result<&Known, String> {
        let vacant = match self.plans.entry(id) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(vacant) => vacant,
        };
        let schema = match self.written.get(&id) {
            Some(schema) => schema.clone()?,
            None => return Err("nobody has asked for it".to_string()),
        };
        let plan = RowPlan::of(&schema, &self.fields, self.own.as_ref())?;
        Ok(vacant.insert(Known { schema, plan }))
    }
}

impl Format for Avro {
    const IS_TEXT: bool = false;

    fn begin(&mut self, records: &Records) {
        self.written = Arc::clone(&records.schemas);
    }

    fn read(&mut self, value: Value, columns: &mut Row, _rows: usize) -> Parsed<usize> {
        let (id, _) = avro::parts(value.bytes).map_err(|what| Fault::syntax(0, what))?;
        let known = self.known(id).map_err(|what| {
            let what = format!("schema {id} cannot be used: {what}");
            Fault::syntax(avro::ID_AT, what)
        })?;
        let mut reader = Reader::behind_head(value.bytes, &known.schema)?;
        reader.row(&known.plan, columns)?;
        reader.end()?;
        Ok(1)
    }
}

#[cfg(test)]
mod tests;
