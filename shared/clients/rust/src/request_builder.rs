//! Builds requests: the fields that an orchestrator sets, checked by the decoder that workers use.

use serde_json::{Map, Value, json};
use toolfleet_core::request::{
    CallRequest, InputKind, Operation, Policy, Priority, REQUEST_VERSION, RequestError,
};
use toolfleet_core::time::Timestamp;

/// A request that is being built.
#[derive(Debug, Clone)]
pub struct RequestBuilder(Map<String, Value>);

impl RequestBuilder {
    /// A call of a registered tool.
    pub fn tool(tenant: &str, tool: &str) -> Self {
        Self::new(tenant).set("tool", tool)
    }

    /// A call of a server's tool by the server's own name for it.
    pub fn on_server(tenant: &str, server: &str, name: &str) -> Self {
        Self::new(tenant).set("server", server).set("name", name)
    }

    /// Any operation but `tools/call`, for a server; its parameters are the [`arguments`](Self::arguments).
    pub fn of_server(tenant: &str, server: &str, operation: Operation) -> Self {
        Self::new(tenant).set("server", server).set("operation", operation.as_str())
    }

    /// Reads a resource of a server.
    pub fn resource(tenant: &str, server: &str, uri: &str) -> Self {
        Self::of_server(tenant, server, Operation::ResourcesRead).arguments(json!({"uri": uri}))
    }

    /// Gets a prompt of a server; its arguments are a JSON object of texts.
    pub fn prompt(tenant: &str, server: &str, name: &str, arguments: Value) -> Self {
        let arguments = json!({"name": name, "arguments": arguments});
        Self::of_server(tenant, server, Operation::PromptsGet).arguments(arguments)
    }

    fn new(tenant: &str) -> Self {
        Self(Map::new()).set("v", REQUEST_VERSION).set("tenant", tenant).set("arguments", json!({}))
    }

    /// The arguments, a JSON object.
    #[must_use]
    pub fn arguments(self, arguments: Value) -> Self {
        self.set("arguments", arguments)
    }

    /// The call's id.
    #[must_use]
    pub fn call_id(self, id: &str) -> Self {
        self.set("call_id", id)
    }

    /// The text from which the call's id is derived.
    #[must_use]
    pub fn idempotency_key(self, key: &str) -> Self {
        self.set("idempotency_key", key)
    }

    /// Resumes an earlier call of the tenant that ended as `input_required`: the same question, and an answer for each key of the
    /// server's questions.
    #[must_use]
    pub fn resume(self, call_id: &str, input_responses: Value) -> Self {
        self.set("resume", json!({"call_id": call_id, "input_responses": input_responses}))
    }

    /// A stored answer of an equal call will do, where the tool or its server allows that.
    #[must_use]
    pub fn cache(self) -> Self {
        self.set("cache", true)
    }

    /// How urgent it is; [`Client::with_priority_queues`](crate::Client::with_priority_queues) names the queue.
    #[must_use]
    pub fn priority(self, priority: Priority) -> Self {
        self.set("priority", priority.as_str())
    }

    /// The instant before which the call is not started.
    #[must_use]
    pub fn not_before(self, at: Timestamp) -> Self {
        self.set("not_before", at.to_string())
    }

    /// Of the tenant's calls with this text that were not started yet, only the newest runs.
    #[must_use]
    pub fn supersede(self, key: &str) -> Self {
        self.set("supersede", key)
    }

    /// Its place in a group: the group's id, this call's index from 0, how many calls the group has, and when it is decided.
    /// Other fields of `group` are given by [`set`](Self::set).
    #[must_use]
    pub fn group(self, id: &str, index: u32, size: u32, policy: Policy) -> Self {
        self.set("group", json!({"id": id, "index": index, "size": size, "policy": policy}))
    }

    /// What the caller can answer if the server asks for input; servers are told so.
    #[must_use]
    pub fn can_answer(self, kinds: &[InputKind]) -> Self {
        self.set("can_answer", json!(kinds))
    }

    /// Any other field of the contract, see docs/reference/call-request.schema.json.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    /// The request.
    ///
    /// # Errors
    /// It violates a rule of the contract.
    pub fn build(self) -> Result<CallRequest, RequestError> {
        CallRequest::decode_large(&Value::Object(self.0).to_string()).map_err(|malformed| malformed.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_violates_a_rule_is_not_built() {
        let error = RequestBuilder::tool("acme", "echo").build().unwrap_err();
        assert_eq!(error.field, "call_id");
        let error = RequestBuilder::tool("acme", "echo").call_id("c").set("colour", 1).build().unwrap_err();
        assert_eq!(error.field, "colour");
        let error =
            RequestBuilder::prompt("acme", "s", "p", json!({"n": 1})).call_id("c").build().unwrap_err();
        assert_eq!(error.field, "arguments.arguments");
        assert!(RequestBuilder::resource("acme", "s", "file:///x").call_id("c").build().is_ok());
        assert!(RequestBuilder::of_server("acme", "s", Operation::ToolsList).call_id("c").build().is_ok());
        assert!(RequestBuilder::on_server("acme", "s", "t").idempotency_key("k").build().is_ok());
        assert!(RequestBuilder::tool("acme", "t").call_id("c").cache().build().unwrap().cache);
        let resumed = |answer: Value| {
            RequestBuilder::tool("acme", "t").call_id("c2").resume("c1", json!({"who": answer})).build()
        };
        assert_eq!(resumed(json!("Ann")).unwrap_err().field, "resume.input_responses");
        assert_eq!(resumed(json!({"action": "decline"})).unwrap().resume.unwrap().call_id.as_str(), "c1");
    }
}
