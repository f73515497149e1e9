//! The issuer's keys: read over HTTP, kept for an hour, and read again for a key that is unknown, twice a minute at most.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;
use url::Url;

use super::issuer::{Issuer, IssuerError};

/// How long keys are used before they are read again.
const CACHE_TTL: Duration = Duration::from_secs(3600);
/// How long keys are used that cannot be read again. A key that the issuer has withdrawn is accepted no longer than that.
const LONGEST_USE: Duration = Duration::from_secs(24 * 3600);
/// The shortest time between two readings. Whoever sends made-up key ids causes no more.
const READ_INTERVAL: Duration = Duration::from_secs(30);

/// A future of the keys.
pub type ReadKeys<'a> = Pin<Box<dyn Future<Output = Result<JwkSet, IssuerError>> + Send + 'a>>;

/// Where the keys are read.
pub trait KeySource: Send + Sync {
    /// Reads them.
    fn read(&self) -> ReadKeys<'_>;
}

/// The keys of an issuer, cached. Whoever shows a known key waits for no reading of others.
pub struct Keys(Arc<Shared>);

struct Shared {
    source: Box<dyn KeySource>,
    cached: ArcSwapOption<Cached>,
    /// When reading was last tried; held while keys are read.
    tried: Arc<Mutex<Option<Instant>>>,
}

struct Cached {
    keys: JwkSet,
    /// When they were read.
    at: Instant,
}

impl Keys {
    /// The keys of that source; nothing is read yet.
    pub fn of(source: Box<dyn KeySource>) -> Self {
        Self(Arc::new(Shared { source, cached: ArcSwapOption::empty(), tried: Arc::default() }))
    }

    /// The key of that id for that algorithm; a token without an id fits the only key of its algorithm.
    pub(super) async fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<Jwk>, IssuerError> {
        let known = |within: Duration| {
            let cached = self.0.cached.load_full().filter(|cached| cached.at.elapsed() < within)?;
            Some(key_of(&cached.keys, kid, algorithm))
        };
        let fresh = || known(CACHE_TTL).flatten();
        // Old keys are better than none: an issuer that is away for a while locks nobody out.
        let old = || known(LONGEST_USE);
        if let Some(key) = fresh() {
            return Ok(Some(key));
        }
        let mut tried = match self.0.tried.clone().try_lock_owned() {
            Ok(tried) => tried,
            Err(_) => match old().flatten() {
                Some(key) => return Ok(Some(key)),
                // Whoever waits here finds the keys that another one has read.
                None => self.0.tried.clone().lock_owned().await,
            },
        };
        if let Some(key) = fresh() {
            return Ok(Some(key));
        }
        if tried.is_some_and(|tried| tried.elapsed() < READ_INTERVAL) {
            return old().ok_or_else(|| IssuerError("they could not be read a moment ago".to_owned()));
        }
        *tried = Some(Instant::now());
        match Shared::read(self.0.clone(), tried).await {
            Ok(()) => Ok(fresh()),
            Err(error) => {
                let found = old().flatten().ok_or_else(|| error.clone())?;
                tracing::warn!(%error, code = "issuer_keys_failed", "the issuer's keys cannot be read again; the old ones are used");
                Ok(Some(found))
            }
        }
    }
}

impl Shared {
    /// Reads the keys in a task of its own: a caller that goes away ends no reading that others wait for.
    async fn read(shared: Arc<Self>, held: OwnedMutexGuard<Option<Instant>>) -> Result<(), IssuerError> {
        let reading = tokio::spawn(async move {
            let _held = held;
            let keys = shared.source.read().await?;
            shared.cached.store(Some(Arc::new(Cached { keys, at: Instant::now() })));
            Ok(())
        });
        reading.await.unwrap_or_else(|_| Err(IssuerError("the task that read them panicked".to_owned())))
    }
}

