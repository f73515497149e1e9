//! The settings that every endpoint has, declared once. [`endpoint_args!`](crate::endpoint_args) makes them a program's own, with its prefix.

use std::net::SocketAddr;

use toolfleet_config::settings::ConfigError;
use url::Url;

use crate::hosts::Hosts;

/// Declares the settings of an endpoint for clap: where it listens, its public address, the hosts that requests may name, the bounds of its
/// connections.
#[macro_export]
macro_rules! endpoint_args {
    ($(#[$doc:meta])* $name:ident: $heading:literal, $prefix:literal, listen $listen:literal, connections $connections:literal, public $public:literal) => {
        $(#[$doc])*
        #[derive(Debug, clap::Args)]
        pub struct $name {
            /// The address and port to listen on.
            #[arg(long, help_heading = $heading, env = concat!($prefix, "_LISTEN"), hide_env_values = true, value_name = "ADDRESS:PORT", default_value = $listen)]
            pub listen: std::net::SocketAddr,
            /// The address by which clients reach it.
            #[arg(long, help = $public, help_heading = $heading, env = concat!($prefix, "_PUBLIC_URL"), hide_env_values = true, value_name = "URL")]
            pub public_url: Option<url::Url>,
            /// Hosts that requests may name beside that of the public address, separated by commas.
            #[arg(long, help_heading = $heading, env = concat!($prefix, "_ALLOWED_HOSTS"), hide_env_values = true, value_name = "HOSTS", value_delimiter = ',')]
            pub allowed_hosts: Vec<String>,
            /// How many connections are open at once; more wait until one ends. The limit of open files (ulimit -n) less 256 bounds it too.
            #[arg(long, help_heading = $heading, env = concat!($prefix, "_MAX_CONNECTIONS"), hide_env_values = true, value_name = "N", default_value = $connections, value_parser = toolfleet_config::settings::number(1_usize, 1_000_000))]
            pub max_connections: usize,
            /// How long a connection is kept without a request. It must be longer than the idle time-out of a load balancer in front.
            #[arg(long = "idle", alias = "idle-ms", help_heading = $heading, env = concat!($prefix, "_IDLE_MS"), hide_env_values = true, value_name = "SPAN", default_value = "180s", value_parser = toolfleet_config::settings::milliseconds(1_000, 86_400_000))]
            pub idle: std::time::Duration,
        }

        impl $name {
            /// Whether this machine alone reaches it.
            pub const fn is_local(&self) -> bool {
                self.listen.ip().is_loopback()
            }

            /// The hosts that requests may name, and these origins.
            pub fn hosts(&self, origins: Vec<String>) -> $crate::hosts::Hosts {
                $crate::endpoint::hosts($prefix, self.listen, self.public_url.as_ref(), &self.allowed_hosts, origins)
            }

            /// The bounds of its connections. After a stop, requests are waited for as long as `drain`.
            pub const fn bounds(&self, drain: std::time::Duration) -> $crate::serve::Bounds {
                $crate::serve::Bounds { connections: self.max_connections, idle: self.idle, keep_alive: true, drain }
            }
        }
    };
}

/// The accepted hosts of an endpoint whose settings begin with `settings`.
pub fn hosts(
    settings: &'static str,
    listen: SocketAddr,
    public_url: Option<&Url>,
    allowed: &[String],
    origins: Vec<String>,
) -> Hosts {
    let own = public_url.and_then(|url| {
        let host = url.host_str()?;
        Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    });
    Hosts {
        settings,
        loopback: listen.ip().is_loopback(),
        hosts: trimmed(allowed).into_iter().chain(own).collect(),
        origins,
    }
}

/// The items of a list, without the spaces after its commas.
pub fn trimmed(items: &[String]) -> Vec<String> {
    items.iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

/// The issuer of a setting: its text, which tokens repeat, and its address.
///
/// # Errors
/// It is no address.
pub fn issuer(variable: &str, text: &str) -> Result<(String, Url), ConfigError> {
    let text = text.trim();
    let url = Url::parse(text).ok().filter(Url::has_host);
    let url = url.ok_or_else(|| ConfigError::new(variable, "is no URL"))?;
    Ok((text.to_owned(), url))
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro declares what a program's crate exports")]
mod tests {
    use toolfleet_config::settings::read;

    endpoint_args! {
        /// An example.
        ExampleArgs: "Example", "EXAMPLE", listen "127.0.0.1:1", connections "7", public "Where it is"
    }

    #[test]
    fn each_endpoint_has_settings_of_its_own() {
        let of = |pairs: &'static [(&str, &str)]| {
            let get = |name: &str| pairs.iter().find(|(one, _)| *one == name).map(|(_, v)| (*v).to_owned());
            read::<ExampleArgs>(&get)
        };
        let unset = of(&[("OTHER_LISTEN", "0.0.0.0:1")]).unwrap();
        let bounds = unset.bounds(std::time::Duration::ZERO);
        assert!(unset.is_local() && unset.hosts(Vec::new()).loopback);
        assert_eq!((bounds.connections, bounds.idle.as_secs()), (7, 180));
        let set = of(&[
            ("EXAMPLE_LISTEN", "0.0.0.0:80"),
            ("EXAMPLE_PUBLIC_URL", "https://a.example.com:8443/mcp"),
            ("EXAMPLE_ALLOWED_HOSTS", "b.example.com, c.example.com,"),
        ])
        .unwrap();
        let hosts = set.hosts(vec!["https://d.example.com".to_owned()]);
        assert_eq!(hosts.hosts, ["b.example.com", "c.example.com", "a.example.com:8443"]);
        assert_eq!((hosts.settings, hosts.loopback, hosts.origins.len()), ("EXAMPLE", false, 1));
        for (name, value) in [("EXAMPLE_IDLE_MS", "1"), ("EXAMPLE_MAX_CONNECTIONS", "0")] {
            let get = move |one: &str| (one == name).then(|| value.to_owned());
            let error = read::<ExampleArgs>(&get).unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains("accepted"), "{error}");
        }
    }
}
