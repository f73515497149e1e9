//! The keys of roles that this process assumes by STS, kept until shortly before they expire.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use tokio::time::Instant;

use crate::error::chain;

/// Keys are obtained again so long before they expire.
const BEFORE_EXPIRY: Duration = Duration::from_secs(60);
/// How long keys without an end are kept.
const KEYS_TTL: Duration = Duration::from_secs(60);

/// What gives the keys of that role; `region` is asked where no other is configured.
pub(crate) async fn assume(
    sts: &SdkConfig,
    (role, external_id): (&str, Option<&str>),
    region: Option<Region>,
) -> CachedKeys {
    let mut provider =
        aws_config::sts::AssumeRoleProvider::builder(role).session_name("toolfleet").configure(sts);
    if let (None, Some(region)) = (sts.region(), region) {
        provider = provider.region(region);
    }
    if let Some(external_id) = external_id {
        provider = provider.external_id(external_id);
    }
    CachedKeys::of(SharedCredentialsProvider::new(provider.build().await))
}

/// Keys that are kept until shortly before they expire.
#[derive(Debug, Clone)]
pub(crate) struct CachedKeys {
    provider: SharedCredentialsProvider,
    cache: Arc<Mutex<Option<Obtained>>>,
    /// One task obtains keys for all.
    obtaining: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Obtained {
    at: Instant,
    until: Instant,
    keys: Credentials,
}

impl CachedKeys {
    pub(crate) fn of(provider: SharedCredentialsProvider) -> Self {
        Self { provider, cache: Arc::default(), obtaining: Arc::default() }
    }

    fn cached(&self) -> Option<Credentials> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.as_ref().filter(|one| Instant::now() < one.until).map(|one| one.keys.clone())
    }

    pub(crate) async fn get(&self) -> Result<Credentials, CredentialsError> {
        if let Some(keys) = self.cached() {
            return Ok(keys);
        }
        let _one = self.obtaining.lock().await;
        if let Some(keys) = self.cached() {
            return Ok(keys);
        }
        let keys = self.provider.provide_credentials().await?;
        let at = Instant::now();
        let obtained = Obtained { at, until: at + kept_for(keys.expiry()), keys: keys.clone() };
        *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = Some(obtained);
        Ok(keys)
    }

    /// Keys that a service refused are not used again.
    pub(crate) fn forget(&self) {
        *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The same, unless they were obtained within that time.
    pub(crate) fn forget_older_than(&self, age: Duration) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.as_ref().is_some_and(|one| one.at.elapsed() >= age) {
            *cache = None;
        }
    }
}

impl ProvideCredentials for CachedKeys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.get())
    }
}

#[expect(clippy::disallowed_methods, reason = "the end of temporary keys is a time of the wall clock")]
fn kept_for(expiry: Option<SystemTime>) -> Duration {
    let left = |end: SystemTime| end.duration_since(SystemTime::now()).unwrap_or_default();
    expiry.map_or(KEYS_TTL, |end| left(end).saturating_sub(BEFORE_EXPIRY))
}

/// Why there are no keys, and whether a repetition changes that.
pub(crate) fn why(error: &CredentialsError) -> (String, bool) {
    let detail = chain(error).lines().next().unwrap_or_default().to_owned();
    // STS refuses a role that may not be assumed with an error of its own, which a repetition does not change.
    let refused = ["AccessDenied", "not authorized", "ValidationError", "InvalidClientTokenId"];
    let permanent = match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => true,
        CredentialsError::ProviderTimedOut(_)
        | CredentialsError::ProviderError(_)
        | CredentialsError::Unhandled(_)
        | _ => refused.iter().any(|word| detail.contains(word)),
    };
    (detail, permanent)
}
