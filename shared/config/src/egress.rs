//! Egress settings: which addresses may be called, through which proxies, trusting which roots. Unset, the strict choice applies:
//! public addresses, https, the system's roots.

use std::path::PathBuf;
use std::time::Duration;

use toolfleet_egress::{BuildError, EgressPolicy, Network, Proxies};
use toolfleet_mcp::{ClientOptions, McpClient};
use url::Url;

use crate::settings::{ConfigError, number};

/// Why the client that calls servers cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// A variable is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another reason.
    #[error("the client that calls servers cannot be built")]
    Http(#[source] BuildError),
}

/// Where requests may go, and how.
#[derive(Debug, Clone)]
pub struct EgressConfig {
    /// Which addresses.
    pub reach: EgressPolicy,
    /// Through which proxies.
    pub proxies: Proxies,
    /// How many programs one server may have running, where it is a program.
    pub max_children: usize,
    /// How long a program that nobody uses is kept.
    pub child_idle: Duration,
    /// How long a program may take from its start to its first answer, where its server says nothing else.
    pub child_start: Duration,
    /// A PEM file of certificate authorities that are trusted beside the system's.
    pub extra_roots: Option<PathBuf>,
    /// Where Cognito is, in place of each region's endpoint.
    pub cognito_endpoint: Option<Url>,
}

impl Default for EgressConfig {
    fn default() -> Self {
        let of_client = ClientOptions::default();
        Self {
            reach: EgressPolicy::default(),
            proxies: Proxies::default(),
            max_children: of_client.max_children,
            child_idle: of_client.child_idle,
            child_start: of_client.child_start,
            extra_roots: None,
            cognito_endpoint: None,
        }
    }
}

impl EgressConfig {
    /// The same, and this machine, with or without TLS: for `toolfleet dev`.
    #[must_use]
    pub fn with_loopback(mut self) -> Self {
        let loopback = EgressPolicy::with_loopback();
        self.reach.private.extend(loopback.private);
        self.reach.http = loopback.http;
        // No proxy leads to this machine.
        let none = self.proxies.none.take().into_iter().chain(["127.0.0.1,localhost,::1".to_owned()]);
        self.proxies.none = Some(none.collect::<Vec<_>>().join(","));
        self
    }

    /// A client that calls what these allow, and is otherwise as `options` say.
    pub async fn client(&self, options: ClientOptions) -> Result<McpClient, EgressError> {
        let wrong = |path: &PathBuf, why: String| {
            EgressError::from(ConfigError::new("TOOLFLEET_EXTRA_ROOTS", format!("{}: {why}", path.display())))
        };
        let extra_roots = match &self.extra_roots {
            None => None,
            Some(path) => {
                let read = tokio::fs::read(path).await;
                Some(read.map_err(|error| wrong(path, format!("cannot be read: {error}")))?)
            }
        };
        let (reach, proxies) = (self.reach.clone(), self.proxies.clone());
        let (max_children, child_idle, child_start) = (self.max_children, self.child_idle, self.child_start);
        let cognito_endpoint = self.cognito_endpoint.clone();
        let options = ClientOptions {
            reach,
            proxies,
            extra_roots,
            max_children,
            child_idle,
            child_start,
            cognito_endpoint,
            ..options
        };
        let built = McpClient::new(options);
        built.map_err(|error| match (&error, &self.extra_roots) {
            (BuildError::ExtraRoots, Some(path)) => wrong(path, error.to_string()),
            (BuildError::ExtraRoots | BuildError::Http(_), _) => EgressError::Http(error),
        })
    }

    /// Reads what is said through `var`, which gives a variable's value if it is set.
    pub fn read(var: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let private = match var("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES") {
            None => Vec::new(),
            Some(list) => {
                let networks = list.split(',').map(str::trim).filter(|text| !text.is_empty());
                networks
                    .map(str::parse::<Network>)
                    .collect::<Result<_, _>>()
                    .map_err(|text| ConfigError::new("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", text))?
            }
        };
        let http = match var("TOOLFLEET_ALLOW_HTTP").as_deref() {
            None | Some("" | "false") => false,
            Some("true") => true,
            Some(other) => {
                let text = format!("is `{other}`; accepted are true and false (unset: false)");
                return Err(ConfigError::new("TOOLFLEET_ALLOW_HTTP", text));
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
        let start_ms = number(var, "TOOLFLEET_STDIO_START_MS", 60_000, 1_000, 3_600_000)?;
        let extra_roots = var("TOOLFLEET_EXTRA_ROOTS").filter(|path| !path.is_empty()).map(PathBuf::from);
        let cognito_endpoint = cognito(var)?;
        Ok(Self {
            reach: EgressPolicy { private, http, ..EgressPolicy::default() },
            proxies,
            max_children,
            child_idle,
            child_start: Duration::from_millis(start_ms),
            extra_roots,
            cognito_endpoint,
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
        Ok(_) | Err(_) => Err(ConfigError::new(name, "is no proxy; give http://host:port".to_owned())),
    }
}

fn cognito(var: &dyn Fn(&str) -> Option<String>) -> Result<Option<Url>, ConfigError> {
    let name = "TOOLFLEET_COGNITO_ENDPOINT";
    match var(name).filter(|text| !text.is_empty()).map(|text| Url::parse(&text)) {
        None => Ok(None),
        Some(Ok(url)) if url.has_host() && matches!(url.scheme(), "http" | "https") => Ok(Some(url)),
        Some(Ok(_) | Err(_)) => Err(ConfigError::new(
            name,
            "is no address; give https://host/ (unset: each region's own)".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<EgressConfig, String> {
        let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        EgressConfig::read(&find).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_the_strict_choice() {
        let egress_config = read(&[]).unwrap();
        assert!(
            !egress_config.reach.http
                && egress_config.reach.private.is_empty()
                && egress_config.proxies.https.is_none()
        );
    }

    #[test]
    fn networks_are_a_list_and_a_mistake_names_the_variable() {
        let egress_config = read(&[("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", "10.0.0.0/8, ::1/128")]).unwrap();
        assert_eq!(egress_config.reach.private.len(), 2);
        for (name, value) in [
            ("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", "10.0.0.0/99"),
            ("TOOLFLEET_ALLOW_HTTP", "yes"),
            ("HTTPS_PROXY", "ftp://p"),
            ("TOOLFLEET_COGNITO_ENDPOINT", "cognito"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn a_proxy_is_read_without_a_scheme_and_its_password_is_never_repeated() {
        let egress_config = read(&[("https_proxy", "proxy.internal:3128")]).unwrap();
        assert_eq!(egress_config.proxies.https.unwrap().host_str(), Some("proxy.internal"));
        let error = read(&[("HTTPS_PROXY", "ftp://u:hunter2@p")]).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
