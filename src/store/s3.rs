//! S3 and what speaks like it.
//!
//! Settings come from the environment, under the names that all AWS tools use: AWS_REGION (else what a profile or the instance says),
//! AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL for another server, and AWS_ALLOW_HTTP. Credentials are [`crate::aws`]'s.

use super::Encryption;
use super::cloud::{Buckets, Cloud, client, retry, said};
use crate::aws;
use crate::error::{Error, Result};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::{Error as StoreError, ObjectStore};
use std::sync::Arc;

pub(super) static S3: Cloud = Cloud {
    name: "S3",
    scheme: "s3",
    lists_behind: true,
    swaps_copies: false,
    advice,
};

/// The bucket as a store; what is written there is encrypted in one way.
pub(super) fn bucket(name: &str, encryption: &Encryption) -> Result<Arc<dyn ObjectStore>> {
    static BUCKETS: Buckets<(String, Encryption)> = Buckets::new();
    BUCKETS.open(
        (name.to_owned(), encryption.clone()),
        |(name, encryption)| {
            let env = |name: &str| std::env::var(name).ok();
            Ok(S3.bucket(name, build(name, encryption, &env, aws::region)?))
        },
    )
}

fn build(
    bucket: &str,
    encryption: &Encryption,
    env: &dyn Fn(&str) -> Option<String>,
    region: fn() -> Option<String>,
) -> Result<AmazonS3> {
    let env = said(env);
    let endpoint = env("AWS_ENDPOINT_URL_S3").or_else(|| env("AWS_ENDPOINT_URL"));
    let plain = endpoint
        .as_deref()
        .is_some_and(|url| url.starts_with("http://"))
        || env("AWS_ALLOW_HTTP")
            .is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
    // To a server of one's own the region says nothing, so nobody else is asked for it.
    let elsewhere = || endpoint.is_none().then(region).flatten();
    let region = env("AWS_REGION")
        .or_else(|| env("AWS_DEFAULT_REGION"))
        .or_else(elsewhere);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region.unwrap_or_else(|| "us-east-1".to_string()))
        .with_credentials(aws::identity())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry())
        .with_client_options(client(plain));
    for (key, value) in encryption.options() {
        let key = key.parse::<AmazonS3ConfigKey>();
        let key = key.map_err(|error| Error::bug("an option of S3").caused_by(error))?;
        builder = builder.with_config(key, value);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    builder.build().map_err(|error| {
        Error::job(format!("s3://{bucket}: the S3 settings cannot be used")).caused_by(error)
    })
}

/// What to do about a refusal.
fn advice(bucket: &str, error: &StoreError) -> String {
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

/// The bucket on the server that the tests are given; a store of its own for each test, because connections end with a test's runtime.
#[cfg(test)]
pub(super) fn test_bucket(name: &str) -> Arc<dyn ObjectStore> {
    let env = |key: &str| match key {
        "AWS_ENDPOINT_URL" => std::env::var("TRIBUTARY_TEST_S3").ok(),
        key => std::env::var(key).ok(),
    };
    let encryption = Encryption::default();
    let store = build(name, &encryption, &env, || None);
    S3.bucket(
        name,
        store.expect("the environment of the tests names a server"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_from_the_environment() {
        let keys = [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        let env = |name: &str| {
            keys.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_string())
        };
        let kms = Encryption::new(Some("sse-kms"), Some("alias/lake"), Some(true)).unwrap();
        for encryption in [Encryption::default(), kms] {
            let region = || Some("eu-west-1".to_owned());
            let built = build("lake", &encryption, &env, region).unwrap();
            assert_eq!(built.to_string(), "AmazonS3(lake)");
            let built = build("lake", &encryption, &|_| None, region).unwrap();
            assert_eq!(built.to_string(), "AmazonS3(lake)");
        }
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
        let missing = StoreError::Generic {
            store: "S3",
            source: "status code: 400: <Code>KMS.NotFoundException</Code>".into(),
        };
        assert!(advice("lake", &missing).contains("'tributary.s3.kms-key-id'"));
    }
}
