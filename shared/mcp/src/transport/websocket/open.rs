//! Opens a WebSocket: an HTTP request through the clients of all calls, upgraded (RFC 6455, section 4.1). Credentials, client
//! certificates, proxies, trusted roots and the address policy are those of any other request.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::Response;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use toolfleet_egress::{EgressError, HttpVersions, error_detail, sanitize_text_to};
use url::Url;

use crate::fault::Fault;
use crate::transport::channels::channel::{Channel, Opened, Wanted};
use crate::transport::channels::lifetime::watch;
use crate::transport::http::requests::Transport;
use crate::transport::request_error::RequestError;
use crate::transport::websocket::frames::{SignsOfLife, hear, write};

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const ACCEPTED: HeaderName = HeaderName::from_static("sec-websocket-accept");
const VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");
const SUBPROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
/// The subprotocol that the SDKs agree on.
const MCP: &str = "mcp";

/// Opens a WebSocket to a server.
pub(crate) async fn open(
    transport: &Transport,
    wanted: &Wanted,
    serial: u64,
    (idle, max_bytes): (Duration, u64),
) -> Result<Opened, RequestError> {
    let endpoint = &wanted.endpoint;
    transport.clients.policy().check(&endpoint.url).map_err(EgressError::from).map_err(Fault::from)?;
    let (key, headers) = upgrade_headers();
    let url = http_url(&endpoint.url);
    let asked = transport.get_to_stay(endpoint, &url, headers, HttpVersions::One);
    let (response, _) = asked.await?;
    let response = switched(response, &key).await?;
    let upgraded =
        response.upgrade().await.map_err(|error| Fault::Connect { detail: error_detail(error) })?;
    let most = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let config = WebSocketConfig::default().max_message_size(Some(most)).max_frame_size(Some(most));
    let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
    let (sink, stream) = futures::StreamExt::split(socket);
    let (channel, messages) = Channel::queued(wanted.key.clone(), serial, endpoint.clone());
    let life = Arc::new(SignsOfLife::now());
    let hearing = tokio::spawn(hear(Arc::clone(&channel), stream, Arc::clone(&life), max_bytes));
    let writing = tokio::spawn(write(Arc::clone(&channel), sink, messages, life));
    let watch = Box::pin(watch(Arc::clone(&channel), idle, hearing, Some(writing)));
    Ok(Opened { channel, watch })
}

/// The address of the request that is upgraded.
pub(crate) fn http_url(url: &Url) -> Url {
    let scheme = match url.scheme() {
        "wss" => "https",
        "ws" => "http",
        other => other,
    };
    let mut http = url.clone();
    // All four are special schemes, between which the `url` crate changes.
    let _changed = http.set_scheme(scheme);
    http
}

fn upgrade_headers() -> (String, HeaderMap) {
    let key = generate_key();
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(VERSION, HeaderValue::from_static("13"));
    headers.insert(SUBPROTOCOL, HeaderValue::from_static(MCP));
    if let Ok(value) = HeaderValue::from_str(&key) {
        headers.insert(KEY, value);
    }
    (key, headers)
}

/// The response, if the server switches to WebSocket. One that names no subprotocol is taken, as RFC 6455 allows.
async fn switched(response: Response, key: &str) -> Result<Response, RequestError> {
    let status = response.status();
    let wrong = |detail: String| Err(Fault::WrongTransport { detail }.into());
    if status.is_success() {
        return wrong(format!(
            "the upgrade to WebSocket is answered with HTTP {}; check `url`, or give an http or https address where it is no WebSocket",
            status.as_u16()
        ));
    }
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(RequestError::of_response(response, 0).await);
    }
    let header = |name: HeaderName| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    if header(ACCEPTED) != Some(derive_accept_key(key.as_bytes())) {
        return wrong(
            "the server upgrades to something that is no WebSocket (`Sec-WebSocket-Accept`)".to_owned(),
        );
    }
    match header(SUBPROTOCOL).filter(|chosen| chosen != MCP) {
        None => Ok(response),
        Some(other) => wrong(format!(
            "the server chose the WebSocket subprotocol `{}`, and MCP is spoken in `mcp`; check `url`",
            sanitize_text_to(&other, 40)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upgrade_is_asked_for_at_the_same_address_over_http() {
        for (given, asked) in [
            ("wss://h.example/mcp?k=1", "https://h.example/mcp?k=1"),
            ("wss://h.example:443/", "https://h.example/"),
            ("ws://127.0.0.1:8000/ws", "http://127.0.0.1:8000/ws"),
        ] {
            assert_eq!(http_url(&given.parse().unwrap()).as_str(), asked);
        }
    }
}
