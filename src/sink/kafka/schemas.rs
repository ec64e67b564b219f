//! The schemas of records that are written with a registry: registered when the table is opened, and their ids filled in when records are delivered.
//!
//! A stored record has room for its id, and its batch says which schema it was written with. So what an older process has stored is delivered with the
//! schema of that process, also where the table has other columns now.

use super::super::SinkContext;
use super::records::{Encoder, KEY, VALUE};
use crate::avro::{ID_AT, head};
use crate::error::{Error, Result};
use crate::registry::{RecordPart, Registry};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::buffer::Buffer;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Both parts of a record, with the columns that stored records have for them.
const PARTS: [(RecordPart, &str); 2] = [(RecordPart::Key, KEY), (RecordPart::Value, VALUE)];

/// Whose schema stands under a subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Named {
    pub subject: String,
    pub schema: String,
}

impl Named {
    const SUBJECT: &str = "avro.subject";
    const SCHEMA: &str = "avro.schema";

    /// As the metadata of a stored column.
    pub fn metadata(&self) -> HashMap<String, String> {
        HashMap::from([
            (Self::SUBJECT.to_string(), self.subject.clone()),
            (Self::SCHEMA.to_string(), self.schema.clone()),
        ])
    }

    fn of(metadata: &HashMap<String, String>) -> Option<Named> {
        Some(Named {
            subject: metadata.get(Self::SUBJECT)?.clone(),
            schema: metadata.get(Self::SCHEMA)?.clone(),
        })
    }
}

/// The registries of a table, and the ids that they gave.
pub struct Schemas {
    table: String,
    parts: Vec<(RecordPart, Named, Link)>,
    ids: Mutex<BTreeMap<(&'static str, String, String), u32>>,
}

struct Link {
    registry: Arc<dyn Registry>,
    /// Whether a schema is registered that is not there.
    registers: bool,
}

impl Schemas {
    pub fn of(table: &str, encoder: &Encoder, context: &SinkContext) -> Result<Schemas> {
        let mut parts = Vec::new();
        for (part, _) in PARTS {
            if let Some((named, settings)) = encoder.schema_of(part) {
                let link = Link {
                    registry: (context.registries)(settings)?,
                    registers: settings.registers,
                };
                parts.push((part, named.clone(), link));
            }
        }
        Ok(Schemas {
            table: table.to_string(),
            parts,
            ids: Mutex::default(),
        })
    }

    /// Makes the schemas of this process known. What is wrong with them is better said before any row is.
    pub async fn announce(&self) -> Result<()> {
        for (part, named, _) in &self.parts {
            self.id(*part, named).await?;
        }
        Ok(())
    }

    /// Fills the ids into stored records.
    pub async fn stamp(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        for (part, column) in PARTS {
            let Some((at, field)) = batch.schema_ref().column_with_name(column) else {
                continue;
            };
            if let Some(named) = Named::of(field.metadata()) {
                let id = self.id(part, &named).await?;
                columns[at] = stamped(&columns[at], id)?;
            }
        }
        Ok(RecordBatch::try_new(batch.schema(), columns)?)
    }

    async fn id(&self, part: RecordPart, named: &Named) -> Result<u32> {
        let Named { subject, schema } = named;
        let known = (part.word(), subject.clone(), schema.clone());
        let mut ids = self.ids.lock().await;
        if let Some(id) = ids.get(&known) {
            return Ok(*id);
        }
        let place = |error: Error| error.at(format!("table '{}'", self.table));
        let link = self.parts.iter().find(|(of, ..)| *of == part);
        let Some((.., link)) = link else {
            return Err(Error::job(format!(
                "table '{}': rows that wait to be delivered were written in the format avro-confluent, and the table has it no more; start the \
                 job with its old text first, and stop it",
                self.table
            )));
        };
        let found = match link.registers {
            true => Some(link.registry.register(subject, schema).await),
            false => link.registry.find(subject, schema).await.transpose(),
        };
        let missing = || {
            Error::job(format!(
                "subject '{subject}' does not have the table's schema, and 'auto.register.schemas' = 'false' forbids to register it; register it \
                 (POST /subjects/{subject}/versions), or leave that option out. It is {schema}"
            ))
        };
        let id = found.unwrap_or_else(|| Err(missing())).map_err(place)?;
        ids.insert(known, id);
        Ok(id)
    }
}

/// The same records with this id. Records without a value stay so.
fn stamped(records: &ArrayRef, id: u32) -> Result<ArrayRef> {
    let records = records.as_binary::<i32>();
    let mut bytes = records.value_data().to_vec();
    for row in (0..records.len()).filter(|row| records.is_valid(*row)) {
        let start = records.value_offsets()[row] as usize;
        let place = bytes.get_mut(start..start + head(id).len());
        let place = place.ok_or_else(|| Error::bug("a stored record has no room for an id"))?;
        place[ID_AT..].copy_from_slice(&id.to_be_bytes());
    }
    Ok(Arc::new(BinaryArray::try_new(
        records.offsets().clone(),
        Buffer::from_vec(bytes),
        records.nulls().cloned(),
    )?))
}
