//! Answers of the scripted server as they are written on the connection.

use serde_json::{Value, json};
use toolfleet_mcp_protocol::{ErrorObject, ErrorResponse, Response, error_code};

use super::answer::ToolAnswer;

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";

/// Status, headers and body of an answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn json(status: u16, body: String) -> Self {
        Self { status, headers: vec![("content-type".to_owned(), JSON.to_owned())], body }
    }

    pub(super) fn events(body: String) -> Self {
        Self { status: 200, headers: vec![("content-type".to_owned(), EVENT_STREAM.to_owned())], body }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// A JSON-RPC error; `data` is left out if it is null.
    pub(super) fn error(status: u16, id: &Value, code: i64, message: &str, data: &Value) -> Self {
        let data = (!data.is_null()).then_some(data);
        let error = ErrorObject { code, message, data };
        Self::json(status, json!(ErrorResponse::new(Some(id), error)).to_string())
    }

    pub(super) fn result(id: &Value, result: &Value) -> Self {
        Self::json(200, json!(Response::new(id, result)).to_string())
    }
}

/// The member `result` or `error` of an answered call, as text for [`frame`].
pub(super) fn member(answer: Option<ToolAnswer>) -> String {
    let error = |code, message: &str| format!("\"error\":{}", json!(ErrorObject::new(code, message)));
    match answer {
        Some(ToolAnswer::Result(value)) => format!("\"result\":{value}"),
        Some(ToolAnswer::Raw(text)) => format!("\"result\":{text}"),
        Some(ToolAnswer::Error { code, message }) => error(code, &message),
        None => error(error_code::INVALID_PARAMS, "Unknown tool"),
    }
}

/// A JSON-RPC answer with that member. The member is text, because a test may want bytes that are no valid JSON.
pub(super) fn frame(id: &Value, member: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},{member}}}")
}
