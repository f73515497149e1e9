//! The settings of a gateway, declared once for the command line, the variables, and docs/reference/gateway.md.

use std::time::Duration;

use clap::Args;
use toolfleet_config::settings::{ConfigError, milliseconds, number};
use toolfleet_core::ids::Tenant;
use toolfleet_credentials::TokenHttpClient;
use toolfleet_web::endpoint::{self, trimmed};
use toolfleet_web::hosts::Hosts;
use toolfleet_web::serve::Bounds;
use toolfleet_web::tokens::{ClaimName, HttpKeys, Issuer, Keys, Verifier};
use url::Url;

use crate::auth::{Authenticator, ClaimRules, TokenRules};
use crate::gateway::Limits;
use crate::session_source::SessionSource;

toolfleet_web::endpoint_args! {
    /// The declarations of the settings of a gateway's endpoint.
    GatewayEndpointArgs: "Gateway", "TOOLFLEET_GATEWAY", listen "127.0.0.1:8932", connections "2048",
    public "The gateway's public address, as clients write it, with the path /mcp; needed with OAuth"
}

/// How long open requests are waited for after the stop.
const DRAIN: Duration = Duration::from_secs(10);

/// The declarations of a gateway's settings.
#[derive(Debug, Args)]
pub struct GatewayArgs {
    /// Its endpoint.
    #[command(flatten)]
    pub endpoint: GatewayEndpointArgs,
    /// The key of handles and task ids: 32 bytes in base64 (openssl rand -base64 32), or secret://NAME. The same for all gateways of a fleet; several, separated by commas, while it is exchanged: the first one is used, all are accepted. Without it handles end with this process.
    #[arg(
        long,
        help_heading = "Gateway",
        env = "TOOLFLEET_GATEWAY_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub key: Option<String>,
    /// The tenant of all calls, where no claim of the token names it.
    #[arg(
        long,
        help_heading = "Gateway",
        env = "TOOLFLEET_GATEWAY_TENANT",
        hide_env_values = true,
        value_name = "TENANT"
    )]
    tenant: Option<String>,
    /// Where the session of a call stands: user (each user has one), claim:NAME, header:NAME, or none (the users of a tenant share the state of servers).
    #[arg(
        long,
        help_heading = "Gateway",
        env = "TOOLFLEET_GATEWAY_SESSION",
        hide_env_values = true,
        value_name = "WHERE",
        default_value = "user"
    )]
    session: SessionSource,
    /// Origins of web pages that may send requests, separated by commas.
    #[arg(
        long,
        help_heading = "Gateway",
        env = "TOOLFLEET_GATEWAY_ALLOWED_ORIGINS",
        hide_env_values = true,
        value_name = "ORIGINS",
        value_delimiter = ','
    )]
    allowed_origins: Vec<String>,
    /// How long a call is waited for. A call that takes longer goes on, and the answer names a handle.
    #[arg(long = "wait", alias = "wait-ms", help_heading = "Gateway", env = "TOOLFLEET_GATEWAY_WAIT_MS", hide_env_values = true, value_name = "SPAN", default_value = "55s", value_parser = milliseconds(100, 600_000))]
    wait: Duration,
    /// The same for a client that takes tasks; as long as for others without it.
    #[arg(long = "task-after", alias = "task-after-ms", help_heading = "Gateway", env = "TOOLFLEET_GATEWAY_TASK_AFTER_MS", hide_env_values = true, value_name = "SPAN", value_parser = milliseconds(0, 600_000))]
    task_after: Option<Duration>,
    /// How many entries a page of a list has.
    #[arg(long, help_heading = "Gateway", env = "TOOLFLEET_GATEWAY_PAGE_SIZE", hide_env_values = true, value_name = "N", default_value = "100", value_parser = number(1_usize, 10_000))]
    page_size: usize,
    /// Above how many tools the tool search_tools is offered.
    #[arg(long, help_heading = "Gateway", env = "TOOLFLEET_GATEWAY_SEARCH_ABOVE", hide_env_values = true, value_name = "N", default_value = "30", value_parser = number(0_usize, 100_000))]
    search_above: usize,
    /// How long a list of a server (tools, prompts, resources) is used before it is read again.
    #[arg(long = "tools-ttl", alias = "tools-ttl-ms", help_heading = "Gateway", env = "TOOLFLEET_GATEWAY_TOOLS_TTL_MS", hide_env_values = true, value_name = "SPAN", default_value = "5m", value_parser = milliseconds(100, 86_400_000))]
    tools_ttl: Duration,
    /// The largest request in bytes.
    #[arg(long, help_heading = "Gateway", env = "TOOLFLEET_GATEWAY_MAX_BODY_BYTES", hide_env_values = true, value_name = "BYTES", default_value = "4194304", value_parser = number(1_024_usize, 67_108_864))]
    max_body_bytes: usize,
    /// How many requests are answered at once, and beside them how many event streams that last; more are answered with 503.
    #[arg(long, help_heading = "Gateway", env = "TOOLFLEET_GATEWAY_MAX_REQUESTS", hide_env_values = true, value_name = "N", default_value = "1024", value_parser = number(1_usize, 100_000))]
    max_requests: usize,
    /// The issuer of tokens. Without it nobody needs a token, which is accepted on this machine's own address alone.
    #[arg(
        long,
        help_heading = "OAuth",
        env = "TOOLFLEET_GATEWAY_OAUTH_ISSUER",
        hide_env_values = true,
        value_name = "URL"
    )]
    oauth_issuer: Option<String>,
    /// Where the issuer's keys are (JWKS); without it the issuer's metadata names them.
    #[arg(
        long,
        help_heading = "OAuth",
        env = "TOOLFLEET_GATEWAY_OAUTH_JWKS_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    oauth_jwks_url: Option<Url>,
    /// The audiences of tokens, separated by commas; without it the public address.
    #[arg(
        long,
        help_heading = "OAuth",
        env = "TOOLFLEET_GATEWAY_OAUTH_AUDIENCE",
        hide_env_values = true,
        value_name = "AUDIENCES",
        value_delimiter = ','
    )]
    oauth_audience: Vec<String>,
    /// Clients whose access tokens are accepted although they name no audience, as those of Cognito, separated by commas: what `client_id` or `azp` says.
    #[arg(
        long,
        help_heading = "OAuth",
        env = "TOOLFLEET_GATEWAY_OAUTH_CLIENTS",
        hide_env_values = true,
        value_name = "CLIENTS",
        value_delimiter = ','
    )]
    oauth_clients: Vec<String>,
    /// The scopes that a token needs, separated by commas.
    #[arg(
        long,
        help_heading = "OAuth",
        env = "TOOLFLEET_GATEWAY_OAUTH_SCOPES",
        hide_env_values = true,
        value_name = "SCOPES",
        value_delimiter = ','
    )]
    oauth_scopes: Vec<String>,
    /// The claim that is the tenant: its name, or a pointer such as /org/id.
    #[arg(
        long,
        help_heading = "OAuth",
        env = "TOOLFLEET_GATEWAY_OAUTH_TENANT_CLAIM",
        hide_env_values = true,
        value_name = "CLAIM"
    )]
    oauth_tenant_claim: Option<ClaimName>,
    /// The claim that is the user's id: a text or a whole number, which every token must have. With none all callers of a tenant are one, and share handles and request keys.
    #[arg(
        long,
        help_heading = "OAuth",
        env = "TOOLFLEET_GATEWAY_OAUTH_USER_CLAIM",
        hide_env_values = true,
        value_name = "CLAIM",
        default_value = "sub"
    )]
    oauth_user_claim: ClaimName,
    /// The claim that is the user's type, for access rules.
    #[arg(
        long,
        help_heading = "OAuth",
        env = "TOOLFLEET_GATEWAY_OAUTH_USER_TYPE_CLAIM",
        hide_env_values = true,
        value_name = "CLAIM"
    )]
    oauth_user_type_claim: Option<ClaimName>,
    /// The claim that has the user's roles, for access rules: a list, or words separated by spaces.
    #[arg(
        long,
        help_heading = "OAuth",
        env = "TOOLFLEET_GATEWAY_OAUTH_ROLES_CLAIM",
        hide_env_values = true,
        value_name = "CLAIM"
    )]
    oauth_roles_claim: Option<ClaimName>,
}

