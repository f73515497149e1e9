//! The answers of a well-behaved MCP server, in both revisions of the protocol. No fault is injected here.
//!
//! **Invariant:** a request that a real server would refuse before it runs a tool is refused here before a tool runs.

use serde_json::{Value, json};
use toolfleet_mcp_protocol::{
    DiscoverResult, ErrorObject, ErrorResponse, Implementation, InitializeResult, ProtocolVersion,
    ServerCapabilities, UnsupportedVersion, cache_scope, error_code, header, meta_key, method, result_type,
};

use super::recorded::Recorded;
use super::reply::{Reply, frame, member};
use super::script::{ProtocolRevision, SessionLoss};
use super::state::Inner;
use super::tasks;

const MODERN: &str = ProtocolVersion::MODERN.as_str();
const LEGACY: [ProtocolVersion; 4] = ProtocolVersion::LEGACY;
const LATEST: &str = ProtocolVersion::LATEST_LEGACY.as_str();

/// What stands in the place of the HTTP method of a message over a WebSocket.
pub(super) const WEB_SOCKET: &str = "WEBSOCKET";

/// The result of the checks of a request.
#[derive(Debug)]
pub(super) enum Checked {
    /// The request is answered without running a tool.
    Reply(Reply),
    /// The tool runs.
    Call,
}

/// Checks a request before its tool runs.
pub(super) fn check(inner: &mut Inner, request: &Recorded) -> Checked {
    let id = request.body.get("id").cloned().unwrap_or(Value::Null);
    if request.http_method == WEB_SOCKET || request.path.starts_with("/message?") {
        return check_message(inner, request, &id);
    }
    let version_header = request.header(header::PROTOCOL_VERSION).unwrap_or_default();
    let modern = match inner.revision {
        ProtocolRevision::Modern => true,
        ProtocolRevision::Legacy | ProtocolRevision::LegacyAt(_) => false,
        ProtocolRevision::Both => !version_header.is_empty() && !is_legacy(version_header),
    };
    if modern { check_modern(inner, request, &id) } else { check_legacy(inner, request, &id) }
}

/// Checks a message over a connection that is its session: no header says anything of it.
fn check_message(inner: &mut Inner, request: &Recorded, id: &Value) -> Checked {
    if id.is_null() || request.body.get("method").is_none() {
        return Checked::Reply(Reply::empty(202));
    }
    let meta = request.body.pointer("/params/_meta").cloned().unwrap_or(Value::Null);
    let version = meta.get(meta_key::PROTOCOL_VERSION).and_then(Value::as_str);
    let modern = match inner.revision {
        ProtocolRevision::Modern => true,
        ProtocolRevision::Legacy | ProtocolRevision::LegacyAt(_) => false,
        ProtocolRevision::Both => version.is_some(),
    };
    if modern && version != Some(MODERN) {
        return Checked::Reply(unsupported(id, version));
    }
    Checked::Reply(match (request.method(), modern) {
        (method::TOOLS_CALL, _) => return Checked::Call,
        (method::TOOLS_LIST, _) => list(inner, request, id),
        (method::DISCOVER, true) => discovered(id),
        (method::INITIALIZE, false) => initialize(inner, request, id),
        (method::PING, false) => Reply::result(id, &json!({})),
        (method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL, true) => {
            tasks::answer(inner, request, id, &meta)
        }
        (_, _) => registered(inner, request, id, 200),
    })
}

fn discovered(id: &Value) -> Reply {
    let result = DiscoverResult {
        result_type: result_type::COMPLETE,
        supported_versions: &[MODERN],
        capabilities: ServerCapabilities::default(),
        server_info: None,
        instructions: None,
        ttl_ms: 0,
        cache_scope: cache_scope::PRIVATE,
    };
    Reply::result(id, &json!(result))
}

