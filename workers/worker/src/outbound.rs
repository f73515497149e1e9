//! Owns what a worker is told about the network: which addresses it may call, through which proxies, trusting which roots.
//!
//! **Invariant:** what is not said is the strict choice: public addresses, https, the system's roots.

use std::path::PathBuf;
use std::time::Duration;

use toolfleet_mcp::{ClientOptions, Network, Proxies, Reach};
use url::Url;

use crate::config::{ConfigError, number, problem};

/// What a worker may call, and how.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Which addresses.
    pub reach: Reach,
    /// Through which proxies.
    pub proxies: Proxies,
    /// How many programs one server may have running, where it is a program.
    pub max_children: usize,
    /// How long a program that nobody uses is kept.
    pub child_idle: Duration,
    /// A PEM file of certificate authorities that are trusted beside the system's.
    pub extra_roots: Option<PathBuf>,
}

impl Default for Outbound {
    fn default() -> Self {
        let of_client = ClientOptions::default();
        Self {
            reach: Reach::default(),
            proxies: Proxies::default(),
            max_children: of_client.max_children,
            child_idle: of_client.child_idle,
            extra_roots: None,
        }
    }
}

impl Outbound {
    /// Public addresses and this machine, with or without TLS: for `toolfleet dev`.
    pub fn for_development() -> Self {
        Self { reach: Reach::with_loopback(), ..Self::default() }
    }

    pub(crate) fn read(var: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let private = match var("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES") {
            None => Vec::new(),
            Some(list) => {
                let networks = list.split(',').map(str::trim).filter(|text| !text.is_empty());
                networks
                    .map(str::parse::<Network>)
                    .collect::<Result<_, _>>()
                    .map_err(|text| problem("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", text))?
            }
        };
        let http = match var("TOOLFLEET_ALLOW_HTTP").as_deref() {
            None | Some("" | "false") => false,
            Some("true") => true,
            Some(other) => {
                let text = format!("is `{other}`; accepted are true and false (unset: false)");
                return Err(problem("TOOLFLEET_ALLOW_HTTP", text));
            }
        };
        let proxies = Proxies {
            https: proxy(var, ["HTTPS_PROXY", "https_proxy"])?,
            http: proxy(var, ["HTTP_PROXY", "http_proxy"])?,
            none: var("NO_PROXY").or_else(|| var("no_proxy")),
        };
        let standard = Self::default();
        let max_children = number(var, "TOOLFLEET_STDIO_MAX_PROGRAMS", standard.max_children, 1, 10_000)?;
        let idle_ms = number(var, "TOOLFLEET_STDIO_IDLE_MS", 600_000, 1_000, 86_400_000)?;
        let child_idle = Duration::from_millis(idle_ms);
        let extra_roots = var("TOOLFLEET_EXTRA_ROOTS").filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Self {
            reach: Reach { private, http, ..Reach::default() },
            proxies,
            max_children,
            child_idle,
            extra_roots,
        })
    }
}

/// The proxy that a variable names; its value may hold a password, so that no error repeats it.
fn proxy(var: &dyn Fn(&str) -> Option<String>, names: [&'static str; 2]) -> Result<Option<Url>, ConfigError> {
    let Some((name, text)) =
        names.into_iter().find_map(|name| var(name).filter(|text| !text.is_empty()).map(|text| (name, text)))
    else {
        return Ok(None);
    };
    let whole = if text.contains("://") { text } else { format!("http://{text}") };
    match Url::parse(&whole) {
        Ok(url) if url.has_host() && matches!(url.scheme(), "http" | "https") => Ok(Some(url)),
        Ok(_) | Err(_) => Err(problem(name, "is no proxy; give http://host:port".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Outbound, String> {
        let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Outbound::read(&find).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_the_strict_choice() {
        let outbound = read(&[]).unwrap();
        assert!(
            !outbound.reach.http && outbound.reach.private.is_empty() && outbound.proxies.https.is_none()
        );
    }

    #[test]
    fn networks_are_a_list_and_a_mistake_names_the_variable() {
        let outbound = read(&[("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", "10.0.0.0/8, ::1/128")]).unwrap();
        assert_eq!(outbound.reach.private.len(), 2);
        for (name, value) in [
            ("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", "10.0.0.0/99"),
            ("TOOLFLEET_ALLOW_HTTP", "yes"),
            ("HTTPS_PROXY", "ftp://p"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn a_proxy_is_read_without_a_scheme_and_its_password_is_never_repeated() {
        let outbound = read(&[("https_proxy", "proxy.internal:3128")]).unwrap();
        assert_eq!(outbound.proxies.https.unwrap().host_str(), Some("proxy.internal"));
        let error = read(&[("HTTPS_PROXY", "ftp://u:hunter2@p")]).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
