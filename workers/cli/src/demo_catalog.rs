//! The bundled catalog: the tools of the demo MCP server. Only `counter` is not safe to repeat, so that the demo shows how such a tool
//! is treated.

use serde_json::{Value, json};

/// The catalog of the demo server at `mcp_url`, whose notices may go to `reply_queue`.
pub(crate) fn demo(mcp_url: &str, reply_queue: &str) -> Value {
    let text = |name: &str| {
        json!({
            "type": "object", "properties": {name: {"type": "string"}}, "required": [name], "additionalProperties": false
        })
    };
    json!({
        "servers": [{"id": "demo", "url": mcp_url}],
        "tools": [
            {"id": "echo", "server": "demo", "description": "Returns its text unchanged.", "idempotent": true, "input_schema": {
                "type": "object", "properties": {"text": {"description": "What to return."}}
            }},
            {"id": "add", "server": "demo", "description": "Adds two numbers.", "idempotent": true, "input_schema": {
                "type": "object",
                "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
                "required": ["a", "b"], "additionalProperties": false
            }},
            {"id": "slow", "server": "demo", "description": "Waits for some milliseconds, then answers. Safe to repeat.", "idempotent": true, "progress": true, "input_schema": {
                "type": "object",
                "properties": {"ms": {"type": "integer", "minimum": 0, "maximum": 60_000}},
                "required": ["ms"], "additionalProperties": false
            }},
            {"id": "flaky", "server": "demo", "description": "Fails with HTTP 503 the first times it is called with a key, then succeeds. Safe to repeat.", "idempotent": true, "max_attempts": 5, "input_schema": {
                "type": "object",
                "properties": {"key": {"type": "string"}, "failures": {"type": "integer", "minimum": 0}},
                "required": ["key", "failures"], "additionalProperties": false
            }},
            {"id": "fail", "server": "demo", "description": "Always ends as a tool error with this message.", "idempotent": true, "input_schema": text("message")},
            {"id": "counter", "server": "demo", "description": "Adds one to a named counter and returns the new value. NOT safe to repeat: every call counts.", "input_schema": text("name")}
        ],
        "tenants": {"queue": ["*"]},
        "reply_queues": [reply_queue]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use toolfleet_catalog::Catalog;

    #[test]
    fn the_bundled_catalog_is_a_catalog() {
        let text = demo("http://127.0.0.1:8931/mcp", "http://127.0.0.1:9324/0/replies").to_string();
        let catalog = Catalog::parse(&text).unwrap();
        let safe: Vec<_> = catalog
            .tools()
            .iter()
            .filter(|tool| tool.functions.iter().all(|f| f.idempotent))
            .map(|tool| tool.id.to_string())
            .collect();
        assert_eq!(safe, ["add", "echo", "fail", "flaky", "slow"]);
        assert!(catalog.allows_reply_queue(
            &toolfleet_core::ids::Tenant::parse("demo").unwrap(),
            "http://127.0.0.1:9324/0/replies"
        ));
    }
}