fn key_of(keys: &JwkSet, kid: Option<&str>, algorithm: Algorithm) -> Option<Jwk> {
    let mut fitting = keys.keys.iter().filter(|key| fits(key, algorithm));
    match kid {
        Some(kid) => fitting.find(|key| key.common.key_id.as_deref() == Some(kid)).cloned(),
        None => match (fitting.next(), fitting.next()) {
            (Some(key), None) => Some(key.clone()),
            (None | Some(_), _) => None,
        },
    }
}

/// Whether the key is a public key for signatures of that algorithm.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let signs = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
    let named = key.common.key_algorithm.is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
    let kind = match &key.algorithm {
        AlgorithmParameters::RSA(_) => matches!(
            algorithm,
            Algorithm::RS256
                | Algorithm::RS384
                | Algorithm::RS512
                | Algorithm::PS256
                | Algorithm::PS384
                | Algorithm::PS512
        ),
        AlgorithmParameters::EllipticCurve(_) => matches!(algorithm, Algorithm::ES256 | Algorithm::ES384),
        AlgorithmParameters::OctetKeyPair(_) => matches!(algorithm, Algorithm::EdDSA),
        AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_) | _ => false,
    };
    signs && named && kind
}

/// Keys at an address: the given one, or the one that the issuer's metadata names.
#[derive(Debug)]
pub struct HttpKeys {
    /// The issuer.
    pub issuer: Issuer,
    /// The address of its keys, where it is configured.
    pub jwks_url: Option<Url>,
}

impl KeySource for HttpKeys {
    fn read(&self) -> ReadKeys<'_> {
        Box::pin(async move {
            let url = match &self.jwks_url {
                Some(url) => url.clone(),
                None => self.issuer.metadata().await?.jwks_uri,
            };
            self.issuer.document(&url, "no set of keys (JWKS)").await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use jsonwebtoken::EncodingKey;

    use super::*;

    /// Keys that are read once, and then never answer.
    struct Stuck(Jwk, AtomicUsize);

    impl KeySource for Stuck {
        fn read(&self) -> ReadKeys<'_> {
            match self.1.fetch_add(1, Ordering::Relaxed) {
                0 => Box::pin(std::future::ready(Ok(JwkSet { keys: vec![self.0.clone()] }))),
                _ => Box::pin(std::future::pending()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_with_a_known_key_waits_for_a_made_up_one() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let private = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let mut public = Jwk::from_encoding_key(&private, Algorithm::ES256).unwrap();
        public.common.key_id = Some("k1".to_owned());
        let keys = Keys::of(Box::new(Stuck(public, AtomicUsize::new(0))));
        let known = || async { keys.find(Some("k1"), Algorithm::ES256).await };
        assert!(known().await.unwrap().is_some());
        tokio::time::advance(Duration::from_secs(31)).await;
        let mut made_up = Box::pin(keys.find(Some("x"), Algorithm::ES256));
        assert!(futures::poll!(&mut made_up).is_pending(), "it reads");
        assert!(known().await.unwrap().is_some());
        // Also when the keys are old.
        tokio::time::advance(Duration::from_secs(4_000)).await;
        assert!(known().await.unwrap().is_some());
    }

    /// Keys that are there once the gate opens.
    struct Gated(Arc<tokio::sync::Notify>);

    impl KeySource for Gated {
        fn read(&self) -> ReadKeys<'_> {
            Box::pin(async {
                self.0.notified().await;
                Ok(JwkSet { keys: Vec::new() })
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_ends_no_reading() {
        let gate = Arc::new(tokio::sync::Notify::new());
        let keys = Keys::of(Box::new(Gated(gate.clone())));
        let mut gone = Box::pin(keys.find(Some("k1"), Algorithm::ES256));
        assert!(futures::poll!(&mut gone).is_pending(), "it reads");
        drop(gone);
        gate.notify_one();
        assert!(keys.find(Some("k1"), Algorithm::ES256).await.unwrap().is_none(), "they were read");
    }
}
