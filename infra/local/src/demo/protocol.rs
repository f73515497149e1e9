//! MCP over HTTP as the demo server speaks it: 2026-07-28 without sessions, 2025-11-25 and older with sessions.
//!
//! **Invariant:** a request is checked completely before its tool runs; a 4xx status or an error -326xx means that no tool ran.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use serde_json::{Value, json};
use toolfleet_mcp_protocol::{
    DiscoverResult, ErrorObject, ErrorResponse, Implementation, InitializeResult, ProtocolRevision,
    ProtocolVersion, ServerCapabilities, UnsupportedVersion, cache_scope, error_code, header, meta_key,
    method, result_type,
};

use super::progress;
use super::state::Demo;
use super::tools::{Run, listing};

const MODERN: &str = ProtocolVersion::MODERN.as_str();
/// The session-bound versions over streamable HTTP, newest first.
const LEGACY: [&str; 3] = [
    ProtocolVersion::V2025_11_25.as_str(),
    ProtocolVersion::V2025_06_18.as_str(),
    ProtocolVersion::V2025_03_26.as_str(),
];
const INSTRUCTIONS: &str = "Tools to try toolfleet with. Only `counter` must not be repeated.";

/// Answers one HTTP request.
pub(super) async fn handle(
    State(demo): State<Arc<Demo>>,
    http_method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let version = text(&headers, header::PROTOCOL_VERSION);
    let modern = version.is_some_and(|version| !LEGACY.contains(&version));
    if http_method == Method::DELETE && !modern {
        return end_session(&demo, &headers);
    }
    if http_method != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Ok(message) = serde_json::from_slice::<Value>(&body) else {
        return error(StatusCode::BAD_REQUEST, &Value::Null, error_code::PARSE_ERROR, "Parse error");
    };
    let id = message.get("id").cloned().unwrap_or(Value::Null);
    let name = message.get("method").and_then(Value::as_str).unwrap_or_default();
    let checked = if modern {
        check_modern(&headers, &message, &id, name)
    } else {
        check_legacy(&demo, &headers, &message, &id, name)
    };
    let revision = match checked {
        ControlFlow::Continue(revision) => revision,
        ControlFlow::Break(response) => return response,
    };
    match (name, revision) {
        (method::TOOLS_LIST, _) => {
            let tools = json!({ "tools": listing(), "ttlMs": 60_000, "cacheScope": cache_scope::PUBLIC });
            result(revision, &id, tools)
        }
        (method::TOOLS_CALL, _) => call(&demo, revision, &id, &message).await,
        (method::PING, ProtocolRevision::Legacy) => result(revision, &id, json!({})),
        (method::DISCOVER, ProtocolRevision::Modern) => result(revision, &id, discovered()),
        (_, ProtocolRevision::Modern) => unknown_method(StatusCode::NOT_FOUND, &id),
        (_, ProtocolRevision::Legacy) => unknown_method(StatusCode::OK, &id),
    }
}

fn unknown_method(status: StatusCode, id: &Value) -> Response {
    error(status, id, error_code::METHOD_NOT_FOUND, "Method not found")
}

fn discovered() -> Value {
    let mut versions = vec![MODERN];
    versions.extend(LEGACY);
    value(&DiscoverResult {
        result_type: result_type::COMPLETE,
        supported_versions: &versions,
        capabilities: ServerCapabilities::default(),
        server_info: None,
        instructions: Some(INSTRUCTIONS),
        ttl_ms: 3_600_000,
        cache_scope: cache_scope::PUBLIC,
    })
}

async fn call(demo: &Demo, revision: ProtocolRevision, id: &Value, message: &Value) -> Response {
    let tool = message.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
    let arguments = message.pointer("/params/arguments").cloned().unwrap_or_else(|| json!({}));
    let run = demo.tools().run(tool, &arguments);
    match run {
        Run::Refused(reason) => error(StatusCode::OK, id, error_code::INVALID_PARAMS, &reason),
        Run::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "flaky, as requested").into_response(),
        Run::Wait(wait) => {
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let waited = outcome(false, &format!("waited {ms} ms"), &json!({ "waited_ms": ms }));
            match message.pointer("/params/_meta").and_then(|meta| meta.get(meta_key::PROGRESS_TOKEN)) {
                Some(token) => progress::while_waiting(wait, token.clone(), framed(revision, id, waited)),
                None => {
                    tokio::time::sleep(wait).await;
                    result(revision, id, waited)
                }
            }
        }
        Run::Done { failed, text, structured } => result(revision, id, outcome(failed, &text, &structured)),
    }
}

fn outcome(failed: bool, text: &str, structured: &Value) -> Value {
    let content = json!([{ "type": "text", "text": text }]);
    if failed {
        json!({ "content": content, "isError": true })
    } else {
        json!({ "content": content, "structuredContent": structured, "isError": false })
    }
}

