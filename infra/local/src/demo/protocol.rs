//! Owns MCP over HTTP as the demo server speaks it: 2026-07-28 without sessions, 2025-11-25 and older with them.
//!
//! **Invariant:** a request is judged completely before its tool runs; what is answered with a 4xx or -326xx ran nothing.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};

use super::progress;
use super::state::Demo;
use super::tools::{Run, listing};

const MODERN: &str = "2026-07-28";
const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// Which generation a request belongs to, once it is known to be well formed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProtocolRevision {
    Modern,
    Legacy,
}

/// Answers one HTTP request.
pub(super) async fn handle(
    State(demo): State<Arc<Demo>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let version = text(&headers, "mcp-protocol-version");
    let modern = version.is_some_and(|version| !LEGACY.contains(&version));
    if method == Method::DELETE && !modern {
        return end_session(&demo, &headers);
    }
    if method != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Ok(message) = serde_json::from_slice::<Value>(&body) else {
        return error(StatusCode::BAD_REQUEST, &Value::Null, -32700, "Parse error");
    };
    let id = message.get("id").cloned().unwrap_or(Value::Null);
    let name = message.get("method").and_then(Value::as_str).unwrap_or_default();
    let judged = if modern {
        judge_modern(&headers, &message, &id, name)
    } else {
        judge_legacy(&demo, &headers, &message, &id, name)
    };
    let revision = match judged {
        ControlFlow::Continue(revision) => revision,
        ControlFlow::Break(response) => return response,
    };
    match name {
        "tools/list" => {
            result(revision, &id, json!({ "tools": listing(), "ttlMs": 60_000, "cacheScope": "public" }))
        }
        "tools/call" => call(&demo, revision, &id, &message).await,
        "ping" if revision == ProtocolRevision::Legacy => result(revision, &id, json!({})),
        "server/discover" if revision == ProtocolRevision::Modern => result(revision, &id, discovered()),
        _ => {
            let status =
                if revision == ProtocolRevision::Modern { StatusCode::NOT_FOUND } else { StatusCode::OK };
            error(status, &id, -32601, "Method not found")
        }
    }
}

fn discovered() -> Value {
    let mut versions = vec![MODERN];
    versions.extend(LEGACY);
    json!({
        "supportedVersions": versions,
        "capabilities": { "tools": {} },
        "instructions": "Tools to try toolfleet with. Only `counter` must not be repeated.",
        "ttlMs": 3_600_000,
        "cacheScope": "public",
    })
}

