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
    let place = format!("{url}: {object}");
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

/// Sorts an error. S3's status and code are read from its text, because the crate keeps the type that has them to itself.
pub(super) fn fault(error: &StoreError) -> Fault {
    match error {
        StoreError::NotFound { source, .. }
            if ["NoSuchBucket", "kms:"]
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
        StoreError::Generic { source, .. } => {
            let text = source.to_string();
            let refused = text.contains("Received redirect without LOCATION")
                || text.contains("(code: AccessDenied)");
            match status(&text) {
                _ if refused => Fault::Permanent,
                Some(408 | 429) | None => Fault::Transient,
                Some(300..500) => Fault::Permanent,
                Some(_) => Fault::Transient,
            }
        }
        StoreError::JoinError { .. } => Fault::Transient,
        _ => Fault::Permanent,
    }
}

/// What to do about a refusal of S3.
pub(super) fn advice(bucket: &str, error: &StoreError) -> String {
    let text = error.to_string();
    let says = |code: &str| text.contains(code);
    if says("NoSuchBucket") {
        format!("there is no bucket {bucket:?}: make it, or correct the path in the job")
    } else if says("Received redirect")
        || says("AuthorizationHeaderMalformed")
        || says("PermanentRedirect")
    {
        format!("bucket {bucket:?} is in another region: set AWS_REGION to the bucket's region")
    } else if says("InvalidAccessKeyId")
        || says("SignatureDoesNotMatch")
        || says("ExpiredToken")
        || says("InvalidToken")
    {
        format!(
            "bucket {bucket:?} does not accept the credentials: check AWS_ACCESS_KEY_ID and the others, or the profile"
        )
    } else if matches!(error, StoreError::Unauthenticated { .. }) {
        format!(
            "there are no credentials for bucket {bucket:?}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give \
             the machine a role"
        )
    } else if says("KMS") || says("kms:") {
        format!(
            "bucket {bucket:?} cannot use the KMS key: check 'tributary.s3.kms-key-id' (or AWS_SSE_KMS_KEY_ID), and allow these \
             credentials kms:GenerateDataKey and kms:Decrypt on it"
        )
    } else if matches!(error, StoreError::PermissionDenied { .. }) || says("AccessDenied") {
        format!(
            "access to bucket {bucket:?} was denied: allow these credentials s3:ListBucket on it, and s3:GetObject, s3:PutObject and \
             s3:DeleteObject on its objects"
        )
    } else {
        format!("bucket {bucket:?} refused a request")
    }
}

/// The number behind `status code: ` in the text of a failed request.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
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
                generic("DeleteObjects request failed for key x: no (code: AccessDenied)"),
                Fault::Permanent,
            ),
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
            advice: advice("lake", &source),
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
            "s3://lake/x: there is no bucket \"lake\": make it, or correct the path in the job: \
             Object at location x not found: <Code>NoSuchBucket</Code>"
        );
    }

    #[test]
    fn a_key_that_may_not_be_used_is_not_the_buckets_fault() {
        let denied = |source: &str| StoreError::PermissionDenied {
            path: "x".into(),
            source: source.into(),
        };
        let text = "403: <Code>AccessDenied</Code> not authorized to perform: kms:GenerateDataKey on resource: arn:aws:kms:x";
        assert!(advice("lake", &denied(text)).contains("kms:Decrypt on it"));
        assert!(advice("lake", &denied("403")).contains("s3:ListBucket on it"));
        let missing = generic("status code: 400: <Code>KMS.NotFoundException</Code>");
        assert!(advice("lake", &missing).contains("'tributary.s3.kms-key-id'"));
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
