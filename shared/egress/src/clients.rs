//! The HTTP clients: time-outs, TLS roots, proxies, the address policy, and one client for each client certificate, because a
//! connection belongs to the identity that opened it.
//!
//! **Invariant:** every HTTP client of calls is built here: none follows a redirect, none uses another resolver.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, NoProxy, Proxy};

use crate::policy::EgressPolicy;
use crate::proxies::Proxies;
use crate::resolver::PolicyResolver;

/// Certificates whose clients are kept; beyond it the least recently used client is dropped.
const MAX_IDENTITIES: usize = 64;

/// How the clients behave.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept.
    pub pool_idle_timeout: Duration,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Where requests may go.
    pub policy: EgressPolicy,
    /// Through which proxies requests go.
    pub proxies: Proxies,
    /// Certificate authorities that are trusted beside the system's, as PEM.
    pub extra_roots: Option<Vec<u8>>,
}

/// The client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The extra certificate authorities are not PEM, or none.
    #[error("the extra roots hold no certificate that can be read; give certificates in PEM format")]
    ExtraRoots,
    /// Anything else.
    #[error("the HTTP client cannot be built")]
    Http(#[from] reqwest::Error),
}

/// A client certificate and its key, as PEM. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity(String);

/// Why a certificate and a key make no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The first text holds no certificate in PEM format.
    #[error("no certificate in PEM format")]
    NoCertificate,
    /// The second text holds no private key in PEM format.
    #[error("no private key in PEM format")]
    NoKey,
    /// A client cannot be built with both.
    #[error("the certificate and the key do not belong together")]
    Mismatch,
    /// A client cannot be built without them either.
    #[error("the HTTP client cannot be built")]
    Client,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity([redacted])")
    }
}

impl ClientIdentity {
    /// Reads a certificate chain and its private key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let chain = Certificate::from_pem_bundle(certificate.as_bytes()).unwrap_or_default();
        if chain.is_empty() {
            return Err(IdentityError::NoCertificate);
        }
        let identity = Self(format!("{certificate}\n{key}\n"));
        match reqwest::Identity::from_pem(identity.0.as_bytes()) {
            Ok(_) => Ok(identity),
            Err(_) => Err(IdentityError::NoKey),
        }
    }
}

/// Which versions of HTTP a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersions {
    /// HTTP/1.1 and HTTP/2, as the server has it.
    Any,
    /// HTTP/1.1 alone, in which a connection can be upgraded (RFC 9110, section 7.8).
    One,
}

/// The clients: one without a certificate, and one for each certificate.
#[derive(Debug)]
pub struct HttpClients {
    plain: reqwest::Client,
    /// The one without a certificate that speaks HTTP/1.1 alone. Few workers need it, and each client reads the root certificates of the machine.
    upgrading: OnceLock<reqwest::Client>,
    options: HttpOptions,
    policy: Arc<EgressPolicy>,
    /// The last used comes last.
    by_identity: Mutex<Vec<((ClientIdentity, HttpVersions), reqwest::Client)>>,
}

impl HttpClients {
    /// Clients that connect only to what `options.policy` allows, and to the proxies.
    pub fn new(options: HttpOptions) -> Result<Self, BuildError> {
        let policy = EgressPolicy { proxies: options.proxies.hosts(), ..options.policy.clone() };
        let policy = Arc::new(policy);
        let plain = builder(&options, &policy)?.build()?;
        Ok(Self { plain, upgrading: OnceLock::new(), options, policy, by_identity: Mutex::default() })
    }

    /// The policy that the clients enforce; a URL is to be checked against it before each request.
    pub const fn policy(&self) -> &Arc<EgressPolicy> {
        &self.policy
    }

    /// The client without a certificate.
    pub const fn plain(&self) -> &reqwest::Client {
        &self.plain
    }

    /// The client that presents this certificate and speaks these versions.
    pub fn with_identity(
        &self,
        identity: Option<&ClientIdentity>,
        versions: HttpVersions,
    ) -> Result<reqwest::Client, IdentityError> {
        let Some(identity) = identity else {
            return match versions {
                HttpVersions::Any => Ok(self.plain.clone()),
                HttpVersions::One => self.upgrading(),
            };
        };
        let key = (identity.clone(), versions);
        if let Some(known) = self.cached(&key) {
            return Ok(known);
        }
        let builder = builder(&self.options, &self.policy).map_err(|_| IdentityError::Mismatch)?;
        let material =
            reqwest::Identity::from_pem(identity.0.as_bytes()).map_err(|_| IdentityError::Mismatch)?;
        let builder = match versions {
            HttpVersions::Any => builder,
            HttpVersions::One => builder.http1_only(),
        };
        let built = builder.identity(material).build().map_err(|_| IdentityError::Mismatch)?;
        let mut by_identity = self.by_identity.lock().unwrap_or_else(PoisonError::into_inner);
        if by_identity.len() >= MAX_IDENTITIES {
            by_identity.remove(0);
        }
        by_identity.push((key, built.clone()));
        Ok(built)
    }

    /// The client without a certificate that speaks HTTP/1.1 alone, built where it is needed first.
    fn upgrading(&self) -> Result<reqwest::Client, IdentityError> {
        if let Some(built) = self.upgrading.get() {
            return Ok(built.clone());
        }
        let builder = builder(&self.options, &self.policy).map_err(|_| IdentityError::Client)?;
        let built = builder.http1_only().build().map_err(|_| IdentityError::Client)?;
        Ok(self.upgrading.get_or_init(|| built).clone())
    }

    /// The cached client, which becomes the most recently used one.
    fn cached(&self, key: &(ClientIdentity, HttpVersions)) -> Option<reqwest::Client> {
        let mut by_identity = self.by_identity.lock().unwrap_or_else(PoisonError::into_inner);
        let at = by_identity.iter().position(|(known, _)| known == key)?;
        let used = by_identity.remove(at);
        let client = used.1.clone();
        by_identity.push(used);
        Some(client)
    }
}

/// A builder of clients that connect only to what `policy` allows.
fn builder(options: &HttpOptions, policy: &Arc<EgressPolicy>) -> Result<reqwest::ClientBuilder, BuildError> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .tcp_nodelay(true)
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(options.pool_idle_timeout)
        .user_agent(options.user_agent.clone())
        .dns_resolver(Arc::new(PolicyResolver(Arc::clone(policy))))
        .no_proxy();
    if let Some(pem) = &options.extra_roots {
        let roots = Certificate::from_pem_bundle(pem).map_err(|_| BuildError::ExtraRoots)?;
        if roots.is_empty() {
            return Err(BuildError::ExtraRoots);
        }
        builder = builder.tls_certs_merge(roots);
    }
    let none = options.proxies.none.as_deref().and_then(NoProxy::from_string);
    if let Some(url) = &options.proxies.https {
        builder = builder.proxy(Proxy::https(url.clone())?.no_proxy(none.clone()));
    }
    if let Some(url) = &options.proxies.http {
        builder = builder.proxy(Proxy::http(url.clone())?.no_proxy(none));
    }
    Ok(builder)
}
