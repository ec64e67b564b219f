//! What the failure of a single statement asks for, while others of its command did not fail.

use super::line::number;
use crate::error::Error;
use crate::mongo::Address;
use crate::mongo::fault::{DUPLICATE, explain_code};
use mongodb::bson::{Document, doc};

/// A statement that failed, while others of its command did not.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    pub number: usize,
    code: i32,
    message: String,
    /// The fields whose values were there already.
    fields: Option<Document>,
}

impl Failed {
    /// Those that an answer to a write names.
    pub fn of(answer: &Document) -> Vec<Failed> {
        let errors = answer.get_array("writeErrors");
        let errors = errors.map(Vec::as_slice).unwrap_or_default();
        let errors = errors.iter().filter_map(|error| error.as_document());
        let number = |error: &Document, name: &str| error.get(name).and_then(number).unwrap_or(-1);
        errors
            .map(|error| Failed {
                number: usize::try_from(number(error, "index")).unwrap_or_default(),
                code: i32::try_from(number(error, "code")).unwrap_or_default(),
                message: error.get_str("errmsg").unwrap_or_default().to_string(),
                fields: error.get_document("keyPattern").ok().cloned(),
            })
            .collect()
    }

    /// Whether a document with this `_id` was there already. Servers that do not name the fields name the index in their words.
    pub fn is_there_already(&self) -> bool {
        let on_id = match &self.fields {
            Some(fields) => *fields == doc! { "_id": 1 },
            None => self.message.contains(" _id_ ") || self.message.contains("._id"),
        };
        self.code == DUPLICATE && on_id
    }

    pub fn explain(&self, address: &Address) -> Error {
        let place = address.place();
        let Failed { code, message, .. } = self;
        match *code {
            DUPLICATE => Error::data(format!(
                "{place}: a row of a committed epoch has a value that a unique index has already ({message}); drop the index or remove \
                 the document that is in the way, and start again"
            )),
            121 => Error::data(format!(
                "{place}: the collection's validation refuses a row of a committed epoch ({message}); change the validation and start again"
            )),
            code => explain_code(address, "writing", code, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::sql::Options;

    fn address() -> Address {
        let options = [
            ("uri", "mongodb://server:27017"),
            ("database", "shop"),
            ("collection", "sales"),
        ];
        Address::of("t", &Options::of(options), "readWrite").unwrap()
    }

    #[test]
    fn a_document_that_is_there_is_no_failure_and_another_value_is() {
        let answer = doc! { "ok": 1, "writeErrors": [
            { "index": 0, "code": 11000, "errmsg": "E11000 dup key: {..}", "keyPattern": { "_id": 1 } },
            { "index": 3, "code": 11000, "errmsg": "E11000 index: user_id_1 dup key", "keyPattern": { "user_id": 1 } },
            { "index": 4_i64, "code": 11000.0, "errmsg": "E11000 duplicate key error collection: d.c index: _id_ dup key: {..}" },
            { "index": 5, "code": 11000, "errmsg": "E11000 duplicate key error collection: d.c index: user_id_1 dup key: {..}" },
        ] };
        let failed = Failed::of(&answer);
        let there: Vec<(usize, bool)> = failed
            .iter()
            .map(|failed| (failed.number, failed.is_there_already()))
            .collect();
        assert_eq!(there, [(0, true), (3, false), (4, true), (5, false)]);
        let error = failed[1].explain(&address());
        assert_eq!(error.kind(), Kind::Data);
        assert!(error.to_string().contains("user_id_1"), "{error}");
    }
}
