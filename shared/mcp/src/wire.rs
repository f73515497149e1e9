//! Owns JSON-RPC as it travels: the requests we write and the frames we read. Wire names stand here and nowhere else.
//!
//! Names of 2026-07-28 as in the reference packages (PyPI `mcp` 2.3 `mcp_types`, npm `@modelcontextprotocol/server` 2).
//!
//! **Invariant:** a frame is only looked at as far as its envelope; `result`, `params` and ids stay raw bytes.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::words::{shorten, shorten_bytes};

/// The stateless generation.
pub(crate) const MODERN: &str = "2026-07-28";
/// The session-bound versions over streamable HTTP, newest first. The last one is accepted, not offered.
pub(crate) const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// What `initialize` offers.
pub(crate) const LEGACY_OFFER: &str = "2025-11-25";

pub(crate) const HEADER_MISMATCH: i64 = -32020;
pub(crate) const VERSION_UNSUPPORTED: i64 = -32022;
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
pub(crate) const INVALID_PARAMS: i64 = -32602;

/// Who we say we are.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ClientInfo {
    pub(crate) name: String,
    pub(crate) version: String,
}

#[derive(Serialize)]
struct Nothing {}

/// `clientCapabilities`: a server may answer a call with a task, which we follow, and may ask by `input_required`, because whoever
/// sent the call can answer it by `resume`.
#[derive(Serialize)]
struct Capabilities {
    elicitation: Elicitation,
    sampling: Nothing,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<Extensions>,
}

#[derive(Serialize)]
struct Elicitation {
    form: Nothing,
    url: Nothing,
}

#[derive(Serialize)]
struct Extensions {
    #[serde(rename = "io.modelcontextprotocol/tasks")]
    tasks: Nothing,
}

const CAPABILITIES: Capabilities = Capabilities {
    elicitation: Elicitation { form: Nothing {}, url: Nothing {} },
    sampling: Nothing {},
    extensions: Some(Extensions { tasks: Nothing {} }),
};

/// `params._meta`.
#[derive(Serialize)]
pub(crate) struct Meta<'a> {
    #[serde(rename = "io.modelcontextprotocol/protocolVersion", skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(rename = "io.modelcontextprotocol/clientInfo", skip_serializing_if = "Option::is_none")]
    client: Option<&'a ClientInfo>,
    #[serde(rename = "io.modelcontextprotocol/clientCapabilities", skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
    #[serde(rename = "io.modelcontextprotocol/logLevel", skip_serializing_if = "Option::is_none")]
    log_level: Option<&'static str>,
    #[serde(rename = "progressToken", skip_serializing_if = "Option::is_none")]
    progress_token: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
}

impl<'a> Meta<'a> {
    /// What every modern request carries.
    pub(crate) fn modern(client: &'a ClientInfo) -> Self {
        Self {
            version: Some(MODERN),
            client: Some(client),
            capabilities: Some(CAPABILITIES),
            log_level: None,
            progress_token: None,
            traceparent: None,
            tracestate: None,
        }
    }

    /// The same to a program, whose tasks would end with it, and so are not asked for.
    pub(crate) fn modern_of_program(client: &'a ClientInfo) -> Self {
        let capabilities = Some(Capabilities { extensions: None, ..CAPABILITIES });
        Self { capabilities, ..Self::modern(client) }
    }

    /// What a legacy request carries: nothing unless asked for.
    pub(crate) const fn legacy() -> Self {
        Self {
            version: None,
            client: None,
            capabilities: None,
            log_level: None,
            progress_token: None,
            traceparent: None,
            tracestate: None,
        }
    }

    pub(crate) const fn with(
        mut self,
        progress_token: Option<u64>,
        traceparent: Option<&'a str>,
        tracestate: Option<&'a str>,
    ) -> Self {
        self.progress_token = progress_token;
        // Whoever hears progress hears log lines too; legacy servers send those unasked.
        if self.version.is_some() && progress_token.is_some() {
            self.log_level = Some("info");
        }
        self.traceparent = traceparent;
        self.tracestate = tracestate;
        self
    }

    const fn is_empty(&self) -> bool {
        self.version.is_none() && self.progress_token.is_none() && self.traceparent.is_none()
    }
}

#[derive(Serialize)]
struct Request<'a, P> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<P>,
}

/// `params` of `tools/call` and `prompts/get` (`name`, `arguments`), and of `resources/read` (`uri`).
#[derive(Serialize)]
pub(crate) struct CallParams<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arguments: Option<&'a RawValue>,
    #[serde(rename = "requestState", skip_serializing_if = "Option::is_none")]
    pub(crate) request_state: Option<&'a str>,
    #[serde(rename = "inputResponses", skip_serializing_if = "Option::is_none")]
    pub(crate) input_responses: Option<&'a RawValue>,
    #[serde(rename = "_meta", skip_serializing_if = "Meta::is_empty")]
    pub(crate) meta: Meta<'a>,
}

