//! Reads whose call a message is that cannot be decoded, so that its caller gets an answer.

use serde::Deserialize;

use super::call_id::derive_call_id;
use super::group::Group;
use super::not_json;
use super::reply::Reply;
use crate::ids::{CallId, CallKey, Tenant};

/// What can be read of a message that cannot be decoded.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    /// The call.
    pub(super) addressed: Option<CallKey>,
    /// Where its notice goes.
    pub(super) reply: Option<Reply>,
    /// Its place in a group.
    pub(super) group: Option<Box<Group>>,
}

pub(super) fn salvage(body: &str) -> Salvaged {
    // Whoever wrote these names, or a number, looks for the answer under that very id.
    #[derive(Deserialize)]
    struct Address {
        tenant: Option<serde_json::Value>,
        #[serde(rename = "tenantId", alias = "tenant_id")]
        misspelt_tenant: Option<serde_json::Value>,
        call_id: Option<serde_json::Value>,
        #[serde(rename = "callId", alias = "callID")]
        misspelt_call_id: Option<serde_json::Value>,
        idempotency_key: Option<serde_json::Value>,
        #[serde(rename = "idempotencyKey")]
        misspelt_key: Option<serde_json::Value>,
        reply: Option<serde_json::Value>,
        group: Option<serde_json::Value>,
    }
    // serde reads a struct from an array, too.
    if !body.trim_start().starts_with('{') {
        return Salvaged::default();
    }
    let repaired = || not_json::nan_to_null(body).and_then(|text| serde_json::from_str(&text).ok());
    let Some(address) = serde_json::from_str::<Address>(body).ok().or_else(repaired) else {
        return Salvaged::default();
    };
    let text = |value: &Option<serde_json::Value>| match value {
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(serde_json::Value::Number(number)) => Some(number.to_string()),
        Some(
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_),
        )
        | None => None,
    };
    // The right name counts before another.
    let either = |right, misspelt| text(right).or_else(|| text(misspelt));
    let tenant = either(&address.tenant, &address.misspelt_tenant).and_then(|t| Tenant::parse(t).ok());
    let call_id = either(&address.call_id, &address.misspelt_call_id);
    let key = tenant.and_then(|tenant| {
        let call_id = match (call_id, either(&address.idempotency_key, &address.misspelt_key)) {
            (Some(id), _) => CallId::parse(id).ok()?,
            (None, Some(key)) => derive_call_id(&tenant, &key).ok()?,
            (None, None) => return None,
        };
        Some(CallKey { tenant, call_id })
    });
    let group = address.group.and_then(|group| serde_json::from_value::<Box<Group>>(group).ok());
    Salvaged {
        addressed: key,
        reply: address.reply.and_then(|r| serde_json::from_value(r).ok()),
        group: group.filter(|group| group.check().is_ok()),
    }
}