/// Checks a request of 2026-07-28: `params._meta` is complete, and the headers agree with the body.
fn check_modern(
    headers: &HeaderMap,
    message: &Value,
    id: &Value,
    rpc_method: &str,
) -> ControlFlow<Response, ProtocolRevision> {
    if id.is_null() {
        return ControlFlow::Break(StatusCode::ACCEPTED.into_response());
    }
    let refuse = |code, reason: &str| ControlFlow::Break(error(StatusCode::BAD_REQUEST, id, code, reason));
    let meta = message.pointer("/params/_meta");
    let in_meta = |key: &str| meta.and_then(|meta| meta.get(key));
    let version = in_meta(meta_key::PROTOCOL_VERSION).and_then(Value::as_str);
    let version_header = text(headers, header::PROTOCOL_VERSION).unwrap_or_default();
    let Some(version) = version else {
        return ControlFlow::Break(unsupported_or_incomplete(id, version_header));
    };
    if in_meta(meta_key::CLIENT_CAPABILITIES).is_none() {
        return refuse(error_code::INVALID_PARAMS, &lacks(meta_key::CLIENT_CAPABILITIES));
    }
    if version_header != version {
        return refuse(
            error_code::HEADER_MISMATCH,
            "the MCP-Protocol-Version header does not match the body",
        );
    }
    if text(headers, header::METHOD) != Some(rpc_method) {
        return refuse(error_code::HEADER_MISMATCH, "the Mcp-Method header does not match the body");
    }
    // The names of these tools are plain ASCII, so a base64 value never equals one.
    let tool = message.pointer("/params/name").and_then(Value::as_str);
    let name_header = text(headers, header::NAME);
    let encoded = name_header.is_some_and(|name| name.starts_with(header::BASE64_PREFIX));
    if rpc_method == method::TOOLS_CALL && name_header != tool && !encoded {
        return refuse(error_code::HEADER_MISMATCH, "the Mcp-Name header does not match the body");
    }
    if version != MODERN {
        return ControlFlow::Break(unsupported(id, version));
    }
    ControlFlow::Continue(ProtocolRevision::Modern)
}

fn lacks(key: &str) -> String {
    format!("params._meta lacks {key}")
}

fn unsupported_or_incomplete(id: &Value, version_header: &str) -> Response {
    if version_header == MODERN {
        let reason = lacks(meta_key::PROTOCOL_VERSION);
        return error(StatusCode::BAD_REQUEST, id, error_code::INVALID_PARAMS, &reason);
    }
    unsupported(id, version_header)
}

fn unsupported(id: &Value, requested: &str) -> Response {
    let error = ErrorObject {
        code: error_code::UNSUPPORTED_VERSION,
        message: "Unsupported protocol version",
        data: Some(UnsupportedVersion { supported: &[MODERN], requested: Some(requested) }),
    };
    (StatusCode::BAD_REQUEST, Json(ErrorResponse::new(Some(id), error))).into_response()
}

/// Checks a request of the older versions: `initialize` comes first, later requests name the session it opened.
fn check_legacy(
    demo: &Demo,
    headers: &HeaderMap,
    message: &Value,
    id: &Value,
    rpc_method: &str,
) -> ControlFlow<Response, ProtocolRevision> {
    if rpc_method == method::INITIALIZE {
        return ControlFlow::Break(initialize(demo, message, id));
    }
    let Some(session) = text(headers, header::SESSION_ID) else {
        let reason = "Bad Request: no session id; initialize first";
        return ControlFlow::Break(error(StatusCode::BAD_REQUEST, id, error_code::NO_SESSION, reason));
    };
    if !demo.sessions().contains(session) {
        let (status, code) = (StatusCode::NOT_FOUND, error_code::SESSION_NOT_FOUND);
        return ControlFlow::Break(error(status, id, code, "Session not found"));
    }
    if id.is_null() || rpc_method.is_empty() {
        return ControlFlow::Break(StatusCode::ACCEPTED.into_response());
    }
    ControlFlow::Continue(ProtocolRevision::Legacy)
}

fn initialize(demo: &Demo, message: &Value, id: &Value) -> Response {
    let requested = message.pointer("/params/protocolVersion").and_then(Value::as_str);
    let version = LEGACY.into_iter().find(|known| requested == Some(known));
    let opened = InitializeResult {
        protocol_version: version.unwrap_or(ProtocolVersion::LATEST_LEGACY.as_str()),
        capabilities: ServerCapabilities::default(),
        server_info: server_info(),
        instructions: Some(INSTRUCTIONS),
    };
    let mut response = result(ProtocolRevision::Legacy, id, value(&opened));
    let session = demo.sessions().open();
    if let Ok(value) = HeaderValue::from_str(&session) {
        response.headers_mut().insert(HeaderName::from_static(header::SESSION_ID), value);
    }
    response
}

fn end_session(demo: &Demo, headers: &HeaderMap) -> Response {
    match text(headers, header::SESSION_ID) {
        None => StatusCode::BAD_REQUEST.into_response(),
        Some(session) if demo.sessions().end(session) => StatusCode::OK.into_response(),
        Some(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

fn server_info() -> Implementation {
    Implementation { name: "toolfleet-demo".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Our own structs have no maps with keys that are not strings, so serialising them cannot fail.
fn value(shape: &impl Serialize) -> Value {
    serde_json::to_value(shape).unwrap_or(Value::Null)
}

fn result(revision: ProtocolRevision, id: &Value, result: Value) -> Response {
    Json(framed(revision, id, result)).into_response()
}

fn framed(revision: ProtocolRevision, id: &Value, mut result: Value) -> Value {
    if let (ProtocolRevision::Modern, Some(object)) = (revision, result.as_object_mut()) {
        object.insert("resultType".to_owned(), result_type::COMPLETE.into());
        object.insert("_meta".to_owned(), json!({ meta_key::SERVER_INFO: server_info() }));
    }
    value(&toolfleet_mcp_protocol::Response::new(id, result))
}

fn error(status: StatusCode, id: &Value, code: i64, message: &str) -> Response {
    (status, Json(ErrorResponse::new(Some(id), ErrorObject::new(code, message)))).into_response()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