fn check_modern(inner: &mut Inner, request: &Recorded, id: &Value) -> Checked {
    if request.http_method != "POST" {
        return Checked::Reply(Reply::empty(405));
    }
    if id.is_null() {
        return Checked::Reply(Reply::empty(202));
    }
    let meta = request.body.pointer("/params/_meta").cloned().unwrap_or(Value::Null);
    let version = meta.get(meta_key::PROTOCOL_VERSION).and_then(Value::as_str);
    let header = request.header(header::PROTOCOL_VERSION);
    if version.is_none() && header != Some(MODERN) {
        return Checked::Reply(unsupported(id, header));
    }
    if version.is_none() || meta.get(meta_key::CLIENT_CAPABILITIES).is_none() {
        return Checked::Reply(Reply::error(
            400,
            id,
            error_code::INVALID_PARAMS,
            "params._meta lacks a required key",
            &Value::Null,
        ));
    }
    if header != version || request.header(header::METHOD) != Some(request.method()) {
        return Checked::Reply(Reply::error(
            400,
            id,
            error_code::HEADER_MISMATCH,
            "header does not match the body",
            &Value::Null,
        ));
    }
    if version != Some(MODERN) {
        return Checked::Reply(unsupported(id, version));
    }
    match request.method() {
        method::DISCOVER => Checked::Reply(discovered(id)),
        method::TOOLS_CALL => check_modern_call(inner, request, id),
        method::TOOLS_LIST => Checked::Reply(list(inner, request, id)),
        method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL => {
            Checked::Reply(tasks::answer(inner, request, id, &meta))
        }
        _ if !name_header_matches(request) => {
            let text = "mcp-name does not match the body";
            Checked::Reply(Reply::error(400, id, error_code::HEADER_MISMATCH, text, &Value::Null))
        }
        _ => Checked::Reply(registered(inner, request, id, 404)),
    }
}

fn unsupported(id: &Value, requested: Option<&str>) -> Reply {
    let data = json!(UnsupportedVersion { supported: &[MODERN], requested });
    Reply::error(400, id, error_code::UNSUPPORTED_VERSION, "Unsupported protocol version", &data)
}

fn is_legacy(version: &str) -> bool {
    LEGACY.into_iter().any(|known| known.as_str() == version)
}

fn check_modern_call(inner: &Inner, request: &Recorded, id: &Value) -> Checked {
    let name = request.body.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
    if !name_header_matches(request) {
        return Checked::Reply(Reply::error(
            400,
            id,
            error_code::HEADER_MISMATCH,
            "mcp-name does not match the body",
            &Value::Null,
        ));
    }
    let schema = inner.tools.get(name).and_then(|tool| tool.listing.pointer("/inputSchema/properties"));
    for (property, schema) in schema.and_then(Value::as_object).into_iter().flatten() {
        let Some(token) = schema.get("x-mcp-header").and_then(Value::as_str) else {
            continue;
        };
        let argument = request.body.pointer(&format!("/params/arguments/{property}"));
        let expected = argument.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        let header = request.header(&format!("{}{}", header::PARAM_PREFIX, token.to_ascii_lowercase()));
        if header != expected.as_deref() {
            return Checked::Reply(Reply::error(
                400,
                id,
                error_code::HEADER_MISMATCH,
                "mcp-param header mismatch",
                &Value::Null,
            ));
        }
    }
    Checked::Call
}

/// Whether `Mcp-Name` is `params.name` or `params.uri`, and is absent where the body has neither.
fn name_header_matches(request: &Recorded) -> bool {
    let named = ["/params/name", "/params/uri"].iter().find_map(|path| request.body.pointer(path)?.as_str());
    let shown = request.header(header::NAME);
    shown == named || shown.is_some_and(|shown| shown.starts_with(header::BASE64_PREFIX))
}

/// Answers a method that a test has registered.
fn registered(inner: &mut Inner, request: &Recorded, id: &Value, unknown: u16) -> Reply {
    let params = request.body.get("params").cloned().unwrap_or(Value::Null);
    match inner.answer(request.method(), &params) {
        Some(answer) => Reply::json(200, frame(id, &member(Some(answer)))),
        None => Reply::error(unknown, id, error_code::METHOD_NOT_FOUND, "Method not found", &Value::Null),
    }
}

