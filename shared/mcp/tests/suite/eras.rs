//! Protocol revisions: how a server's revision is found, cached and found again.

use std::time::Duration;

use serde_json::json;
use toolfleet_core::failure::RetryClass;
use toolfleet_mcp::{ClientOptions, Fault};
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision};

use crate::support::*;

async fn server(era: ProtocolRevision) -> MockMcp {
    let server = MockMcp::start(era).await;
    server.echo();
    server
}

#[tokio::test]
async fn a_modern_server_is_asked_once_and_remembered() {
    for era in [ProtocolRevision::Modern, ProtocolRevision::Both] {
        let server = server(era).await;
        let client = client();
        for _ in 0..3 {
            assert_eq!(echo(&client, &server).await.unwrap().protocol_version, "2026-07-28");
        }
        assert_eq!(server.requests_of("server/discover").len(), 1);
        assert_eq!(server.requests_of("initialize").len(), 0);
        assert_eq!(server.executions("echo"), 3);
    }
}

#[tokio::test]
async fn an_older_server_is_spoken_to_in_the_version_it_chooses() {
    for version in ["2025-11-25", "2025-06-18", "2025-03-26"] {
        let server = server(ProtocolRevision::LegacyAt(version)).await;
        let answer = echo(&client(), &server).await.unwrap();
        assert_eq!(answer.protocol_version, version);
        assert_eq!(answer.mcp_session.as_deref(), Some("session-1"));
        let call = server.requests_of("tools/call").remove(0);
        assert_eq!(call.header("mcp-protocol-version"), Some(version));
        assert_eq!(call.header("mcp-session-id"), Some("session-1"));
        assert_eq!(call.header("mcp-method"), None);
        let order: Vec<_> = server.requests().iter().map(|request| request.method().to_owned()).collect();
        assert_eq!(order, ["server/discover", "initialize", "notifications/initialized", "tools/call"]);
    }
}

#[tokio::test]
async fn a_version_that_nobody_knows_is_a_permanent_fault() {
    let server = server(ProtocolRevision::LegacyAt("2031-01-01")).await;
    let fault = echo(&client(), &server).await.unwrap_err();
    assert_eq!(fault, Fault::VersionUnsupported { supported: vec!["2031-01-01".to_owned()] });
    assert_not_executed(&fault, &server);
}

