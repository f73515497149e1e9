//! What the claims of a token mean: which of them is the tenant, the user, the user's type and roles, and the conversation.

use serde_json::{Map, Value};
use toolfleet_core::ids::Tenant;
use toolfleet_core::request::User;
use toolfleet_web::tokens::{ClaimName, words};

use crate::session_source::SessionSource;

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
