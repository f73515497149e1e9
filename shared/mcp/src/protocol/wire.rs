//! Writes JSON-RPC requests and notifications; `frame` reads the answers.
//!
//! Names of 2026-07-28 as in the reference packages (PyPI `mcp` 2.3 `mcp_types`, npm `@modelcontextprotocol/server` 2).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use toolfleet_core::request::InputKind;
use toolfleet_mcp_protocol::{ProtocolVersion, error_code, method};

/// The stateless generation.
pub(crate) const MODERN: &str = ProtocolVersion::MODERN.as_str();
/// The session-bound versions over streamable HTTP, newest first. The last one is accepted, not offered.
pub(crate) const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// What `initialize` offers.
pub(crate) const LEGACY_OFFER: &str = ProtocolVersion::LATEST_LEGACY.as_str();

pub(crate) const HEADER_MISMATCH: i64 = error_code::HEADER_MISMATCH;
pub(crate) const VERSION_UNSUPPORTED: i64 = error_code::UNSUPPORTED_VERSION;
pub(crate) const METHOD_NOT_FOUND: i64 = error_code::METHOD_NOT_FOUND;
pub(crate) const INVALID_PARAMS: i64 = error_code::INVALID_PARAMS;

/// Who we say we are.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ClientInfo {
    pub(crate) name: String,
    pub(crate) version: String,
}

#[derive(Serialize)]
struct Nothing {}

/// `clientCapabilities`: a server may answer a call with a task, which we follow, and may ask by `input_required` for what whoever sent the call
/// can answer by `resume`.
#[derive(Serialize)]
struct Capabilities {
    #[serde(skip_serializing_if = "Option::is_none")]
    elicitation: Option<Elicitation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling: Option<Sampling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roots: Option<Nothing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<Extensions>,
}

#[derive(Serialize)]
struct Elicitation {
    #[serde(skip_serializing_if = "Option::is_none")]
    form: Option<Nothing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Nothing>,
}

#[derive(Serialize)]
struct Sampling {
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<Nothing>,
}

#[derive(Serialize)]
struct Extensions {
    #[serde(rename = "io.modelcontextprotocol/tasks")]
    tasks: Nothing,
}

impl Capabilities {
    fn of(kinds: &[InputKind], extensions: Option<Extensions>) -> Self {
        let has = |kind| kinds.contains(&kind).then_some(Nothing {});
        let (form, url, tools) = (has(InputKind::Form), has(InputKind::Url), has(InputKind::SamplingTools));
        let samples = tools.is_some() || kinds.contains(&InputKind::Sampling);
        Self {
            elicitation: (form.is_some() || url.is_some()).then_some(Elicitation { form, url }),
            sampling: samples.then_some(Sampling { tools }),
            roots: has(InputKind::Roots),
            extensions,
        }
    }
}

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
            capabilities: Some(Capabilities::of(
                &InputKind::BY_DEFAULT,
                Some(Extensions { tasks: Nothing {} }),
            )),
            log_level: None,
            progress_token: None,
            traceparent: None,
            tracestate: None,
        }
    }

    /// The same to a program, whose tasks would end with it, and so are not asked for.
    pub(crate) fn modern_of_program(client: &'a ClientInfo) -> Self {
        Self { capabilities: Some(Capabilities::of(&InputKind::BY_DEFAULT, None)), ..Self::modern(client) }
    }

    /// The same, for a caller that can answer these.
    pub(crate) fn can_answer(self, kinds: &[InputKind]) -> Self {
        let capabilities = self.capabilities.map(|known| Capabilities::of(kinds, known.extensions));
        Self { capabilities, ..self }
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

/// What is completed, as the caller wrote it.
#[derive(Serialize, Deserialize)]
pub(crate) struct CompletionParams<'a> {
    #[serde(borrow, rename = "ref")]
    reference: &'a RawValue,
    #[serde(borrow)]
    argument: &'a RawValue,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    context: Option<&'a RawValue>,
}

