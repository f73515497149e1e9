//! Classifies a `result`: complete, tool error, input required, task, or unknown.
//!
//! **Invariant:** the `result` keeps its bytes, except that our own credentials are scrubbed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use toolfleet_core::surrogate::replace_lone_surrogates;
use toolfleet_egress::{sanitize_text_to, shorten_text_to};

use crate::blocking::{LARGE_BYTES, beside};
use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::protocol::frame::text_in;
use crate::protocol::task::{TaskHandle, asking_task, handle_in};

/// The bound on a tool error's text, in characters.
const MAX_ERROR_CHARS: usize = 2000;

/// What a server answered to one call.
#[derive(Debug)]
pub struct Answer {
    /// What it means.
    pub kind: AnswerKind,
    /// The `result` member byte for byte.
    pub result: Box<RawValue>,
    /// The protocol version spoken.
    pub protocol_version: String,
    /// The MCP session it ran in, with servers that have sessions.
    pub mcp_session: Option<String>,
}

/// What a result means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerKind {
    /// The tool ran.
    Complete,
    /// The tool ran and says `isError`.
    ToolError {
        /// Its text blocks, shortened to 2,000 characters.
        text: String,
    },
    /// The server asks for something before it goes on (`resultType: input_required`).
    InputRequired,
    /// The work goes on as a task (`resultType: task`).
    Task(TaskHandle),
    /// A `resultType` this client does not know.
    Unknown(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Looked<'a> {
    #[serde(borrow, default)]
    result_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    is_error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
}

/// What a server that answered `input_required` wants before it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Questions {
    /// The task that asks, where it is one; it is answered by [`McpClient::update_task`](crate::McpClient::update_task).
    pub task: Option<String>,
    /// Its `requestState`, to be given back as it is.
    pub request_state: Option<String>,
    /// The keys of its `inputRequests`, in order.
    pub keys: Vec<String>,
}

impl Questions {
    /// What a stored result asks; nothing where it is none that can be answered.
    pub fn of(result: &RawValue) -> Option<Self> {
        // A task's question is never taken for a call's, whatever type its result claims: the call would be begun anew.
        let task = asking_task(result);
        if task.is_none() && kind_of(result).ok()? != AnswerKind::InputRequired {
            return None;
        }
        let asked: Asked<'_> = serde_json::from_str(result.get()).ok()?;
        let keyed = |raw: &RawValue| serde_json::from_str::<BTreeMap<String, IgnoredAny>>(raw.get()).ok();
        let keys = match asked.input_requests {
            Some(requests) => keyed(requests)?.into_keys().collect(),
            None => Vec::new(),
        };
        Some(Self { task, request_state: asked.request_state.map(Cow::into_owned), keys })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    #[serde(borrow, default)]
    request_state: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    input_requests: Option<&'a RawValue>,
}

impl Answer {
    /// The answer as it came, unless it holds our own credential: a tool that echoes its headers must not store it with us.
    pub(crate) async fn without_echo(self, endpoint: &Endpoint) -> Result<Self, Fault> {
        if self.result.get().len() < LARGE_BYTES {
            return Ok(self.scrubbed(endpoint));
        }
        let endpoint = endpoint.clone();
        beside(move || self.scrubbed(&endpoint)).await.ok_or_else(unread)
    }