impl GatewayArgs {
    /// The bounds.
    pub fn limits(&self) -> Limits {
        Limits {
            wait: self.wait,
            task_after: self.task_after.unwrap_or(self.wait),
            page: self.page_size,
            search_above: self.search_above,
            tools_ttl: self.tools_ttl,
            max_body_bytes: self.max_body_bytes,
            max_requests: self.max_requests,
            ..Limits::default()
        }
    }

    /// The hosts and origins that requests may name.
    pub fn hosts(&self) -> Hosts {
        self.endpoint.hosts(trimmed(&self.allowed_origins))
    }

    /// The bounds of its connections.
    pub const fn bounds(&self) -> Bounds {
        self.endpoint.bounds(DRAIN)
    }

    /// Who may send requests. `http` reads the issuer's keys.
    ///
    /// # Errors
    /// A setting is missing: the error names it, and what to do.
    pub fn authenticator(
        &self,
        http: impl FnOnce() -> TokenHttpClient,
    ) -> Result<Authenticator, ConfigError> {
        let tenant =
            self.tenant.as_deref().filter(|tenant| !tenant.is_empty()).map(Tenant::parse).transpose();
        let tenant =
            tenant.map_err(|error| ConfigError::new("TOOLFLEET_GATEWAY_TENANT", error.to_string()))?;
        let Some(issuer) = self.oauth_issuer.as_deref().filter(|issuer| !issuer.is_empty()) else {
            return self.open(tenant);
        };
        if tenant.is_none() && self.oauth_tenant_claim.is_none() {
            let text =
                "is not set; name the claim of the tenant, or set TOOLFLEET_GATEWAY_TENANT for one tenant";
            return Err(ConfigError::new("TOOLFLEET_GATEWAY_OAUTH_TENANT_CLAIM", text));
        }
        let Some(resource) = self.endpoint.public_url.clone() else {
            let text = "is not set; tokens are made for the gateway's public address, for example https://tools.example.com/mcp";
            return Err(ConfigError::new("TOOLFLEET_GATEWAY_PUBLIC_URL", text));
        };
        if self.key.is_none() && !self.endpoint.is_local() {
            let text = "is not set; make a key with `openssl rand -base64 32`, and give it to all gateways of the fleet";
            return Err(ConfigError::new("TOOLFLEET_GATEWAY_KEY", text));
        }
        let (issuer, url) = endpoint::issuer("TOOLFLEET_GATEWAY_OAUTH_ISSUER", issuer)?;
        let resource_text = resource.as_str().trim_end_matches('/').to_owned();
        let audiences =
            if self.oauth_audience.is_empty() { vec![resource_text] } else { trimmed(&self.oauth_audience) };
        let source = HttpKeys { issuer: Issuer { http: http(), url }, jwks_url: self.oauth_jwks_url.clone() };
        Ok(Authenticator::Tokens(Box::new(TokenRules {
            verifier: Verifier {
                issuer,
                audiences,
                clients: trimmed(&self.oauth_clients),
                keys: Keys::of(Box::new(source)),
            },
            scopes: trimmed(&self.oauth_scopes),
            claims: ClaimRules {
                tenant_claim: self.oauth_tenant_claim.clone(),
                tenant,
                user: self.oauth_user_claim.unless_none(),
                user_type: self.oauth_user_type_claim.clone(),
                roles: self.oauth_roles_claim.clone(),
                session: self.session.clone(),
            },
            resource,
        })))
    }

