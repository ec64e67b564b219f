//! S3 and what speaks like it.
//!
//! Settings come from the environment, under the names that all AWS tools use: AWS_REGION (else what a profile or the instance says),
//! AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL for another server, and AWS_ALLOW_HTTP. Credentials are [`crate::aws`]'s.

use super::{Encryption, Retrying};
use crate::aws;
use crate::error::{Error, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

/// The buckets that are open, by their names and how what is written there is encrypted.
type Buckets = BTreeMap<(String, Encryption), Weak<dyn ObjectStore>>;

/// The bucket as a store. All tables of a job share one, so that its connections are shared and its outage is told once.
pub(super) fn bucket(name: &str, encryption: &Encryption) -> Result<Arc<dyn ObjectStore>> {
    static BUCKETS: LazyLock<Mutex<Buckets>> = LazyLock::new(Mutex::default);
    let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (name.to_string(), encryption.clone());
    if let Some(store) = buckets.get(&key).and_then(Weak::upgrade) {
        return Ok(store);
    }
    let env = |name: &str| std::env::var(name).ok();
    let store: Arc<dyn ObjectStore> = Arc::new(build(name, encryption, &env, aws::region)?);
    buckets.insert(key, Arc::downgrade(&store));
    Ok(store)
}

fn build(
    bucket: &str,
    encryption: &Encryption,
    env: &dyn Fn(&str) -> Option<String>,
    region: fn() -> Option<String>,
) -> Result<Retrying<object_store::aws::AmazonS3>> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
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
    // Only a stumble is repeated down here, in about a second: an outage is for `Retrying`, which also keeps the time.
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(500),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(60),
    };
    let client = ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        .with_timeout_disabled()
        .with_allow_http(plain);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region.unwrap_or_else(|| "us-east-1".to_string()))
        .with_credentials(aws::identity())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry)
        .with_client_options(client);
    for (key, value) in encryption.options() {
        let key = key.parse::<AmazonS3ConfigKey>();
        let key = key.map_err(|error| Error::bug("an option of S3").caused_by(error))?;
        builder = builder.with_config(key, value);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let store = builder.build().map_err(|error| {
        Error::job(format!("s3://{bucket}: the S3 settings cannot be used")).caused_by(error)
    })?;
    Ok(Retrying::new(store, format!("s3://{bucket}")))
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
    Arc::new(store.expect("the environment of the tests names a server"))
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
            assert_eq!(built.to_string(), "s3://lake");
            let built = build("lake", &encryption, &|_| None, region).unwrap();
            assert_eq!(built.to_string(), "s3://lake");
        }
    }
}
