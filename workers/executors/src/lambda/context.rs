//! The client context of an Invoke: which tool of which target is called, for which call of the fleet, in which trace.

use serde_json::{Map, Value, json};
use toolfleet_catalog::{LambdaPayload, LambdaTransport};
use toolfleet_core::ids::Tenant;

use crate::executor::{Attempt, Invocation};

/// The most bytes of a client context, in base64, that Lambda takes.
const MOST_BYTES: usize = 3_583;

/// The client context of a call. What does not fit is left out, the least needed first.
pub(super) fn client_context(
    call: &Invocation<'_>,
    lambda: &LambdaTransport,
    attempt: Attempt<'_>,
) -> Option<String> {
    let mut needed = Map::new();
    if lambda.payload == LambdaPayload::Arguments {
        let target = lambda.target_name.as_deref().unwrap_or(call.server.id.as_str());
        needed.insert("bedrockAgentCoreMessageVersion".to_owned(), json!("1.0"));
        needed.insert("bedrockAgentCoreToolName".to_owned(), json!(format!("{target}___{}", call.name)));
        needed.insert("bedrockAgentCoreTargetId".to_owned(), json!(target));
        needed.insert("bedrockAgentCoreGatewayId".to_owned(), json!("toolfleet"));
        needed.insert("bedrockAgentCoreMcpMessageId".to_owned(), json!(call.request.key.call_id.as_str()));
    }
    let mut all = needed.clone();
    all.insert("toolfleetCallId".to_owned(), json!(call.request.key.call_id.as_str()));
    all.insert("toolfleetTenant".to_owned(), json!(call.tenant().as_str()));
    if let Some(session) = call.session() {
        all.insert("toolfleetSession".to_owned(), json!(session));
    }
    for (name, value) in [("traceparent", attempt.traceparent), ("tracestate", attempt.tracestate)] {
        if let Some(value) = value {
            all.insert(name.to_owned(), json!(value));
        }
    }
    fitting([all, needed])
}

/// The first of them that Lambda takes.
fn fitting(contexts: [Map<String, Value>; 2]) -> Option<String> {
    let text = |custom: Map<String, Value>| json!({ "custom": custom }).to_string();
    let filled = contexts.into_iter().filter(|custom| !custom.is_empty());
    filled.map(text).find(|text| base64_len(text) <= MOST_BYTES)
}

/// The client context of a request for a list of tools.
pub(super) fn list_context(tenant: &Tenant) -> String {
    json!({ "custom": { "toolfleetTenant": tenant.as_str() } }).to_string()
}

const fn base64_len(text: &str) -> usize {
    text.len().div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_context_has_at_most_3583_bytes_and_leaves_out_the_least_needed_first() {
        let custom = |value: usize| Map::from_iter([("x".to_owned(), json!("x".repeat(value)))]);
        let around = fitting([custom(0), Map::new()]).unwrap().len();
        // 3,580 bytes of base64 are the most whole groups of four below the bound.
        let most = 3_580 / 4 * 3 - around;
        assert_eq!(fitting([custom(most), custom(1)]).map(|text| text.len()), Some(3_580 / 4 * 3));
        assert_eq!(fitting([custom(most + 1), custom(1)]).map(|text| text.len()), Some(around + 1));
        assert_eq!(fitting([custom(most + 1), custom(most + 1)]), None);
        assert_eq!(fitting([custom(most + 1), Map::new()]), None);
    }
}
