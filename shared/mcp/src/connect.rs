//! Owns the building of HTTP clients: time-outs, TLS roots, proxies, and the guard over the addresses they connect to.
//!
//! **Invariant:** every client of this crate is built here; none follows a redirect, none asks another resolver.

use std::fmt;
use std::sync::Arc;

use reqwest::{Certificate, NoProxy, Proxy};
use url::Url;

use crate::client::{BuildError, ClientOptions};
use crate::reach::{Guard, Reach};

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
pub(crate) fn reach_of(options: &ClientOptions) -> Arc<Reach> {
    Arc::new(Reach { proxies: options.proxies.hosts(), ..options.reach.clone() })
}

/// A client that connects to nothing but what `reach` allows.
pub(crate) fn http_client(
    options: &ClientOptions,
    reach: &Arc<Reach>,
) -> Result<reqwest::Client, BuildError> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .tcp_nodelay(true)
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(options.pool_idle_timeout)
        .user_agent(format!("{}/{}", options.client_name, options.client_version))
        .dns_resolver(Arc::new(Guard(Arc::clone(reach))))
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
    Ok(builder.build()?)
}
