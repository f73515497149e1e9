//! JSON-RPC messages as the gateway reads and writes them: raw where the gateway only passes a value on.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use futures::channel::mpsc::UnboundedSender;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_core::request::InputKind;
use toolfleet_mcp_protocol::{
    ErrorObject, ErrorResponse, ProtocolRevision, ProtocolVersion, Response, error_code, meta_key,
};

use crate::caller::Caller;
use crate::session_id;

/// The key of how a call ended that has no answer of its tool, in `result._meta`.
pub(crate) const OUTCOME: &str = "toolfleet/outcome";

/// A request, a notification, or the answer to a request of the gateway.
#[derive(Debug, Deserialize)]
pub(crate) struct Inbound {
    /// The id as it was written; none in a notification.
    #[serde(default, deserialize_with = "present")]
    pub(crate) id: Option<Box<RawValue>>,
    /// The method; empty in an answer.
    #[serde(default)]
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) params: Option<Box<RawValue>>,
    /// The result, in an answer.
    #[serde(default, deserialize_with = "present")]
    pub(crate) result: Option<Box<RawValue>>,
    /// The error, in an answer that is one.
    #[serde(default, deserialize_with = "present")]
    pub(crate) error: Option<Box<RawValue>>,
}

/// A value that is there, also if it is null.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(value).map(Some)
}

/// The member `_meta` of parameters.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Meta {
    #[serde(default, rename = "progressToken")]
    pub(crate) progress_token: Option<Box<RawValue>>,
    #[serde(default, rename = "io.modelcontextprotocol/protocolVersion")]
    pub(crate) version: Option<String>,
    #[serde(default, rename = "io.modelcontextprotocol/clientCapabilities")]
    pub(crate) capabilities: Option<Value>,
    #[serde(default)]
    pub(crate) traceparent: Option<String>,
    /// How the client names the call.
    #[serde(default, rename = "toolfleet/requestKey")]
    pub(crate) request_key: Option<String>,
}

#[derive(Default, Deserialize)]
struct WithMeta {
    #[serde(default, rename = "_meta")]
    meta: Option<Meta>,
}

impl Inbound {
    /// Whether it is the answer to a request of the gateway.
    pub(crate) fn is_answer(&self) -> bool {
        self.method.is_empty() && (self.result.is_some() || self.error.is_some())
    }

    /// The parameters as `T`; an object without members where there are none.
    pub(crate) fn params<'a, T: Deserialize<'a>>(&'a self) -> Result<T, RpcError> {
        let text = self.params.as_deref().map_or("{}", RawValue::get);
        if !text.starts_with('{') {
            return Err(RpcError::invalid_params("`params` is no object"));
        }
        serde_json::from_str(text).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            RpcError::invalid_params(format!(
                "the parameters of `{}` are wrong ({:?} at {place})",
                self.method,
                error.classify()
            ))
        })
    }

    pub(crate) fn meta(&self) -> Result<Meta, RpcError> {
        let mut meta = self.params::<WithMeta>()?.meta.unwrap_or_default();
        // Anything else would make the queue refuse the message.
        meta.traceparent = meta.traceparent.filter(|text| is_traceparent(text));
        Ok(meta)
    }
}

/// Whether it is a W3C `traceparent` of version 00: 2, 32, 16 and 2 hexadecimal digits.
fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split('-').map(str::len).eq([2, 32, 16, 2]) && text.split('-').all(is_hex)
}

/// A request that was accepted: who sends it, how, and with what.
#[derive(Debug)]
pub(crate) struct Request {
    /// When it came. What is waited for on its behalf, is waited for from then on.
    pub(crate) at: Instant,
    pub(crate) caller: Caller,
    pub(crate) version: ProtocolVersion,
    pub(crate) meta: Meta,
    pub(crate) inbound: Inbound,
    /// The header `Mcp-Session-Id`.
    pub(crate) session: Option<String>,
    /// The request key of the header `Idempotency-Key`.
    pub(crate) key_header: Option<String>,
    /// The headers `Mcp-Param-*`, in lower case and without that prefix.
    pub(crate) param_headers: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn is_modern(&self) -> bool {
        self.version.revision() == ProtocolRevision::Modern
    }

    /// Whether the client declared the capability at that JSON pointer: in the request, or when it opened its session.
    pub(crate) fn declares(&self, pointer: &str) -> bool {
        self.meta
            .capabilities
            .as_ref()
            .is_some_and(|capabilities| session_id::declares(capabilities, pointer))
    }