#[tokio::test]
async fn whatever_an_old_server_says_to_the_question_it_is_then_initialised() {
    for refusal in [
        MockFault::status(404),
        MockFault::status(405),
        MockFault::status(400),
        MockFault::status(406),
        MockFault::status(500),
        MockFault::rpc(-32601, "Method not found"),
        MockFault::rpc(-32603, "boom"),
        MockFault::Garbage("hello".to_owned()),
        MockFault::Garbage(r#"{"jsonrpc":"2.0","id":1,"result":{"what":1}}"#.to_owned()),
    ] {
        let server = server(ProtocolRevision::Legacy).await;
        server.next_for("server/discover", refusal.clone());
        assert_eq!(echo(&client(), &server).await.unwrap().protocol_version, "2025-11-25", "{refusal:?}");
        assert_eq!(server.executions("echo"), 1);
    }
}

#[tokio::test]
async fn a_server_whose_probe_is_not_answered_is_asked_by_initialize_and_again_soon() {
    let _time = StoppedTime::new();
    for error in [
        MockFault::status(502),
        MockFault::status(503),
        MockFault::status(504),
        MockFault::CloseBeforeExecuting,
        MockFault::CloseBeforeAnswer,
    ] {
        let server = server(ProtocolRevision::Both).await;
        let client = client();
        server.next_for("server/discover", error);
        assert_eq!(echo(&client, &server).await.unwrap().protocol_version, "2025-11-25");
        tokio::time::advance(Duration::from_secs(301)).await;
        assert_eq!(echo(&client, &server).await.unwrap().protocol_version, "2026-07-28");
        assert_eq!(server.executions("echo"), 2);
    }
}

#[tokio::test]
async fn a_server_that_is_away_when_it_is_asked_has_run_nothing_and_is_not_misread() {
    for error in [MockFault::status(502), MockFault::status(503), MockFault::CloseBeforeExecuting] {
        let server = server(ProtocolRevision::Both).await;
        let client = client();
        server.next_for("server/discover", error.clone()).next_for("initialize", error);
        let fault = echo(&client, &server).await.unwrap_err();
        assert_eq!(fault.retry_class(), RetryClass::NotExecuted, "{fault:?}");
        assert_not_executed(&fault, &server);
        assert_eq!(echo(&client, &server).await.unwrap().protocol_version, "2026-07-28");
    }
}

#[tokio::test]
async fn refusals_of_the_question_are_themselves() {
    let server = server(ProtocolRevision::Both).await;
    let client = client();
    server.next_for("server/discover", MockFault::status(401));
    assert_eq!(echo(&client, &server).await.unwrap_err(), Fault::Unauthorized { detail: String::new() });
    server.next_for("server/discover", MockFault::status(403));
    assert_eq!(
        echo(&client, &server).await.unwrap_err(),
        Fault::Forbidden { scope: None, detail: String::new() }
    );
    server.next_for("server/discover", MockFault::status_with(429, "retry-after", "2"));
    assert_eq!(echo(&client, &server).await.unwrap_err(), Fault::RateLimited { retry_after_ms: Some(2000) });
}

#[tokio::test]
async fn a_server_that_became_modern_is_learned_anew_within_the_call() {
    let server = server(ProtocolRevision::Legacy).await;
    let client = client();
    echo(&client, &server).await.unwrap();
    server.become_era(ProtocolRevision::Modern);
    assert_eq!(echo(&client, &server).await.unwrap().protocol_version, "2026-07-28");
    assert_eq!(server.executions("echo"), 2);
}

#[tokio::test]
async fn a_server_that_became_old_again_is_learned_anew_within_the_call() {
    let server = server(ProtocolRevision::Modern).await;
    let client = client();
    echo(&client, &server).await.unwrap();
    server.become_era(ProtocolRevision::Legacy);
    assert_eq!(echo(&client, &server).await.unwrap().protocol_version, "2025-11-25");
    assert_eq!(server.executions("echo"), 2);
}

#[tokio::test]
async fn a_modern_server_without_discovery_is_found_by_its_refusal_to_initialise() {
    let server = server(ProtocolRevision::Modern).await;
    server.next_for("server/discover", MockFault::status(404));
    assert_eq!(echo(&client(), &server).await.unwrap().protocol_version, "2026-07-28");
}

#[tokio::test]
async fn an_unsupported_version_is_replaced_once_by_one_the_server_names() {
    let unsupported = |supported: &[&str]| MockFault::Rpc {
        status: 400,
        code: -32022,
        message: "Unsupported protocol version".to_owned(),
        data: json!({ "supported": supported, "requested": "2026-07-28" }),
        with_id: true,
    };
    let server = server(ProtocolRevision::Both).await;
    server.next(unsupported(&["2025-06-18", "2025-11-25"]));
    assert_eq!(echo(&client(), &server).await.unwrap().protocol_version, "2025-11-25");
    assert_eq!(server.executions("echo"), 1);
    server.next(unsupported(&["2031-01-01"]));
    let fault = echo(&client(), &server).await.unwrap_err();
    assert_eq!(fault, Fault::VersionUnsupported { supported: vec!["2031-01-01".to_owned()] });
    assert_eq!(server.executions("echo"), 1);
}

#[tokio::test]
async fn concurrent_first_calls_ask_and_initialise_once() {
    let server = server(ProtocolRevision::Legacy).await;
    let client = client();
    let calls = (0..8).map(|_| echo(&client, &server));
    for answer in futures::future::join_all(calls).await {
        answer.unwrap();
    }
    assert_eq!(server.requests_of("server/discover").len(), 1);
    assert_eq!(server.requests_of("initialize").len(), 1);
    assert_eq!(server.executions("echo"), 8);
}

#[tokio::test]
async fn what_was_learned_expires_and_is_asked_again() {
    let server = server(ProtocolRevision::Both).await;
    let client = client();
    let _time = StoppedTime::new();
    let ttl = ClientOptions::default().era_ttl;
    for (passed, asked) in
        [(Duration::ZERO, 1), (ttl - Duration::from_secs(1), 1), (Duration::from_secs(2), 2)]
    {
        tokio::time::advance(passed).await;
        echo(&client, &server).await.unwrap();
        assert_eq!(server.requests_of("server/discover").len(), asked, "after {passed:?} more");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_the_probe_is_asked_by_initialize() {
    let _time = StoppedTime::new();
    for (era, version) in [
        (ProtocolRevision::Both, "2025-11-25"),
        (ProtocolRevision::Legacy, "2025-11-25"),
        (ProtocolRevision::Modern, "2026-07-28"),
    ] {
        let server = server(era).await;
        let client = client();
        let _hold = server.hold_for("server/discover");
        let call = echo(&client, &server);
        let passing = async {
            server.arrived("server/discover", 1).await;
            tokio::time::advance(Duration::from_secs(4)).await;
        };
        let (answer, ()) = tokio::join!(call, passing);
        assert_eq!(answer.unwrap().protocol_version, version);
        assert_eq!(server.executions("echo"), 1);
    }
}

#[tokio::test]
async fn an_old_server_whose_first_answers_take_nine_seconds_each_is_waited_for_too() {
    let server = server(ProtocolRevision::Legacy).await;
    let client = client();
    let _time = StoppedTime::new();
    let hold = server.hold_for("server/discover");
    let call = echo(&client, &server);
    let release = async {
        server.arrived("server/discover", 1).await;
        tokio::time::advance(Duration::from_secs(9)).await;
        let next = server.hold_for("initialize");
        server.arrived("initialize", 1).await;
        tokio::time::advance(Duration::from_secs(9)).await;
        drop((hold, next));
    };
    let (answer, ()) = tokio::join!(call, release);
    assert_eq!(answer.unwrap().protocol_version, "2025-11-25");
    assert_eq!((server.requests_of("initialize").len(), server.executions("echo")), (1, 1));
}
