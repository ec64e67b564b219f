//! Google Cloud Storage.
//!
//! Credentials come from the environment, under the names that Google's tools use: GOOGLE_APPLICATION_CREDENTIALS (the file of a service
//! account's key, or what `gcloud auth application-default login` wrote); else GOOGLE_SERVICE_ACCOUNT or GOOGLE_SERVICE_ACCOUNT_KEY (the
//! key's file, or the key itself); else what gcloud left in the home folder; else the machine's service account, which is also the
//! identity of a workload on GKE. STORAGE_EMULATOR_HOST names another server, which is asked without credentials.

use super::cloud::{Buckets, Cloud, LastResort, client, retry, said};
use crate::error::{Error, Result};
use object_store::gcp::{
    GcpCredential, GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey,
};
use object_store::{Error as StoreError, ObjectStore, StaticCredentialProvider};
use std::sync::Arc;

pub(super) static GOOGLE: Cloud = Cloud {
    name: "Google Cloud Storage",
    scheme: "gs",
    lists_behind: true,
    // Object_store 0.13.2 does (its issue 712, mended later); the suite says when it no longer does.
    swaps_copies: true,
    advice,
};

const CREDENTIALS: [(&str, GoogleConfigKey); 4] = [
    (
        "GOOGLE_APPLICATION_CREDENTIALS",
        GoogleConfigKey::ApplicationCredentials,
    ),
    ("GOOGLE_SERVICE_ACCOUNT", GoogleConfigKey::ServiceAccount),
    (
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        GoogleConfigKey::ServiceAccount,
    ),
    (
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        GoogleConfigKey::ServiceAccountKey,
    ),
];
/// What the address has in it where a machine of Google's tells who it is.
const METADATA: &str = "/computeMetadata/";

/// The bucket as a store.
pub(super) fn bucket(name: &str) -> Result<Arc<dyn ObjectStore>> {
    static BUCKETS: Buckets<String> = Buckets::new();
    BUCKETS.open(name.to_owned(), |name| {
        let store = build(name, &|key| std::env::var(key).ok())?;
        Ok(GOOGLE.bucket(name, store))
    })
}

fn build(bucket: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<GoogleCloudStorage> {
    let env = said(env);
    let emulator = env("STORAGE_EMULATOR_HOST").map(|host| match host.contains("://") {
        true => host,
        false => format!("http://{host}"),
    });
    let plain = emulator
        .as_deref()
        .is_some_and(|url| url.starts_with("http://"));
    let builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_retry(retry())
        .with_client_options(client(plain));
    let unusable = |error| {
        Error::job(format!(
            "gs://{bucket}: the settings of Google Cloud Storage cannot be used"
        ))
        .caused_by(error)
    };
    if let Some(url) = emulator {
        let nobody = GcpCredential {
            bearer: String::new(),
        };
        let builder = builder
            .with_base_url(url.trim_end_matches('/'))
            .with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
        return builder.build().map_err(unusable);
    }
    let builder = CREDENTIALS
        .iter()
        .fold(builder, |builder, (name, key)| match env(name) {
            Some(value) => builder.with_config(*key, value),
            None => builder,
        });
    // Built twice: the first one finds out where the credentials come from.
    let found = builder.clone().build().map_err(unusable)?;
    let credentials = LastResort::of(found.credentials(), METADATA);
    builder
        .with_credentials(credentials)
        .build()
        .map_err(unusable)
}

/// What to do about a refusal.
fn advice(bucket: &str, error: &StoreError) -> String {
    let text = error.to_string();
    let says = |code: &str| text.contains(code);
    if says("NoSuchBucket") {
        format!("there is no bucket {bucket:?}: make it, or correct the path in the job")
    } else if says("token request") && !says(METADATA) {
        format!(
            "Google does not accept the credentials for bucket {bucket:?}: check GOOGLE_APPLICATION_CREDENTIALS, and whether its key was \
             withdrawn"
        )
    } else if matches!(error, StoreError::Unauthenticated { .. }) {
        format!(
            "there are no credentials for bucket {bucket:?}: set GOOGLE_APPLICATION_CREDENTIALS to the file of a key, run 'gcloud auth \
             application-default login', or give the machine a service account"
        )
    } else if matches!(error, StoreError::PermissionDenied { .. }) || says("AccessDenied") {
        format!(
            "access to bucket {bucket:?} was denied: give these credentials the role roles/storage.objectUser on it (storage.objects.list, \
             .get, .create and .delete)"
        )
    } else {
        format!("bucket {bucket:?} refused a request")
    }
}

/// The bucket on the server that the tests are given; a store of its own for each test, because connections end with a test's runtime.
#[cfg(test)]
pub(super) fn test_bucket(name: &str) -> Arc<dyn ObjectStore> {
    let env = |key: &str| match key {
        "STORAGE_EMULATOR_HOST" => std::env::var("TRIBUTARY_TEST_GCS").ok(),
        _ => None,
    };
    let store = build(name, &env).expect("the environment of the tests names a server");
    GOOGLE.bucket(name, store)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(keys: &[(&str, &str)]) -> Result<GoogleCloudStorage> {
        build("lake", &|name| {
            let found = keys.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn settings_come_from_the_environment() {
        for keys in [
            vec![],
            vec![("STORAGE_EMULATOR_HOST", "127.0.0.1:1")],
            vec![("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1/")],
            vec![("GOOGLE_APPLICATION_CREDENTIALS", "")],
        ] {
            let built = with(&keys).unwrap();
            assert_eq!(built.to_string(), "GoogleCloudStorage(lake)", "{keys:?}");
        }
    }

    #[test]
    fn credentials_that_cannot_be_read_are_named_and_not_shown() {
        for (key, value, says) in [
            (
                "GOOGLE_APPLICATION_CREDENTIALS",
                "/nowhere/key.json",
                "/nowhere/key.json",
            ),
            (
                "GOOGLE_SERVICE_ACCOUNT",
                "/nowhere/other.json",
                "/nowhere/other.json",
            ),
            (
                "GOOGLE_SERVICE_ACCOUNT_KEY",
                "{\"private_key\": \"secret\"",
                "decode",
            ),
        ] {
            let error = with(&[(key, value)]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            let text = error.to_string();
            assert!(
                text.contains("gs://lake: ") && text.contains(says),
                "{text}"
            );
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_machine_that_is_nobody_is_told_what_to_do() {
        let metadata = StoreError::Unauthenticated {
            path: "credentials".into(),
            source: "Error performing token request: GET http://169.254.169.254/computeMetadata/v1"
                .into(),
        };
        assert!(advice("lake", &metadata).contains("gcloud auth"));
        let refused = StoreError::Generic {
            store: "GCS",
            source: "Error performing token request: POST https://oauth2/token - status code: 400: invalid_grant".into(),
        };
        assert!(advice("lake", &refused).contains("does not accept the credentials"));
        let denied = StoreError::PermissionDenied {
            path: "x".into(),
            source: "403".into(),
        };
        assert!(advice("lake", &denied).contains("roles/storage.objectUser"));
    }
}
