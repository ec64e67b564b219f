//! What a failure of the server asks for: wait, give a right, or change the table.

use super::line::number;
use super::options::Settings;
use crate::error::Error;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error as MongoError, ErrorKind, WriteFailure};

/// Codes of servers that are starting, stopping, changing places, or busy.
const PASSING: [i32; 24] = [
    6, 7, 24, 46, 50, 64, 89, 91, 112, 133, 134, 189, 202, 262, 317, 358, 9001, 10107, 11600,
    11602, 12587, 13388, 13435, 13436,
];
const UNAUTHORIZED: i32 = 13;
const DUPLICATE: i32 = 11000;

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

    pub fn explain(&self, settings: &Settings) -> Error {
        let place = settings.place();
        let Failed { code, message, .. } = self;
        match *code {
            DUPLICATE => Error::data(format!(
                "{place}: a row of a committed epoch has a value that a unique index has already ({message}); drop the index or remove \
                 the document that is in the way, and start again"
            )),
            121 => Error::data(format!(
                "{place}: the collection's validation refuses a row of a committed epoch ({message}); change the validation and start again"
            )),
            code => explain_code(settings, "writing", code, message),
        }
    }
}

/// A failure that concerns all that was asked.
pub fn explain(settings: &Settings, doing: &str, error: MongoError) -> Error {
    let place = format!("{}: {doing}", settings.place());
    match &*error.kind {
        ErrorKind::Command(failed) => {
            explain_code(settings, doing, failed.code, &failed.message).caused_by(error)
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(failed)) => {
            explain_code(settings, doing, failed.code, &failed.message).caused_by(error)
        }
        ErrorKind::Authentication { .. } => {
            Error::job(format!("{place}: {}", wrong_user())).caused_by(error)
        }
        ErrorKind::InvalidArgument { .. } => {
            Error::job(format!("{place}: the option 'uri' cannot be used")).caused_by(error)
        }
        ErrorKind::InvalidTlsConfig { .. } => {
            Error::job(format!("{place}: the TLS options in 'uri' cannot be used")).caused_by(error)
        }
        ErrorKind::IncompatibleServer { .. } => {
            Error::job(format!("{place}: the server is too old or too new")).caused_by(error)
        }
        _ => Error::retry(place).caused_by(error),
    }
}

fn explain_code(settings: &Settings, doing: &str, code: i32, message: &str) -> Error {
    let place = format!("{}: {doing}", settings.place());
    let database = &settings.database;
    match code {
        UNAUTHORIZED => Error::job(format!(
            "{place}: the user may not do that ({message}); grant the role readWrite on the database '{database}'"
        )),
        18 | 8000 => Error::job(format!("{place}: {}", wrong_user())),
        85 | 86 => Error::job(format!(
            "{place}: there is an index of that name or on these fields with other options ({message}); drop it, or change \
             'tributary.mongodb.indexes'"
        )),
        DUPLICATE => Error::job(format!(
            "{place}: a unique index cannot be made, for the collection has a value twice ({message})"
        )),
        code if PASSING.contains(&code) => Error::retry(format!("{place}: {message}")),
        code => Error::job(format!(
            "{place}: the server refuses it (code {code}: {message})"
        )),
    }
}

fn wrong_user() -> &'static str {
    "the server does not accept the user or the password of 'uri'; a user of another database needs ?authSource=.. behind it"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::sink::TableSpec;
    use crate::sql::Options;

    fn settings() -> Settings {
        let table = TableSpec {
            options: Options::of([
                ("connector", "mongodb"),
                ("uri", "mongodb://server:27017"),
                ("database", "shop"),
                ("collection", "sales"),
            ]),
            ..TableSpec::unknown("t")
        };
        Settings::of(&table, "job").unwrap()
    }

    #[test]
    fn what_a_right_or_a_change_would_mend_is_said_with_its_name() {
        for (code, kind, expected) in [
            (13, Kind::Job, "readWrite on the database 'shop'"),
            (18, Kind::Job, "authSource"),
            (85, Kind::Job, "tributary.mongodb.indexes"),
            (11000, Kind::Job, "a value twice"),
            (10107, Kind::Retry, "words"),
            (9, Kind::Job, "code 9: words"),
        ] {
            let error = explain_code(&settings(), "writing", code, "words");
            assert_eq!(error.kind(), kind, "{error}");
            for part in [expected, "server:27017", "table 't'", "shop.sales"] {
                assert!(error.to_string().contains(part), "{error}");
            }
        }
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
        let error = failed[1].explain(&settings());
        assert_eq!(error.kind(), Kind::Data);
        assert!(error.to_string().contains("user_id_1"), "{error}");
    }
}
