//! What an error of a store asks for: to wait, to give up, or nothing, since it is the answer.

use crate::error::Error;
use object_store::Error as StoreError;
use object_store::path::Path;
use std::error::Error as StdError;
use std::io;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The same call may succeed later; whether it took effect is not known.
    Transient,
    /// No repetition helps.
    Permanent,
    /// The store did what it was asked: the object is missing, or there already.
    Answer,
}

/// A store's refusal, with what to do about it. It travels inside [`StoreError::Generic`], because that is the error of the trait.
#[derive(Debug)]
pub(super) struct Refusal {
    pub advice: String,
    pub source: StoreError,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.advice)
    }
}

impl StdError for Refusal {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.source)
    }
}

/// Whether the error is the plain answer that there is no such object. (A missing bucket is not.)
pub fn is_missing(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound { .. }) && fault(error) == Fault::Answer
}

/// Whether the error says that an upload in parts is not there (any more), as each cloud says it.
pub(super) fn is_finished_upload(error: &StoreError) -> bool {
    match error {
        StoreError::NotFound { .. } => true,
        StoreError::Generic { source, .. } => source.to_string().contains("NoSuchUpload"),
        _ => false,
    }
}

/// The same error without the signature of an address, which is as good as a password and which Azure's client shows when deleting fails.
pub(super) fn without_signature(error: StoreError) -> StoreError {
    match error {
        StoreError::Generic { store, source } => {
            let text = source.to_string();
            match text.contains("sig=") {
                true => StoreError::Generic {
                    store,
                    source: signatures_cut(&text).into(),
                },
                false => StoreError::Generic { store, source },
            }
        }
        other => other,
    }
}

fn signatures_cut(text: &str) -> String {
    let mut parts = text.split("sig=");
    let mut cut = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|next: char| "&)\"' ".contains(next) || next.is_whitespace());
        cut.push_str("sig=..");
        cut.push_str(&part[end.unwrap_or(part.len())..]);
    }
    cut
}

/// Turns an error of a store into one of the job's: its kind, and a text that names the URL, the object and what to do.
pub fn explain(url: &str, object: &Path, error: StoreError) -> Error {
    let error = match error {
        StoreError::Generic { store, source } => match source.downcast::<Refusal>() {
            Ok(refusal) => {
                return Error::job(format!("{url}: {}", refusal.advice)).caused_by(refusal.source);
            }
            Err(source) => StoreError::Generic { store, source },
        },
        other => other,
    };
    let place = super::place_of(url, object);
    let kind = io_kind(&error);
    match (&error, kind) {
        (StoreError::NotFound { .. }, _) => {
            Error::retry(format!("{place} is missing; was it removed by hand?")).caused_by(error)
        }
        (_, Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)) => {
            Error::job(format!("{place} may not be written or read by this user: change its permissions or the path"))
                .caused_by(error)
        }
        (_, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) => {
            Error::retry(format!("{place} could not be written, because the disk is full: make room and start again"))
                .caused_by(error)
        }
        (_, Some(io::ErrorKind::NotADirectory)) => {
            Error::job(format!("{place}: a part of this path is a file, not a folder: correct the path")).caused_by(error)
        }
        _ if fault(&error) == Fault::Permanent => Error::job(format!("{place} was refused")).caused_by(error),
        _ => Error::retry(place).caused_by(error),
    }
}

/// Sorts an error. A server's status and code are read from its text, because the crate keeps the type that has them to itself.
pub(super) fn fault(error: &StoreError) -> Fault {
    match error {
        StoreError::NotFound { source, .. }
            if ["NoSuchBucket", "ContainerNotFound", "kms:"]
                .iter()
                .any(|code| source.to_string().contains(code)) =>
        {
            Fault::Permanent
        }
        StoreError::NotFound { .. }
        | StoreError::AlreadyExists { .. }
        | StoreError::Precondition { .. }
        | StoreError::NotModified { .. }
        // Whoever asked may know another way.
        | StoreError::NotSupported { .. }
        | StoreError::NotImplemented { .. } => Fault::Answer,
        StoreError::Generic { source, .. } if source.is::<Refusal>() => Fault::Permanent,
        error if is_finished_upload(error) => Fault::Answer,
        StoreError::Generic { source, .. } => {
            let text = source.to_string();
            // S3 says so with status 400 where a body was too long on its way.
            let is_late = text.contains("<Code>RequestTimeout</Code>");
            let refused = text.contains("Received redirect without LOCATION")
                || text.contains("(code: AccessDenied)");
            match status(&text) {
                _ if refused => Fault::Permanent,
                _ if is_late => Fault::Transient,
                Some(408 | 429) | None => Fault::Transient,
                Some(300..500) => Fault::Permanent,
                Some(_) => Fault::Transient,
            }
        }
        StoreError::JoinError { .. } => Fault::Transient,
        _ => Fault::Permanent,
    }
}

