//! What the claims of a token mean: which of them is the tenant, the user, the user's type and roles, and the conversation.

use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName};
use serde_json::{Map, Value};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::request::User;

/// The name of a claim, or a JSON pointer to one within another, such as `/realm_access/roles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimName(String);

impl FromStr for ClaimName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim();
        if name.is_empty() {
            return Err(
                "is empty; give the name of a claim, or a pointer such as /realm_access/roles".to_owned()
            );
        }
        Ok(Self(name.to_owned()))
    }
}

impl ClaimName {
    /// The claim of the user; none for the word that says that there are no users.
    pub(crate) fn unless_none(&self) -> Option<Self> {
        (self.0 != "none").then(|| self.clone())
    }

    fn of<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        // A name such as `https://example.com/roles` is a claim of its own.
        let Some(path) = self.0.strip_prefix('/') else { return claims.get(&self.0) };
        let (first, rest) = path.split_once('/').map_or((path, ""), |(first, rest)| (first, rest));
        let value = claims.get(first)?;
        if rest.is_empty() { Some(value) } else { value.pointer(&format!("/{rest}")) }
    }
}

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
    /// Calls have no session.
    #[default]
    None,
    /// In a claim of the token.
    Claim(ClaimName),
    /// In a header of the request.
    Header(HeaderName),
}

impl FromStr for SessionSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let accepted = "accepted are none, claim:NAME and header:NAME, for example header:mcp-session-id";
        match text.trim().split_once(':') {
            None if text.trim() == "none" => Ok(Self::None),
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
            Self::None => return Ok(None),
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
                    format!("the token has no text in its claim `{}`, which is the tenant", name.0)
                })?;
                Tenant::parse(text)
                    .map_err(|error| format!("the tenant in the claim `{}` {error}", name.0))?
            }
            (None, Some(tenant)) => tenant.clone(),
            (None, None) => return Err("the gateway is configured without a tenant".to_owned()),
        };
        let Some(name) = &self.user else { return Ok((tenant, None)) };
        // Whoever had no id would share the handles and the request keys of all others without one.
        let id = name.of(claims).and_then(id_of).ok_or_else(|| {
            format!("the token has no id of a user in its claim `{}`: a text, or a whole number", name.0)
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

/// The words of a claim: a list of texts, or a text with spaces.
pub(super) fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split_whitespace().collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}