async fn call(demo: &Demo, revision: ProtocolRevision, id: &Value, message: &Value) -> Response {
    let tool = message.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
    let arguments = message.pointer("/params/arguments").cloned().unwrap_or_else(|| json!({}));
    let run = demo.tools().run(tool, &arguments);
    match run {
        Run::Refused(reason) => error(StatusCode::OK, id, -32602, &reason),
        Run::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "flaky, as asked").into_response(),
        Run::Wait(wait) => {
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let waited = outcome(false, &format!("waited {ms} ms"), &json!({ "waited_ms": ms }));
            match message.pointer("/params/_meta/progressToken") {
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

/// The rules of 2026-07-28: a complete envelope, and headers that agree with it.
fn judge_modern(
    headers: &HeaderMap,
    message: &Value,
    id: &Value,
    method: &str,
) -> ControlFlow<Response, ProtocolRevision> {
    if id.is_null() {
        return ControlFlow::Break(StatusCode::ACCEPTED.into_response());
    }
    let refuse = |code, reason: &str| ControlFlow::Break(error(StatusCode::BAD_REQUEST, id, code, reason));
    let meta = message.pointer("/params/_meta");
    let in_meta = |key: &str| meta.and_then(|meta| meta.get(key));
    let version = in_meta("io.modelcontextprotocol/protocolVersion").and_then(Value::as_str);
    let header = text(headers, "mcp-protocol-version").unwrap_or_default();
    let Some(version) = version else {
        return ControlFlow::Break(unsupported_or_incomplete(id, header));
    };
    if in_meta("io.modelcontextprotocol/clientCapabilities").is_none() {
        return refuse(-32602, "params._meta lacks io.modelcontextprotocol/clientCapabilities");
    }
    if header != version {
        return refuse(-32020, "the MCP-Protocol-Version header does not match the body");
    }
    if text(headers, "mcp-method") != Some(method) {
        return refuse(-32020, "the Mcp-Method header does not match the body");
    }
    // The names of these tools are plain ASCII, so the base64 form never equals one.
    let tool = message.pointer("/params/name").and_then(Value::as_str);
    let mirrored = text(headers, "mcp-name");
    let encoded = mirrored.is_some_and(|name| name.starts_with("=?base64?"));
    if method == "tools/call" && mirrored != tool && !encoded {
        return refuse(-32020, "the Mcp-Name header does not match the body");
    }
    if version != MODERN {
        return ControlFlow::Break(unsupported(id, version));
    }
    ControlFlow::Continue(ProtocolRevision::Modern)
}

fn unsupported_or_incomplete(id: &Value, header: &str) -> Response {
    if header == MODERN {
        let reason = "params._meta lacks io.modelcontextprotocol/protocolVersion";
        return error(StatusCode::BAD_REQUEST, id, -32602, reason);
    }
    unsupported(id, header)
}

fn unsupported(id: &Value, requested: &str) -> Response {
    let data = json!({ "supported": [MODERN], "requested": requested });
    let error = json!({ "code": -32022, "message": "Unsupported protocol version", "data": data });
    let body = json!({ "jsonrpc": "2.0", "id": id, "error": error });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// The rules of the older versions: `initialize` first, then the session it gave.
fn judge_legacy(
    demo: &Demo,
    headers: &HeaderMap,
    message: &Value,
    id: &Value,
    method: &str,
) -> ControlFlow<Response, ProtocolRevision> {
    if method == "initialize" {
        return ControlFlow::Break(initialize(demo, message, id));
    }
    let Some(session) = text(headers, SESSION_ID.as_str()) else {
        let reason = "Bad Request: no session id; initialize first";
        return ControlFlow::Break(error(StatusCode::BAD_REQUEST, id, -32000, reason));
    };
    if !demo.sessions().knows(session) {
        return ControlFlow::Break(error(StatusCode::NOT_FOUND, id, -32001, "Session not found"));
    }
    if id.is_null() || method.is_empty() {
        return ControlFlow::Break(StatusCode::ACCEPTED.into_response());
    }
    ControlFlow::Continue(ProtocolRevision::Legacy)
}

fn initialize(demo: &Demo, message: &Value, id: &Value) -> Response {
    let asked = message.pointer("/params/protocolVersion").and_then(Value::as_str);
    let version = LEGACY.into_iter().find(|known| asked == Some(known)).unwrap_or("2025-11-25");
    let opened = json!({
        "protocolVersion": version,
        "capabilities": { "tools": {} },
        "serverInfo": server_info(),
        "instructions": "Tools to try toolfleet with. Only `counter` must not be repeated.",
    });
    let mut response = result(ProtocolRevision::Legacy, id, opened);
    let session = demo.sessions().open();
    if let Ok(value) = HeaderValue::from_str(&session) {
        response.headers_mut().insert(SESSION_ID, value);
    }
    response
}

fn end_session(demo: &Demo, headers: &HeaderMap) -> Response {
    let Some(session) = text(headers, SESSION_ID.as_str()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut sessions = demo.sessions();
    if !sessions.knows(session) {
        return StatusCode::NOT_FOUND.into_response();
    }
    sessions.end(session);
    StatusCode::OK.into_response()
}

fn server_info() -> Value {
    json!({ "name": "toolfleet-demo", "version": env!("CARGO_PKG_VERSION") })
}

fn result(revision: ProtocolRevision, id: &Value, result: Value) -> Response {
    Json(framed(revision, id, result)).into_response()
}

fn framed(revision: ProtocolRevision, id: &Value, mut result: Value) -> Value {
    if let (ProtocolRevision::Modern, Some(object)) = (revision, result.as_object_mut()) {
        object.insert("resultType".to_owned(), "complete".into());
        object.insert("_meta".to_owned(), json!({ "io.modelcontextprotocol/serverInfo": server_info() }));
    }
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

fn error(status: StatusCode, id: &Value, code: i64, message: &str) -> Response {
    let error = json!({ "code": code, "message": message });
    (status, Json(json!({ "jsonrpc": "2.0", "id": id, "error": error }))).into_response()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
