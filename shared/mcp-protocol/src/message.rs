//! JSON-RPC envelopes, and the results that every server gives.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const JSONRPC: &str = "2.0";

/// A request or a notification to be written.
#[derive(Debug, Clone, Serialize)]
pub struct Request<'a, P> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<P>,
}

impl<'a, P> Request<'a, P> {
    /// A request.
    pub const fn new(id: u64, method: &'a str, params: Option<P>) -> Self {
        Self { jsonrpc: JSONRPC, id: Some(id), method, params }
    }

    /// A notification, which is never answered.
    pub const fn notification(method: &'a str, params: Option<P>) -> Self {
        Self { jsonrpc: JSONRPC, id: None, method, params }
    }
}

/// A request or a notification as a server reads it. A notification has no id.
#[derive(Debug, Clone, Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de> + Default"))]
pub struct Received<'a, P> {
    /// The id, byte for byte: the answer repeats it.
    #[serde(borrow)]
    pub id: Option<&'a RawValue>,
    /// The method.
    pub method: String,
    /// The parameters.
    #[serde(default)]
    pub params: P,
}

/// A successful answer.
#[derive(Debug, Clone, Serialize)]
pub struct Response<I, R> {
    jsonrpc: &'static str,
    id: I,
    result: R,
}

impl<I, R> Response<I, R> {
    /// The answer to the request of that id.
    pub const fn new(id: I, result: R) -> Self {
        Self { jsonrpc: JSONRPC, id, result }
    }
}

/// An answer that is an error.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorResponse<'a, I, D> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<I>,
    error: ErrorObject<'a, D>,
}

impl<'a, I, D> ErrorResponse<'a, I, D> {
    /// The answer to the request of that id; without an id, to a request that the server could not read.
    pub const fn new(id: Option<I>, error: ErrorObject<'a, D>) -> Self {
        Self { jsonrpc: JSONRPC, id, error }
    }
}

/// The member `error` of an answer.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ErrorObject<'a, D> {
    /// See [`crate::error_code`].
    pub code: i64,
    /// A sentence for people.
    pub message: &'a str,
    /// What a program needs to know beyond the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<D>,
}

impl<'a> ErrorObject<'a, ()> {
    /// An error without data.
    pub const fn new(code: i64, message: &'a str) -> Self {
        Self { code, message, data: None }
    }
}

/// The data of [`crate::error_code::UNSUPPORTED_VERSION`].
#[derive(Debug, Clone, Copy, Serialize)]
pub struct UnsupportedVersion<'a> {
    /// The versions that the server speaks.
    pub supported: &'a [&'a str],
    /// The version of the request.
    pub requested: Option<&'a str>,
}

/// Name and version of a client or a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Implementation {
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
}

/// Capabilities of a server that has tools and nothing else.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct ServerCapabilities {
    tools: Empty,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Empty {}

/// The result of `initialize`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeResult<'a> {
    /// The version of the session.
    pub protocol_version: &'a str,
    /// What the server can do.
    pub capabilities: ServerCapabilities,
    /// Who the server is.
    pub server_info: Implementation,
    /// How to use the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<&'a str>,
}

/// The result of `server/discover`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiscoverResult<'a> {
    /// See [`crate::result_type`].
    pub result_type: &'a str,
    /// The versions that the server speaks.
    pub supported_versions: &'a [&'a str],
    /// What the server can do.
    pub capabilities: ServerCapabilities,
    /// Who the server is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_info: Option<Implementation>,
    /// How to use the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<&'a str>,
    /// How long the result may be cached, in milliseconds.
    pub ttl_ms: u64,
    /// See [`crate::cache_scope`].
    pub cache_scope: &'a str,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_has_an_id_and_a_notification_has_none() {
        let request = Request::new(7, "tools/list", Some(json!({"cursor": "1"})));
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"cursor":"1"}}"#
        );
        let notification = Request::<()>::notification("notifications/initialized", None);
        assert_eq!(
            serde_json::to_string(&notification).unwrap(),
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#
        );
    }

    #[test]
    fn a_received_request_keeps_the_id_as_it_was_written() {
        let text = r#"{"jsonrpc":"2.0","id": 1.50,"method":"tools/call","params":{"name":"t"}}"#;
        let received: Received<'_, serde_json::Value> = serde_json::from_str(text).unwrap();
        assert_eq!(received.id.unwrap().get(), "1.50");
        assert_eq!((received.method.as_str(), &received.params["name"]), ("tools/call", &json!("t")));
        let response = Response::new(received.id, json!({}));
        assert_eq!(serde_json::to_string(&response).unwrap(), r#"{"jsonrpc":"2.0","id":1.50,"result":{}}"#);
        let notification: Received<'_, ()> = serde_json::from_str(r#"{"id":null,"method":"x"}"#).unwrap();
        assert!(notification.id.is_none());
    }

    #[test]
    fn an_error_names_id_and_data_only_where_it_has_them() {
        let error = ErrorObject::new(-32601, "Method not found");
        let text = |id: Option<u64>| serde_json::to_string(&ErrorResponse::new(id, error)).unwrap();
        assert_eq!(
            text(Some(7)),
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"Method not found"}}"#
        );
        assert_eq!(text(None), r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"}}"#);
        let data = UnsupportedVersion { supported: &["2026-07-28"], requested: None };
        let error = ErrorObject { code: -32022, message: "no", data: Some(data) };
        assert_eq!(
            serde_json::to_value(ErrorResponse::new(Some(1), error)).unwrap()["error"]["data"],
            json!({"supported": ["2026-07-28"], "requested": null})
        );
    }

    #[test]
    fn the_results_have_the_names_of_the_specification() {
        let capabilities = ServerCapabilities::default();
        let server = || Implementation { name: "s".into(), version: "1".into() };
        let initialize = InitializeResult {
            protocol_version: "2025-11-25",
            capabilities,
            server_info: server(),
            instructions: None,
        };
        assert_eq!(
            serde_json::to_value(initialize).unwrap(),
            json!({
                "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "s", "version": "1"},
            })
        );
        let discover = DiscoverResult {
            result_type: "complete",
            supported_versions: &["2026-07-28"],
            capabilities,
            server_info: Some(server()),
            instructions: Some("i"),
            ttl_ms: 5,
            cache_scope: "public",
        };
        assert_eq!(
            serde_json::to_value(discover).unwrap(),
            json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "s", "version": "1"}, "instructions": "i", "ttlMs": 5, "cacheScope": "public",
            })
        );
    }
}
