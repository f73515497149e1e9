//! The settings of a console, declared once for the command line, the variables, and docs/guides/console.md.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use toolfleet_config::settings::{ConfigError, milliseconds};
use toolfleet_credentials::{SecretText, TokenHttpClient};
use toolfleet_web::endpoint::{self, trimmed};
use toolfleet_web::hosts::Hosts;
use toolfleet_web::serve::Bounds;
use toolfleet_web::tokens::ClaimName;
use url::Url;

use crate::oidc::{CALLBACK, Oidc, OidcConfig, OperatorClaim, VisitorClaims};

toolfleet_web::endpoint_args! {
    /// The declarations of the settings of a console's endpoint.
    ConsoleEndpointArgs: "Console", "TOOLFLEET_CONSOLE", listen "127.0.0.1:8933", connections "512",
    public "The address by which browsers reach the console; needed where other machines may reach it"
}

/// How long open requests are waited for after the stop. A page takes less.
const DRAIN: Duration = Duration::from_secs(12);

/// The declarations of a console's settings.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// Its endpoint.
    #[command(flatten)]
    pub endpoint: ConsoleEndpointArgs,
    /// Who may look: a file or secret://NAME with {"tokens": [{"name", "sha256" or "token", "tenants"}]}. Without it and without an issuer, on this machine's own address alone, a new token is made and printed.
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
    /// How long a login lasts.
    #[arg(long = "session", alias = "session-ms", help_heading = "Console", env = "TOOLFLEET_CONSOLE_SESSION_MS", hide_env_values = true, value_name = "SPAN", default_value = "8h", value_parser = milliseconds(60_000, 604_800_000))]
    pub session: Duration,
    /// The issuer at which visitors log in (OpenID Connect), as its tokens name it.
    #[arg(
        long,
        help_heading = "OpenID Connect",
        env = "TOOLFLEET_CONSOLE_OIDC_ISSUER",
        hide_env_values = true,
        value_name = "URL"
    )]
    oidc_issuer: Option<String>,
    /// The console's client id at the issuer. Its redirect address is that of the console with /login/callback.
    #[arg(
        long,
        help_heading = "OpenID Connect",
        env = "TOOLFLEET_CONSOLE_OIDC_CLIENT_ID",
        hide_env_values = true,
        value_name = "ID"
    )]
    oidc_client_id: Option<String>,
    /// The client's secret, or secret://NAME. A public client has none: PKCE protects its codes.
    #[arg(
        long,
        help_heading = "OpenID Connect",
        env = "TOOLFLEET_CONSOLE_OIDC_CLIENT_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub oidc_client_secret: Option<String>,
    /// The scopes that are asked for beside openid, separated by commas.
    #[arg(
        long,
        help_heading = "OpenID Connect",
        env = "TOOLFLEET_CONSOLE_OIDC_SCOPES",
        hide_env_values = true,
        value_name = "SCOPES",
        value_delimiter = ',',
        default_value = "email"
    )]
    oidc_scopes: Vec<String>,
    /// The claim that is the visitor's name, for people; where it is missing, sub is.
    #[arg(
        long,
        help_heading = "OpenID Connect",
        env = "TOOLFLEET_CONSOLE_OIDC_NAME_CLAIM",
        hide_env_values = true,
        value_name = "CLAIM",
        default_value = "email"
    )]
    oidc_name_claim: ClaimName,
    /// The claim that has the tenants that a visitor sees: a text or a list; its name, or a pointer such as /org/tenants.
    #[arg(
        long,
        help_heading = "OpenID Connect",
        env = "TOOLFLEET_CONSOLE_OIDC_TENANT_CLAIM",
        hide_env_values = true,
        value_name = "CLAIM"
    )]
    oidc_tenant_claim: Option<ClaimName>,
    /// Who sees all tenants: a claim and the value that it has or holds, for example groups=fleet-operators.
    #[arg(
        long,
        help_heading = "OpenID Connect",
        env = "TOOLFLEET_CONSOLE_OIDC_OPERATORS",
        hide_env_values = true,
        value_name = "CLAIM=VALUE"
    )]
    oidc_operators: Option<OperatorClaim>,
}

fn is_given(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.trim().is_empty())
}

