//! Connections that are kept, over WebSocket and over HTTP+SSE: whose they are, what their end says of a call, and how they are opened
//! again.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_core::failure::RetryClass;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_core::progress::ProgressNote;
use toolfleet_mcp::{Answer, Endpoint, EndpointTransport, Fault, McpClient, ToolCall};
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision, SessionLoss};

use crate::support::*;

/// The two transports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Wire {
    WebSocket,
    Sse,
}

pub(crate) const BOTH: [Wire; 2] = [Wire::WebSocket, Wire::Sse];

pub(crate) fn over(wire: Wire, server: &MockMcp) -> Endpoint {
    let stateless = false;
    match wire {
        Wire::WebSocket => {
            let transport = EndpointTransport::WebSocket { stateless };
            Endpoint { transport, ..endpoint(&server.ws_url()) }
        }
        Wire::Sse => {
            Endpoint { transport: EndpointTransport::Sse { stateless }, ..endpoint(&server.sse_url()) }
        }
    }
}

async fn server() -> MockMcp {
    let server = MockMcp::start(ProtocolRevision::Legacy).await;
    server.echo();
    server
}

pub(crate) async fn call(
    client: &McpClient,
    endpoint: &Endpoint,
    conversation: Option<&str>,
) -> Result<Answer, Fault> {
    let arguments = raw(r#"{"call":"c1"}"#);
    let call = ToolCall { conversation, ..ToolCall::new(endpoint, "echo", &arguments, later()) };
    client.call_tool(call).await
}

#[tokio::test]
async fn each_conversation_has_a_connection_of_its_own_and_keeps_it() {
    for wire in BOTH {
        for era in [ProtocolRevision::Legacy, ProtocolRevision::Modern] {
            // HTTP+SSE is older than the stateless revision.
            if (wire, era) == (Wire::Sse, ProtocolRevision::Modern) {
                continue;
            }
            let (server, client) = (MockMcp::start(era).await, client());
            server.echo();
            let endpoint = over(wire, &server);
            for talk in [Some("a"), Some("b"), None, Some("a"), None] {
                let answer = call(&client, &endpoint, talk).await.unwrap();
                let version = if era == ProtocolRevision::Modern { "2026-07-28" } else { "2025-11-25" };
                assert_eq!(answer.protocol_version, version, "{wire:?}");
            }
            assert_eq!((server.executions("echo"), server.connections_opened()), (5, 3), "{wire:?}");
            client.end_conversation(&endpoint, "a").await;
            server.hung_up(1).await;
            call(&client, &endpoint, Some("b")).await.unwrap();
            assert_eq!(server.connections_opened(), 3, "{wire:?}");
            client.close().await;
            server.hung_up(3).await;
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_after_the_tool_ran_leaves_it_open() {
    for wire in BOTH {
        let (server, client) = (server().await, client());
        let endpoint = over(wire, &server);
        let close = MockFault::CloseWith { code: 1011, reason: "out of memory".into() };
        for (n, fault) in [MockFault::CloseBeforeAnswer, MockFault::CutAnswer, close.after_running()]
            .into_iter()
            .enumerate()
        {
            server.next(fault);
            let fault = call(&client, &endpoint, Some("a")).await.unwrap_err();
            assert!(matches!(fault, Fault::AnswerLost { .. }), "{wire:?} {fault:?}");
            assert_eq!(
                (fault.retry_class(), fault.may_have_run()),
                (RetryClass::Ambiguous, MayHaveRun::Unknown)
            );
            assert_eq!(server.executions("echo"), 2 * n as u64 + 1, "{wire:?}: it is not sent again");
            let told = fault.to_string();
            if n == 2 && wire == Wire::WebSocket {
                assert!(told.contains("with code 1011 (out of memory)"), "{told}");
            }
            call(&client, &endpoint, Some("a")).await.unwrap();
        }
        assert_eq!(server.connections_opened(), 4, "{wire:?}");
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_opened_says_that_nothing_ran() {
    for wire in BOTH {
        for (status, class) in [
            (MockFault::status(401), RetryClass::Permanent),
            (MockFault::status(403), RetryClass::Permanent),
            (MockFault::status(404), RetryClass::Permanent),
            (MockFault::status(426), RetryClass::Permanent),
            (MockFault::status_with(429, "retry-after", "7"), RetryClass::Pause { after_ms: Some(7_000) }),
            (MockFault::status_with(503, "retry-after", "3"), RetryClass::Pause { after_ms: Some(3_000) }),
            (MockFault::status(503), RetryClass::NotExecuted),
            (MockFault::Redirect("http://127.0.0.2:1/x".into()), RetryClass::Permanent),
            (MockFault::CloseBeforeExecuting, RetryClass::NotExecuted),
        ] {
            let server = server().await;
            server.next_for("GET", status.clone());
            let fault = call(&client(), &over(wire, &server), Some("a")).await.unwrap_err();
            assert_eq!(fault.retry_class(), class, "{wire:?} {status:?} {fault:?}");
            assert_not_executed(&fault, &server);
            assert!(server.requests_of("tools/call").is_empty());
        }
    }
}

#[tokio::test]
async fn nobody_listening_is_no_connection() {
    for (wire, url) in [(Wire::WebSocket, "ws://127.0.0.1:9/ws"), (Wire::Sse, "http://127.0.0.1:9/sse")] {
        let server = server().await;
        let endpoint = Endpoint { url: url.parse().unwrap(), ..over(wire, &server) };
        let fault = call(&client(), &endpoint, None).await.unwrap_err();
        assert!(matches!(fault, Fault::Connect { .. }), "{wire:?} {fault:?}");
    }
}

#[tokio::test]
async fn a_server_that_keeps_refusing_is_opened_after_a_growing_pause() {
    for wire in BOTH {
        let (server, client) = (server().await, client());
        server.always_for("GET", MockFault::status(500));
        let begun = Instant::now();
        for _ in 0..3 {
            call(&client, &over(wire, &server), None).await.unwrap_err();
        }
        // 250 ms and 500 ms.
        assert!(begun.elapsed() >= Duration::from_millis(750), "{wire:?} {:?}", begun.elapsed());
        server.behave();
        call(&client, &over(wire, &server), None).await.unwrap();
    }
}

#[tokio::test]
async fn progress_is_heard_and_the_servers_own_requests_are_answered() {
    for wire in BOTH {
        let (server, client) = (server().await, client());
        drop(server.echo().progress(3));
        let (endpoint, arguments, heard) = (over(wire, &server), raw("{}"), Mutex::new(Vec::new()));
        let hear = |note: ProgressNote| heard.lock().unwrap().push(note);
        let call = ToolCall { on_note: Some(&hear), ..ToolCall::new(&endpoint, "echo", &arguments, later()) };
        client.call_tool(call).await.unwrap();
        assert_eq!(heard.lock().unwrap().len(), 3, "{wire:?}");

        server.next(MockFault::events(&[
            "data: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}\n\n",
            "data: {\"jsonrpc\":\"2.0\",\"id\":\"s\",\"method\":\"sampling/createMessage\",\"params\":{}}\n\n",
            "data: {\"jsonrpc\":\"2.0\",\"id\":{id},{result}}\n\n",
        ]));
        client.call_tool(call).await.unwrap();
        let http_method = if wire == Wire::Sse { "POST" } else { "WEBSOCKET" };
        server.arrived(http_method, 2).await;
        let replies: Vec<Value> =
            server.requests_of(http_method).into_iter().map(|reply| reply.body).collect();
        let of = |id: &str| replies.iter().find(|reply| reply["id"] == json!(id)).unwrap();
        assert_eq!(of("p")["result"], json!({}), "{wire:?}");
        assert_eq!(of("s")["error"]["code"], json!(-32601), "{wire:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_is_cancelled_at_the_server() {
    for wire in BOTH {
        let (server, client) = (server().await, client());
        let (endpoint, arguments) = (over(wire, &server), raw("{}"));
        call(&client, &endpoint, None).await.unwrap();
        server.next(MockFault::NeverAnswer);
        let hasty = ToolCall::new(&endpoint, "echo", &arguments, soon());
        let fault = client.call_tool(hasty).await.unwrap_err();
        assert!(matches!(fault, Fault::AttemptTimeout { .. }), "{wire:?} {fault:?}");
        server.arrived("notifications/cancelled", 1).await;
        let id = server.requests_of("tools/call")[1].body["id"].clone();
        assert_eq!(server.requests_of("notifications/cancelled")[0].body["params"]["requestId"], id);
        // The connection stays, and a late answer to nobody does no harm.
        call(&client, &endpoint, None).await.unwrap();
        assert_eq!(server.connections_opened(), 1, "{wire:?}");
    }
}

#[tokio::test]
async fn a_message_beyond_the_bound_fails_its_call_and_the_next_one_goes_well() {
    for wire in BOTH {
        let (server, client) = (server().await, small_client(64 * 1024));
        server.next(MockFault::EndlessBody);
        let fault = call(&client, &over(wire, &server), None).await.unwrap_err();
        assert_eq!(fault, Fault::AnswerTooLarge { limit_bytes: 64 * 1024 }, "{wire:?}");
        call(&client, &over(wire, &server), None).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_that_is_lost_between_calls_is_opened_again() {
    for wire in BOTH {
        let (server, client) = (server().await, client());
        let endpoint = over(wire, &server);
        call(&client, &endpoint, Some("a")).await.unwrap();
        // Over WebSocket the server closes; in HTTP+SSE it refuses messages of a stream that it has forgotten and does not end.
        server.next(MockFault::LoseSessions(SessionLoss::NotFound));
        let again = call(&client, &endpoint, Some("a")).await;
        match wire {
            Wire::Sse => drop(again.unwrap()),
            // A message was written, and its end is not known.
            Wire::WebSocket => assert!(matches!(again.unwrap_err(), Fault::AnswerLost { .. })),
        }
        call(&client, &endpoint, Some("a")).await.unwrap();
        assert_eq!(server.connections_opened(), 2, "{wire:?}");
        assert_eq!(server.executions("echo"), if wire == Wire::Sse { 3 } else { 2 });
    }
}

#[tokio::test]
async fn calls_at_the_same_time_get_their_own_answers() {
    for wire in BOTH {
        let (server, client) = (server().await, client());
        let endpoint = over(wire, &server);
        let calls = (0..20).map(|n| {
            let (client, endpoint) = (client.clone(), endpoint.clone());
            async move {
                let arguments = raw(&format!(r#"{{"n":{n}}}"#));
                let answer = client.call_tool(ToolCall::new(&endpoint, "echo", &arguments, later())).await;
                assert!(answer.unwrap().result.get().contains(&format!("\\\"n\\\":{n}}}")));
            }
        });
        futures::future::join_all(calls).await;
        assert_eq!((server.executions("echo"), server.connections_opened()), (20, 1), "{wire:?}");
    }
}

#[tokio::test]
async fn conversations_share_the_connections_of_a_stateless_server() {
    let (server, client) = (server().await, client());
    let shared = [
        Endpoint {
            transport: EndpointTransport::WebSocket { stateless: true },
            ..endpoint(&server.ws_url())
        },
        Endpoint { transport: EndpointTransport::Sse { stateless: true }, ..endpoint(&server.sse_url()) },
    ];
    for (opened, endpoint) in [1, 2].into_iter().zip(&shared) {
        for talk in ["a", "b", "c"] {
            call(&client, endpoint, Some(talk)).await.unwrap();
        }
        assert_eq!(server.connections_opened(), opened);
    }
}
