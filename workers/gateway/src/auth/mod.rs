//! Who may send requests: everybody on this machine, or whoever shows a token that the configured issuer has signed (OAuth 2.1 resource
//! server of the MCP authorization specification; RFC 9728 metadata).
//!
//! **Invariant:** a token is read here and nowhere else. It is not logged, not stored and not passed on.

mod claims;
mod jwks;

use std::time::Duration;

use axum::http::{HeaderMap, header};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value, json};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::time::Timestamp;
use url::Url;

pub use claims::{ClaimName, ClaimRules, SessionSource};
pub use jwks::{HttpKeys, KeySource, Keys, KeysError, ReadKeys};

use crate::caller::Caller;

/// The signatures that are accepted. None of them has a secret that the issuer and the gateway share.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// How far the clocks of issuer and gateway may differ, in seconds.
const LEEWAY_S: u64 = 30;
/// A longer token is not read.
const MAX_TOKEN_BYTES: usize = 16_384;

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
    /// Who signs it.
    pub issuer: String,
    /// Whom it is for: the gateway's own address, or what the issuer calls it.
    pub audiences: Vec<String>,
    /// The scopes that it needs.
    pub scopes: Vec<String>,
    /// What its claims mean.
    pub claims: ClaimRules,
    /// The issuer's keys.
    pub keys: Keys,
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
                Ok(Caller { tenant: tenant.clone(), user: None, session, expires: None })
            }
            Self::Tokens(rules) => rules.caller(headers).await,
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
                "authorization_servers": [rules.issuer],
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

/// What is wrong with a token.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are all of a token that is malformed")]
fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks one of the claims exp, iss and aud",
        _ => "the token is not valid",
    }
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
        let claims = self.claims_of(token).await?;
        if let Some(missing) = self.missing_scope(&claims) {
            let why = format!("the token lacks the scope `{missing}`");
            let challenge = self.challenge(Some("insufficient_scope"), &why);
            return Err(Refusal::Forbidden { why, challenge: Some(challenge) });
        }
        let (tenant, user) = self.claims.read(&claims).map_err(forbidden)?;
        let session: Option<SessionId> = self.claims.session.read(headers, &claims).map_err(forbidden)?;
        Ok(Caller { tenant, user, session, expires: expiry_of(&claims) })
    }

    /// The claims of a token, if its signature, issuer, audience and times are right.
    async fn claims_of(&self, token: &str) -> Result<Map<String, Value>, Refusal> {
        let invalid = |why: &str| self.unauthorized(Some("invalid_token"), why);
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid("the token is too long"));
        }
        let header = decode_header(token).map_err(|_| invalid("the token is no signed JWT"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(invalid("the token's algorithm is not accepted"));
        }
        let found = self.keys.find(header.kid.as_deref(), header.alg).await;
        let key = match found {
            Ok(Some(key)) => key,
            Ok(None) => {
                return Err(invalid("the token is signed with a key that its issuer does not publish"));
            }
            Err(error) => {
                tracing::error!(%error, code = "gateway_keys_failed", "the issuer's keys cannot be read");
                return Err(Refusal::Unavailable { why: "the issuer's keys cannot be read now".to_owned() });
            }
        };
        let key = DecodingKey::from_jwk(&key).map_err(|_| invalid("the issuer's key cannot be used"))?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&self.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        match decode::<Map<String, Value>>(token, &key, &validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(invalid(reason(error.kind()))),
        }
    }

    fn missing_scope(&self, claims: &Map<String, Value>) -> Option<&str> {
        let given: Vec<&str> =
            ["scope", "scp"].iter().filter_map(|name| claims.get(*name)).flat_map(claims::words).collect();
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