impl ConsoleArgs {
    /// Checks what no single setting says.
    ///
    /// # Errors
    /// A setting is missing: the error names it, and what to do.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.has_oidc() {
            self.check_oidc()?;
        }
        if self.endpoint.is_local() {
            return Ok(());
        }
        if !is_given(self.tokens.as_ref()) && !self.has_oidc() {
            let text = "is not set, and other machines may reach the console; name a file or a secret of tokens, set TOOLFLEET_CONSOLE_OIDC_ISSUER, or listen on 127.0.0.1";
            return Err(ConfigError::new("TOOLFLEET_CONSOLE_TOKENS", text));
        }
        if self.endpoint.public_url.is_none() {
            let text =
                "is not set; give the address that browsers use, for example https://console.example.com";
            return Err(ConfigError::new("TOOLFLEET_CONSOLE_PUBLIC_URL", text));
        }
        Ok(())
    }

    fn check_oidc(&self) -> Result<(), ConfigError> {
        if !is_given(self.oidc_client_id.as_ref()) {
            let text = "is not set; register the console at the issuer, and give the id of that client";
            return Err(ConfigError::new("TOOLFLEET_CONSOLE_OIDC_CLIENT_ID", text));
        }
        if self.oidc_tenant_claim.is_none() && self.oidc_operators.is_none() {
            let text = "is not set, and no visitor would see anything; name the claim of tenants, or set TOOLFLEET_CONSOLE_OIDC_OPERATORS";
            return Err(ConfigError::new("TOOLFLEET_CONSOLE_OIDC_TENANT_CLAIM", text));
        }
        if !is_given(self.key.as_ref()) && !self.endpoint.is_local() {
            let text = "is not set; make a key with `openssl rand -base64 32`, and give it to all consoles: a login begins at one of them and may end at another";
            return Err(ConfigError::new("TOOLFLEET_CONSOLE_KEY", text));
        }
        Ok(())
    }

    /// Whether visitors log in at an issuer.
    pub fn has_oidc(&self) -> bool {
        is_given(self.oidc_issuer.as_ref())
    }

    /// Where visitors log in, if that is configured. `address` is where the console listens.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn oidc(
        &self,
        address: SocketAddr,
        client_secret: Option<SecretText>,
        http: TokenHttpClient,
    ) -> Result<Option<Oidc>, ConfigError> {
        let Some(issuer) = self.oidc_issuer.as_deref().filter(|issuer| !issuer.trim().is_empty()) else {
            return Ok(None);
        };
        self.check_oidc()?;
        let (issuer, issuer_url) = endpoint::issuer("TOOLFLEET_CONSOLE_OIDC_ISSUER", issuer)?;
        let own = self.endpoint.public_url.clone().or_else(|| Url::parse(&format!("http://{address}")).ok());
        let redirect = own.and_then(|own| own.join(CALLBACK).ok());
        let redirect =
            redirect.ok_or_else(|| ConfigError::new("TOOLFLEET_CONSOLE_PUBLIC_URL", "is no web address"))?;
        let config = OidcConfig {
            issuer,
            issuer_url,
            client_id: self.oidc_client_id.as_deref().unwrap_or_default().trim().to_owned(),
            client_secret,
            scopes: trimmed(&self.oidc_scopes).into_iter().filter(|scope| scope != "openid").collect(),
            redirect,
            claims: VisitorClaims {
                name: self.oidc_name_claim.clone(),
                tenants: self.oidc_tenant_claim.clone(),
                operators: self.oidc_operators.clone(),
            },
            http,
        };
        Ok(Some(Oidc::new(config)))
    }

    /// The hosts and origins that requests may name.
    pub fn hosts(&self) -> Hosts {
        // What is in front of the console may end TLS, and rewrite the host.
        let own = self.endpoint.public_url.iter().map(|url| url.origin().ascii_serialization());
        self.endpoint.hosts(own.collect())
    }

    /// The bounds of its connections.
    pub const fn bounds(&self) -> Bounds {
        self.endpoint.bounds(DRAIN)
    }

    /// Whether cookies are sent over TLS alone.
    pub fn is_secure(&self) -> bool {
        !self.endpoint.is_local()
            || self.endpoint.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
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
    fn an_issuer_needs_a_client_a_key_and_something_to_see() {
        let issuer = ("OIDC_ISSUER", "https://issuer.example.com");
        let client = ("OIDC_CLIENT_ID", "console");
        assert!(refused(&[issuer]).contains("OIDC_CLIENT_ID"));
        assert!(refused(&[issuer, client]).contains("OIDC_TENANT_CLAIM"));
        for rule in [("OIDC_TENANT_CLAIM", "tenant"), ("OIDC_OPERATORS", "groups=ops")] {
            assert_eq!(refused(&[issuer, client, rule]), "");
            let public = ("LISTEN", "0.0.0.0:80");
            assert!(refused(&[issuer, client, rule, public]).contains("TOOLFLEET_CONSOLE_KEY"));
            let key = ("KEY", "secret://toolfleet/console-key");
            assert!(refused(&[issuer, client, rule, public, key]).contains("PUBLIC_URL"));
            let url = ("PUBLIC_URL", "https://console.example.com");
            assert_eq!(refused(&[issuer, client, rule, public, key, url]), "", "no token is needed");
        }
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
