//! What the stores of the clouds have in common: how their clients behave, how they are called, and that each bucket is opened once.

use super::retrying::Retrying;
use crate::error::Result;
use async_trait::async_trait;
use object_store::multipart::MultipartStore;
use object_store::{
    BackoffConfig, ClientOptions, CredentialProvider, Error as StoreError, ObjectStore, RetryConfig,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// A cloud, as messages speak of it.
#[derive(Debug)]
pub struct Cloud {
    pub name: &'static str,
    /// What its addresses begin with.
    pub scheme: &'static str,
    /// Whether a list can begin behind a name, in the order of the names.
    pub lists_behind: bool,
    /// Whether its client makes a copy that overwrites where one is asked for that does not, and the other way round.
    pub swaps_copies: bool,
    /// What to do about a refusal, given the bucket that it is about.
    pub advice: fn(&str, &StoreError) -> String,
}

impl Cloud {
    /// A store of a bucket that is patient with its server.
    pub(super) fn bucket<S: ObjectStore + MultipartStore>(
        &'static self,
        bucket: &str,
        store: S,
    ) -> Arc<dyn ObjectStore> {
        Arc::new(Retrying::new(store, self, bucket))
    }
}

/// A variable of the environment that says something.
pub(super) fn said<'a>(
    env: &'a dyn Fn(&str) -> Option<String>,
) -> impl Fn(&str) -> Option<String> + 'a {
    move |name: &str| env(name).filter(|value| !value.is_empty())
}

/// Only a stumble is repeated down here, in about a second: an outage is for [`Retrying`], which also keeps the time.
pub(super) fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(500),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(60),
    }
}

/// How a client connects; `plain` is whether it may do so without encryption, to a server of one's own.
pub(super) fn client(plain: bool) -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        .with_timeout_disabled()
        .with_allow_http(plain)
}

/// The buckets that are open. All tables of a job share one, so that its connections are shared and its outage is told once.
pub(super) struct Buckets<K>(Mutex<BTreeMap<K, Weak<dyn ObjectStore>>>);

impl<K: Ord> Buckets<K> {
    pub const fn new() -> Self {
        Buckets(Mutex::new(BTreeMap::new()))
    }

    /// The bucket of this key, opened where it is not open yet.
    pub fn open(
        &self,
        key: K,
        make: impl FnOnce(&K) -> Result<Arc<dyn ObjectStore>>,
    ) -> Result<Arc<dyn ObjectStore>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(&key).and_then(Weak::upgrade) {
            return Ok(store);
        }
        let store = make(&key)?;
        open.insert(key, Arc::downgrade(&store));
        Ok(store)
    }
}

/// Credentials of which the last resort is the machine's own. Whether the machine has any shows when they are asked for: where nobody
/// answers and nobody ever did, there are none, and no waiting helps; later the service that gives them is only away.
#[derive(Debug)]
pub(super) struct LastResort<C> {
    inner: Arc<dyn CredentialProvider<Credential = C>>,
    /// What the address of the machine's service has in it.
    service: &'static str,
    known: AtomicBool,
}

impl<C> LastResort<C> {
    pub fn of(
        inner: &Arc<dyn CredentialProvider<Credential = C>>,
        service: &'static str,
    ) -> Arc<Self> {
        Arc::new(LastResort {
            inner: Arc::clone(inner),
            service,
            known: AtomicBool::new(false),
        })
    }
}

#[async_trait]
impl<C: std::fmt::Debug + Send + Sync> CredentialProvider for LastResort<C> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        match self.inner.get_credential().await {
            Ok(credential) => {
                self.known.store(true, Ordering::Relaxed);
                Ok(credential)
            }
            Err(error)
                if !self.known.load(Ordering::Relaxed)
                    && error.to_string().contains(self.service) =>
            {
                Err(StoreError::Unauthenticated {
                    path: "credentials".into(),
                    source: Box::new(error),
                })
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[test]
    fn a_bucket_is_opened_once_while_somebody_has_it() {
        let buckets = Buckets::new();
        let make = |_: &&str| Ok(Arc::new(InMemory::new()) as Arc<dyn ObjectStore>);
        let refuse = |_: &&str| panic!("it is open already");
        let first = buckets.open("a", make).unwrap();
        assert!(Arc::ptr_eq(&first, &buckets.open("a", refuse).unwrap()));
        let other = buckets.open("b", make).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        drop(first);
        buckets.open("a", make).unwrap();
        let fails = |_: &&str| Err(crate::error::Error::job("no"));
        assert!(buckets.open("c", fails).is_err());
    }

    #[derive(Debug, Default)]
    struct Metadata(AtomicBool);

    #[async_trait]
    impl CredentialProvider for Metadata {
        type Credential = String;

        async fn get_credential(&self) -> object_store::Result<Arc<String>> {
            match self.0.load(Ordering::Relaxed) {
                true => Ok(Arc::new("token".into())),
                false => Err(StoreError::Generic {
                    store: "test",
                    source: "GET http://metadata/identity: connection refused".into(),
                }),
            }
        }
    }

    #[tokio::test]
    async fn a_machine_without_credentials_is_no_outage_and_one_that_had_some_is() {
        let machine = Arc::new(Metadata::default());
        let provider: Arc<dyn CredentialProvider<Credential = String>> = machine.clone();
        let who = LastResort::of(&provider, "metadata/identity");
        let nobody = who.get_credential().await.unwrap_err();
        assert!(matches!(nobody, StoreError::Unauthenticated { .. }));
        machine.0.store(true, Ordering::Relaxed);
        assert_eq!(*who.get_credential().await.unwrap(), "token");
        machine.0.store(false, Ordering::Relaxed);
        let away = who.get_credential().await.unwrap_err();
        assert!(matches!(away, StoreError::Generic { .. }));
        let configured = LastResort::of(&provider, "elsewhere");
        let away = configured.get_credential().await.unwrap_err();
        assert!(matches!(away, StoreError::Generic { .. }));
    }
}