/// `params` of the listings and of `server/discover`.
#[derive(Serialize)]
pub(crate) struct PageParams<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<&'a str>,
    #[serde(rename = "_meta", skip_serializing_if = "Meta::is_empty")]
    pub(crate) meta: Meta<'a>,
}

/// `params` of `tasks/get` and `tasks/cancel`, and of `tasks/update`, which brings answers.
#[derive(Serialize)]
pub(crate) struct TaskParams<'a> {
    #[serde(rename = "taskId")]
    pub(crate) task: &'a str,
    #[serde(rename = "inputResponses", skip_serializing_if = "Option::is_none")]
    pub(crate) input_responses: Option<&'a RawValue>,
    #[serde(rename = "_meta", skip_serializing_if = "Meta::is_empty")]
    pub(crate) meta: Meta<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InitializeParams<'a> {
    protocol_version: &'a str,
    capabilities: Nothing,
    client_info: &'a ClientInfo,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CancelParams {
    request_id: u64,
    reason: &'static str,
}

/// Serialising our own structs cannot fail; were it to, the server would refuse the empty body.
fn write<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// A request with an id.
pub(crate) fn request<P: Serialize>(id: u64, method: &str, params: P) -> Bytes {
    write(&Request { jsonrpc: "2.0", id: Some(id), method, params: Some(params) })
}

/// `initialize`.
pub(crate) fn initialize(id: u64, client: &ClientInfo) -> Bytes {
    let params =
        InitializeParams { protocol_version: LEGACY_OFFER, capabilities: Nothing {}, client_info: client };
    request(id, "initialize", params)
}

/// `notifications/initialized`.
pub(crate) fn initialized() -> Bytes {
    write(&Request::<Nothing> { jsonrpc: "2.0", id: None, method: "notifications/initialized", params: None })
}

/// `ping` of the versions that have sessions.
pub(crate) fn ping(id: u64) -> Bytes {
    write(&Request::<Nothing> { jsonrpc: "2.0", id: Some(id), method: "ping", params: None })
}

/// `notifications/cancelled`.
pub(crate) fn cancelled(request_id: u64) -> Bytes {
    let params = CancelParams { request_id, reason: "the caller no longer waits" };
    write(&Request { jsonrpc: "2.0", id: None, method: "notifications/cancelled", params: Some(params) })
}

/// Our answer to a server's own request: a ping is answered, everything else is not offered. Nobody waits beside a call whose
/// server asks in the middle of it.
pub(crate) fn reply(id: &RawValue, method: &str) -> Bytes {
    #[derive(Serialize)]
    struct Refusal {
        code: i64,
        message: &'static str,
    }
    #[derive(Serialize)]
    struct Reply<'a> {
        jsonrpc: &'static str,
        id: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<Nothing>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Refusal>,
    }
    let ping = method == "ping";
    let refusal = Refusal { code: METHOD_NOT_FOUND, message: "this client offers no such method" };
    write(&Reply {
        jsonrpc: "2.0",
        id,
        result: ping.then_some(Nothing {}),
        error: (!ping).then_some(refusal),
    })
}

/// A JSON-RPC error as far as we look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    /// Shortened.
    pub(crate) message: String,
    /// `data.supported`, where the server named protocol versions.
    pub(crate) supported: Vec<String>,
    /// Whether it carries the id of the request at hand.
    pub(crate) with_our_id: bool,
}

/// What the body of an error status says of one request.
#[derive(Debug)]
pub(crate) enum InBody {
    /// It is no JSON-RPC answer.
    Nothing,
    /// An error, to our request or to none that can be told.
    Error(RpcError),
    /// A result of our request.
    Result,
    /// It begins like JSON and cannot be read to its end, so that it may have been an answer.
    Cut,
}

/// One frame of a server, seen by someone who waits for one id.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    /// The result.
    Result(&'a RawValue),
    /// An error, ours or without id.
    Error(RpcError),
    /// A request of the server to us.
    Request { id: &'a RawValue, method: Cow<'a, str> },
    /// A notification.
    Notification { method: Cow<'a, str>, params: Option<&'a RawValue> },
    /// Not what was waited for, with the reason.
    Nonsense(String),
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ErrorMember<'a> {
    code: i64,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct VersionData {
    #[serde(default)]
    supported: Vec<String>,
}

/// Reads one frame.
pub(crate) fn hear(text: &[u8], waiting_for: u64) -> Heard<'_> {
    // A derived struct would also be read from an array.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Heard::Nonsense(format!("not a JSON-RPC message: {}", shorten_bytes(text)));
    }
    let frame: Frame<'_> = match serde_json::from_slice(text) {
        Ok(frame) => frame,
        Err(error) => return Heard::Nonsense(shorten(&format!("not a JSON-RPC message ({error})"))),
    };
    if let Some(method) = frame.method {
        return match frame.id {
            Some(id) => Heard::Request { id, method },
            None => Heard::Notification { method, params: frame.params },
        };
    }
    let ours = frame.id.is_some_and(|id| is_ours(id, waiting_for));
    if let Some(raw) = frame.error {
        if frame.id.is_some() && !ours && !is_placeholder(frame.id) {
            return Heard::Nonsense(wrong_id(frame.id));
        }
        return Heard::Error(error_of(raw, ours));
    }
    match frame.result {
        Some(result) if ours => Heard::Result(result),
        Some(_) => Heard::Nonsense(wrong_id(frame.id)),
        None => Heard::Nonsense("a JSON-RPC message without result, error or method".to_owned()),
    }
}

