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
    let text = |custom: Map<String, Value>| json!({ "custom": custom }).to_string();
    [all, needed]
        .into_iter()
        .filter(|custom| !custom.is_empty())
        .map(text)
        .find(|text| base64_len(text) <= MOST_BYTES)
}

/// The client context of a request for a list of tools.
pub(super) fn list_context(tenant: &Tenant) -> String {
    json!({ "custom": { "toolfleetTenant": tenant.as_str() } }).to_string()
}

const fn base64_len(text: &str) -> usize {
    text.len().div_ceil(3) * 4
}
