//! Servers to which connections are kept: WebSocket, and the HTTP+SSE transport of MCP 2024-11-05.

use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, Server, StreamKind, Transport};
use toolfleet_core::ids::ServerId;

fn parse(server: Value) -> Result<Catalog, String> {
    let catalog = json!({"servers": [server], "tenants": {"queue": ["*"]}});
    Catalog::parse(&catalog.to_string()).map_err(|error| error.to_string())
}

fn server(fields: Value) -> std::sync::Arc<Server> {
    let id = ServerId::parse("s").unwrap();
    std::sync::Arc::clone(parse(fields).unwrap().server(&id).unwrap())
}

#[test]
fn a_stream_is_named_by_its_transport_or_by_its_scheme() {
    for (fields, kind) in [
        (json!({"id": "s", "url": "wss://h.example/mcp"}), Some(StreamKind::WebSocket)),
        (json!({"id": "s", "url": "ws://h.example/mcp", "type": "ws"}), Some(StreamKind::WebSocket)),
        (json!({"id": "s", "url": "wss://h.example", "transport": "websocket"}), Some(StreamKind::WebSocket)),
        (json!({"id": "s", "url": "https://h.example/sse", "transport": "sse"}), Some(StreamKind::Sse)),
        (json!({"id": "s", "url": "https://h.example/sse", "type": "SSE"}), Some(StreamKind::Sse)),
        (json!({"id": "s", "url": "https://h.example/sse"}), None),
        (json!({"id": "s", "url": "https://h.example/mcp", "transport": "http"}), None),
    ] {
        let server = server(fields.clone());
        let found = match &server.transport {
            Transport::Stream(stream) => Some(stream.kind),
            Transport::Http(_) => None,
            other @ (Transport::Stdio(_) | Transport::Lambda(_) | Transport::OpenApi(_)) => {
                panic!("{other:?}")
            }
        };
        assert_eq!(found, kind, "{fields}");
        assert!(server.http().is_some() && server.is_mcp_endpoint() && server.lists_tools());
        // As it is written out, it is read again.
        let written = serde_json::to_value(&*server).unwrap();
        assert_eq!(self::server(written).transport, server.transport, "{fields}");
    }
}

#[test]
fn a_stream_has_the_credentials_of_http_and_may_be_stateless() {
    let server = server(json!({
        "id": "s", "url": "wss://h.example/mcp", "stateless": true, "headers": {"X-Key": "secret://crm#key"},
        "auth": {"type": "bearer", "token": "secret://crm"},
        "client_certificate": {"certificate": "secret://crm#cert", "key": "secret://crm#key"}
    }));
    let Transport::Stream(stream) = &server.transport else { panic!("{server:?}") };
    assert!(stream.stateless && stream.http.client_certificate.is_some() && stream.http.headers.len() == 1);
}

#[test]
fn a_streams_mistake_names_the_field_and_the_remedy() {
    for (fields, expected) in [
        (
            json!({"id": "s", "url": "https://h.example/mcp", "transport": "websocket"}),
            "servers.s.url: has the scheme `https`, and `transport` is `websocket`; give an address with wss",
        ),
        (
            json!({"id": "s", "url": "wss://h.example/mcp", "transport": "sse"}),
            "servers.s.url: has the scheme `wss`, which is WebSocket's",
        ),
        (json!({"id": "s", "url": "ftp://h.example/mcp"}), "accepted are http, https, ws and wss"),
        (json!({"id": "s", "url": "wss://u:p@h.example/mcp"}), "servers.s.url:"),
        (json!({"id": "s", "url": "wss://h.example/mcp", "command": "uvx"}), "is given beside `url`"),
        (
            json!({"id": "s", "url": "wss://h.example/mcp", "args": ["x"]}),
            "servers.s.args: belongs to a server",
        ),
        (
            json!({"id": "s", "url": "https://h.example/mcp", "stateless": true}),
            "servers.s.stateless: belongs to a server with a `command`; this one has a `url`; a streamable HTTP server has no connection",
        ),
        (
            json!({"id": "s", "url": "ws://h.example", "client_certificate": {"certificate": "secret://c#a", "key": "secret://c#b"}}),
            "give the server a url with https or wss",
        ),
    ] {
        let error = parse(fields.clone()).err().unwrap_or_else(|| panic!("{fields}"));
        assert!(error.contains(expected), "{error}");
    }
}