    fn open(&self, tenant: Option<Tenant>) -> Result<Authenticator, ConfigError> {
        if !self.endpoint.is_local() {
            let text = format!(
                "is {}, which other machines may reach, and nobody would need a token; set TOOLFLEET_GATEWAY_OAUTH_ISSUER, or listen \
                 on 127.0.0.1",
                self.endpoint.listen
            );
            return Err(ConfigError::new("TOOLFLEET_GATEWAY_LISTEN", text));
        }
        if matches!(self.session, SessionSource::Claim(_)) {
            let text = "names a claim, and there are no tokens without TOOLFLEET_GATEWAY_OAUTH_ISSUER";
            return Err(ConfigError::new("TOOLFLEET_GATEWAY_SESSION", text));
        }
        let missing = || {
            ConfigError::new(
                "TOOLFLEET_GATEWAY_TENANT",
                "is not set; without tokens all calls are of one tenant: name it",
            )
        };
        Ok(Authenticator::Open { tenant: tenant.ok_or_else(missing)?, session: self.session.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use toolfleet_config::settings::read;

    use super::*;

    fn refused(variables: &[(&str, &str)]) -> String {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (format!("TOOLFLEET_GATEWAY_{name}"), *value)).collect();
        let get =
            |name: &str| variables.iter().find(|(one, _)| one == name).map(|(_, value)| (*value).to_owned());
        let http = || TokenHttpClient { http: reqwest::Client::new(), policy: Arc::default() };
        match read::<GatewayArgs>(&get) {
            Ok(args) => args.authenticator(http).err().map_or_else(String::new, |error| error.to_string()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn nobody_listens_to_other_machines_without_tokens() {
        let error = refused(&[("LISTEN", "0.0.0.0:80"), ("TENANT", "acme")]);
        assert!(
            error.contains("TOOLFLEET_GATEWAY_LISTEN") && error.contains("TOOLFLEET_GATEWAY_OAUTH_ISSUER"),
            "{error}"
        );
        assert_eq!(refused(&[("TENANT", "acme")]), "");
        assert_eq!(refused(&[("LISTEN", "[::1]:80"), ("TENANT", "acme")]), "");
        assert!(refused(&[]).contains("TOOLFLEET_GATEWAY_TENANT"));
        assert!(refused(&[("TENANT", "_x")]).contains("TOOLFLEET_GATEWAY_TENANT"));
        assert!(refused(&[("TENANT", "a"), ("SESSION", "claim:sid")]).contains("TOOLFLEET_GATEWAY_SESSION"));
    }

    #[test]
    fn tokens_need_a_tenant_and_a_resource() {
        let issuer = ("OAUTH_ISSUER", "https://issuer.example.com");
        assert!(refused(&[issuer]).contains("OAUTH_TENANT_CLAIM"));
        let (tenant, url) = (("TENANT", "acme"), ("PUBLIC_URL", "https://tools.example.com/mcp"));
        assert!(refused(&[issuer, tenant]).contains("PUBLIC_URL"));
        assert!(refused(&[issuer, tenant, url, ("LISTEN", "0.0.0.0:80")]).contains("openssl rand"));
        assert_eq!(refused(&[issuer, tenant, url]), "");
        assert!(refused(&[("OAUTH_ISSUER", "x"), tenant, url]).contains("is no URL"));
    }

    #[test]
    fn the_public_host_may_be_named() {
        let get = |name: &str| match name {
            "TOOLFLEET_GATEWAY_PUBLIC_URL" => Some("https://tools.example.com:8443/mcp".to_owned()),
            "TOOLFLEET_GATEWAY_LISTEN" => Some("0.0.0.0:80".to_owned()),
            "TOOLFLEET_GATEWAY_ALLOWED_HOSTS" => Some("a.example.com, b.example.com".to_owned()),
            _ => None,
        };
        let hosts = read::<GatewayArgs>(&get).unwrap().hosts();
        assert_eq!(hosts.hosts, ["a.example.com", "b.example.com", "tools.example.com:8443"]);
        assert!(!hosts.loopback);
    }
}