    fn scrubbed(mut self, endpoint: &Endpoint) -> Self {
        let Some(clean) = scrubbed(&self.result, endpoint) else {
            return self;
        };
        self.result = clean;
        self.kind = match (self.kind, kind_of(&self.result)) {
            (_, Ok(kind @ AnswerKind::ToolError { .. })) => kind,
            (AnswerKind::ToolError { text }, _) => {
                AnswerKind::ToolError { text: endpoint.text_without_echo(text) }
            }
            (AnswerKind::Unknown(kind), _) => AnswerKind::Unknown(endpoint.text_without_echo(kind)),
            (kind, _) => kind,
        };
        self
    }
}

/// The same for a result of which nothing is known yet.
pub(crate) fn result_without_echo(result: Box<RawValue>, endpoint: &Endpoint) -> Box<RawValue> {
    scrubbed(&result, endpoint).unwrap_or(result)
}

fn scrubbed(result: &RawValue, endpoint: &Endpoint) -> Option<Box<RawValue>> {
    let clean = endpoint.json_without_echo(result.get())?;
    // A number or a name that is a secret leaves nothing that could be told from it.
    let clean = Some(clean).filter(|clean| !endpoint.leaks_into(clean));
    Some(clean.and_then(|clean| RawValue::from_string(clean).ok()).unwrap_or_else(nothing_left))
}

/// In place of a result that is no JSON any more once our credential is out of it.
fn nothing_left() -> Box<RawValue> {
    serde_json::value::to_raw_value(&serde_json::json!({ "content": [] }))
        .unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The same as [`kind_of`], beside the runtime where the result is large.
pub(crate) async fn kind_beside(result: Box<RawValue>) -> (Result<AnswerKind, Fault>, Box<RawValue>) {
    if result.get().len() < LARGE_BYTES {
        return (kind_of(&result), result);
    }
    let unread = || (Err(unread()), RawValue::NULL.to_owned());
    beside(move || (kind_of(&result), result)).await.unwrap_or_else(unread)
}

pub(crate) fn unread() -> Fault {
    Fault::InvalidAnswer { detail: "the result cannot be read".to_owned() }
}

/// What this result means; an error where it is no object. Half a surrogate pair anywhere in it spoils nothing.
pub(crate) fn kind_of(result: &RawValue) -> Result<AnswerKind, Fault> {
    let no_object = || Fault::InvalidAnswer {
        detail: format!("expected an object as the result, found {}", sanitize_text_to(result.get(), 60)),
    };
    let text = replace_lone_surrogates(result.get());
    // A derived struct would also be read from an array.
    let object = text.starts_with('{').then(|| serde_json::from_str(&text).ok());
    let looked: Looked<'_> = object.flatten().ok_or_else(no_object)?;
    let kind = looked.result_type.map(|raw| serde_json::from_str::<Cow<'_, str>>(raw.get()));
    Ok(match kind {
        Some(Ok(kind)) if kind == "input_required" => AnswerKind::InputRequired,
        Some(Ok(kind)) if kind == "task" => AnswerKind::Task(handle_in(result)?),
        Some(Ok(kind)) if kind != "complete" => AnswerKind::Unknown(sanitize_text_to(&kind, 60)),
        Some(Err(_)) => {
            AnswerKind::Unknown(sanitize_text_to(looked.result_type.map_or("", RawValue::get), 60))
        }
        Some(Ok(_)) | None => match looked.is_error.map(RawValue::get) {
            Some("true") => AnswerKind::ToolError { text: error_text(looked.content) },
            Some(_) | None => AnswerKind::Complete,
        },
    })
}

fn error_text(content: Option<&RawValue>) -> String {
    let blocks: Vec<&RawValue> =
        content.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let mut text = String::new();
    for block in blocks {
        let Ok(Block { text: Some(part) }) = serde_json::from_str(block.get()) else {
            continue;
        };
        let Some(part) = text_in(part) else { continue };
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(part.get(..).unwrap_or_default());
        if text.len() > MAX_ERROR_CHARS.saturating_mul(4) {
            break;
        }
    }
    if text.is_empty() { "the tool gave no text".to_owned() } else { shorten_text_to(&text, MAX_ERROR_CHARS) }
}

/// The state of an `input_required` result that asks for nothing but the same request again.
pub(crate) fn same_request_again(result: &RawValue) -> Option<String> {
    let asked: Asked<'_> = serde_json::from_str(result.get()).ok()?;
    let asks =
        asked.input_requests.is_some_and(|raw| !raw.get().trim_matches(['{', '}', ' ', '\n']).is_empty());
    if asks { None } else { asked.request_state.map(Cow::into_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> AnswerKind {
        kind_of(&RawValue::from_string(text.to_owned()).unwrap()).unwrap()
    }

    #[test]
    fn an_unknown_content_block_does_not_spoil_a_result() {
        assert_eq!(kind(r#"{"content":[{"type":"hologram","x":[1]}]}"#), AnswerKind::Complete);
        assert_eq!(kind(r#"{"content":7}"#), AnswerKind::Complete);
        assert_eq!(kind(r#"{"resultType":"complete"}"#), AnswerKind::Complete);
    }

    #[test]
    fn a_tool_error_carries_its_text_blocks() {
        let found = kind(
            r#"{"isError":true,"content":[{"type":"x"},{"type":"text","text":"no\nway"},{"text":"!"}]}"#,
        );
        assert_eq!(found, AnswerKind::ToolError { text: "no way !".to_owned() });
    }

    #[test]
    fn half_a_surrogate_pair_loses_neither_the_text_nor_the_meaning() {
        let found = kind(r#"{"isError":true,"content":[{"type":"text","text":"no \ud83d way"}],"\udc00":1}"#);
        assert_eq!(found, AnswerKind::ToolError { text: "no \u{fffd} way".to_owned() });
        assert_eq!(kind(r#"{"resultType":"\ud800"}"#), AnswerKind::Unknown("\u{fffd}".to_owned()));
        assert_eq!(kind(r#"{"content":[{"text":"\ud800"}]}"#), AnswerKind::Complete);
    }

    #[test]
    fn what_a_large_result_means_is_found_beside_the_runtime() {
        let raw = |bytes: usize| {
            RawValue::from_string(format!("{{\"isError\":true,\"x\":\"{}\"}}", "x".repeat(bytes))).unwrap()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let mut small = Box::pin(kind_beside(raw(1)));
            assert!(futures::poll!(small.as_mut()).is_ready());
            // The only thread beside the runtime is busy until the large result has been asked for.
            let (free, busy) = std::sync::mpsc::channel::<()>();
            let first = tokio::task::spawn_blocking(move || busy.recv());
            let mut large = Box::pin(kind_beside(raw(LARGE_BYTES)));
            assert!(futures::poll!(large.as_mut()).is_pending());
            free.send(()).unwrap();
            assert!(matches!(large.await, (Ok(AnswerKind::ToolError { .. }), _)));
            first.await.unwrap().unwrap();
        });
    }

    #[test]
    fn an_unknown_result_type_is_named() {
        assert_eq!(kind(r#"{"resultType":"dream"}"#), AnswerKind::Unknown("dream".to_owned()));
        assert_eq!(kind(r#"{"resultType":3}"#), AnswerKind::Unknown("3".to_owned()));
    }

    #[test]
    fn the_questions_of_a_result_are_its_state_and_its_keys() {
        let of = |text: &str| Questions::of(&RawValue::from_string(text.to_owned()).unwrap());
        let asked =
            of(r#"{"resultType":"input_required","inputRequests":{"b":{},"a":{}},"requestState":"é"}"#);
        let keys = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(asked, Some(Questions { task: None, request_state: Some("é".to_owned()), keys }));
        let stateless = of(r#"{"resultType":"input_required","inputRequests":{"a":{}}}"#).unwrap();
        assert_eq!(stateless.request_state, None);
        assert_eq!(of(r#"{"resultType":"input_required","inputRequests":[1]}"#), None);
        assert_eq!(of(r#"{"inputRequests":{"a":{}}}"#), None);
        let of_task = |more: &str| {
            of(&format!(
                r#"{{"resultType":"complete","status":"input_required","inputRequests":{{"a":{{}}}}{more}}}"#
            ))
        };
        let asked = of_task(r#","taskId":"t""#).unwrap();
        assert_eq!((asked.task.as_deref(), asked.keys), (Some("t"), vec!["a".to_owned()]));
        assert_eq!(of_task(""), None, "nobody could be told the answer");
        let odd = of(
            r#"{"resultType":"input_required","status":"input_required","taskId":"t","inputRequests":{}}"#,
        );
        assert_eq!(odd.unwrap().task.as_deref(), Some("t"));
        assert_eq!(of(r#"{"status":"completed","taskId":"t","inputRequests":{}}"#), None);
    }

    #[test]
    fn only_a_request_state_without_questions_asks_for_the_same_request_again() {
        let ask = |text: &str| same_request_again(&RawValue::from_string(text.to_owned()).unwrap());
        assert_eq!(ask(r#"{"requestState":"s"}"#), Some("s".to_owned()));
        assert_eq!(ask(r#"{"requestState":"s","inputRequests":{}}"#), Some("s".to_owned()));
        assert_eq!(ask(r#"{"requestState":"s","inputRequests":{"a":{}}}"#), None);
        assert_eq!(ask(r#"{"inputRequests":{"a":{}}}"#), None);
    }
}
