//! How a WebSocket and the stream of HTTP+SSE are opened: addresses, TLS, credentials, subprotocol, and the address of messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use toolfleet_core::credential::{Credential, SecretRef};
use toolfleet_core::outcome::{Code, MayHaveRun};
use toolfleet_credentials::{CredentialError, Keyring, SecretText};
use toolfleet_egress::Proxies;
use toolfleet_mcp::{ClientOptions, Endpoint, Fault, McpClient};
use toolfleet_testkit::{Authority, ForwardProxy, MockFault, MockMcp, ProtocolRevision, TlsSide};

use crate::connections::{BOTH, Wire, call, over};
use crate::support::*;

async fn server() -> MockMcp {
    let server = MockMcp::start(ProtocolRevision::Legacy).await;
    server.echo();
    server
}

#[tokio::test]
async fn the_address_policy_holds_for_both() {
    let server = server().await;
    let strict = McpClient::new(ClientOptions::default()).unwrap();
    for (wire, url, remedy) in [
        (Wire::WebSocket, "ws://127.0.0.1:9/ws", "use wss, or set TOOLFLEET_ALLOW_HTTP=true"),
        (Wire::WebSocket, "wss://127.0.0.1:9/ws", "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES"),
        (Wire::WebSocket, "wss://localhost:9/ws", "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES"),
        (Wire::Sse, "http://127.0.0.1:9/sse", "use https, or set TOOLFLEET_ALLOW_HTTP=true"),
        (Wire::Sse, "https://localhost:9/sse", "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES"),
    ] {
        let endpoint = Endpoint { url: url.parse().unwrap(), ..over(wire, &server) };
        let fault = call(&strict, &endpoint, None).await.unwrap_err();
        assert!(
            matches!(&fault, Fault::AddressRefused { detail } if detail.contains(remedy)),
            "{url}: {fault}"
        );
    }
}

#[tokio::test]
async fn tls_is_that_of_every_other_request() {
    let authority = Authority::new("ours");
    let server =
        MockMcp::start_tls(ProtocolRevision::Legacy, &TlsSide::new(&authority.issue("localhost"))).await;
    server.echo();
    let roots = Some(authority.pem().into_bytes());
    let trusting = McpClient::new(ClientOptions { extra_roots: roots, ..local() }).unwrap();
    for wire in BOTH {
        call(&trusting, &over(wire, &server), None).await.unwrap();
        let fault = call(&client(), &over(wire, &server), None).await.unwrap_err();
        assert!(
            matches!(&fault, Fault::Connect { detail } if detail.contains("TLS: invalid peer certificate")),
            "{wire:?} {fault}"
        );
    }
    assert_eq!(server.executions("echo"), 2);
}

#[tokio::test]
async fn a_connection_goes_through_the_proxy() {
    let authority = Authority::new("ours");
    let tls = TlsSide::new(&authority.issue("mcp.example"));
    let server = MockMcp::start_tls(ProtocolRevision::Legacy, &tls).await;
    server.echo();
    let proxy = ForwardProxy::start(&[("mcp.example:443", &format!("127.0.0.1:{}", server.port()))]).await;
    let https = Some(proxy.url("").parse().unwrap());
    let client = McpClient::new(ClientOptions {
        proxies: Proxies { https, ..Proxies::default() },
        extra_roots: Some(authority.pem().into_bytes()),
        ..ClientOptions::default()
    })
    .unwrap();
    for (wire, url) in [(Wire::WebSocket, "wss://mcp.example/ws"), (Wire::Sse, "https://mcp.example/sse")] {
        let endpoint = Endpoint { url: url.parse().unwrap(), ..over(wire, &server) };
        call(&client, &endpoint, None).await.unwrap();
    }
    assert!(proxy.asked().iter().all(|(what, _)| what == "CONNECT mcp.example:443"), "{:?}", proxy.asked());
    assert_eq!(server.executions("echo"), 2);
}

/// A ring whose secret was rotated after it was cached.
#[derive(Debug, Default)]
struct Rotated(AtomicBool);

impl Keyring for Rotated {
    fn secret<'a>(
        &'a self,
        _: &'a SecretRef,
        fresh: bool,
    ) -> BoxFuture<'a, Result<SecretText, CredentialError>> {
        let is_new = self.0.fetch_or(fresh, Ordering::Relaxed) || fresh;
        async move { Ok(SecretText::new(if is_new { "new-token-1" } else { "old-token-1" })) }.boxed()
    }

    fn now_s(&self) -> u64 {
        1_795_000_000
    }
}

#[tokio::test]
async fn a_credential_goes_with_the_upgrade_and_is_renewed_once() {
    let bearer = r#"{"type":"bearer","token":"secret://crm"}"#;
    let credential: Credential = serde_json::from_str(bearer).unwrap();
    for wire in BOTH {
        let (server, client) = (server().await, client());
        let endpoint = over(wire, &server);
        let auth = client.auth(&credential, [], &endpoint.url, Arc::<Rotated>::default());
        let endpoint = Endpoint { auth: Some(Arc::new(auth)), ..endpoint };
        server.next_for("GET", MockFault::status(401));
        call(&client, &endpoint, None).await.unwrap();
        let shown: Vec<_> = server
            .requests_of("GET")
            .iter()
            .map(|get| get.header("authorization").map(str::to_owned))
            .collect();
        let bearer = |token: &str| Some(format!("Bearer {token}"));
        assert_eq!(shown, [bearer("old-token-1"), bearer("new-token-1")], "{wire:?}");
    }
}

