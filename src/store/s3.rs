//! S3 and what speaks like it.
//!
//! Settings come from the environment, under the names that all AWS tools use: AWS_REGION, AWS_ENDPOINT_URL (or AWS_ENDPOINT_URL_S3) for
//! another server, AWS_ALLOW_HTTP, and the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, else whatever the provider chain
//! finds (profile, SSO, container, instance role).

use super::Retrying;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use async_trait::async_trait;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls;
use object_store::aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider, S3ConditionalPut};
use object_store::{
    BackoffConfig, ClientOptions, CredentialProvider, ObjectStore, RetryConfig,
    StaticCredentialProvider,
};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::OnceCell;

/// Temporary credentials are fetched anew this long before they end.
const RENEW_BEFORE_MS: i64 = 5 * 60 * 1000;

/// The bucket as a store. All tables of a job share one, so that its connections are shared and its outage is told once.
pub(super) fn bucket(name: &str) -> Result<Arc<dyn ObjectStore>> {
    static BUCKETS: LazyLock<Mutex<BTreeMap<String, Weak<dyn ObjectStore>>>> =
        LazyLock::new(Mutex::default);
    let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(store) = buckets.get(name).and_then(Weak::upgrade) {
        return Ok(store);
    }
    let store: Arc<dyn ObjectStore> = Arc::new(build(name, &|name| std::env::var(name).ok())?);
    buckets.insert(name.to_string(), Arc::downgrade(&store));
    Ok(store)
}

fn build(
    bucket: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Retrying<object_store::aws::AmazonS3>> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let endpoint = env("AWS_ENDPOINT_URL_S3").or_else(|| env("AWS_ENDPOINT_URL"));
    let plain = endpoint
        .as_deref()
        .is_some_and(|url| url.starts_with("http://"))
        || env("AWS_ALLOW_HTTP")
            .is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
    let region = env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION"));
    let credentials: AwsCredentialProvider =
        match (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")) {
            (Some(key_id), Some(secret_key)) => {
                let token = env("AWS_SESSION_TOKEN");
                Arc::new(StaticCredentialProvider::new(AwsCredential {
                    key_id,
                    secret_key,
                    token,
                }))
            }
            _ => Arc::new(Chain::default()),
        };
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
        .with_credentials(credentials)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry)
        .with_client_options(client);
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
    Arc::new(build(name, &env).expect("the environment of the tests names a server"))
}

/// AWS's provider chain, asked at the first request and again before what it gave has ended.
#[derive(Debug, Default)]
struct Chain {
    provider: OnceCell<Option<SharedCredentialsProvider>>,
    current: tokio::sync::Mutex<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    credential: Arc<AwsCredential>,
    ends_ms: Option<i64>,
}

#[async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut current = self.current.lock().await;
        if let Some(Current {
            credential,
            ends_ms,
        }) = &*current
            && ends_ms.is_none_or(|ends| SystemClock.now_ms() < ends - RENEW_BEFORE_MS)
        {
            return Ok(Arc::clone(credential));
        }
        let provider = self
            .provider
            .get_or_init(|| async {
                // SSO, STS and the container's service are asked by HTTPS, and aws-config brings no client for it.
                let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
                let client = aws_smithy_http_client::Builder::new()
                    .tls_provider(tls)
                    .build_https();
                let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
                    .http_client(client)
                    .load()
                    .await;
                config.credentials_provider()
            })
            .await;
        let found = match provider {
            Some(provider) => provider.provide_credentials().await.map_err(translate)?,
            None => return Err(translate(CredentialsError::not_loaded_no_source())),
        };
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_string(),
            secret_key: found.secret_access_key().to_string(),
            token: found.session_token().map(str::to_string),
        });
        let ends_ms = found.expiry().map(|at| {
            let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        });
        *current = Some(Current {
            credential: Arc::clone(&credential),
            ends_ms,
        });
        Ok(credential)
    }
}

/// Having no credentials at all will not mend itself; a service that gives them out may be away for a while.
fn translate(error: CredentialsError) -> object_store::Error {
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            object_store::Error::Unauthenticated {
                path: "credentials".into(),
                source: error.into(),
            }
        }
        _ => object_store::Error::Generic {
            store: "S3",
            source: error.into(),
        },
    }
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
        assert_eq!(build("lake", &env).unwrap().to_string(), "s3://lake");
        assert_eq!(build("lake", &|_| None).unwrap().to_string(), "s3://lake");
    }

    #[test]
    fn no_credentials_is_refused_and_a_slow_service_is_waited_for() {
        use super::super::fault::{Fault, fault};
        assert_eq!(
            fault(&translate(CredentialsError::not_loaded_no_source())),
            Fault::Permanent
        );
        let slow = CredentialsError::provider_timed_out(Duration::from_secs(1));
        assert_eq!(fault(&translate(slow)), Fault::Transient);
    }
}