fn is_ours(id: &RawValue, waiting_for: u64) -> bool {
    id.get().parse() == Ok(waiting_for)
}

/// Ids that servers put where they do not know ours (Python before 2.0 writes `server-error`).
fn is_placeholder(id: Option<&RawValue>) -> bool {
    id.is_some_and(|id| matches!(id.get(), "\"server-error\"" | "\"\"" | "\"null\""))
}

fn wrong_id(id: Option<&RawValue>) -> String {
    match id {
        Some(id) => format!("the answer carries another request's id: {}", shorten(id.get())),
        None => "the answer carries no id".to_owned(),
    }
}

/// A JSON-RPC error object, wherever it stood.
pub(crate) fn error_of(raw: &RawValue, with_our_id: bool) -> RpcError {
    let Ok(error) = serde_json::from_str::<ErrorMember<'_>>(raw.get()) else {
        return RpcError { code: 0, message: shorten(raw.get()), supported: Vec::new(), with_our_id };
    };
    let data = error.data.and_then(|data| serde_json::from_str::<VersionData>(data.get()).ok());
    let supported = data.map(|data| data.supported).unwrap_or_default();
    RpcError {
        code: error.code,
        message: shorten(&error.message),
        supported: supported.iter().take(16).map(|version| crate::words::shorten_to(version, 32)).collect(),
        with_our_id,
    }
}

/// What a body that came with an HTTP error status says of the request of this id. Of a batch, the answer to our request counts,
/// else its first error.
pub(crate) fn error_in(body: &[u8], id: u64) -> InBody {
    let frames: Vec<Frame<'_>> = match body.trim_ascii_start().first() {
        Some(b'{') => match serde_json::from_slice(body) {
            Ok(frame) => vec![frame],
            Err(_) => return InBody::Cut,
        },
        Some(b'[') => match serde_json::from_slice(body) {
            Ok(frames) => frames,
            Err(_) => return InBody::Cut,
        },
        Some(_) | None => return InBody::Nothing,
    };
    let ours = |frame: &&Frame<'_>| frame.id.is_some_and(|found| is_ours(found, id));
    if let Some(answer) = frames.iter().find(ours) {
        return match answer.error {
            Some(raw) => InBody::Error(error_of(raw, true)),
            None => InBody::Result,
        };
    }
    let error = frames.iter().find_map(|frame| frame.error);
    error.map_or(InBody::Nothing, |raw| InBody::Error(error_of(raw, false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_taken_byte_for_byte_and_only_with_our_id() {
        let text = br#"{"jsonrpc":"2.0","id":7,"result": { "a" : 1.0e2, "b":"\u00e9" } }"#;
        let Heard::Result(raw) = hear(text, 7) else { panic!("a result") };
        assert_eq!(raw.get(), r#"{ "a" : 1.0e2, "b":"\u00e9" }"#);
        assert!(matches!(hear(text, 8), Heard::Nonsense(_)));
        assert!(matches!(hear(br#"{"result":{}}"#, 7), Heard::Nonsense(_)));
    }

    #[test]
    fn an_error_without_id_is_the_error_of_its_response() {
        let text = br#"{"error":{"code":-32000,"message":"x","data":{"supported":["a"]}},"id":null}"#;
        let Heard::Error(error) = hear(text, 7) else { panic!("an error") };
        assert_eq!((error.code, error.supported), (-32000, vec!["a".to_owned()]));
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let text = format!(r#"{{"id":1,"x":{deep},"result":{{"y":{deep}}}}}"#);
        let Heard::Result(raw) = hear(text.as_bytes(), 1) else { panic!("a result") };
        assert!(crate::answer::kind_of(raw).is_ok());
    }

    #[test]
    fn a_legacy_call_without_trace_or_progress_carries_no_meta() {
        let arguments = RawValue::from_string("{}".to_owned()).unwrap();
        let params = CallParams {
            name: Some("t"),
            uri: None,
            arguments: Some(&arguments),
            request_state: None,
            input_responses: None,
            meta: Meta::legacy(),
        };
        let body = request(1, "tools/call", params);
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{}}}"#
        );
    }
}
