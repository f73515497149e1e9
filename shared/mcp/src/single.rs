//! One tool call and its answer as whole messages, for transports that carry nothing else: no connection, no session, no stream of
//! their own. A Lambda function is called so.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;
use toolfleet_mcp_protocol::method;

use crate::answer::{Answer, kind_beside};
use crate::fault::Fault;
use crate::protocol::frame::readable;
use crate::protocol::wire::{CallParams, ClientInfo, MODERN, Meta, request};
use crate::tool_call::Resume;
use crate::transport::request_error::RequestError;
use crate::transport::whole_message::answer_in;

/// The id of the only request of its transport.
const ID: u64 = 1;

/// A tool call.
#[derive(Debug, Clone, Copy)]
pub struct SingleCall<'a> {
    /// The tool's name.
    pub name: &'a str,
    /// Its arguments.
    pub arguments: &'a RawValue,
    /// What an earlier call left for this one.
    pub resume: Resume<'a>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// The vendor's part of the trace context.
    pub tracestate: Option<&'a str>,
}

impl SingleCall<'_> {
    /// The request, in the stateless revision; a server of an older one overlooks what it does not know. No task is asked for. The same
    /// call gives the same bytes.
    pub fn request(&self) -> Bytes {
        let client =
            ClientInfo { name: "toolfleet".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let params = CallParams {
            name: Some(self.name),
            uri: None,
            arguments: Some(self.arguments),
            completion: None,
            request_state: self.resume.request_state,
            input_responses: self.resume.input_responses,
            meta: Meta::modern_of_program(&client).with(None, self.traceparent, self.tracestate),
        };
        request(ID, method::TOOLS_CALL, params)
    }

    /// The headers that go with it over HTTP.
    pub fn headers(&self) -> [(&'static str, String); 4] {
        [
            ("content-type", "application/json".to_owned()),
            ("accept", "application/json, text/event-stream".to_owned()),
            ("mcp-protocol-version", MODERN.to_owned()),
            ("mcp-method", method::TOOLS_CALL.to_owned()),
        ]
    }
}

/// The answer to a single call in a message.
///
/// # Errors
/// The server's error, or an answer that is not MCP.
pub async fn single_answer(message: Vec<u8>) -> Result<Answer, Fault> {
    let result = answer_in(message, ID).await.map_err(|error| error.fault)?;
    let (kind, result) = kind_beside(result).await;
    Ok(Answer { kind: kind?, result, protocol_version: String::new(), mcp_session: None })
}

/// The answer to a single call in an HTTP response.
///
/// # Errors
/// What the status or the body says.
pub async fn single_http_answer(
    status: u16,
    headers: &[(String, String)],
    body: Vec<u8>,
) -> Result<Answer, Fault> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            map.append(name, value);
        }
    }
    if !(200..300).contains(&status) {
        return Err(RequestError::of_status(status, &map, &body, ID).fault);
    }
    let kind = map.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let body = if kind.starts_with("text/event-stream") { messages_of_events(&body) } else { body };
    single_answer(body).await
}

/// The messages of a whole event stream as a batch.
fn messages_of_events(stream: &[u8]) -> Vec<u8> {
    let text = readable(stream).replace("\r\n", "\n").replace('\r', "\n");
    let data = |event: &str| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
    };
    let messages: Vec<String> =
        text.split("\n\n").map(data).filter(|message| message.starts_with('{')).collect();
    format!("[{}]", messages.join(",")).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::AnswerKind;

    const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

    #[test]
    fn the_same_call_gives_the_same_bytes() {
        let arguments = RawValue::from_string(r#"{"a":1.0}"#.to_owned()).unwrap();
        let call = SingleCall {
            name: "t",
            arguments: &arguments,
            resume: Resume::default(),
            traceparent: None,
            tracestate: None,
        };
        let text = String::from_utf8(call.request().to_vec()).unwrap();
        assert_eq!(call.request(), call.request());
        assert!(text.starts_with(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":1.0}"#
        ));
        assert!(text.contains(MODERN) && !text.contains("tasks"), "{text}");
    }

    #[tokio::test]
    async fn an_answer_is_found_in_json_and_in_an_event_stream() {
        let events = format!("event: message\r\ndata: {{\"method\":\"x\"}}\r\n\r\ndata: {RESULT}\r\n\r\n");
        let stream = [("Content-Type".to_owned(), "text/event-stream".to_owned())];
        for (headers, body) in [(&[][..], RESULT.to_owned()), (&stream[..], events)] {
            let answer = single_http_answer(200, headers, body.into_bytes()).await.unwrap();
            assert_eq!(answer.kind, AnswerKind::Complete);
        }
    }

    #[tokio::test]
    async fn a_status_and_an_error_mean_what_they_mean_over_http() {
        let limited = [("retry-after".to_owned(), "3".to_owned())];
        let fault = single_http_answer(429, &limited, Vec::new()).await.unwrap_err();
        assert_eq!(fault, Fault::RateLimited { retry_after_ms: Some(3_000) });
        let error = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#;
        let fault = single_answer(error.to_vec()).await.unwrap_err();
        assert!(matches!(fault, Fault::Rpc { code: -32_602, .. }), "{fault:?}");
        let fault = single_answer(b"null".to_vec()).await.unwrap_err();
        assert!(matches!(fault, Fault::InvalidAnswer { .. }), "{fault:?}");
    }
}
