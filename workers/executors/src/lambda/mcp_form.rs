//! The payload forms `mcp` and `api-gateway`: an MCP request as the event, or as the body of an API Gateway event (format 2.0).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use toolfleet_core::answer::{Answer, Meaning};
use toolfleet_core::failure::Failure;
use toolfleet_mcp::{SingleCall, single_answer, single_http_answer};

use super::failure::{invalid_answer, not_json};
use crate::executor::{Attempt, Invocation};
use crate::mcp::executor::resume_of;
use crate::mcp::failure::failure_of;
use crate::mcp::outcome::answer_of;

/// The path of the events, which a function of a single MCP server does not look at.
const PATH: &str = "/mcp";

fn call_of<'a>(call: &Invocation<'a>, attempt: Attempt<'a>, durable: bool) -> SingleCall<'a> {
    SingleCall {
        name: call.name,
        arguments: &call.request.arguments,
        resume: resume_of(call),
        // The event of a durable execution has to be the same in every attempt.
        traceparent: attempt.traceparent.filter(|_| !durable),
        tracestate: attempt.tracestate.filter(|_| !durable),
    }
}

/// The event of the form `mcp`.
pub(super) fn event(call: &Invocation<'_>, attempt: Attempt<'_>, durable: bool) -> Vec<u8> {
    call_of(call, attempt, durable).request().to_vec()
}

/// The event of the form `api-gateway`.
pub(super) fn http_event(call: &Invocation<'_>, attempt: Attempt<'_>, durable: bool) -> Vec<u8> {
    let request = call_of(call, attempt, durable);
    let headers: BTreeMap<_, _> = request.headers().into_iter().collect();
    let body = String::from_utf8_lossy(&request.request()).into_owned();
    let id = call.request.key.call_id.as_str();
    let event = json!({
        "version": "2.0",
        "routeKey": format!("POST {PATH}"),
        "rawPath": PATH,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "requestId": id,
            "routeKey": format!("POST {PATH}"),
            "stage": "$default",
            "http": {
                "method": "POST", "path": PATH, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "toolfleet",
            },
        },
        "body": body,
        "isBase64Encoded": false,
    });
    event.to_string().into_bytes()
}

/// What an answer of the form `mcp` means.
pub(super) async fn answer(payload: Vec<u8>) -> Result<Answer, Failure> {
    no_task(single_answer(payload).await.map(answer_of).map_err(|fault| failure_of(&fault))?)
}

/// A response as a function writes it for an API Gateway.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    status_code: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// What an answer of the form `api-gateway` means. One without a status is a body by itself, as for an API Gateway.
pub(super) async fn http_answer(payload: Vec<u8>) -> Result<Answer, Failure> {
    let response: Response = serde_json::from_slice(&payload).map_err(|error| not_json(&error))?;
    let Some(status) = response.status_code else {
        return answer(payload).await;
    };
    let body = response.body.unwrap_or_default();
    let body = if response.is_base64_encoded {
        STANDARD
            .decode(body)
            .map_err(|_| invalid_answer("its `body` is not base64, as `isBase64Encoded` says"))?
    } else {
        body.into_bytes()
    };
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let headers: Vec<_> = response.headers.into_iter().map(|(name, value)| (name, text(value))).collect();
    let read = single_http_answer(status, &headers, body).await;
    no_task(read.map(answer_of).map_err(|fault| failure_of(&fault))?)
}

/// An invocation that has ended works on nothing more.
fn no_task(answer: Answer) -> Result<Answer, Failure> {
    match answer.meaning {
        Meaning::Ended(_) => Ok(answer),
        Meaning::Task { .. } => Err(invalid_answer("it is a task, which the fleet did not ask for")),
    }
}