/// The number behind `status code: ` in the text of a failed request, or behind `code: ` where Azure speaks of one of several.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text
        .split_once("status code: ")
        .or_else(|| text.split_once("(code: "))?;
    rest.get(..3)?.parse().ok()
}

/// What the operating system said, where it was that.
fn io_kind(error: &StoreError) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn generic(text: &str) -> StoreError {
        StoreError::Generic {
            store: "S3",
            source: text.into(),
        }
    }

    fn missing(text: &str) -> StoreError {
        StoreError::NotFound {
            path: "x".into(),
            source: text.into(),
        }
    }

    #[test]
    fn errors_are_sorted_by_what_they_ask_for() {
        let cases = [
            (generic("connection refused"), Fault::Transient),
            (
                StoreError::NotSupported {
                    source: "copy if not exists".into(),
                },
                Fault::Answer,
            ),
            (
                generic("Server returned non-2xx status code: 503 Service Unavailable: SlowDown"),
                Fault::Transient,
            ),
            (
                generic("Server returned non-2xx status code: 429 Too Many Requests: "),
                Fault::Transient,
            ),
            (
                generic(
                    "Server returned non-2xx status code: 400 Bad Request: <Code>InvalidArgument</Code>",
                ),
                Fault::Permanent,
            ),
            (
                generic(
                    "Server returned non-2xx status code: 400 Bad Request: <Code>RequestTimeout</Code>",
                ),
                Fault::Transient,
            ),
            (
                generic("DeleteObjects request failed for key x: no (code: AccessDenied)"),
                Fault::Permanent,
            ),
            (
                generic("Bulk delete request failed for key x: no (code: 403)"),
                Fault::Permanent,
            ),
            (
                generic("Bulk delete request failed for key x: later (code: 503)"),
                Fault::Transient,
            ),
            (
                generic(
                    "Server returned non-2xx status code: 404 Not Found: <Code>NoSuchUpload</Code>",
                ),
                Fault::Answer,
            ),
            (missing("<Code>ContainerNotFound</Code>"), Fault::Permanent),
            (missing("<Code>NoSuchKey</Code>"), Fault::Answer),
            (missing("<Code>NoSuchBucket</Code>"), Fault::Permanent),
            (
                StoreError::PermissionDenied {
                    path: "x".into(),
                    source: "403".into(),
                },
                Fault::Permanent,
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(fault(&error), expected, "{error}");
        }
    }

    #[test]
    fn a_missing_bucket_is_not_a_missing_object() {
        assert!(is_missing(&missing("<Code>NoSuchKey</Code>")));
        assert!(!is_missing(&missing("<Code>NoSuchBucket</Code>")));
        let source = missing("<Code>NoSuchBucket</Code>");
        let refusal = Refusal {
            advice: "there is no bucket \"lake\": make it".into(),
            source,
        };
        let error = StoreError::Generic {
            store: "S3",
            source: Box::new(refusal),
        };
        let error = explain("s3://lake/x", &Path::from("x/y"), error);
        assert_eq!(error.kind(), Kind::Job);
        assert_eq!(
            error.to_string(),
            "s3://lake/x: there is no bucket \"lake\": make it: Object at location x not found: <Code>NoSuchBucket</Code>"
        );
    }

    #[test]
    fn signatures_are_not_shown() {
        let text =
            "POST https://acme.blob.core.windows.net/c?sv=1&sig=abc%2F&se=2 in 1ms, and sig=def";
        let error = without_signature(generic(text)).to_string();
        assert!(!error.contains("abc") && !error.contains("def"), "{error}");
        assert!(
            error.contains("c?sv=1&sig=..&se=2 in 1ms, and sig=.."),
            "{error}"
        );
        let other = without_signature(generic("connection refused")).to_string();
        assert!(other.contains("connection refused"), "{other}");
    }

    #[test]
    fn a_full_disk_can_be_retried_and_a_forbidden_folder_cannot() {
        let io = |kind: io::ErrorKind| StoreError::Generic {
            store: "local",
            source: Box::new(io::Error::from(kind)),
        };
        let kind = |kind| explain("./lake", &Path::from("a"), io(kind)).kind();
        assert_eq!(kind(io::ErrorKind::StorageFull), Kind::Retry);
        assert_eq!(kind(io::ErrorKind::PermissionDenied), Kind::Job);
    }
}
