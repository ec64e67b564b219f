//! Who this process is to AWS, and in which region: found as every AWS tool finds it, once, for S3 and Glue alike.
//!
//! The credentials are those of the environment, else of a profile, of SSO, of a web identity, of the container's role, or of the instance's role.
//! A job outlives most of them: they are asked for again before they end, and a service that is away meanwhile holds nobody back while
//! those at hand are good.

use crate::clock::{Clock, SystemClock};
use async_trait::async_trait;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::region::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_glue::config::SharedHttpClient;
use aws_smithy_http_client::tls;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// Temporary credentials are asked for anew this long before they end.
const RENEW_BEFORE_MS: i64 = 5 * 60 * 1000;
/// Those without an end are looked up again so often: a file that they come from may have been written anew.
const LOOK_AGAIN_AFTER_MS: i64 = 10 * 60 * 1000;
/// How soon a service is asked again that had no better ones to give.
const ASK_AGAIN_AFTER_MS: i64 = 10 * 1000;
/// Whoever gives out credentials (a program, say) answers within this time, or is away.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// While there are good ones nobody waits for longer than this.
const ANSWER_SOON: Duration = Duration::from_secs(10);

/// The region, where the environment names one or a profile or the instance does.
pub fn region() -> Option<String> {
    static REGION: LazyLock<Option<String>> = LazyLock::new(|| {
        // Files and an instance are asked as futures, and who needs the region may or may not be in one.
        let found = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .ok()?;
            let config = provider_config();
            let instance = ImdsRegionProvider::builder().configure(&config).build();
            runtime.block_on(region_chain(&config).or_else(instance).region())
        });
        let region = found.join().ok().flatten();
        region.map(|region| region.as_ref().to_owned())
    });
    REGION.clone()
}

/// Where a region is said that nobody has to be asked for.
fn region_chain(config: &ProviderConfig) -> RegionProviderChain {
    let profile = ProfileFileRegionProvider::builder().configure(config);
    RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build())
}

/// What a client of an AWS service starts from.
pub async fn config() -> SdkConfig {
    let region = region().map_or(Region::from_static("us-east-1"), Region::new);
    let identity: Arc<dyn ProvideCredentials> = identity();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client())
        .region(region)
        .credentials_provider(SharedCredentialsProvider::new(identity))
        .load()
        .await
}

/// aws-config brings no client that speaks HTTPS.
pub fn http_client() -> SharedHttpClient {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls)
        .build_https()
}

/// The credentials of this process.
pub fn identity() -> Arc<Identity> {
    static IDENTITY: LazyLock<Arc<Identity>> =
        LazyLock::new(|| Arc::new(Identity::new(chain, Arc::new(SystemClock))));
    Arc::clone(&IDENTITY)
}

fn provider_config() -> ProviderConfig {
    ProviderConfig::without_region().with_http_client(http_client())
}

fn chain() -> BoxFuture<'static, SharedCredentialsProvider> {
    async {
        // Only STS and SSO want to know, so the instance is not asked.
        let config = provider_config();
        let region = region_chain(&config);
        let chain = DefaultCredentialsChain::builder()
            .configure(config)
            .region(region);
        SharedCredentialsProvider::new(chain.build().await)
    }
    .boxed()
}

/// Finds out anew where credentials come from.
type Search = fn() -> BoxFuture<'static, SharedCredentialsProvider>;

/// Credentials that are renewed before they end.
pub struct Identity {
    search: Search,
    clock: Arc<dyn Clock>,
    /// Who gave the last ones. Whoever asks for new ones holds it meanwhile.
    provider: tokio::sync::Mutex<Option<SharedCredentialsProvider>>,
    current: Mutex<Option<Current>>,
}

#[derive(Clone)]
struct Current {
    credentials: Credentials,
    ends_ms: Option<i64>,
    renew_ms: i64,
    /// That they could not be renewed was said.
    warned: bool,
}

impl Current {
    fn is_good(&self, now_ms: i64) -> bool {
        self.ends_ms.is_none_or(|ends| now_ms < ends)
    }

    /// Whether these are credentials with an end, and the same.
    fn is(&self, other: &Credentials) -> bool {
        let mine = &self.credentials;
        self.ends_ms.is_some()
            && (mine.access_key_id(), mine.expiry()) == (other.access_key_id(), other.expiry())
    }
}

