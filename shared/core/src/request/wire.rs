//! The fields of a request on the wire. Decoder, encoder and JSON Schema come from this one type.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::call_request::{Operation, Priority, RetryWish, User};
use super::group::Group;
use super::input_kind::InputKind;
use super::lenient;
use super::reply::Reply;
use super::resume::Resume;
use crate::ids::{CallId, ServerId, SessionId, Tenant, ToolId};
use crate::payload::ArgumentsRef;
use crate::time::Timestamp;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "toolfleet call request",
    description = "The body of an SQS message that asks for one tool call.",
    extend("allOf" = [
        {"oneOf": [{"required": ["call_id"], "properties": {"call_id": {"type": "string"}}}, {"required": ["idempotency_key"], "properties": {"idempotency_key": {"type": "string"}}}]},
        {"oneOf": [{"required": ["tool"], "properties": {"tool": {"type": "string"}}}, {"required": ["server"], "properties": {"server": {"type": "string"}}}]},
        {
            "if": {
                "properties": {"operation": {"not": {"enum": ["tools/call", null]}}},
                "required": ["operation"]
            },
            "then": {"allOf": [{"required": ["server"], "properties": {"server": {"type": "string"}}}, {"not": {"required": ["name"], "properties": {"name": {"type": "string"}}}}]}
        },
        {"if": {"required": ["name"], "properties": {"name": {"type": "string"}}}, "then": {"required": ["server"], "properties": {"server": {"type": "string"}}}},
        {"not": {"required": ["arguments", "arguments_ref"], "properties": {
            "arguments": {"not": {"type": "null"}},
            "arguments_ref": {"not": {"type": "null"}}
        }}},
        {"if": {"required": ["function"], "properties": {"function": {"type": "string"}}}, "then": {"required": ["tool"], "properties": {"tool": {"type": "string"}}}}
    ]),
    extend("not" = {"required": ["deadline", "timeout_ms"], "properties": {
        "deadline": {"not": {"type": "null"}},
        "timeout_ms": {"not": {"type": "null"}}
    }})
)]
pub(super) struct WireRequest {
    /// The version of this contract: 1.
    #[serde(deserialize_with = "lenient::needed_whole")]
    #[schemars(range(min = 1, max = 1))]
    pub(super) v: u32,
    /// The call's id, unique within the tenant. Give this or `idempotency_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) call_id: Option<CallId>,
    /// Any text that names the call for the caller; the id is derived from it and the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub(super) idempotency_key: Option<String>,
    /// Who the call is for.
    pub(super) tenant: Tenant,
    /// The registered tool. Give this, or `server` and `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tool: Option<ToolId>,
    /// The function of a tool that offers several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) function: Option<String>,
    /// The registered server; with `name` for `tools/call`, alone for every other operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<ServerId>,
    /// The tool's name on that server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// A JSON object, or the same as a JSON text; left out it is `{}`: the tool's arguments; `{"uri"}` for `resources/read` and `resources/subscribe`;
    /// `{"name", "arguments"}` for `prompts/get`; `{"ref", "argument", "context"}` for `completion/complete`; `{}` for all pages of a listing,
    /// or `{"cursor"}` for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "arguments_schema")]
    pub(super) arguments: Option<Box<RawValue>>,
    /// The same in an S3 object, in place of `arguments`: for what is too large for a message. The fleet reads its own bucket below
    /// `TENANT/`, and those that its operator lists.
    #[serde(default, deserialize_with = "lenient::object", skip_serializing_if = "Option::is_none")]
    pub(super) arguments_ref: Option<ArgumentsRef>,
    /// What to do; `tools/call` by default.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "is_default")]
    #[schemars(with = "Option<Operation>")]
    pub(super) operation: Operation,
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<SessionId>,
    /// Who asks.
    #[serde(default, deserialize_with = "lenient::object", skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<User>,
    /// The agent that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub(super) agent: Option<String>,
    /// Its place in a group: calls of one tenant that are decided together, with one notice.
    #[serde(default, deserialize_with = "lenient::object", skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<Box<Group>>,
    /// The instant before which the call is not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) not_before: Option<Timestamp>,
    /// Of the tenant's calls with this text that were not started yet, only the one that was sent last runs. The others end as
    /// `cancelled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub(super) supersede: Option<String>,
    /// The instant after which the call is worth nothing. Give this or `timeout_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deadline: Option<Timestamp>,
    /// The same as milliseconds after the message was sent, or after `not_before` where that is later.
    #[serde(default, deserialize_with = "lenient::whole", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(super) timeout_ms: Option<u64>,
    /// How urgent it is.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "is_default")]
    #[schemars(with = "Option<Priority>")]
    pub(super) priority: Priority,
    /// A wish for fewer attempts than the tool allows.
    #[serde(default, deserialize_with = "lenient::object", skip_serializing_if = "Option::is_none")]
    pub(super) retry: Option<RetryWish>,
    /// The caller's promise that running the call twice does no harm.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "is_default")]
    #[schemars(with = "Option<bool>")]
    pub(super) idempotent: bool,
    /// Whether a stored answer of an equal call will do.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "is_default")]
    #[schemars(with = "Option<bool>")]
    pub(super) cache: bool,
    /// Where the notice goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reply: Option<Reply>,
    /// Goes on with a call that ended as `input_required`: the same request under an id of its own, with the answers.
    #[serde(default, deserialize_with = "lenient::object", skip_serializing_if = "Option::is_none")]
    pub(super) resume: Option<Resume>,
    /// What the caller can answer if the server asks for input; servers are told so. Without it `form`, `url` and `sampling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub(super) can_answer: Option<Vec<InputKind>>,
}

fn arguments_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["object", "string", "null"], "contentMediaType": "application/json"})
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The JSON Schema of a message body, as committed in `docs/reference/call-request.schema.json`.
pub fn request_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(WireRequest).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".into(), "https://toolfleet.dev/schemas/call-request-v1.json".into());
    }
    schema
}
