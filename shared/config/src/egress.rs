//! Egress settings: which addresses may be called, through which proxies, trusting which roots. Unset, the strict choice applies:
//! public addresses, https, the system's roots.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args};
use toolfleet_egress::{BuildError, EgressPolicy, HttpClients, Network, Proxies};
use toolfleet_mcp::{ClientOptions, McpClient};
use url::Url;

use crate::settings::{self, ConfigError, Variables, milliseconds, number};

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
    /// How long an unused program is kept.
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
        let options = self.options(options).await?;
        McpClient::new(options).map_err(|error| self.not_built(error))
    }

    /// HTTP clients that call what these allow.
    pub async fn http_clients(&self) -> Result<HttpClients, EgressError> {
        let options = self.options(ClientOptions::default()).await?;
        HttpClients::new(options.http()).map_err(|error| self.not_built(error))
    }

    async fn options(&self, options: ClientOptions) -> Result<ClientOptions, EgressError> {
        let extra_roots = match &self.extra_roots {
            None => None,
            Some(path) => {
                let read = tokio::fs::read(path).await;
                Some(read.map_err(|error| wrong_roots(path, &format!("cannot be read: {error}")))?)
            }
        };
        let (reach, proxies) = (self.reach.clone(), self.proxies.clone());
        let (max_children, child_idle, child_start) = (self.max_children, self.child_idle, self.child_start);
        let cognito_endpoint = self.cognito_endpoint.clone();
        Ok(ClientOptions {
            reach,
            proxies,
            extra_roots,
            max_children,
            child_idle,
            child_start,
            cognito_endpoint,
            ..options
        })
    }

    fn not_built(&self, error: BuildError) -> EgressError {
        match (&error, &self.extra_roots) {
            (BuildError::ExtraRoots, Some(path)) => wrong_roots(path, &error.to_string()),
            (BuildError::ExtraRoots | BuildError::Http(_), _) => EgressError::Http(error),
        }
    }

    /// Reads the settings through `variables`.
    ///
    /// # Errors
    /// The first variable that is wrong.
    pub fn read(variables: Variables<'_>) -> Result<Self, ConfigError> {
        settings::read::<EgressArgs>(variables).map(Self::from)
    }
}

fn wrong_roots(path: &Path, why: &str) -> EgressError {
    ConfigError::new("TOOLFLEET_EXTRA_ROOTS", format!("{}: {why}", path.display())).into()
}

/// The declarations of these settings.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct EgressArgs {
    /// Networks beside the public ones that may be called, separated by commas, for example 10.0.0.0/8,127.0.0.0/8.
    #[arg(
        long,
        env = "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES",
        hide_env_values = true,
        value_name = "NETWORKS",
        value_parser = networks
    )]
    allow_private_addresses: Option<Networks>,
    /// Whether servers may be called without TLS.
    #[arg(
        long,
        env = "TOOLFLEET_ALLOW_HTTP",
        hide_env_values = true,
        value_name = "true|false",
        default_value = "false",
        action = ArgAction::Set,
        value_parser = allow_http
    )]
    allow_http: bool,
    /// A PEM file of certificate authorities that are trusted beside the system's.
    #[arg(long, env = "TOOLFLEET_EXTRA_ROOTS", hide_env_values = true, value_name = "FILE")]
    extra_roots: Option<PathBuf>,
    /// The proxy of requests to https servers: http://HOST:PORT. The variable may be in lower case, as that of the next two.
    #[arg(long, env = "HTTPS_PROXY", hide_env_values = true, value_name = "URL", value_parser = proxy)]
    https_proxy: Option<Url>,
    /// The proxy of requests to http servers.
    #[arg(long, env = "HTTP_PROXY", hide_env_values = true, value_name = "URL", value_parser = proxy)]
    http_proxy: Option<Url>,
    /// Hosts and networks that are called without a proxy, separated by commas.
    #[arg(long, env = "NO_PROXY", hide_env_values = true, value_name = "HOSTS")]
    no_proxy: Option<String>,
    /// Cognito's address in place of each region's own, for example that of a VPC endpoint.
    #[arg(
        long,
        env = "TOOLFLEET_COGNITO_ENDPOINT",
        hide_env_values = true,
        value_name = "URL",
        value_parser = cognito
    )]
    cognito_endpoint: Option<Url>,
    /// The most programs of one stdio server on this worker.
    #[arg(
        long,
        env = "TOOLFLEET_STDIO_MAX_PROGRAMS",
        hide_env_values = true,
        value_name = "COUNT",
        default_value = "16",
        value_parser = number(1_usize, 10_000)
    )]
    stdio_max_programs: usize,
    /// How long a program may take from its start to its first answer, in milliseconds, unless its server's `start_timeout_ms` says
    /// otherwise.
    #[arg(
        long = "stdio-start-ms",
        env = "TOOLFLEET_STDIO_START_MS",
        hide_env_values = true,
        value_name = "MS",
        default_value = "60000",
        value_parser = milliseconds(1_000, 3_600_000)
    )]
    stdio_start: Duration,
    /// How long an idle program, WebSocket or event stream is kept, in milliseconds.
    #[arg(
        long = "stdio-idle-ms",
        env = "TOOLFLEET_STDIO_IDLE_MS",
        hide_env_values = true,
        value_name = "MS",
        default_value = "600000",
        value_parser = milliseconds(1_000, 86_400_000)
    )]
    stdio_idle: Duration,
}

impl From<EgressArgs> for EgressConfig {
    fn from(args: EgressArgs) -> Self {
        let private = args.allow_private_addresses.map(|networks| networks.0).unwrap_or_default();
        Self {
            reach: EgressPolicy { private, http: args.allow_http, ..EgressPolicy::default() },
            proxies: Proxies { https: args.https_proxy, http: args.http_proxy, none: args.no_proxy },
            max_children: args.stdio_max_programs,
            child_idle: args.stdio_idle,
            child_start: args.stdio_start,
            extra_roots: args.extra_roots,
            cognito_endpoint: args.cognito_endpoint,
        }
    }
}

/// Networks beside the public ones.
#[derive(Debug, Clone)]
struct Networks(Vec<Network>);

fn networks(text: &str) -> Result<Networks, String> {
    let networks = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    networks.map(str::parse).collect::<Result<_, _>>().map(Networks)
}

fn allow_http(text: &str) -> Result<bool, String> {
    match text {
        "" | "false" => Ok(false),
        "true" => Ok(true),
        other => Err(format!("is `{other}`; accepted are true and false")),
    }
}

/// A proxy's address. It may hold a password, so no error repeats it.
fn proxy(text: &str) -> Result<Url, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    http_url(&whole).ok_or_else(|| "is no proxy; give http://host:port".to_owned())
}

fn cognito(text: &str) -> Result<Url, String> {
    http_url(text).ok_or_else(|| "is no address; give https://host/ (unset: each region's own)".to_owned())
}

fn http_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (url.has_host() && matches!(url.scheme(), "http" | "https")).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<EgressConfig, String> {
        let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        EgressConfig::read(&find).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_is_the_strict_choice() {
        let egress_config = read(&[]).unwrap();
        let standard = EgressConfig::default();
        assert_eq!(
            (egress_config.max_children, egress_config.child_idle, egress_config.child_start),
            (standard.max_children, standard.child_idle, standard.child_start)
        );
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