impl Identity {
    fn new(search: Search, clock: Arc<dyn Clock>) -> Identity {
        Identity {
            search,
            clock,
            provider: tokio::sync::Mutex::default(),
            current: Mutex::default(),
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those at hand, where they have not ended.
    fn good(&self) -> Option<Current> {
        let now = self.clock.now_ms();
        self.current()
            .clone()
            .filter(|current| current.is_good(now))
    }

    async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let mut known = match self.provider.try_lock() {
            Ok(known) => known,
            Err(_) => match self.good() {
                // Somebody asks for new ones already.
                Some(current) => return Ok(current.credentials),
                None => self.provider.lock().await,
            },
        };
        let now = self.clock.now_ms();
        let last = self.current().clone();
        if let Some(current) = &last
            && now < current.renew_ms
        {
            return Ok(current.credentials.clone());
        }
        let good = last.as_ref().is_some_and(|last| last.is_good(now));
        let within = if good { ANSWER_SOON } else { ANSWER_WITHIN };
        let provider = match &*known {
            Some(provider) => provider.clone(),
            None => (self.search)().await,
        };
        let asked = tokio::time::timeout(within, provider.provide_credentials()).await;
        let asked = asked.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(within)));
        // While an instance's service is away its provider gives again what it gave before, and says nothing of it.
        let asked = match (asked, &last) {
            (Ok(found), Some(current)) if current.is(&found) => {
                Err(CredentialsError::provider_error("there are no newer ones"))
            }
            (asked, _) => asked,
        };
        match asked {
            Ok(credentials) => {
                let ends_ms = credentials.expiry().map(|at| {
                    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
                    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
                });
                let renew_ms = match ends_ms {
                    Some(ends) => (ends - RENEW_BEFORE_MS).max(now + ASK_AGAIN_AFTER_MS),
                    None => now + LOOK_AGAIN_AFTER_MS,
                };
                // What has no end comes from a file, of which the provider remembers what it said once.
                *known = ends_ms.map(|_| provider);
                *self.current() = Some(Current {
                    credentials: credentials.clone(),
                    ends_ms,
                    renew_ms,
                    warned: false,
                });
                Ok(credentials)
            }
            Err(error) => match &mut *self.current() {
                Some(current) if current.is_good(now) => {
                    if !std::mem::replace(&mut current.warned, true) {
                        tracing::warn!(
                            "the AWS credentials could not be renewed; those at hand are still good: {}",
                            text(&error)
                        );
                    }
                    current.renew_ms = self.clock.now_ms() + ASK_AGAIN_AFTER_MS;
                    Ok(current.credentials.clone())
                }
                // There were some, so there will be some again: whoever gives them out is away.
                Some(_) => Err(CredentialsError::provider_error(error)),
                None => Err(error),
            },
        }
    }
}

