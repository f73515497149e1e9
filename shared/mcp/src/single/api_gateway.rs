//! A message in an event as an API Gateway writes it, and the answer in the response that a function gives it. The event has the members of both
//! payload formats, 1.0 (REST interfaces) and 2.0: handlers read those of one.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use toolfleet_core::surrogate::replace_lone_surrogates;
use toolfleet_mcp_protocol::header;

use super::message::{ID, Message};
use crate::fault::Fault;
use crate::protocol::frame::readable;
use crate::protocol::param_headers::header_value;
use crate::protocol::wire::MODERN;
use crate::transport::request_error::RequestError;
use crate::transport::whole_message::answer_in;

/// The path of the events, which a function of a single MCP server does not look at.
const PATH: &str = "/mcp";

pub(super) fn event(message: &Message<'_>) -> Vec<u8> {
    let mut headers = json!({
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        header::PROTOCOL_VERSION: MODERN,
        header::METHOD: message.method,
    });
    let name = message.name.and_then(header_value);
    if let (Some(headers), Some(Ok(name))) = (headers.as_object_mut(), name.as_ref().map(HeaderValue::to_str))
    {
        headers.insert(header::NAME.to_owned(), Value::from(name));
    }
    let several = headers.as_object().into_iter().flatten();
    let several: BTreeMap<_, _> = several.map(|(name, value)| (name, [value])).collect();
    let event = json!({
        "version": "2.0",
        "httpMethod": "POST",
        "path": PATH,
        "resource": PATH,
        "multiValueHeaders": several,
        "queryStringParameters": null,
        "multiValueQueryStringParameters": null,
        "pathParameters": null,
        "stageVariables": null,
        "routeKey": format!("POST {PATH}"),
        "rawPath": PATH,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "requestId": message.id,
            "routeKey": format!("POST {PATH}"),
            "stage": "$default",
            "http": {
                "method": "POST", "path": PATH, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "toolfleet",
            },
        },
        "body": String::from_utf8_lossy(&message.body),
        "isBase64Encoded": false,
    });
    event.to_string().into_bytes()
}

/// A response as a function writes it for an API Gateway.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    /// A number, or its text.
    status_code: Option<Value>,
    #[serde(default)]
    headers: Option<BTreeMap<String, Value>>,
    /// Those of a REST interface, each with its values; they go before `headers`.
    #[serde(default)]
    multi_value_headers: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// What a response says, as HTTP would.
pub(super) struct HttpResponse {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// The response in a function's answer; nothing where it is a body by itself, as for an API Gateway.
pub(super) fn response_of(payload: &[u8]) -> Result<Option<HttpResponse>, Fault> {
    let invalid = |detail: String| Fault::InvalidAnswer { detail };
    // A text that was cut within a character spoils nothing.
    let text = readable(payload);
    let response: Response = serde_json::from_str(&replace_lone_surrogates(&text)).map_err(|error| {
        let place = (error.line(), error.column());
        invalid(format!("it is no response of an API Gateway (line {}, column {})", place.0, place.1))
    })?;
    let Some(status) = response.status_code.filter(|status| !status.is_null()) else { return Ok(None) };
    let status =
        status_of(&status).ok_or_else(|| invalid("its `statusCode` is no status of HTTP".to_owned()))?;
    let body = response.body.unwrap_or_default();
    let body = if response.is_base64_encoded {
        let wrong = |_| invalid("its `body` is not base64, as `isBase64Encoded` says".to_owned());
        STANDARD.decode(body).map_err(wrong)?
    } else {
        body.into_bytes()
    };
    let headers = header_map(response.headers, response.multi_value_headers);
    Ok(Some(HttpResponse { status, headers, body }))
}

fn status_of(value: &Value) -> Option<u16> {
    match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => value.as_u64().and_then(|status| u16::try_from(status).ok()),
    }
}

/// The result in a response.
pub(super) async fn result(payload: Vec<u8>) -> Result<Box<RawValue>, RequestError> {
    let Some(HttpResponse { status, headers, body }) = response_of(&payload)? else {
        return answer_in(payload, ID).await;
    };
    if !(200..300).contains(&status) {
        return Err(RequestError::of_status(status, &headers, &body, ID));
    }
    let kind =
        headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let body = if kind.starts_with("text/event-stream") { messages_of_events(&body) } else { body };
    answer_in(body, ID).await
}

/// The headers that HTTP could carry.
fn header_map(
    single: Option<BTreeMap<String, Value>>,
    several: Option<BTreeMap<String, Value>>,
) -> HeaderMap {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut map = HeaderMap::new();
    for (name, values) in several.unwrap_or_default() {
        let Ok(name) = HeaderName::try_from(name) else { continue };
        for value in values.as_array().into_iter().flatten() {
            if let Ok(value) = HeaderValue::try_from(text(value)) {
                map.append(name.clone(), value);
            }
        }
    }
    for (name, value) in single.unwrap_or_default() {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(text(&value))) {
            map.entry(name).or_insert(value);
        }
    }
    map
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

    #[test]
    fn a_response_of_a_rest_interface_is_read() {
        let response = |value: Value| response_of(value.to_string().as_bytes());
        let read = response(json!({
            "statusCode": "429", "headers": {"Retry-After": "9", "x-one": 1},
            "multiValueHeaders": {"retry-after": ["7"], "Mcp-Session-Id": ["s1"], "x-two": ["a", "b"]},
        }));
        let HttpResponse { status, headers, .. } = read.unwrap().unwrap();
        let of = |name: &str| -> Vec<&str> {
            headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
        };
        assert_eq!((status, of("retry-after"), of("mcp-session-id")), (429, vec!["7"], vec!["s1"]));
        assert_eq!((of("x-one"), of("x-two")), (vec!["1"], vec!["a", "b"]));
        assert!(response(json!({"statusCode": "fine"})).is_err());
        assert!(response(json!({"statusCode": null, "jsonrpc": "2.0"})).unwrap().is_none());
    }
}