impl<'a> CompletionParams<'a> {
    /// Of the arguments of a call. The request's decoder has held their rules; were it not so, the server would refuse the request.
    pub(crate) fn of(arguments: &'a RawValue) -> Option<Self> {
        serde_json::from_str(arguments.get()).ok()
    }
}

/// `params` of `tools/call` and `prompts/get` (`name`, `arguments`), of `resources/read` (`uri`), and of `completion/complete`.
#[derive(Serialize)]
pub(crate) struct CallParams<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arguments: Option<&'a RawValue>,
    #[serde(flatten)]
    pub(crate) completion: Option<CompletionParams<'a>>,
    #[serde(rename = "requestState", skip_serializing_if = "Option::is_none")]
    pub(crate) request_state: Option<&'a str>,
    #[serde(rename = "inputResponses", skip_serializing_if = "Option::is_none")]
    pub(crate) input_responses: Option<&'a RawValue>,
    #[serde(rename = "_meta", skip_serializing_if = "Meta::is_empty")]
    pub(crate) meta: Meta<'a>,
}

/// What a server says when a resource is another one now.
pub(crate) const UPDATED: &str = "notifications/resources/updated";

/// What a server of 2026-07-28 says first on a subscription.
pub(crate) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

#[derive(Deserialize)]
struct Updated {
    uri: String,
}

/// The resource that a notification is about.
pub(crate) fn uri_in(params: &RawValue) -> Option<String> {
    serde_json::from_str::<Updated>(params.get()).ok().map(|updated| updated.uri)
}

/// `params` of `resources/subscribe` and `resources/unsubscribe`.
#[derive(Serialize)]
pub(crate) struct ResourceParams<'a> {
    pub(crate) uri: &'a str,
    #[serde(rename = "_meta", skip_serializing_if = "Meta::is_empty")]
    pub(crate) meta: Meta<'a>,
}

/// `params` of `subscriptions/listen`.
#[derive(Serialize)]
pub(crate) struct ListenParams<'a> {
    pub(crate) notifications: ListenFilter<'a>,
    #[serde(rename = "_meta")]
    pub(crate) meta: Meta<'a>,
}

/// What is to be told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListenFilter<'a> {
    pub(crate) resource_subscriptions: [&'a str; 1],
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
    request(id, method::INITIALIZE, params)
}

/// `notifications/initialized`.
pub(crate) fn initialized() -> Bytes {
    write(&Request::<Nothing> { jsonrpc: "2.0", id: None, method: method::INITIALIZED, params: None })
}

/// `ping` of the versions that have sessions.
pub(crate) fn ping(id: u64) -> Bytes {
    write(&Request::<Nothing> { jsonrpc: "2.0", id: Some(id), method: method::PING, params: None })
}

/// `notifications/cancelled`.
pub(crate) fn cancelled(request_id: u64) -> Bytes {
    let params = CancelParams { request_id, reason: "the caller no longer waits" };
    write(&Request { jsonrpc: "2.0", id: None, method: method::CANCELLED, params: Some(params) })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_sent_as_the_caller_wrote_it() {
        let text = r#"{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"x\u00e9"}}"#;
        let arguments = RawValue::from_string(text.to_owned()).unwrap();
        let params = CallParams {
            name: None,
            uri: None,
            arguments: None,
            completion: CompletionParams::of(&arguments),
            request_state: None,
            input_responses: None,
            meta: Meta::legacy(),
        };
        let body = request(1, "completion/complete", params);
        let body = std::str::from_utf8(&body).unwrap();
        assert!(body.contains(&format!(r#""params":{text}"#)), "{body}");
    }

    #[test]
    fn a_legacy_call_without_trace_or_progress_carries_no_meta() {
        let arguments = RawValue::from_string("{}".to_owned()).unwrap();
        let params = CallParams {
            name: Some("t"),
            uri: None,
            arguments: Some(&arguments),
            completion: None,
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
