//! Owns the HTTP clients: time-outs, TLS roots, proxies, the guard over the addresses they connect to, and one client for each
//! certificate that is shown, because a connection belongs to the identity that opened it.
//!
//! **Invariant:** every client of this crate is built here; none follows a redirect, none asks another resolver.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::{Certificate, NoProxy, Proxy};
use toolfleet_core::fault::Fault;
use url::Url;

use crate::auth::Identity;
use crate::client::{BuildError, ClientOptions};
use crate::reach::{EgressPolicy, PolicyResolver};

/// Through which proxies requests go.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For https.
    pub https: Option<Url>,
    /// For http.
    pub http: Option<Url>,
    /// Hosts and networks that are reached without one, as in `NO_PROXY`.
    pub none: Option<String>,
}

impl fmt::Debug for Proxies {
    /// Hosts alone: a proxy's URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").field("hosts", &self.hosts()).field("none", &self.none).finish()
    }
}

impl Proxies {
    fn hosts(&self) -> Vec<String> {
        let hosts = [&self.https, &self.http].into_iter().flatten().filter_map(Url::host_str);
        hosts.map(str::to_owned).collect()
    }
}

/// What the options allow to be reached, the proxies' own addresses included.
pub(crate) fn reach_of(options: &ClientOptions) -> Arc<EgressPolicy> {
    Arc::new(EgressPolicy { proxies: options.proxies.hosts(), ..options.reach.clone() })
}

/// Certificates whose clients are kept; beyond it the longest unused are built again.
const MAX_IDENTITIES: usize = 64;

/// The clients: one that shows no certificate, and one for each certificate.
#[derive(Debug)]
pub(crate) struct Clients {
    plain: reqwest::Client,
    options: ClientOptions,
    reach: Arc<EgressPolicy>,
    /// The last used comes last.
    showing: Mutex<Vec<(Identity, reqwest::Client)>>,
}

impl Clients {
    pub(crate) fn new(options: &ClientOptions, reach: &Arc<EgressPolicy>) -> Result<Self, BuildError> {
        let plain = builder(options, reach)?.build()?;
        // What a client is built from; sessions are nothing to it.
        let options = ClientOptions { register: None, ..options.clone() };
        Ok(Self { plain, options, reach: Arc::clone(reach), showing: Mutex::default() })
    }

    /// The client that shows none.
    pub(crate) const fn plain(&self) -> &reqwest::Client {
        &self.plain
    }

    /// The client that shows this certificate.
    pub(crate) fn showing(&self, identity: Option<&Identity>) -> Result<reqwest::Client, Fault> {
        let Some(identity) = identity else {
            return Ok(self.plain.clone());
        };
        if let Some(known) = self.touch(identity) {
            return Ok(known);
        }
        let builder = builder(&self.options, &self.reach).map_err(|_| identity.unfit())?;
        let built = builder.identity(identity.material()?).build().map_err(|_| identity.unfit())?;
        let mut showing = self.showing.lock().unwrap_or_else(PoisonError::into_inner);
        if showing.len() >= MAX_IDENTITIES {
            showing.remove(0);
        }
        showing.push((identity.clone(), built.clone()));
        Ok(built)
    }

    fn touch(&self, identity: &Identity) -> Option<reqwest::Client> {
        let mut showing = self.showing.lock().unwrap_or_else(PoisonError::into_inner);
        let at = showing.iter().position(|(known, _)| known == identity)?;
        let used = showing.remove(at);
        let client = used.1.clone();
        showing.push(used);
        Some(client)
    }
}

/// What builds clients that connect to nothing but what `reach` allows.
fn builder(options: &ClientOptions, reach: &Arc<EgressPolicy>) -> Result<reqwest::ClientBuilder, BuildError> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .tcp_nodelay(true)
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(options.pool_idle_timeout)
        .user_agent(format!("{}/{}", options.client_name, options.client_version))
        .dns_resolver(Arc::new(PolicyResolver(Arc::clone(reach))))
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
