//! What reading and writing a MongoDB have in common: where a table's documents are, how its server is spoken to, what a failure asks
//! for, and what a value is there.

pub mod fault;
pub mod value;

use crate::error::{Error, Result};
use crate::sql::Options;
use mongodb::options::ClientOptions;
use std::time::Duration;

const URI: &str = "uri";
const DATABASE: &str = "database";
const COLLECTION: &str = "collection";
/// The options that say where a table is.
pub const KEYS: [&str; 3] = [URI, DATABASE, COLLECTION];

/// How long one answer may take. A longer one comes to who asks again: index builds go on.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long to look for a server before the outage is spoken of.
const SELECTION: Duration = Duration::from_secs(10);

/// Where a table's documents are.
#[derive(Debug, Clone)]
pub struct Address {
    pub table: String,
    pub uri: String,
    pub database: String,
    pub collection: String,
    /// The role that the user needs for what is done there.
    pub role: &'static str,
}

impl Address {
    pub fn of(table: &str, options: &Options, role: &'static str) -> Result<Address> {
        let required = |key: &str| match options.get(key) {
            Some(value) => Ok(value.to_string()),
            None => Err(Error::job(format!(
                "table '{table}': the option '{key}' is missing; add it to the WITH clause"
            ))),
        };
        Ok(Address {
            table: table.to_string(),
            uri: required(URI)?,
            database: required(DATABASE)?,
            collection: required(COLLECTION)?,
            role,
        })
    }

    /// How the server is spoken to. Nothing is asked of it yet; but an address with `+srv` is looked up.
    pub async fn options(&self) -> Result<ClientOptions> {
        let options = ClientOptions::parse(&self.uri).await;
        let mut options = options.map_err(|error| fault::explain(self, "reading 'uri'", error))?;
        options.app_name.get_or_insert("tributary".to_string());
        options.server_selection_timeout.get_or_insert(SELECTION);
        Ok(options)
    }

    /// Where it happened, for messages: without the password.
    pub fn place(&self) -> String {
        let Address {
            table,
            database,
            collection,
            ..
        } = self;
        let host = host(&self.uri);
        format!("table '{table}', collection '{database}.{collection}' at {host}")
    }
}

/// The hosts that an address names.
fn host(uri: &str) -> &str {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let behind_user = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    behind_user.split(['/', '?']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_place_and_not_the_password() {
        let options = [
            (URI, "mongodb://user:secret@one:1,two:2/db?replicaSet=r"),
            (DATABASE, "d"),
            (COLLECTION, "c"),
        ];
        let address = Address::of("t", &Options::of(options), "read").unwrap();
        let place = address.place();
        assert_eq!(place, "table 't', collection 'd.c' at one:1,two:2");
        let error = Address::of("t", &Options::of(options[..2].to_vec()), "read").unwrap_err();
        assert!(
            error.to_string().contains("'collection' is missing"),
            "{error}"
        );
    }
}
