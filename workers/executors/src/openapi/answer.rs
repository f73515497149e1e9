//! Turns an HTTP answer into the outcome of its call, in the shape of an MCP tool's result.
//!
//! 2xx is success, whatever the document says of the answer's schema. Any other status that gets here is an answer of the tool: an error
//! that a model can read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome};
use toolfleet_mcp::PlainAnswer;

/// The longest text of an error that a result holds, in characters.
const MOST_ERROR_CHARS: usize = 16 * 1024;
/// The longest sentence that says what went wrong, in characters.
const MOST_SENTENCE_CHARS: usize = 500;
/// Headers that a caller may need: where a new thing is, where a list goes on, what version was read, what is left of a limit.
const KEPT: [&str; 8] = [
    "content-type",
    "location",
    "link",
    "etag",
    "last-modified",
    "content-location",
    "x-total-count",
    "x-ratelimit-remaining",
];

/// A tool's result.
#[derive(Serialize)]
struct ToolResult<'a> {
    content: Vec<Value>,
    #[serde(rename = "structuredContent", skip_serializing_if = "Option::is_none")]
    structured: Option<&'a RawValue>,
    #[serde(rename = "isError", skip_serializing_if = "std::ops::Not::not")]
    is_error: bool,
    #[serde(rename = "_meta")]
    meta: Value,
}

/// The outcome of a call of the operation `name`.
pub(super) fn outcome_of(name: &str, answer: &PlainAnswer) -> Outcome {
    let meta = json!({ "http": { "status": answer.status, "headers": kept(&answer.headers) } });
    let media = media_of(&answer.headers);
    if !(200..300).contains(&answer.status) {
        return error(answer, &media, meta);
    }
    let text = text_of(&answer.body, &media, &answer.headers);
    let structured = text.as_deref().and_then(|text| object(text, &media));
    let content = match &text {
        Some(text) if text.trim().is_empty() => vec![text_content(&status_line(answer.status))],
        Some(text) => vec![text_content(text)],
        None => vec![bytes_content(name, &media, &answer.body)],
    };
    match raw(&ToolResult { content, structured, is_error: false, meta }) {
        Some(result) => Outcome::succeeded(result),
        None => {
            let text = "The interface answered with success, and the answer cannot be stored.";
            Outcome::failed(CallError::new(Code::InvalidAnswer, text, MayHaveRun::Yes))
        }
    }
}

/// An answer whose status is no success: the tool's own error, with the start of its body.
fn error(answer: &PlainAnswer, media: &str, meta: Value) -> Outcome {
    let body = text_of(&answer.body, media, &answer.headers).unwrap_or_default();
    let status = status_line(answer.status);
    let sentence = |most: usize| match cut(body.trim(), most) {
        body if body.is_empty() => status.clone(),
        body => format!("{status}: {body}"),
    };
    let content = vec![text_content(&sentence(MOST_ERROR_CHARS))];
    let result = ToolResult { content, structured: None, is_error: true, meta };
    let text = sentence(MOST_SENTENCE_CHARS);
    match raw(&result) {
        Some(result) => Outcome::tool_error(result, text),
        None => Outcome::failed(CallError::new(Code::ServerError, text, MayHaveRun::Unknown)),
    }
}

fn raw(result: &ToolResult<'_>) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(result).ok()
}

fn cut(text: &str, most: usize) -> String {
    let start: String = text.chars().take(most).collect();
    if start.len() < text.len() { format!("{start} .. (cut)") } else { start }
}

/// Status and its usual words, as in `HTTP 404 Not Found`.
fn status_line(status: u16) -> String {
    let words = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    words.map_or_else(|| format!("HTTP {status}"), |words| format!("HTTP {status} {words}"))
}

fn kept(headers: &HeaderMap) -> Value {
    let found = KEPT.iter().filter_map(|name| Some((*name, headers.get(*name)?.to_str().ok()?)));
    found.map(|(name, value)| (name.to_owned(), Value::from(value))).collect::<serde_json::Map<_, _>>().into()
}

