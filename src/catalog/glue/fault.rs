//! What a failure of Glue asks for.

use crate::error::{Error, Result};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_glue::config::http::HttpResponse;
use aws_sdk_glue::error::{ProvideErrorMetadata, SdkError};
use std::error::Error as StdError;

/// A failure as the SDK tells it.
pub(super) type Failure<E> = SdkError<E, HttpResponse>;

/// What passes by itself, also where the answer does not say so by its status: it is 400 for nearly everything.
const PASSES: &[&str] = &[
    "ConcurrentModificationException",
    "ExpiredTokenException",
    "FederationSourceRetryableException",
    "InternalFailure",
    "InternalServerError",
    "InternalServiceException",
    "OperationTimeoutException",
    "ProvisionedThroughputExceededException",
    "RequestExpired",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "ResourceNotReadyException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// Whether the answer was this exception.
pub(super) fn is<E: ProvideErrorMetadata>(error: &Failure<E>, exception: &str) -> bool {
    error.code() == Some(exception)
}

/// The error of a call that did not do what it was to do; `place` is the database, the table or the crawler that it was about.
pub(super) fn failed<E>(action: &str, place: &str, error: Failure<E>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    let code = error.code().map(str::to_owned);
    let message = error.message().map(str::to_owned);
    match &error {
        SdkError::ServiceError(_) => of_answer(action, place, status, code, message),
        _ if status.is_some_and(|status| status < 500 && status != 429) => Error::job(format!(
            "glue:{action} {place}: the answer cannot be understood; is AWS_ENDPOINT_URL_GLUE the address of a Glue server?"
        ))
        .caused_by(chain(&error)),
        _ if has_no_credentials(&error) => Error::job(format!(
            "glue:{action} {place}: there are no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, \
             or give the machine a role"
        )),
        _ => Error::retry(format!("glue:{action} {place}: no answer"))
            .caused_by(chain(&error)),
    }
}

fn of_answer(
    action: &str,
    place: &str,
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
) -> Error {
    let code = code.unwrap_or_else(|| match status {
        Some(status) => format!("status {status}"),
        None => "no reason given".to_owned(),
    });
    let message = message.map_or(String::new(), |message| format!(": {message}"));
    let passes = status.is_some_and(|status| status >= 500 || status == 429)
        || PASSES.contains(&code.as_str());
    if passes {
        return Error::retry(format!("glue:{action} {place}: {code}{message}"));
    }
    Error::job(match code.as_str() {
        "AccessDeniedException" | "AccessDenied" => format!(
            "glue:{action} {place} is not allowed; allow the action glue:{action} on it (docs/operations.md has the whole policy){message}"
        ),
        "EntityNotFoundException" => {
            format!("glue:{action} {place}: it is not in the catalog{message}")
        }
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "InvalidClientTokenId"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignatureException" => {
            format!("glue:{action} {place}: the AWS credentials are refused ({code}){message}")
        }
        "ResourceNumberLimitExceededException" => {
            format!(
                "glue:{action} {place}: the account's limit is reached; have it raised{message}"
            )
        }
        _ => format!("glue:{action} {place}: {code}{message}"),
    })
}

/// The error of one partition of a request that as a whole was accepted.
pub(super) fn of_partition(
    table: &str,
    values: &str,
    code: Option<&str>,
    message: Option<&str>,
) -> Error {
    let place = format!("{table} {values}");
    let (code, message) = (code.map(str::to_owned), message.map(str::to_owned));
    of_answer("BatchCreatePartition", &place, None, code, message)
}

fn has_no_credentials(error: &(dyn StdError + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_),
        ) = error.downcast_ref()
        {
            return true;
        }
        source = error.source();
    }
    false
}

/// An error with all its causes: the SDK's own text names only the first.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Something that the SDK wants and that is always given.
pub(super) fn incomplete<T>(built: Result<T, aws_sdk_glue::error::BuildError>) -> Result<T> {
    built.map_err(|error| Error::bug("a request to Glue is not complete").caused_by(error))
}