fn check_legacy(inner: &mut Inner, request: &Recorded, id: &Value) -> Checked {
    if request.method() == method::INITIALIZE {
        return Checked::Reply(initialize(inner, request, id));
    }
    let Some(session) = request.header(header::SESSION_ID) else {
        return Checked::Reply(no_session(SessionLoss::BadRequest));
    };
    if !inner.sessions.contains(session) {
        return Checked::Reply(no_session(inner.session_loss));
    }
    match request.http_method.as_str() {
        "GET" => return Checked::Reply(resume(inner, request)),
        "DELETE" => {
            let session = session.to_owned();
            inner.sessions.remove(&session);
            return Checked::Reply(Reply::empty(200));
        }
        _ => {}
    }
    if id.is_null() || request.body.get("method").is_none() {
        return Checked::Reply(Reply::empty(202));
    }
    match request.method() {
        method::TOOLS_CALL => Checked::Call,
        method::TOOLS_LIST => Checked::Reply(list(inner, request, id)),
        method::PING => Checked::Reply(Reply::result(id, &json!({}))),
        _ => Checked::Reply(registered(inner, request, id, 200)),
    }
}

fn initialize(inner: &mut Inner, request: &Recorded, id: &Value) -> Reply {
    let requested =
        request.body.pointer("/params/protocolVersion").and_then(Value::as_str).unwrap_or_default();
    let version = match inner.revision {
        ProtocolRevision::LegacyAt(version) => version,
        ProtocolRevision::Modern | ProtocolRevision::Legacy | ProtocolRevision::Both => LEGACY
            .map(ProtocolVersion::as_str)
            .into_iter()
            .find(|known| *known == requested)
            .unwrap_or(LATEST),
    };
    let result = InitializeResult {
        protocol_version: version,
        capabilities: ServerCapabilities::default(),
        server_info: Implementation { name: "mock".to_owned(), version: "1".to_owned() },
        instructions: None,
    };
    let mut reply = Reply::result(id, &json!(result));
    reply.headers.push((header::SESSION_ID.to_owned(), inner.open_session()));
    reply
}

fn no_session(shape: SessionLoss) -> Reply {
    match shape {
        SessionLoss::NotFound => {
            Reply::error(404, &Value::Null, error_code::SESSION_NOT_FOUND, "Session not found", &Value::Null)
        }
        SessionLoss::BadRequest => {
            let text = "Bad Request: No valid session ID provided";
            let error = ErrorResponse::new(None::<u64>, ErrorObject::new(error_code::NO_SESSION, text));
            Reply::json(400, json!(error).to_string())
        }
    }
}

fn resume(inner: &Inner, request: &Recorded) -> Reply {
    let last = request.header(header::LAST_EVENT_ID).unwrap_or_default();
    inner.resumable.get(last).map_or_else(|| Reply::empty(405), |body| Reply::events(body.clone()))
}

/// Pages of ten tools, in the order of their names.
fn list(inner: &Inner, request: &Recorded, id: &Value) -> Reply {
    let cursor = request.body.pointer("/params/cursor").and_then(Value::as_str).unwrap_or("0");
    let from: usize = cursor.parse().unwrap_or(0);
    let mut tools: Vec<_> = inner.tools.iter().collect();
    tools.sort_by_key(|(name, _)| (*name).clone());
    let page: Vec<_> = tools.iter().skip(from).take(10).map(|(_, tool)| tool.listing.clone()).collect();
    let (ttl_ms, scope) = inner.freshness;
    let mut result =
        json!({ "resultType": result_type::COMPLETE, "tools": page, "ttlMs": ttl_ms, "cacheScope": scope });
    if let (Some(object), true) = (result.as_object_mut(), tools.len() > from.saturating_add(10)) {
        object.insert("nextCursor".to_owned(), Value::from(from.saturating_add(10).to_string()));
    }
    Reply::result(id, &result)
}