/// The media type of the answer in small letters, without parameters; empty where none is named.
fn media_of(headers: &HeaderMap) -> String {
    let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    named.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(media: &str) -> bool {
    media.ends_with("/json") || media.ends_with("+json")
}

/// The body as a text, if it is one.
fn text_of(body: &[u8], media: &str, headers: &HeaderMap) -> Option<String> {
    let is_text = is_json(media)
        || media.starts_with("text/")
        || ["xml", "yaml", "javascript", "ndjson", "jsonl", "x-www-form-urlencoded", "graphql", "json-seq"]
            .iter()
            .any(|word| media.ends_with(word));
    if body.is_empty() {
        return Some(String::new());
    }
    if media.is_empty() {
        return String::from_utf8(body.to_vec()).ok();
    }
    if !is_text {
        return None;
    }
    let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_latin =
        ["iso-8859-1", "latin1", "us-ascii"].iter().any(|word| named.to_ascii_lowercase().contains(word));
    Some(match std::str::from_utf8(body) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
        // Each byte of ISO 8859-1 is the character of that number.
        Err(_) if is_latin => body.iter().map(|byte| char::from(*byte)).collect(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    })
}

/// The text as structured content, which is an object in MCP.
fn object<'a>(text: &'a str, media: &str) -> Option<&'a RawValue> {
    if !(is_json(media) || media.is_empty()) || !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn text_content(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn bytes_content(name: &str, media: &str, body: &[u8]) -> Value {
    let data = STANDARD.encode(body);
    let kind = media.split('/').next().unwrap_or_default();
    match kind {
        "image" | "audio" => json!({ "type": kind, "data": data, "mimeType": media }),
        _ => {
            let media = if media.is_empty() { "application/octet-stream" } else { media };
            let uri = format!("toolfleet:response/{name}");
            json!({ "type": "resource", "resource": { "uri": uri, "mimeType": media, "blob": data } })
        }
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_core::outcome::OutcomeKind;

    use super::*;

    fn outcome(status: u16, headers: &[(&'static str, &'static str)], body: &[u8]) -> (OutcomeKind, Value) {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let outcome = outcome_of("op", &PlainAnswer { status, headers, body: body.to_vec() });
        let content = serde_json::from_str(outcome.content().unwrap().get()).unwrap();
        (outcome.kind, content)
    }

    fn content(media: &'static str, body: &[u8]) -> Value {
        outcome(200, &[("content-type", media)], body).1["content"][0].clone()
    }

    #[test]
    fn a_json_answer_is_text_and_structured_content() {
        let (kind, result) =
            outcome(201, &[("content-type", "application/json"), ("location", "/pets/1")], br#"{"a": 1.50}"#);
        assert_eq!(kind, OutcomeKind::Succeeded);
        assert_eq!(result["content"], json!([{"type": "text", "text": "{\"a\": 1.50}"}]));
        assert_eq!(result["structuredContent"], json!({"a": 1.5}));
        assert_eq!(
            result["_meta"]["http"],
            json!({"status": 201, "headers": {"content-type": "application/json", "location": "/pets/1"}})
        );
        let (_, result) =
            outcome(200, &[("content-type", "application/problem+json; charset=utf-8")], b"[1]");
        assert_eq!((&result["content"][0]["text"], result.get("structuredContent")), (&json!("[1]"), None));
        let (kind, result) = outcome(200, &[("content-type", "application/json")], b"{not json");
        assert_eq!((kind, &result["content"][0]["text"]), (OutcomeKind::Succeeded, &json!("{not json")));
    }

    #[test]
    fn other_answers_are_text_or_bytes_by_their_media_type() {
        assert_eq!(content("text/csv", "ä,b".as_bytes()), json!({"type": "text", "text": "ä,b"}));
        assert_eq!(content("text/plain; charset=ISO-8859-1", b"\xe4"), json!({"type": "text", "text": "ä"}));
        assert_eq!(content("application/xml", b"<a/>"), json!({"type": "text", "text": "<a/>"}));
        assert_eq!(
            content("image/PNG", &[0, 1]),
            json!({"type": "image", "data": "AAE=", "mimeType": "image/png"})
        );
        assert_eq!(
            content("audio/wav", &[0]),
            json!({"type": "audio", "data": "AA==", "mimeType": "audio/wav"})
        );
        let blob = json!({"uri": "toolfleet:response/op", "mimeType": "application/pdf", "blob": "JVA="});
        assert_eq!(content("application/pdf", b"%P"), json!({"type": "resource", "resource": blob}));
        assert_eq!(outcome(200, &[], b"hi").1["content"][0], json!({"type": "text", "text": "hi"}));
        assert_eq!(outcome(200, &[], &[255]).1["content"][0]["resource"]["blob"], json!("/w=="));
        assert_eq!(outcome(204, &[], b"").1["content"][0]["text"], json!("HTTP 204 No Content"));
    }

    #[test]
    fn any_other_status_is_a_tool_error_that_a_model_can_read() {
        let (kind, result) =
            outcome(404, &[("content-type", "application/json")], br#"{"message": "no such pet"}"#);
        assert_eq!(kind, OutcomeKind::ToolError);
        assert_eq!(result["isError"], json!(true));
        assert_eq!(result["content"][0]["text"], json!("HTTP 404 Not Found: {\"message\": \"no such pet\"}"));
        let (_, result) = outcome(422, &[("content-type", "text/plain")], "x".repeat(100_000).as_bytes());
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.ends_with("x .. (cut)") && text.len() < 17_000);
        assert_eq!(outcome(304, &[], b"").1["content"][0]["text"], json!("HTTP 304 Not Modified"));
        assert_eq!(
            outcome(400, &[("content-type", "image/png")], &[0]).1["content"][0]["text"],
            json!("HTTP 400 Bad Request")
        );
    }
}
