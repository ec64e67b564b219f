//! What a failure of the server asks for: wait, give a right, or change the table.

use super::Address;
use crate::error::Error;
use mongodb::error::{Error as MongoError, ErrorKind, WriteFailure};

/// Codes of servers that are starting, stopping, changing places, or busy, and of questions that somebody ended.
const PASSING: [i32; 28] = [
    6, 7, 24, 43, 46, 50, 64, 89, 91, 112, 133, 134, 175, 189, 202, 237, 262, 317, 358, 9001,
    10107, 11600, 11601, 11602, 12587, 13388, 13435, 13436,
];
const UNAUTHORIZED: i32 = 13;
pub const DUPLICATE: i32 = 11000;

/// A failure that concerns all that was asked.
pub fn explain(address: &Address, doing: &str, error: MongoError) -> Error {
    let place = format!("{}: {doing}", address.place());
    // What it says beside its kind is for programs.
    let cause = error.kind.to_string();
    match &*error.kind {
        ErrorKind::Command(failed) => explain_code(address, doing, failed.code, &failed.message),
        ErrorKind::Write(WriteFailure::WriteConcernError(failed)) => {
            explain_code(address, doing, failed.code, &failed.message)
        }
        ErrorKind::Authentication { .. } => {
            Error::job(format!("{place}: {}", wrong_user())).caused_by(cause)
        }
        ErrorKind::InvalidArgument { .. } => {
            Error::job(format!("{place}: the option 'uri' cannot be used")).caused_by(cause)
        }
        ErrorKind::InvalidTlsConfig { .. } => {
            Error::job(format!("{place}: the TLS options in 'uri' cannot be used")).caused_by(cause)
        }
        ErrorKind::IncompatibleServer { .. } => {
            Error::job(format!("{place}: the server is too old or too new")).caused_by(cause)
        }
        _ => Error::retry(place).caused_by(cause),
    }
}

pub fn explain_code(address: &Address, doing: &str, code: i32, message: &str) -> Error {
    let place = format!("{}: {doing}", address.place());
    let Address { database, role, .. } = address;
    match code {
        UNAUTHORIZED => Error::job(format!(
            "{place}: the user may not do that ({message}); grant the role {role} on the database '{database}'"
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
    fn what_a_right_or_a_change_would_mend_is_said_with_its_name() {
        for (code, kind, expected) in [
            (13, Kind::Job, "readWrite on the database 'shop'"),
            (18, Kind::Job, "authSource"),
            (85, Kind::Job, "tributary.mongodb.indexes"),
            (11000, Kind::Job, "a value twice"),
            (10107, Kind::Retry, "words"),
            (9, Kind::Job, "code 9: words"),
        ] {
            let error = explain_code(&address(), "writing", code, "words");
            assert_eq!(error.kind(), kind, "{error}");
            for part in [expected, "server:27017", "table 't'", "shop.sales"] {
                assert!(error.to_string().contains(part), "{error}");
            }
        }
    }
}
