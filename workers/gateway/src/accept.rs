//! What becomes of the body and the headers of a POST: a request, if they agree and its version is spoken here.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_mcp_protocol::{ProtocolRevision, ProtocolVersion, error_code, header as mcp_header, method};

use crate::caller::Caller;
use crate::gateway::{legacy, supported};
use crate::message::{Inbound, Meta, Request, RpcError};
use crate::param_headers::decoded;
use crate::session_id;

const NO_MESSAGE: &str = "the body is no JSON-RPC message";

/// The first byte of a body that is no white space.
pub(crate) fn first_of(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// Whether the version of the request has batches: 2025-03-26 alone, which is named in no header, or by itself.
pub(crate) fn takes_batches(headers: &HeaderMap) -> bool {
    match headers.contains_key(mcp_header::PROTOCOL_VERSION) {
        false => true,
        true => text(headers, mcp_header::PROTOCOL_VERSION) == Some(ProtocolVersion::V2025_03_26.as_str()),
    }
}

/// The message of a body. An array is none, although its members could be read by their order.
pub(crate) fn inbound_of(body: &[u8]) -> Result<Inbound, RpcError> {
    let read = match first_of(body) {
        Some(b'[') => serde_json::from_slice::<serde::de::IgnoredAny>(body).map(|_| None),
        Some(_) | None => serde_json::from_slice::<Inbound>(body).map(Some),
    };
    let is_id = |id: &RawValue| id.get().starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
    match read {
        Ok(Some(inbound)) if inbound.method.is_empty() && !inbound.is_answer() => {
            Err(RpcError::new(StatusCode::BAD_REQUEST, error_code::INVALID_REQUEST, NO_MESSAGE))
        }
        Ok(Some(inbound)) if inbound.id.as_deref().is_none_or(is_id) => Ok(inbound),
        Ok(Some(_)) => Err(RpcError::new(
            StatusCode::BAD_REQUEST,
            error_code::INVALID_REQUEST,
            "`id` is neither a text nor a number; leave it out in a notification",
        )),
        Ok(None) => Err(RpcError::new(
            StatusCode::BAD_REQUEST,
            error_code::INVALID_REQUEST,
            "only protocol version 2025-03-26 has batches; send each message in a request of its own",
        )),
        Err(error) => Err(unreadable(&error)),
    }
}

fn unreadable(error: &serde_json::Error) -> RpcError {
    let (code, text) = match error.classify() {
        serde_json::error::Category::Data => (error_code::INVALID_REQUEST, NO_MESSAGE),
        serde_json::error::Category::Io
        | serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof => (error_code::PARSE_ERROR, "the body is no JSON"),
    };
    RpcError::new(StatusCode::BAD_REQUEST, code, text)
}

/// Whether the client takes an event stream.
pub(crate) fn takes_events(headers: &HeaderMap) -> bool {
    text(headers, axum::http::header::ACCEPT.as_str())
        .is_some_and(|accept| accept.contains("text/event-stream"))
}

/// The text of a header; a value that is not ASCII is none, and so are several: what is in front of the gateway may read another one.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok())?
}

