//! Derives the id of a call from its idempotency key.

use super::error::{RequestError, invalid};
use crate::digest::Digest;
use crate::ids::{CallId, Tenant};

/// The id of a call that is named by an idempotency key: the same for the same tenant and key, nowhere else.
pub fn derive_call_id(tenant: &Tenant, key: &str) -> Result<CallId, RequestError> {
    if key.is_empty() || key.len() > 1024 {
        let found = key.len();
        return Err(invalid("idempotency_key", format!("has {found} bytes; accepted are 1 to 1024")));
    }
    let digest = Digest::of_text(&format!("{}#{tenant}#{key}", tenant.as_str().len()));
    CallId::parse(format!("ik-{}", digest.short(40))).map_err(|e| invalid("idempotency_key", e.to_string()))
}