    /// Whether its client is asked within the response, and can be: it belongs to a session of a client that declared something to ask for.
    pub(crate) fn may_be_asked(&self) -> bool {
        !self.is_modern() && ["/elicitation", "/sampling", "/roots"].iter().any(|one| self.declares(one))
    }

    /// What the client can answer: the tool's server is told so.
    pub(crate) fn can_answer(&self) -> Vec<InputKind> {
        let kinds = [
            ("/elicitation/form", InputKind::Form),
            ("/elicitation/url", InputKind::Url),
            ("/sampling", InputKind::Sampling),
            ("/sampling/tools", InputKind::SamplingTools),
            ("/roots", InputKind::Roots),
        ];
        kinds.into_iter().filter(|(pointer, _)| self.declares(pointer)).map(|(_, kind)| kind).collect()
    }

    /// Whether the client takes tasks.
    pub(crate) fn takes_tasks(&self) -> bool {
        self.is_modern() && self.declares("/extensions/io.modelcontextprotocol~1tasks")
    }

    /// Whether its version has tasks that clients ask for in a request: 2025-11-25 alone.
    pub(crate) fn has_task_requests(&self) -> bool {
        self.version == ProtocolVersion::V2025_11_25
    }

    /// How the client names the call, so that a repeated request finds it.
    pub(crate) fn request_key(&self) -> Option<&str> {
        self.meta.request_key.as_deref().or(self.key_header.as_deref())
    }
}

/// A JSON-RPC error and the HTTP status it comes with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RpcError {
    pub(crate) status: StatusCode,
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Option<Value>,
}

impl RpcError {
    pub(crate) fn new(status: StatusCode, code: i64, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), data: None }
    }

    pub(crate) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(StatusCode::OK, error_code::INVALID_PARAMS, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::OK, error_code::INTERNAL_ERROR, message)
    }

    /// The client did not declare what the answer needs.
    pub(crate) fn missing_capability(capabilities: Value) -> Self {
        let text = "Missing required client capability";
        let error = Self::new(StatusCode::BAD_REQUEST, error_code::MISSING_CAPABILITY, text);
        Self { data: Some(json!({ "requiredCapabilities": capabilities })), ..error }
    }

    pub(crate) fn text(&self, id: Option<&RawValue>) -> String {
        let error = ErrorObject { code: self.code, message: &self.message, data: self.data.as_ref() };
        written(&ErrorResponse::new(id, error))
    }
}

/// The result of a request.
pub(crate) type Answer = Result<Box<RawValue>, RpcError>;

/// Where notifications about a request go: the event stream of its response.
pub(crate) type Notifications = Option<UnboundedSender<String>>;

/// A name as an error may repeat it.
pub(crate) fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// The answer with that result, as a text without line breaks.
pub(crate) fn response(id: Option<&RawValue>, result: &RawValue) -> String {
    written(&Response::new(id, result))
}

/// A line break in JSON is white space: within a text it is escaped.
fn written(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text }
}

/// The members of an object, each byte for byte.
pub(crate) type Members = BTreeMap<String, Box<RawValue>>;

/// A value that is known to be JSON.
pub(crate) fn raw(value: &impl serde::Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Adds `resultType` where the version has it, and the gateway's name and more to `_meta`.
pub(crate) fn finish_result(
    mut members: Members,
    result_type: &str,
    request: &Request,
    more: &[(&str, Value)],
) -> Box<RawValue> {
    members.remove("resultType");
    if request.is_modern() {
        members.insert("resultType".to_owned(), raw(&result_type));
    }
    let mut meta: Members =
        members.get("_meta").and_then(|meta| serde_json::from_str(meta.get()).ok()).unwrap_or_default();
    // The client's server is the gateway, not the tool's.
    meta.remove(meta_key::SERVER_INFO);
    if request.is_modern() {
        meta.insert(meta_key::SERVER_INFO.to_owned(), raw(&server_info()));
    }
    for (name, value) in more {
        meta.insert((*name).to_owned(), raw(value));
    }
    if !meta.is_empty() {
        members.insert("_meta".to_owned(), raw(&meta));
    }
    raw(&members)
}

/// The gateway's name and version.
pub(crate) fn server_info() -> Value {
    json!({"name": "toolfleet", "title": "toolfleet gateway", "version": env!("CARGO_PKG_VERSION")})
}

#[cfg(test)]
mod tests {
    use super::is_traceparent;

    #[test]
    fn a_traceparent_is_whole_or_left_out() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for wrong in ["", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\u{1}", "00-x-y-01"] {
            assert!(!is_traceparent(wrong), "{wrong:?}");
        }
    }
}
