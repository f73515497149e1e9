//! The settings of a console, declared once for the command line, the variables, and docs/guides/console.md.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use toolfleet_config::hosts::Hosts;
use toolfleet_config::settings::{ConfigError, milliseconds};
use url::Url;

/// The declarations of a console's settings.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// The address and port to listen on.
    #[arg(
        long,
        help_heading = "Console",
        env = "TOOLFLEET_CONSOLE_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8933"
    )]
    pub listen: SocketAddr,
    /// Who may look: a file or secret://NAME with {"tokens": [{"name", "sha256" or "token", "tenants"}]}. Without it, on this machine's own address alone, a new token is made and printed.
    #[arg(
        long,
        help_heading = "Console",
        env = "TOOLFLEET_CONSOLE_TOKENS",
        hide_env_values = true,
        value_name = "PLACE"
    )]
    pub tokens: Option<String>,
    /// The key that signs sessions: 32 bytes in base64 (openssl rand -base64 32), or secret://NAME. The same for all consoles behind a load balancer. Without it sessions end with this process.
    #[arg(
        long,
        help_heading = "Console",
        env = "TOOLFLEET_CONSOLE_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub key: Option<String>,
    /// The address by which browsers reach the console; needed where other machines may reach it.
    #[arg(
        long,
        help_heading = "Console",
        env = "TOOLFLEET_CONSOLE_PUBLIC_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub public_url: Option<Url>,
    /// Hosts that requests may name beside that of the public address, separated by commas.
    #[arg(
        long,
        help_heading = "Console",
        env = "TOOLFLEET_CONSOLE_ALLOWED_HOSTS",
        hide_env_values = true,
        value_name = "HOSTS",
        value_delimiter = ','
    )]
    allowed_hosts: Vec<String>,
    /// How long a login lasts, in milliseconds.
    #[arg(long = "session-ms", help_heading = "Console", env = "TOOLFLEET_CONSOLE_SESSION_MS", hide_env_values = true, value_name = "MS", default_value = "28800000", value_parser = milliseconds(60_000, 604_800_000))]
    pub session: Duration,
}

impl ConsoleArgs {
    /// Checks what no single setting says.
    ///
    /// # Errors
    /// A setting is missing: the error names it, and what to do.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.listen.ip().is_loopback() {
            return Ok(());
        }
        if self.tokens.as_ref().is_none_or(|place| place.trim().is_empty()) {
            let text = "is not set, and other machines may reach the console; name a file or a secret of tokens, or listen on 127.0.0.1";
            return Err(ConfigError::new("TOOLFLEET_CONSOLE_TOKENS", text));
        }
        if self.public_url.is_none() {
            let text =
                "is not set; give the address that browsers use, for example https://console.example.com";
            return Err(ConfigError::new("TOOLFLEET_CONSOLE_PUBLIC_URL", text));
        }
        Ok(())
    }

    /// The hosts and origins that requests may name.
    pub fn hosts(&self) -> Hosts {
        let url = self.public_url.as_ref();
        let own = url.and_then(|url| {
            let host = url.host_str()?;
            Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
        });
        let allowed =
            self.allowed_hosts.iter().map(|host| host.trim().to_owned()).filter(|host| !host.is_empty());
        Hosts {
            settings: "TOOLFLEET_CONSOLE",
            loopback: self.listen.ip().is_loopback(),
            hosts: allowed.chain(own).collect(),
            // What is in front of the console may end TLS, and rewrite the host.
            origins: url.map(|url| url.origin().ascii_serialization()).into_iter().collect(),
        }
    }

    /// Whether cookies are sent over TLS alone.
    pub fn is_secure(&self) -> bool {
        !self.listen.ip().is_loopback() || self.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_config::settings::read;

    use super::*;

    fn args(variables: &[(&str, &str)]) -> ConsoleArgs {
        let get = |name: &str| {
            let short = name.strip_prefix("TOOLFLEET_CONSOLE_")?;
            variables.iter().find(|(one, _)| *one == short).map(|(_, value)| (*value).to_owned())
        };
        read(&get).unwrap()
    }

    fn refused(variables: &[(&str, &str)]) -> String {
        args(variables).check().err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn other_machines_need_tokens_and_an_address() {
        let public = ("LISTEN", "0.0.0.0:80");
        assert!(refused(&[public]).contains("TOOLFLEET_CONSOLE_TOKENS"));
        assert!(refused(&[public, ("TOKENS", "t.json")]).contains("TOOLFLEET_CONSOLE_PUBLIC_URL"));
        let url = ("PUBLIC_URL", "https://console.example.com");
        assert_eq!(refused(&[public, ("TOKENS", "t.json"), url]), "");
        assert_eq!(refused(&[]), "");
        assert!(args(&[public]).is_secure() && args(&[url]).is_secure() && !args(&[]).is_secure());
    }

    #[test]
    fn the_public_host_may_be_named() {
        let hosts = args(&[
            ("LISTEN", "0.0.0.0:80"),
            ("PUBLIC_URL", "https://console.example.com:8443/"),
            ("ALLOWED_HOSTS", "a.example.com, b.example.com"),
        ])
        .hosts();
        assert_eq!(hosts.hosts, ["a.example.com", "b.example.com", "console.example.com:8443"]);
        assert_eq!(hosts.origins, ["https://console.example.com:8443"]);
        assert!(!hosts.loopback && args(&[]).hosts().loopback);
    }
}
