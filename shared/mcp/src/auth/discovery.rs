//! Owns the finding of an authorization server: the server's own word (RFC 9728), then that server's metadata (RFC 8414).
//!
//! **Invariant:** a document that speaks for another resource or another issuer than it was asked for is not believed.

use serde_json::Value;
use toolfleet_core::credential::is_scope;
use toolfleet_core::fault::Fault;
use url::Url;

use super::challenge::Challenge;
use super::outlet::TokenHttpClient;
use crate::endpoint::without_secrets;
use crate::words::shorten_to;

/// Where tokens are to be had, and for what.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) token_url: Url,
    pub(crate) issuer: Option<String>,
    pub(crate) resource: Option<String>,
    /// How clients may authenticate there, if it says.
    pub(crate) methods: Vec<String>,
    /// What the server wants where the catalog names no scopes.
    pub(crate) scopes: Vec<String>,
}

impl Place {
    /// As the catalog says it.
    pub(crate) const fn at(token_url: Url, issuer: Option<String>, resource: String) -> Self {
        Self { token_url, issuer, resource: Some(resource), methods: Vec::new(), scopes: Vec::new() }
    }
}

/// Finds the authorization server of a server.
pub(crate) async fn discover(
    outlet: &TokenHttpClient,
    server: &Url,
    issuer: Option<&Url>,
) -> Result<Place, Fault> {
    if let Some(issuer) = issuer {
        let mut place = metadata_of(outlet, issuer).await?;
        place.resource = Some(canonical(server));
        return Ok(place);
    }
    // Nothing runs on a GET; a server that wants a token says where to get one.
    let challenge = Challenge::of(&outlet.headers(server, "text/event-stream").await?);
    let told = challenge.resource_metadata.as_deref().and_then(|url| Url::parse(url).ok());
    let candidates = match told {
        Some(told) => vec![told],
        None => well_known(server, "oauth-protected-resource"),
    };
    for candidate in candidates {
        let said = outlet.document(&candidate).await?;
        let Some(resource) = said.text("resource").filter(|_| said.status.is_success()) else {
            continue;
        };
        if !covers(resource, server) {
            let (of, shown) = (without_secrets(&candidate), shorten_to(resource, 200));
            return Err(unusable(&format!("{of} speaks for `{shown}`, not for this server")));
        }
        let first = said.body.pointer("/authorization_servers/0").and_then(Value::as_str);
        let Some(issuer) = first.and_then(|url| Url::parse(url).ok()) else {
            return Err(unusable(&format!("{} names no authorization server", without_secrets(&candidate))));
        };
        let mut place = metadata_of(outlet, &issuer).await?;
        place.resource = Some(resource.to_owned());
        place.scopes = match &challenge.scope {
            Some(scope) => scope.split_ascii_whitespace().map(str::to_owned).collect(),
            None => texts(said.body.get("scopes_supported")),
        };
        place.scopes.retain(|scope| is_scope(scope));
        return Ok(place);
    }
    // Before 2025-06-18 a server was its own authorization server.
    let mut origin = server.clone();
    origin.set_path("");
    origin.set_query(None);
    let mut place = metadata_of(outlet, &origin).await?;
    place.resource = Some(canonical(server));
    Ok(place)
}

/// RFC 8414, with OpenID Connect's two places beside it.
async fn metadata_of(outlet: &TokenHttpClient, issuer: &Url) -> Result<Place, Fault> {
    let mut candidates = well_known(issuer, "oauth-authorization-server");
    candidates.truncate(1);
    candidates.extend(well_known(issuer, "openid-configuration").into_iter().take(1));
    let mut appended = issuer.clone();
    appended.set_path(&format!("{}/.well-known/openid-configuration", issuer.path().trim_end_matches('/')));
    candidates.push(appended);
    for candidate in candidates {
        let said = outlet.document(&candidate).await?;
        let Some(token_url) = said.text("token_endpoint").filter(|_| said.status.is_success()) else {
            continue;
        };
        let found = said.text("issuer").unwrap_or_default();
        if found.trim_end_matches('/') != issuer.as_str().trim_end_matches('/') {
            let (of, found) = (without_secrets(&candidate), shorten_to(found, 200));
            return Err(unusable(&format!("{of} speaks for the issuer `{found}`")));
        }
        // A secret that may travel by TLS does not travel without.
        let usable = |url: &Url| url.scheme() == "https" || issuer.scheme() == "http";
        let Some(token_url) = Url::parse(token_url).ok().filter(usable) else {
            return Err(unusable(&format!("{} has no usable token_endpoint", without_secrets(&candidate))));
        };
        return Ok(Place {
            token_url,
            issuer: Some(found.to_owned()),
            resource: None,
            methods: texts(said.body.get("token_endpoint_auth_methods_supported")),
            scopes: Vec::new(),
        });
    }
    Err(unusable(&format!("{} publishes no metadata", without_secrets(issuer))))
}

fn unusable(what: &str) -> Fault {
    let detail = format!(
        "no authorization server could be found: {what}; give `token_url` or `issuer` in the server's `auth`"
    );
    Fault::Credential { detail }
}

/// `/.well-known/NAME` before the path, and at the root.
fn well_known(url: &Url, name: &str) -> Vec<Url> {
    let at = |path: &str| {
        let mut place = url.clone();
        place.set_path(&format!("/.well-known/{name}{path}"));
        place.set_query(None);
        place.set_fragment(None);
        place
    };
    let path = url.path().trim_end_matches('/');
    if path.is_empty() { vec![at("")] } else { vec![at(path), at("")] }
}

/// Whether a resource is this server, or a part of its address that holds it.
fn covers(resource: &str, server: &Url) -> bool {
    let Ok(resource) = Url::parse(resource) else {
        return false;
    };
    let path = resource.path().trim_end_matches('/');
    let within =
        server.path().strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    resource.origin() == server.origin() && within
}

/// The server's address as a resource indicator (RFC 8707).
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
    fn a_document_speaks_for_a_server_only_from_its_own_origin_and_path() {
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
