//! A tool call as a whole message.

use bytes::Bytes;
use serde_json::value::RawValue;
use toolfleet_core::request::InputKind;
use toolfleet_mcp_protocol::method;

use super::form::SingleForm;
use super::message::{ID, Message, this_client};
use crate::protocol::wire::{CallParams, Meta, request};
use crate::tool_call::Resume;

/// A tool call.
#[derive(Debug, Clone, Copy)]
pub struct SingleCall<'a> {
    /// The tool's name.
    pub name: &'a str,
    /// Its arguments.
    pub arguments: &'a RawValue,
    /// What an earlier call left for this one.
    pub resume: Resume<'a>,
    /// What whoever sent the call can answer.
    pub can_answer: &'a [InputKind],
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// The vendor's part of the trace context.
    pub tracestate: Option<&'a str>,
}

impl SingleCall<'_> {
    /// The event that carries it; `id` tells it from other calls.
    pub fn event(&self, form: SingleForm, id: &str) -> Vec<u8> {
        let message = Message { method: method::TOOLS_CALL, name: Some(self.name), id, body: self.request() };
        form.event(&message)
    }

    /// The request, in the stateless revision; a server of an older one overlooks what it does not know. No task is asked for. The same
    /// call gives the same bytes.
    fn request(&self) -> Bytes {
        let client = this_client();
        let params = CallParams {
            name: Some(self.name),
            uri: None,
            arguments: Some(self.arguments),
            completion: None,
            request_state: self.resume.request_state,
            input_responses: self.resume.input_responses,
            meta: Meta::modern_of_program(&client).can_answer(self.can_answer).with(
                None,
                self.traceparent,
                self.tracestate,
            ),
        };
        request(ID, method::TOOLS_CALL, params)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::answer::AnswerKind;
    use crate::fault::Fault;
    use crate::protocol::wire::MODERN;

    const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

    #[test]
    fn the_same_call_gives_the_same_bytes() {
        let arguments = RawValue::from_string(r#"{"a":1.0}"#.to_owned()).unwrap();
        let call = SingleCall {
            name: "t",
            arguments: &arguments,
            resume: Resume::default(),
            can_answer: &InputKind::BY_DEFAULT,
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
        for response in [
            json!({"statusCode": 200, "body": RESULT}),
            json!({"statusCode": 200, "headers": {"Content-Type": "text/event-stream"}, "body": events}),
            serde_json::from_str(RESULT).unwrap(),
        ] {
            let answer = SingleForm::ApiGateway.answer(response.to_string().into_bytes()).await.unwrap();
            assert_eq!(answer.kind, AnswerKind::Complete, "{response}");
        }
    }

    #[tokio::test]
    async fn a_status_and_an_error_mean_what_they_mean_over_http() {
        let limited = json!({"statusCode": 429, "headers": {"retry-after": 3}}).to_string();
        let fault = SingleForm::ApiGateway.answer(limited.into_bytes()).await.unwrap_err();
        assert_eq!(fault, Fault::RateLimited { retry_after_ms: Some(3_000) });
        let error = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#;
        let fault = SingleForm::Message.answer(error.to_vec()).await.unwrap_err();
        assert!(matches!(fault, Fault::Rpc { code: -32_602, .. }), "{fault:?}");
        let fault = SingleForm::Message.answer(b"null".to_vec()).await.unwrap_err();
        assert!(matches!(fault, Fault::InvalidAnswer { .. }), "{fault:?}");
    }
    #[test]
    fn an_event_of_an_api_gateway_has_the_headers_of_its_request() {
        let arguments = RawValue::from_string("{}".to_owned()).unwrap();
        let (resume, traceparent, tracestate) = (Resume::default(), None, None);
        let call = SingleCall {
            name: "tä",
            arguments: &arguments,
            resume,
            can_answer: &[],
            traceparent,
            tracestate,
        };
        let event: serde_json::Value =
            serde_json::from_slice(&call.event(SingleForm::ApiGateway, "c1")).unwrap();
        let headers = json!({
            "content-type": "application/json", "accept": "application/json, text/event-stream",
            "mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "=?base64?dMOk?=",
        });
        assert_eq!(event["headers"], headers);
        assert_eq!((&event["requestContext"]["requestId"], &event["version"]), (&json!("c1"), &json!("2.0")));
        let first_format = (&event["httpMethod"], &event["path"], &event["requestContext"]["http"]["method"]);
        assert_eq!(first_format, (&json!("POST"), &json!("/mcp"), &json!("POST")));
        assert_eq!(event["body"].as_str().unwrap().as_bytes(), call.request());
    }
}
