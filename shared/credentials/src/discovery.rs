//! Discovers an authorization server: protected resource metadata (RFC 9728), then the authorization server's metadata (RFC 8414).
//!
//! **Invariant:** a document whose resource or issuer differs from the requested one is rejected.

use serde_json::Value;
use toolfleet_core::credential::is_scope;
use toolfleet_egress::sanitize_text_to;
use toolfleet_egress::url_without_secrets;
use url::Url;

use crate::challenge::Challenge;
use crate::error::CredentialError;
use crate::token_http::TokenHttpClient;

/// Where tokens are requested, and for which resource.
#[derive(Debug, Clone)]
pub(crate) struct TokenEndpoint {
    pub(crate) token_url: Url,
    pub(crate) issuer: Option<String>,
    pub(crate) resource: Option<String>,
    /// The supported ways of client authentication, if the server lists them.
    pub(crate) methods: Vec<String>,
    /// The scopes that the server wants where the catalog names none.
    pub(crate) scopes: Vec<String>,
}

impl TokenEndpoint {
    /// An endpoint that the catalog names.
    pub(crate) const fn configured(token_url: Url, issuer: Option<String>, resource: String) -> Self {
        Self { token_url, issuer, resource: Some(resource), methods: Vec::new(), scopes: Vec::new() }
    }
}

/// Finds the authorization server of an MCP server.
pub(crate) async fn discover(
    http: &TokenHttpClient,
    server: &Url,
    issuer: Option<&Url>,
) -> Result<TokenEndpoint, CredentialError> {
    if let Some(issuer) = issuer {
        let mut endpoint = metadata_of(http, issuer).await?;
        endpoint.resource = Some(canonical(server));
        return Ok(endpoint);
    }
    // A GET runs nothing; a server that wants a token names its metadata in the challenge.
    let challenge = Challenge::of(&http.headers(server, "text/event-stream").await?);
    let named = challenge.resource_metadata.as_deref().and_then(|url| Url::parse(url).ok());
    let candidates = match named {
        Some(url) => vec![url],
        None => well_known(server, "oauth-protected-resource"),
    };
    for candidate in candidates {
        let response = http.document(&candidate).await?;
        let Some(resource) = response.text("resource").filter(|_| response.status.is_success()) else {
            continue;
        };
        if !covers(resource, server) {
            let (of, shown) = (url_without_secrets(&candidate), sanitize_text_to(resource, 200));
            return Err(unusable(&format!("{of} describes `{shown}`, not this server")));
        }
        let first = response.body.pointer("/authorization_servers/0").and_then(Value::as_str);
        let Some(issuer) = first.and_then(|url| Url::parse(url).ok()) else {
            return Err(unusable(&format!(
                "{} names no authorization server",
                url_without_secrets(&candidate)
            )));
        };
        let mut endpoint = metadata_of(http, &issuer).await?;
        endpoint.resource = Some(resource.to_owned());
        endpoint.scopes = match &challenge.scope {
            Some(scope) => scope.split_ascii_whitespace().map(str::to_owned).collect(),
            None => texts(response.body.get("scopes_supported")),
        };
        endpoint.scopes.retain(|scope| is_scope(scope));
        return Ok(endpoint);
    }
    // Before 2025-06-18 a server was its own authorization server.
    let mut origin = server.clone();
    origin.set_path("");
    origin.set_query(None);
    let mut endpoint = metadata_of(http, &origin).await?;
    endpoint.resource = Some(canonical(server));
    Ok(endpoint)
}

/// RFC 8414, with OpenID Connect's two places beside it.
async fn metadata_of(http: &TokenHttpClient, issuer: &Url) -> Result<TokenEndpoint, CredentialError> {
    let mut candidates = well_known(issuer, "oauth-authorization-server");
    candidates.truncate(1);
    candidates.extend(well_known(issuer, "openid-configuration").into_iter().take(1));
    let mut appended = issuer.clone();
    appended.set_path(&format!("{}/.well-known/openid-configuration", issuer.path().trim_end_matches('/')));
    candidates.push(appended);
    for candidate in candidates {
        let response = http.document(&candidate).await?;
        let Some(token_url) = response.text("token_endpoint").filter(|_| response.status.is_success()) else {
            continue;
        };
        let found = response.text("issuer").unwrap_or_default();
        if found.trim_end_matches('/') != issuer.as_str().trim_end_matches('/') {
            let (of, found) = (url_without_secrets(&candidate), sanitize_text_to(found, 200));
            return Err(unusable(&format!("{of} describes the issuer `{found}`")));
        }
        // A secret is not sent without TLS where the issuer has TLS.
        let usable = |url: &Url| url.scheme() == "https" || issuer.scheme() == "http";
        let Some(token_url) = Url::parse(token_url).ok().filter(usable) else {
            return Err(unusable(&format!(
                "{} has no usable token_endpoint",
                url_without_secrets(&candidate)
            )));
        };
        return Ok(TokenEndpoint {
            token_url,
            issuer: Some(found.to_owned()),
            resource: None,
            methods: texts(response.body.get("token_endpoint_auth_methods_supported")),
            scopes: Vec::new(),
        });
    }
    Err(unusable(&format!("{} publishes no metadata", url_without_secrets(issuer))))
}

fn unusable(what: &str) -> CredentialError {
    let detail = format!(
        "no authorization server could be found: {what}; give `token_url` or `issuer` in the server's `auth`"
    );
    CredentialError::Unavailable { detail }
}

/// `/.well-known/NAME` before the path, and at the root.
fn well_known(url: &Url, name: &str) -> Vec<Url> {
    let at = |path: &str| {
        let mut url = url.clone();
        url.set_path(&format!("/.well-known/{name}{path}"));
        url.set_query(None);
        url.set_fragment(None);
        url
    };
    let path = url.path().trim_end_matches('/');
    if path.is_empty() { vec![at("")] } else { vec![at(path), at("")] }
}

/// Whether a resource is this server's URL or a parent path of it.
fn covers(resource: &str, server: &Url) -> bool {
    let Ok(resource) = Url::parse(resource) else {
        return false;
    };
    let path = resource.path().trim_end_matches('/');
    let within =
        server.path().strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    resource.origin() == server.origin() && within
}

/// The server's URL as a resource indicator (RFC 8707).
pub(crate) fn canonical(server: &Url) -> String {
    let mut url = server.clone();
    url.set_fragment(None);
    url.set_query(None);
    url.as_str().trim_end_matches('/').to_owned()
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_covers_only_its_own_origin_and_path() {
        let server = Url::parse("https://s.example/team/mcp").unwrap();
        for resource in ["https://s.example/team/mcp", "https://s.example/team/", "https://s.example"] {
            assert!(covers(resource, &server), "{resource}");
        }
        for resource in ["https://evil.example/team/mcp", "https://s.example/tea", "http://s.example/", "mcp"]
        {
            assert!(!covers(resource, &server), "{resource}");
        }
    }
}