#[tokio::test]
async fn a_credential_is_in_no_reason_of_a_close_frame() {
    let (server, client) = (server().await, client());
    let credential: Credential = serde_json::from_str(r#"{"type":"bearer","token":"secret://crm"}"#).unwrap();
    let endpoint = over(Wire::WebSocket, &server);
    let auth = client.auth(&credential, [], &endpoint.url, Arc::<Rotated>::default());
    let endpoint = Endpoint { auth: Some(Arc::new(auth)), ..endpoint };
    server.next(MockFault::CloseWith { code: 4401, reason: "old-token-1 has expired".into() });
    let fault = call(&client, &endpoint, None).await.unwrap_err().to_string();
    assert!(fault.contains("4401 ([redacted] has expired)"), "{fault}");
}

#[tokio::test]
async fn another_subprotocol_or_no_upgrade_at_all_is_named() {
    let other = server().await;
    other.chooses_subprotocol("graphql-ws");
    let fault = call(&client(), &over(Wire::WebSocket, &other), None).await.unwrap_err();
    assert!(fault.to_string().contains("subprotocol `graphql-ws`"), "{fault}");
    assert_eq!((fault.code(), fault.may_have_run()), (Code::TransportUnsupported, MayHaveRun::No));

    let page = server().await;
    page.next_for("GET", MockFault::status(200));
    let fault = call(&client(), &over(Wire::WebSocket, &page), None).await.unwrap_err();
    assert!(fault.to_string().contains("answered with HTTP 200; check `url`"), "{fault}");

    let page = server().await;
    page.next_for("GET", MockFault::status_with(200, "content-type", "text/html"));
    let fault = call(&client(), &over(Wire::Sse, &page), None).await.unwrap_err();
    assert!(
        fault.to_string().contains("answered with text/html")
            && fault.to_string().contains("`transport: sse`"),
        "{fault}"
    );
    assert_eq!(fault.code(), Code::TransportUnsupported);
}

#[tokio::test]
async fn messages_go_to_no_other_origin() {
    let (server, elsewhere) = (server().await, server().await);
    server.names_address(&elsewhere.sse_url().replace("/sse", "/message?session=1"));
    let fault = call(&client(), &over(Wire::Sse, &server), None).await.unwrap_err();
    assert!(fault.to_string().contains("messages go to the origin of the stream"), "{fault}");
    assert_eq!((fault.code(), fault.may_have_run()), (Code::TransportUnsupported, MayHaveRun::No));
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn messages_carry_the_cookies_of_their_stream() {
    let server = server().await;
    server.sets_cookie("GET", "AWSALB=here; Path=/");
    call(&client(), &over(Wire::Sse, &server), None).await.unwrap();
    assert_eq!(server.requests_of("tools/call")[0].header("cookie"), Some("AWSALB=here"));
}

#[tokio::test]
async fn pings_of_the_server_are_answered() {
    let (server, client) = (server().await, client());
    call(&client, &over(Wire::WebSocket, &server), None).await.unwrap();
    call(&client, &over(Wire::WebSocket, &server), None).await.unwrap();
    assert!(server.pongs() >= 2, "{}", server.pongs());
}

#[tokio::test]
async fn a_silent_server_is_pinged_and_given_up_after_a_minute() {
    let _time = StoppedTime::new();
    let (server, client) = (server().await, client());
    let endpoint = over(Wire::WebSocket, &server);
    call(&client, &endpoint, None).await.unwrap();
    // It reads nothing more and answers no ping, as behind a network that has forgotten the connection.
    let _held = server.hold();
    let arguments = raw("{}");
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(600);
    let asked = toolfleet_mcp::ToolCall::new(&endpoint, "echo", &arguments, until);
    let lost = async {
        tokio::select! {
            biased;
            fault = client.call_tool(asked) => fault.unwrap_err(),
            () = async {
                server.arrived("tools/call", 2).await;
                loop {
                    tokio::time::advance(std::time::Duration::from_secs(5)).await;
                    for _ in 0..50 {
                        tokio::task::yield_now().await;
                    }
                }
            } => unreachable!(),
        }
    };
    let fault = lost.await;
    assert!(
        matches!(&fault, Fault::AnswerLost { detail } if detail.contains("no sign of life")),
        "{fault:?}"
    );
}

#[tokio::test]
async fn a_server_of_2024_is_found_behind_its_address_and_remembered() {
    let (server, client) = (server().await, client());
    // Registered as streamable HTTP: a POST to its stream is refused, and the GET begins with `endpoint`.
    let endpoint = endpoint(&server.sse_url());
    for talk in [Some("a"), Some("a"), Some("b")] {
        call(&client, &endpoint, talk).await.unwrap();
    }
    assert_eq!(server.executions("echo"), 3);
    let refused = server.requests().iter().filter(|r| r.http_method == "POST" && r.path == "/sse").count();
    assert_eq!(refused, 2, "`server/discover` and `initialize`, of the first call alone");
    // One look, and one stream for each conversation.
    assert_eq!(server.requests_of("GET").len(), 3);
    client.end_conversation(&endpoint, "a").await;
    server.hung_up(2).await;
}
