//! Event streams: what is skipped, what is answered, and how a broken stream is resumed.

use toolfleet_mcp::Fault;
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision};

use crate::support::*;

async fn server(era: ProtocolRevision) -> MockMcp {
    let server = MockMcp::start(era).await;
    server.echo();
    server
}

const ANSWER: &str = "data: {\"jsonrpc\":\"2.0\",\"id\":{id},{result}}\n\n";

#[tokio::test]
async fn notifications_comments_and_pieces_before_the_answer_are_skipped() {
    for era in [ProtocolRevision::Modern, ProtocolRevision::Legacy] {
        let server = server(era).await;
        server.next(MockFault::events(&[
            "\u{feff}: hello\r\n\r\nid: 1\r\nda",
            "ta: \r\n\r\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/mess",
            "age\",\"params\":{}}\n\n",
            "data: {\"jsonrpc\":\"2.0\",\"id\":{id},\ndata: {result}}\n",
            "\n: and more for ever",
        ]));
        echo(&client(), &server).await.unwrap();
        assert_eq!(server.executions("echo"), 1);
    }
}

#[tokio::test]
async fn an_answer_without_the_last_empty_line_is_still_an_answer() {
    let server = server(ProtocolRevision::Modern).await;
    server.next(MockFault::events(&[ANSWER.trim_end()]));
    echo(&client(), &server).await.unwrap();
}

#[tokio::test]
async fn an_error_on_the_stream_ends_the_wait_with_or_without_an_id() {
    for id in ["{id}", "null"] {
        let server = server(ProtocolRevision::Modern).await;
        let event = format!(
            "data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":7,\"message\":\"no\"}}}}\n\n"
        );
        server.next(MockFault::events(&[&event]));
        let fault = echo(&client(), &server).await.unwrap_err();
        assert_eq!(fault, Fault::RpcAmbiguous { code: 7, message: "no".to_owned() });
    }
}

#[tokio::test]
async fn a_servers_own_requests_are_answered_without_holding_up_the_call() {
    let server = server(ProtocolRevision::Legacy).await;
    server.next(MockFault::events(&[
        "data: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"roots/list\"}\n\n",
        ANSWER,
    ]));
    echo(&client(), &server).await.unwrap();
    server.arrived("POST", 2).await;
    let mut replies: Vec<_> = server.requests_of("POST").into_iter().map(|reply| reply.body).collect();
    replies.sort_by_key(|reply| reply["id"].to_string());
    assert_eq!(replies[0]["result"], serde_json::json!({}));
    assert_eq!((&replies[1]["id"], &replies[1]["error"]["code"]), (&9.into(), &(-32601).into()));
}

#[tokio::test]
async fn a_modern_stream_that_ends_without_the_answer_has_lost_it() {
    let server = server(ProtocolRevision::Modern).await;
    server.next(MockFault::events(&["id: 7\ndata: \n\n"]));
    let fault = echo(&client(), &server).await.unwrap_err();
    assert!(matches!(fault, Fault::AnswerLost { .. }), "{fault:?}");
    assert_eq!(server.requests_of("GET").len(), 0);
    assert_eq!(server.executions("echo"), 1);
}

#[tokio::test]
async fn a_legacy_stream_that_ends_after_its_priming_event_is_taken_up_after_it() {
    let server = server(ProtocolRevision::Legacy).await;
    server.next(MockFault::PrimedSseThenEnd { retry_ms: 5, resumable: true });
    echo(&client(), &server).await.unwrap();
    let resumption = server.requests_of("GET").remove(0);
    assert!(resumption.header("last-event-id").unwrap().starts_with("event-"));
    assert_eq!(resumption.header("mcp-session-id"), Some("session-1"));
    assert_eq!(server.executions("echo"), 1);
}

#[tokio::test]
async fn a_resumption_that_fails_for_a_moment_is_tried_again_and_in_the_end_given_up() {
    let server = server(ProtocolRevision::Legacy).await;
    server.next(MockFault::PrimedSseThenEnd { retry_ms: 1, resumable: true });
    server.next_for("GET", MockFault::status(503)).next_for("GET", MockFault::CloseBeforeExecuting);
    echo(&client(), &server).await.unwrap();
    assert_eq!(server.requests_of("GET").len(), 3);
    server.next(MockFault::PrimedSseThenEnd { retry_ms: 1, resumable: true });
    server.always_for("GET", MockFault::status(503));
    let fault = echo(&client(), &server).await.unwrap_err();
    assert!(matches!(fault, Fault::AnswerLost { .. }), "{fault:?}");
    assert_eq!(server.requests_of("GET").len(), 13);
}

#[tokio::test]
async fn a_resumption_is_tried_again_after_a_status_that_passes() {
    for status in [408, 421, 425, 429, 500] {
        let server = server(ProtocolRevision::Legacy).await;
        server.next(MockFault::PrimedSseThenEnd { retry_ms: 1, resumable: true });
        server.next_for("GET", MockFault::status_with(status, "Retry-After", "0.01"));
        echo(&client(), &server).await.unwrap_or_else(|fault| panic!("HTTP {status}: {fault:?}"));
        assert_eq!((server.executions("echo"), server.requests_of("GET").len()), (1, 2), "{status}");
    }
}

#[tokio::test]
async fn a_resumption_follows_one_redirect_within_its_origin() {
    for (target, requests) in [("/mcp", 2), ("http://127.0.0.1:9/mcp", 1)] {
        let server = server(ProtocolRevision::Legacy).await;
        server.next(MockFault::PrimedSseThenEnd { retry_ms: 1, resumable: true });
        server.next_for("GET", MockFault::Redirect(target.to_owned()));
        assert_eq!(echo(&client(), &server).await.is_ok(), requests == 2, "{target}");
        assert_eq!((server.executions("echo"), server.requests_of("GET").len()), (1, requests), "{target}");
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_taken_up_has_lost_the_answer() {
    let server = server(ProtocolRevision::Legacy).await;
    server.next(MockFault::PrimedSseThenEnd { retry_ms: 1, resumable: false });
    let fault = echo(&client(), &server).await.unwrap_err();
    assert!(matches!(fault, Fault::AnswerLost { .. }), "{fault:?}");
    assert_eq!((server.executions("echo"), server.requests_of("GET").len()), (1, 1));
}

#[tokio::test]
async fn a_server_that_asks_for_a_long_pause_does_not_hold_a_call_beyond_its_deadline() {
    let server = server(ProtocolRevision::Legacy).await;
    let client = client();
    echo(&client, &server).await.unwrap();
    server.next(MockFault::PrimedSseThenEnd { retry_ms: 3_600_000, resumable: true });
    let fault = echo_until(&client, &server, soon()).await.unwrap_err();
    assert!(matches!(fault, Fault::AttemptTimeout { .. }), "{fault:?}");
}
