//! Owns what a well-behaved MCP server answers, in both generations. Nothing goes wrong here.
//!
//! **Invariant:** a request that a real server would refuse before running a tool is refused here before running it.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::exchange::{ProtocolRevision, Recorded, ToolAnswer};
use super::script::SessionLoss;
use super::state::Inner;

pub(super) const MODERN: &str = "2026-07-28";
const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// What is written on the connection.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn json(status: u16, body: String) -> Self {
        Self { status, headers: vec![("content-type".to_owned(), "application/json".to_owned())], body }
    }

    pub(super) fn events(body: String) -> Self {
        Self { status: 200, headers: vec![("content-type".to_owned(), "text/event-stream".to_owned())], body }
    }

    fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    pub(super) fn error(status: u16, id: &Value, code: i64, message: &str, data: &Value) -> Self {
        let mut error = json!({ "code": code, "message": message });
        if let (Some(object), false) = (error.as_object_mut(), data.is_null()) {
            object.insert("data".to_owned(), data.clone());
        }
        Self::json(status, json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string())
    }

    fn result(id: &Value, result: &Value) -> Self {
        Self::json(200, json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string())
    }
}

/// What the request asks for, once it is known to be acceptable.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Answered without a tool.
    Reply(Reply),
    /// A tool shall run.
    Call,
}

/// Judges a request, before any tool runs.
pub(super) fn judge(inner: &mut Inner, request: &Recorded) -> Verdict {
    let id = request.body.get("id").cloned().unwrap_or(Value::Null);
    let named = request.header("mcp-protocol-version").unwrap_or_default();
    let modern = match inner.era {
        ProtocolRevision::Modern => true,
        ProtocolRevision::Legacy | ProtocolRevision::LegacyAt(_) => false,
        ProtocolRevision::Both => !named.is_empty() && !LEGACY.contains(&named),
    };
    if modern { judge_modern(inner, request, &id) } else { judge_legacy(inner, request, &id) }
}

fn judge_modern(inner: &mut Inner, request: &Recorded, id: &Value) -> Verdict {
    if request.http_method != "POST" {
        return Verdict::Reply(Reply::empty(405));
    }
    if id.is_null() {
        return Verdict::Reply(Reply::empty(202));
    }
    let meta = request.body.pointer("/params/_meta").cloned().unwrap_or(Value::Null);
    let version = meta.get("io.modelcontextprotocol/protocolVersion").and_then(Value::as_str);
    let header = request.header("mcp-protocol-version");
    if version.is_none() && header != Some(MODERN) {
        let data = json!({ "supported": [MODERN], "requested": header });
        return Verdict::Reply(Reply::error(400, id, -32022, "Unsupported protocol version", &data));
    }
    if version.is_none() || meta.get("io.modelcontextprotocol/clientCapabilities").is_none() {
        return Verdict::Reply(Reply::error(
            400,
            id,
            -32602,
            "params._meta lacks a required key",
            &Value::Null,
        ));
    }
    if header != version || request.header("mcp-method") != Some(request.method()) {
        return Verdict::Reply(Reply::error(400, id, -32020, "header does not match the body", &Value::Null));
    }
    if version != Some(MODERN) {
        let data = json!({ "supported": [MODERN], "requested": version });
        return Verdict::Reply(Reply::error(400, id, -32022, "Unsupported protocol version", &data));
    }
    match request.method() {
        "server/discover" => {
            let result = json!({
                "resultType": "complete", "supportedVersions": [MODERN], "capabilities": { "tools": {} },
                "ttlMs": 0, "cacheScope": "private",
            });
            Verdict::Reply(Reply::result(id, &result))
        }
        "tools/call" => judge_modern_call(inner, request, id),
        "tools/list" => Verdict::Reply(list(inner, request, id)),
        "tasks/get" | "tasks/update" | "tasks/cancel" => {
            Verdict::Reply(about_task(inner, request, id, &meta))
        }
        _ if !mirrors_its_name(request) => {
            let text = "mcp-name does not match the body";
            Verdict::Reply(Reply::error(400, id, -32020, text, &Value::Null))
        }
        _ => Verdict::Reply(other(inner, request, id, 404)),
    }
}