/// The request, if its headers and its body agree and its version is spoken here.
pub(crate) fn accept(
    headers: &HeaderMap,
    inbound: Inbound,
    caller: Caller,
    at: Instant,
) -> Result<Request, RpcError> {
    let bad = |code, text: &str| RpcError::new(StatusCode::BAD_REQUEST, code, text);
    let mut meta = inbound.meta().map_err(|error| RpcError { status: StatusCode::BAD_REQUEST, ..error })?;
    let in_header = text(headers, mcp_header::PROTOCOL_VERSION);
    let version = version_of(in_header, &inbound, &meta)?;
    let session = text(headers, mcp_header::SESSION_ID).map(str::to_owned);
    if version.revision() == ProtocolRevision::Legacy {
        // It is asked on the event stream of the response.
        meta.capabilities =
            session.as_deref().filter(|_| takes_events(headers)).map(session_id::capabilities);
    } else if inbound.is_answer() {
        let text =
            "2026-07-28 has no answers to a server's requests; send the request again with `inputResponses`";
        return Err(bad(error_code::INVALID_REQUEST, text));
    } else if inbound.id.is_some() {
        if meta.version.is_none() || meta.capabilities.as_ref().is_none_or(|one| !one.is_object()) {
            let text = "`params._meta` needs `io.modelcontextprotocol/protocolVersion` and `io.modelcontextprotocol/clientCapabilities`";
            return Err(bad(error_code::INVALID_PARAMS, text));
        }
        check_headers(headers, &inbound)?;
    }
    let param_headers = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(mcp_header::PARAM_PREFIX)?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    });
    Ok(Request {
        at,
        caller,
        version,
        meta,
        param_headers: param_headers.collect::<BTreeMap<_, _>>(),
        session,
        key_header: text(headers, "idempotency-key").map(str::to_owned),
        inbound,
    })
}

/// The version of a request. `initialize` negotiates one; without a header it is 2025-03-26, which knew none.
fn version_of(in_header: Option<&str>, inbound: &Inbound, meta: &Meta) -> Result<ProtocolVersion, RpcError> {
    let mismatch = |text: &str| RpcError::new(StatusCode::BAD_REQUEST, error_code::HEADER_MISMATCH, text);
    let is_modern = |text: &str| text == ProtocolVersion::MODERN.as_str();
    let named = match (in_header, meta.version.as_deref()) {
        (Some(header), Some(body)) if header != body => {
            return Err(mismatch(
                "MCP-Protocol-Version does not match `io.modelcontextprotocol/protocolVersion` of the body",
            ));
        }
        (None, Some(body)) if is_modern(body) => {
            return Err(mismatch("the header MCP-Protocol-Version is missing"));
        }
        (Some(header), _) => header,
        (None, _) if inbound.method == method::INITIALIZE => return Ok(ProtocolVersion::LATEST_LEGACY),
        (None, Some(body)) => body,
        (None, None) => return Ok(ProtocolVersion::V2025_03_26),
    };
    if is_modern(named) {
        return Ok(ProtocolVersion::MODERN);
    }
    match legacy(named) {
        Some(version) => Ok(version),
        // The version of the session is negotiated by the body.
        None if inbound.method == method::INITIALIZE && meta.version.is_none() => {
            Ok(ProtocolVersion::LATEST_LEGACY)
        }
        None => {
            let error = RpcError::new(
                StatusCode::BAD_REQUEST,
                error_code::UNSUPPORTED_VERSION,
                "Unsupported protocol version",
            );
            Err(RpcError {
                data: Some(json!({"supported": supported(), "requested": crate::message::shown(named)})),
                ..error
            })
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    #[serde(default)]
    name: Option<Value>,
    #[serde(default)]
    uri: Option<Value>,
    #[serde(default)]
    task_id: Option<Value>,
}

/// Checks the headers that repeat the method and the name.
fn check_headers(headers: &HeaderMap, inbound: &Inbound) -> Result<(), RpcError> {
    let mismatch = |name: &str| {
        let text = format!("header {name} does not match the body");
        Err(RpcError::new(StatusCode::BAD_REQUEST, error_code::HEADER_MISMATCH, text))
    };
    if text(headers, mcp_header::METHOD) != Some(inbound.method.as_str()) {
        return mismatch("Mcp-Method");
    }
    let named: Named = inbound.params()?;
    let expected = match inbound.method.as_str() {
        method::TOOLS_CALL | "prompts/get" => named.name,
        "resources/read" => named.uri,
        method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL => named.task_id,
        _ => return Ok(()),
    };
    let sent = text(headers, mcp_header::NAME).and_then(decoded);
    match expected.as_ref().and_then(Value::as_str) {
        Some(expected) if sent.as_deref() == Some(expected) => Ok(()),
        Some(_) => mismatch("Mcp-Name"),
        // The method itself says what is wrong with its parameters.
        None => Ok(()),
    }
}
