//! What the claims of a token mean: which of them is the tenant, the user, the user's type and roles, and the conversation.

use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName};
use serde_json::{Map, Value};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::request::User;
use toolfleet_web::tokens::{ClaimName, words};

/// Which claims are the tenant and the user.
#[derive(Debug, Clone)]
pub struct ClaimRules {
    /// The claim of the tenant.
    pub tenant_claim: Option<ClaimName>,
    /// The tenant of all tokens, where no claim is named.
    pub tenant: Option<Tenant>,
    /// The claim of the user's id; none where all callers of a tenant are one, by an operator's choice.
    pub user: Option<ClaimName>,
    /// The claim of the user's type.
    pub user_type: Option<ClaimName>,
    /// The claim of the user's roles: a list, or words separated by spaces.
    pub roles: Option<ClaimName>,
    /// Where the conversation stands.
    pub session: SessionSource,
}

/// Where the conversation of a request stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SessionSource {
    /// Calls have no session: those of a tenant share the state of its servers.
    #[default]
    None,
    /// The user is the session; none where no user is known.
    User,
    /// In a claim of the token.
    Claim(ClaimName),
    /// In a header of the request.
    Header(HeaderName),
}

impl FromStr for SessionSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let accepted =
            "accepted are user, none, claim:NAME and header:NAME, for example header:mcp-session-id";
        match text.trim().split_once(':') {
            None if text.trim() == "none" => Ok(Self::None),
            None if text.trim() == "user" => Ok(Self::User),
            Some(("claim", name)) => Ok(Self::Claim(name.parse()?)),
            Some(("header", name)) => {
                let name =
                    HeaderName::from_str(name.trim()).map_err(|_| format!("names no header; {accepted}"))?;
                Ok(Self::Header(name))
            }
            None | Some(_) => Err(format!("is `{}`; {accepted}", text.trim())),
        }
    }
}

impl SessionSource {
    /// The conversation of a request; none where it names none.
    pub(super) fn read(
        &self,
        headers: &HeaderMap,
        claims: &Map<String, Value>,
    ) -> Result<Option<SessionId>, String> {
        let text = match self {
            Self::None | Self::User => return Ok(None),
            Self::Claim(name) => name.of(claims).and_then(Value::as_str),
            Self::Header(name) => headers.get(name).and_then(|value| value.to_str().ok()),
        };
        let parse = |text: &str| SessionId::parse(text).map_err(|error| format!("the session {error}"));
        text.map(parse).transpose()
    }
}

impl ClaimRules {
    /// The tenant and the user of a token.
    pub(super) fn read(&self, claims: &Map<String, Value>) -> Result<(Tenant, Option<User>), String> {
        let tenant = match (&self.tenant_claim, &self.tenant) {
            (Some(name), _) => {
                let text = name.of(claims).and_then(Value::as_str);
                let text = text.ok_or_else(|| {
                    format!("the token has no text in its claim `{}`, which is the tenant", name)
                })?;
                Tenant::parse(text).map_err(|error| format!("the tenant in the claim `{}` {error}", name))?
            }
            (None, Some(tenant)) => tenant.clone(),
            (None, None) => return Err("the gateway is configured without a tenant".to_owned()),
        };
        let Some(name) = &self.user else { return Ok((tenant, None)) };
        // Whoever had no id would share the handles and the request keys of all others without one.
        let id = name.of(claims).and_then(id_of).ok_or_else(|| {
            format!("the token has no id of a user in its claim `{}`: a text, or a whole number", name)
        })?;
        let kind = self.user_type.as_ref().and_then(|name| name.of(claims)).and_then(Value::as_str);
        let roles = self.roles.as_ref().and_then(|name| name.of(claims));
        let roles =
            roles.map(|roles| words(roles).into_iter().map(str::to_owned).collect()).unwrap_or_default();
        Ok((tenant, Some(User { id, kind: kind.map(str::to_owned), roles })))
    }
}

/// The id of a claim.
fn id_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