fn judge_modern_call(inner: &Inner, request: &Recorded, id: &Value) -> Verdict {
    let name = request.body.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
    if !mirrors_its_name(request) {
        return Verdict::Reply(Reply::error(
            400,
            id,
            -32020,
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
        let header = request.header(&format!("mcp-param-{}", token.to_ascii_lowercase()));
        if header != expected.as_deref() {
            return Verdict::Reply(Reply::error(400, id, -32020, "mcp-param header mismatch", &Value::Null));
        }
    }
    Verdict::Call
}

fn about_task(inner: &mut Inner, request: &Recorded, id: &Value, meta: &Value) -> Reply {
    let capability = "/io.modelcontextprotocol~1clientCapabilities/extensions/io.modelcontextprotocol~1tasks";
    if meta.pointer(capability).is_none() {
        return Reply::error(400, id, -32021, "Missing required client capability", &Value::Null);
    }
    let task = request.body.pointer("/params/taskId").and_then(Value::as_str).unwrap_or_default();
    if request.header("mcp-name") != Some(task) {
        return Reply::error(400, id, -32020, "mcp-name does not match the body", &Value::Null);
    }
    let Some(told) = inner.tasks.get_mut(task) else {
        return Reply::error(200, id, -32602, "Failed to retrieve task: Task not found", &Value::Null);
    };
    if request.method() == "tasks/cancel" {
        *told = [json!({ "status": "cancelled" })].into();
        return Reply::result(id, &json!({ "resultType": "complete" }));
    }
    if request.method() == "tasks/update" {
        take_answers(told, request.body.pointer("/params/inputResponses"));
        return Reply::result(id, &json!({ "resultType": "complete" }));
    }
    let waits =
        told.front().is_some_and(|state| state["inputRequests"].is_object() && state["answered"].is_null());
    let next = if told.len() > 1 && !waits { told.pop_front() } else { told.front().cloned() };
    let mut state = json!({ "resultType": "complete", "taskId": task, "ttlMs": null });
    if let (Some(state), Some(Value::Object(next))) = (state.as_object_mut(), next) {
        state.extend(next);
    }
    Reply::result(id, &state)
}

/// A task that has all its answers tells its question once more, as servers may that are eventually consistent.
fn take_answers(told: &mut VecDeque<Value>, answers: Option<&Value>) {
    let Some(Value::Object(state)) = told.front_mut() else { return };
    let asked = state.get("inputRequests").and_then(Value::as_object);
    let answered = |key: &String| answers.and_then(|answers| answers.get(key)).is_some();
    if asked.is_some_and(|asked| asked.keys().all(answered)) {
        state.insert("answered".to_owned(), json!(true));
    }
}

/// `Mcp-Name` says what `params.name` or `params.uri` says, and is absent where the body has neither.
fn mirrors_its_name(request: &Recorded) -> bool {
    let named = ["/params/name", "/params/uri"].iter().find_map(|path| request.body.pointer(path)?.as_str());
    let mirrored = request.header("mcp-name");
    mirrored == named || mirrored.is_some_and(|mirrored| mirrored.starts_with("=?base64?"))
}

/// A method that a test has given an answer to.
fn other(inner: &mut Inner, request: &Recorded, id: &Value, unknown: u16) -> Reply {
    let params = request.body.get("params").cloned().unwrap_or(Value::Null);
    match inner.answer(request.method(), &params) {
        Some(answer) => Reply::json(200, frame(id, &member(Some(answer)))),
        None => Reply::error(unknown, id, -32601, "Method not found", &Value::Null),
    }
}

fn judge_legacy(inner: &mut Inner, request: &Recorded, id: &Value) -> Verdict {
    if request.method() == "initialize" {
        return Verdict::Reply(initialize(inner, request, id));
    }
    let Some(session) = request.header("mcp-session-id") else {
        return Verdict::Reply(no_session(SessionLoss::BadRequest));
    };
    if !inner.sessions.contains(session) {
        return Verdict::Reply(no_session(inner.session_loss));
    }
    match request.http_method.as_str() {
        "GET" => return Verdict::Reply(resume(inner, request)),
        "DELETE" => {
            let session = session.to_owned();
            inner.sessions.remove(&session);
            return Verdict::Reply(Reply::empty(200));
        }
        _ => {}
    }
    if id.is_null() || request.body.get("method").is_none() {
        return Verdict::Reply(Reply::empty(202));
    }
    match request.method() {
        "tools/call" => Verdict::Call,
        "tools/list" => Verdict::Reply(list(inner, request, id)),
        "ping" => Verdict::Reply(Reply::result(id, &json!({}))),
        _ => Verdict::Reply(other(inner, request, id, 200)),
    }
}

fn initialize(inner: &mut Inner, request: &Recorded, id: &Value) -> Reply {
    let asked = request.body.pointer("/params/protocolVersion").and_then(Value::as_str).unwrap_or_default();
    let version = match inner.era {
        ProtocolRevision::LegacyAt(version) => version,
        ProtocolRevision::Modern | ProtocolRevision::Legacy | ProtocolRevision::Both => {
            LEGACY.into_iter().find(|known| *known == asked).unwrap_or("2025-11-25")
        }
    };
    let result = json!({
        "protocolVersion": version, "capabilities": { "tools": {} },
        "serverInfo": { "name": "mock", "version": "1" },
    });
    let mut reply = Reply::result(id, &result);
    reply.headers.push(("mcp-session-id".to_owned(), inner.open_session()));
    reply
}

fn no_session(shape: SessionLoss) -> Reply {
    match shape {
        SessionLoss::NotFound => Reply::error(404, &Value::Null, -32001, "Session not found", &Value::Null),
        SessionLoss::BadRequest => {
            let error = json!({ "code": -32000, "message": "Bad Request: No valid session ID provided" });
            Reply::json(400, json!({ "jsonrpc": "2.0", "error": error }).to_string())
        }
    }
}

fn resume(inner: &Inner, request: &Recorded) -> Reply {
    let last = request.header("last-event-id").unwrap_or_default();
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
    let mut result = json!({ "resultType": "complete", "tools": page, "ttlMs": ttl_ms, "cacheScope": scope });
    if let (Some(object), true) = (result.as_object_mut(), tools.len() > from.saturating_add(10)) {
        object.insert("nextCursor".to_owned(), Value::from(from.saturating_add(10).to_string()));
    }
    Reply::result(id, &result)
}

/// The `result` or `error` member of an answered call, ready to stand in a JSON-RPC frame.
pub(super) fn member(answer: Option<ToolAnswer>) -> String {
    match answer {
        Some(ToolAnswer::Result(value)) => format!("\"result\":{value}"),
        Some(ToolAnswer::Raw(text)) => format!("\"result\":{text}"),
        Some(ToolAnswer::Error { code, message }) => {
            format!("\"error\":{}", json!({ "code": code, "message": message }))
        }
        None => format!("\"error\":{}", json!({ "code": -32602, "message": "Unknown tool" })),
    }
}

/// A JSON-RPC frame around such a member.
pub(super) fn frame(id: &Value, member: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},{member}}}")
}
