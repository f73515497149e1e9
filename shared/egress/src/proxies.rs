//! The proxies that requests go through.

use std::fmt;

use url::Url;

/// Through which proxies requests go.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For https.
    pub https: Option<Url>,
    /// For http.
    pub http: Option<Url>,
    /// Hosts and networks that are called directly, as in `NO_PROXY`.
    pub none: Option<String>,
}

impl fmt::Debug for Proxies {
    /// Prints hosts only: a proxy's URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").field("hosts", &self.hosts()).field("none", &self.none).finish()
    }
}

impl Proxies {
    pub(crate) fn hosts(&self) -> Vec<String> {
        let hosts = [&self.https, &self.http].into_iter().flatten().filter_map(Url::host_str);
        hosts.map(str::to_owned).collect()
    }
}
