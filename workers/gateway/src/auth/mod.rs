//! Who may send requests: everybody on this machine, or whoever shows a token that the configured issuer has signed (OAuth 2.1 resource
//! server of the MCP authorization specification; RFC 9728 metadata).
//!
//! **Invariant:** a token is read here and nowhere else. It is not logged, not stored and not passed on.

mod claims;

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, header};
use serde_json::{Map, Value, json};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::time::Timestamp;
use toolfleet_web::tokens::{LEEWAY_S, TokenError, Verifier, words};
use url::Url;

pub use claims::ClaimRules;

use crate::caller::Caller;
use crate::session_source::SessionSource;

/// Tells who sends a request.
pub enum Authenticator {
    /// Everybody is the same caller, without a token. Only for an address that no other machine reaches.
    Open {
        /// The tenant of all calls.
        tenant: Tenant,
        /// Where the conversation stands.
        session: SessionSource,
    },
    /// Tokens of one issuer.
    Tokens(Box<TokenRules>),
}

/// What a token has to be.
pub struct TokenRules {
    /// Who signs it, and whom it is for: the gateway's own address, or what the issuer calls it.
    pub verifier: Verifier,
    /// The scopes that it needs.
    pub scopes: Vec<String>,
    /// What its claims mean.
    pub claims: ClaimRules,
    /// The gateway's public address, which is the resource.
    pub resource: Url,
}

/// Why a request is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 401: there is no token, or it is none of ours.
    Unauthorized { why: String, challenge: String },
    /// 403: the token lacks something.
    Forbidden { why: String, challenge: Option<String> },
    /// 503: it cannot be checked now.
    Unavailable { why: String },
}

impl Authenticator {
    /// Who sends a request with these headers.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        match self {
            Self::Open { tenant, session } => {
                let session = session.read(headers, &Map::new()).map_err(forbidden)?;
                Ok(Caller { tenant: tenant.clone(), user: None, session, conversation: None, expires: None })
            }
            Self::Tokens(rules) => rules.caller(headers).await,
        }
    }

    /// Where the session of calls stands.
    pub(crate) const fn session_source(&self) -> &SessionSource {
        match self {
            Self::Open { session, .. } => session,
            Self::Tokens(rules) => &rules.claims.session,
        }
    }

    /// The header that carries the session of calls, if one does.
    pub(crate) fn session_header(&self) -> Option<&HeaderName> {
        match self.session_source() {
            SessionSource::Header(name) => Some(name),
            SessionSource::None | SessionSource::User | SessionSource::Claim(_) => None,
        }
    }

    /// Whether requests may be of several tenants.
    pub(crate) fn has_several_tenants(&self) -> bool {
        match self {
            Self::Open { .. } => false,
            Self::Tokens(rules) => rules.claims.tenant_claim.is_some(),
        }
    }

    /// The protected-resource metadata (RFC 9728), where tokens are needed.
    pub(crate) fn metadata(&self) -> Option<Value> {
        match self {
            Self::Open { .. } => None,
            Self::Tokens(rules) => Some(json!({
                "resource": rules.resource.as_str().trim_end_matches('/'),
                "authorization_servers": [rules.verifier.issuer],
                "scopes_supported": rules.scopes,
                "bearer_methods_supported": ["header"],
                "resource_name": "toolfleet gateway",
            })),
        }
    }
}

fn forbidden(why: String) -> Refusal {
    Refusal::Forbidden { why, challenge: None }
}

/// The token of the header, if it is a bearer token. Of two headers it is not known which one was checked before.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// Until when requests with such a token are accepted.
fn expiry_of(claims: &Map<String, Value>) -> Option<Timestamp> {
    let since = Duration::try_from_secs_f64(claims.get("exp")?.as_f64()?).ok()?;
    let ms = u64::try_from(since.as_millis()).ok()?;
    Some(Timestamp::from_ms(0).plus_ms(ms).plus_ms(LEEWAY_S * 1_000))
}

impl TokenRules {
    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let Some(token) = bearer(headers) else {
            return Err(self.unauthorized(None, "the request has no bearer token"));
        };
        let claims = self.verifier.claims(token).await.map_err(|error| match error {
            TokenError::Invalid(why) => self.unauthorized(Some("invalid_token"), why),
            TokenError::Unavailable(_) => Refusal::Unavailable { why: error.to_string() },
        })?;
        if let Some(missing) = self.missing_scope(&claims) {
            let why = format!("the token lacks the scope `{missing}`");
            let challenge = self.challenge(Some("insufficient_scope"), &why);
            return Err(Refusal::Forbidden { why, challenge: Some(challenge) });
        }
        let (tenant, user) = self.claims.read(&claims).map_err(forbidden)?;
        let session: Option<SessionId> = self.claims.session.read(headers, &claims).map_err(forbidden)?;
        Ok(Caller { tenant, user, session, conversation: None, expires: expiry_of(&claims) })
    }

    fn missing_scope(&self, claims: &Map<String, Value>) -> Option<&str> {
        let given: Vec<&str> =
            ["scope", "scp"].iter().filter_map(|name| claims.get(*name)).flat_map(words).collect();
        self.scopes.iter().map(String::as_str).find(|scope| !given.contains(scope))
    }

    fn unauthorized(&self, error: Option<&str>, why: &str) -> Refusal {
        Refusal::Unauthorized { why: why.to_owned(), challenge: self.challenge(error, why) }
    }

    /// The header WWW-Authenticate (RFC 6750, RFC 9728). `why` is a sentence of ours.
    fn challenge(&self, error: Option<&str>, why: &str) -> String {
        let metadata = metadata_url(&self.resource);
        let mut challenge = format!("Bearer resource_metadata=\"{metadata}\"");
        if !self.scopes.is_empty() {
            challenge.push_str(&format!(", scope=\"{}\"", self.scopes.join(" ")));
        }
        if let Some(error) = error {
            challenge.push_str(&format!(
                ", error=\"{error}\", error_description=\"{}\"",
                why.replace(['"', '\\'], "'")
            ));
        }
        challenge
    }
}

/// Where the metadata of a resource is (RFC 9728, section 3.1).
pub(crate) fn metadata_url(resource: &Url) -> Url {
    let mut url = resource.clone();
    let path = resource.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("/.well-known/oauth-protected-resource{path}"));
    url
}

#[cfg(test)]
mod tests;
