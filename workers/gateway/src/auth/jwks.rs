//! The issuer's keys: read over HTTP, kept for an hour, and read again for a key that is unknown, twice a minute at most.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use toolfleet_egress::{HttpClients, ResponseBody};
use url::Url;

/// How long keys are used before they are read again.
const CACHE_TTL: Duration = Duration::from_secs(3600);
/// How long keys are used that cannot be read again. A key that the issuer has withdrawn is accepted no longer than that.
const LONGEST_USE: Duration = Duration::from_secs(24 * 3600);
/// The shortest time between two readings. Whoever sends made-up key ids causes no more.
const READ_INTERVAL: Duration = Duration::from_secs(30);
/// The time-out of one request.
const TIME_OUT: Duration = Duration::from_secs(10);
/// The longest document that is read.
const MAX_BYTES: u64 = 1_048_576;

/// Why the keys cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeysError(pub String);

/// A future of the keys.
pub type ReadKeys<'a> = Pin<Box<dyn Future<Output = Result<JwkSet, KeysError>> + Send + 'a>>;

/// Where the keys are read.
pub trait KeySource: Send + Sync {
    /// Reads them.
    fn read(&self) -> ReadKeys<'_>;
}

/// The keys of an issuer, cached. Whoever shows a known key waits for no reading of others.
pub struct Keys {
    source: Box<dyn KeySource>,
    cached: ArcSwapOption<Cached>,
    /// When reading was last tried; held by whoever reads.
    tried: Mutex<Option<Instant>>,
}

struct Cached {
    keys: JwkSet,
    /// When they were read.
    at: Instant,
}

impl Keys {
    /// The keys of that source; nothing is read yet.
    pub fn of(source: Box<dyn KeySource>) -> Self {
        Self { source, cached: ArcSwapOption::empty(), tried: Mutex::default() }
    }

    /// The key of that id for that algorithm; a token without an id fits the only key of its algorithm.
    pub(super) async fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<Jwk>, KeysError> {
        let known = |within: Duration| {
            let cached = self.cached.load_full().filter(|cached| cached.at.elapsed() < within)?;
            Some(key_of(&cached.keys, kid, algorithm))
        };
        let fresh = || known(CACHE_TTL).flatten();
        // Old keys are better than none: an issuer that is away for a while locks nobody out.
        let old = || known(LONGEST_USE);
        if let Some(key) = fresh() {
            return Ok(Some(key));
        }
        let mut tried = match self.tried.try_lock() {
            Ok(tried) => tried,
            Err(_) => match old().flatten() {
                Some(key) => return Ok(Some(key)),
                // Whoever waits here finds the keys that another one has read.
                None => self.tried.lock().await,
            },
        };
        if let Some(key) = fresh() {
            return Ok(Some(key));
        }
        if tried.is_some_and(|tried| tried.elapsed() < READ_INTERVAL) {
            return old().ok_or_else(|| KeysError("they could not be read a moment ago".to_owned()));
        }
        *tried = Some(Instant::now());
        match self.source.read().await {
            Ok(keys) => {
                let found = key_of(&keys, kid, algorithm);
                self.cached.store(Some(Arc::new(Cached { keys, at: Instant::now() })));
                Ok(found)
            }
            Err(error) => {
                let found = old().flatten().ok_or_else(|| error.clone())?;
                tracing::warn!(%error, code = "gateway_keys_failed", "the issuer's keys cannot be read again; the old ones are used");
                Ok(Some(found))
            }
        }
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
pub struct HttpKeys {
    /// The HTTP client.
    pub clients: HttpClients,
    /// The issuer.
    pub issuer: Url,
    /// The address of its keys, where it is configured.
    pub jwks_url: Option<Url>,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Url,
}

impl HttpKeys {
    async fn document(&self, url: &Url) -> Result<Vec<u8>, KeysError> {
        let wrong = |why: String| KeysError(format!("{url}: {why}"));
        self.clients.policy().check(url).map_err(|error| wrong(error.to_string()))?;
        let sent = self.clients.plain().get(url.clone()).timeout(TIME_OUT).send().await;
        let response = sent.map_err(|error| wrong(error.without_url().to_string()))?;
        if !response.status().is_success() {
            return Err(wrong(format!("answered with HTTP {}", response.status().as_u16())));
        }
        let read = tokio::time::timeout(TIME_OUT, ResponseBody::read(response, MAX_BYTES)).await;
        read.map_err(|_| wrong("did not answer in time".to_owned()))?
            .map_err(|error| wrong(error.to_string()))
    }

    /// The address of the keys by the issuer's metadata (OpenID Connect Discovery, RFC 8414).
    async fn discovered(&self) -> Result<Url, KeysError> {
        let mut last = None;
        for url in metadata_urls(&self.issuer) {
            let read = self.document(&url).await.and_then(|bytes| {
                serde_json::from_slice::<Metadata>(&bytes)
                    .map_err(|_| KeysError(format!("{url}: is no metadata of an issuer")))
            });
            match read {
                // Metadata of another issuer is not to be trusted (RFC 8414, section 3.3).
                Ok(found) if same_issuer(&found.issuer, self.issuer.as_str()) => return Ok(found.jwks_uri),
                Ok(_) => last = Some(KeysError(format!("{url}: is the metadata of another issuer"))),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| KeysError("the issuer has no address".to_owned())))
    }
}

fn same_issuer(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

fn metadata_urls(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    };
    vec![
        at(format!("{path}/.well-known/openid-configuration")),
        at(format!("/.well-known/oauth-authorization-server{path}")),
    ]
}

impl KeySource for HttpKeys {
    fn read(&self) -> ReadKeys<'_> {
        Box::pin(async move {
            let url = match &self.jwks_url {
                Some(url) => url.clone(),
                None => self.discovered().await?,
            };
            let bytes = self.document(&url).await?;
            serde_json::from_slice(&bytes).map_err(|_| KeysError(format!("{url}: is no set of keys (JWKS)")))
        })
    }
}