/// An error with its causes, which say what it was.
fn text(error: &CredentialsError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

/// For AWS's own clients: Glue.
impl ProvideCredentials for Identity {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

/// For S3.
#[async_trait]
impl CredentialProvider for Identity {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let found = self.credentials().await.map_err(translate)?;
        Ok(Arc::new(AwsCredential {
            key_id: found.access_key_id().to_string(),
            secret_key: found.secret_access_key().to_string(),
            token: found.session_token().map(str::to_string),
        }))
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
            source: text(&error).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// What a provider answers next: a name with its end in seconds, or nothing.
    type Answer = Option<(&'static str, Option<u64>)>;

    #[derive(Debug)]
    struct Scripted;

    // Each test has a thread of its own.
    thread_local! {
        static ANSWERS: RefCell<VecDeque<Answer>> = const { RefCell::new(VecDeque::new()) };
        static SEARCHES: RefCell<usize> = const { RefCell::new(0) };
    }

    impl ProvideCredentials for Scripted {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let answer = ANSWERS.with_borrow_mut(VecDeque::pop_front);
            future::ProvideCredentials::ready(match answer.expect("asked too often") {
                Some((name, ends)) => {
                    let ends = ends.map(|ends| UNIX_EPOCH + Duration::from_secs(ends));
                    Ok(Credentials::new(name, "secret", None, ends, "test"))
                }
                None => Err(CredentialsError::not_loaded_no_source()),
            })
        }
    }

    fn search() -> BoxFuture<'static, SharedCredentialsProvider> {
        SEARCHES.with_borrow_mut(|searches| *searches += 1);
        futures::future::ready(SharedCredentialsProvider::new(Scripted)).boxed()
    }

    /// Asks at some seconds, and says who one is then.
    async fn who(answers: &[Answer], seconds: &[i64]) -> Vec<String> {
        ANSWERS.set(answers.iter().copied().collect());
        let clock = ManualClock::default();
        let identity = Identity::new(search, Arc::new(clock.clone()));
        let mut names = Vec::new();
        for second in seconds {
            clock.advance(Duration::from_millis(
                (second * 1000 - clock.now_ms()).unsigned_abs(),
            ));
            names.push(match identity.get_credential().await {
                Ok(credential) => credential.key_id.clone(),
                Err(object_store::Error::Unauthenticated { .. }) => "nobody".to_owned(),
                Err(_) => "later".to_owned(),
            });
        }
        assert!(ANSWERS.with_borrow(VecDeque::is_empty), "asked too rarely");
        names
    }

    #[tokio::test]
    async fn the_same_again_are_not_new_ones() {
        let a = Some(("a", Some(3600)));
        let answers = [a, a, a, a, Some(("b", Some(9000)))];
        let names = who(&answers, &[0, 3300, 3311, 3601, 3602]).await;
        assert_eq!(names, ["a", "a", "a", "later", "b"]);
    }

    #[tokio::test]
    async fn credentials_are_renewed_before_they_end() {
        let names = who(
            &[Some(("a", Some(3600))), Some(("b", Some(7200)))],
            &[0, 10, 3299, 3300, 6000],
        );
        assert_eq!(names.await, ["a", "a", "a", "b", "b"]);
        assert_eq!(SEARCHES.take(), 1);
    }

    #[tokio::test]
    async fn those_at_hand_are_used_while_they_are_good() {
        let names = who(
            &[
                Some(("a", Some(3600))),
                None,
                None,
                None,
                Some(("b", Some(9000))),
            ],
            &[0, 3300, 3309, 3310, 3601, 3602],
        );
        assert_eq!(names.await, ["a", "a", "a", "a", "later", "b"]);
    }

    /// Gives credentials once, and then no answer.
    #[derive(Debug, Default)]
    struct Hanging(AtomicBool);

    impl ProvideCredentials for Hanging {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            if self.0.swap(true, Ordering::SeqCst) {
                return future::ProvideCredentials::new(std::future::pending());
            }
            let ends = UNIX_EPOCH + Duration::from_secs(3600);
            let answer = Credentials::new("a", "secret", None, Some(ends), "test");
            future::ProvideCredentials::ready(Ok(answer))
        }
    }

    #[tokio::test]
    async fn while_one_asks_for_new_ones_nobody_else_waits() {
        let hanging = || {
            let hanging = SharedCredentialsProvider::new(Hanging::default());
            futures::future::ready(hanging).boxed()
        };
        let clock = ManualClock::default();
        let identity = Identity::new(hanging, Arc::new(clock.clone()));
        identity.get_credential().await.unwrap();
        clock.advance(Duration::from_secs(3300));
        let mut asking = identity.get_credential();
        assert!((&mut asking).now_or_never().is_none());
        let other = identity.get_credential().now_or_never();
        assert_eq!(other.expect("it waits").unwrap().key_id, "a");
        // Those at hand have ended.
        clock.advance(Duration::from_secs(300));
        assert!(identity.get_credential().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_file_is_read_again() {
        let names = who(&[Some(("a", None)), Some(("b", None))], &[0, 599, 600]);
        assert_eq!(names.await, ["a", "a", "b"]);
        assert_eq!(SEARCHES.take(), 2);
    }

    #[tokio::test]
    async fn short_ones_are_not_asked_for_all_the_time() {
        let names = who(
            &[Some(("a", Some(60))), Some(("b", Some(70)))],
            &[0, 9, 10, 19],
        );
        assert_eq!(names.await, ["a", "a", "b", "b"]);
    }

    #[tokio::test]
    async fn nobody_is_nobody() {
        assert_eq!(who(&[None], &[0]).await, ["nobody"]);
        let slow = CredentialsError::provider_timed_out(Duration::from_secs(1));
        let slow = translate(slow);
        assert!(
            matches!(slow, object_store::Error::Generic { .. }),
            "{slow}"
        );
    }
}
