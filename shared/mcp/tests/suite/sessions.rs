//! MCP sessions: who shares one, how one is lost, and how a call is cancelled.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::failure::RetryClass;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_mcp::{Fault, ToolCall};
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision, SessionLoss};

use crate::support::*;

async fn legacy() -> MockMcp {
    let server = MockMcp::start(ProtocolRevision::Legacy).await;
    server.echo();
    server
}

#[tokio::test]
async fn a_conversation_keeps_its_session_and_shares_it_with_no_other() {
    let server = legacy().await;
    let client = client();
    let mut sessions = Vec::new();
    for conversation in ["a", "b", "a", "b"] {
        sessions.push(echo_in(&client, &server, conversation).await.unwrap().mcp_session.unwrap());
    }
    assert_eq!(sessions, ["session-1", "session-2", "session-1", "session-2"]);
}

#[tokio::test]
async fn calls_without_a_conversation_share_a_session_of_their_tenant() {
    let server = legacy().await;
    let client = client();
    let mut endpoint = endpoint(&server.url());
    let arguments = raw("{}");
    let mut sessions = Vec::new();
    for tenant in ["x", "y", "x"] {
        endpoint.tenant = Some(tenant.parse().unwrap());
        let answer = client.call_tool(ToolCall::new(&endpoint, "echo", &arguments, later())).await.unwrap();
        sessions.push(answer.mcp_session.unwrap());
    }
    assert_eq!(sessions, ["session-1", "session-2", "session-1"]);
}

#[tokio::test]
async fn a_session_lost_in_either_shape_is_opened_again_and_the_call_replayed_once() {
    for shape in [SessionLoss::NotFound, SessionLoss::BadRequest] {
        let server = legacy().await;
        let client = client();
        echo(&client, &server).await.unwrap();
        server.lose_sessions(shape);
        let answer = echo(&client, &server).await.unwrap();
        assert_eq!(answer.mcp_session.as_deref(), Some("session-2"));
        assert_eq!((server.executions("echo"), server.requests_of("initialize").len()), (2, 2));
    }
}

#[tokio::test]
async fn a_session_lost_a_moment_after_it_was_opened_proves_nothing() {
    for shape in [SessionLoss::NotFound, SessionLoss::BadRequest] {
        let server = legacy().await;
        server.always_for("tools/call", MockFault::LoseSessions(shape));
        let client = client();
        let fault = echo(&client, &server).await.unwrap_err();
        assert_eq!(fault.may_have_run(), MayHaveRun::Unknown, "{fault:?}");
        assert_eq!(server.requests_of("tools/call").len(), 1);
        server.behave();
        echo(&client, &server).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_tool_says_of_a_session_is_no_lost_session() {
    let says = |status, code| MockFault::Rpc {
        status,
        code,
        message: "payment session was declined".to_owned(),
        data: serde_json::Value::Null,
        with_id: true,
    };
    for (status, code) in
        [(400, -32000), (404, -32002), (400, -32001), (200, -32000), (403, -32000), (200, 7)]
    {
        let server = legacy().await;
        let client = client();
        echo(&client, &server).await.unwrap();
        server.next(says(status, code).after_running());
        let fault = echo(&client, &server).await.unwrap_err();
        assert_eq!(fault.may_have_run(), MayHaveRun::Unknown, "{status} {code}: {fault:?}");
        assert_eq!((server.executions("echo"), server.requests_of("tools/call").len()), (2, 2));
        let answer = echo(&client, &server).await.unwrap();
        assert_eq!(
            answer.mcp_session.as_deref(),
            Some("session-1"),
            "{status} {code}: it lives, as ping shows"
        );
    }
}

/// A server that refuses everything in the sessions it had before, in that way.
fn deny_old_sessions(server: &MockMcp, fault: &MockFault) {
    for method in ["tools/call", "ping", "tools/list"] {
        server.next_for(method, fault.clone());
    }
}

#[tokio::test]
async fn whatever_refuses_an_old_session_replaces_it_once() {
    let rpc = |status, code, with_id| MockFault::Rpc {
        status,
        code,
        message: "Server not initialized".to_owned(),
        data: serde_json::Value::Null,
        with_id,
    };
    let proves = [
        MockFault::status(404),
        MockFault::status(400),
        MockFault::status(401),
        MockFault::status(403),
        rpc(400, -32000, false),
        rpc(404, -32001, false),
        rpc(404, -32001, true),
        rpc(200, -32600, true),
        rpc(400, -32600, true),
    ];
    for fault in proves {
        let server = legacy().await;
        let client = client();
        echo(&client, &server).await.unwrap();
        deny_old_sessions(&server, &fault);
        let answer = echo(&client, &server).await.unwrap_or_else(|met| panic!("{fault:?}: {met:?}"));
        assert_eq!(answer.mcp_session.as_deref(), Some("session-2"), "{fault:?}");
        assert_eq!((server.executions("echo"), server.requests_of("tools/call").len()), (2, 3));
    }
    let open = [
        MockFault::status(410),
        MockFault::status(500),
        rpc(400, -32001, true),
        rpc(200, -32000, true),
        rpc(200, -32000, false),
        rpc(200, -32603, true),
    ];
    for fault in open {
        for repeatable in [false, true] {
            let server = legacy().await;
            let client = client();
            echo(&client, &server).await.unwrap();
            deny_old_sessions(&server, &fault);
            let (endpoint, arguments) = (endpoint(&server.url()), raw("{}"));
            let call = ToolCall::new(&endpoint, "echo", &arguments, later());
            let met = client.call_tool(ToolCall { repeatable, conversation: Some("talk"), ..call }).await;
            assert_eq!(met.is_ok(), repeatable, "{fault:?}: {met:?}");
            if let Err(met) = met {
                assert_eq!(met.may_have_run(), MayHaveRun::Unknown, "{fault:?}: {met:?}");
            }
            let answer = echo(&client, &server).await.unwrap();
            assert_eq!(answer.mcp_session.as_deref(), Some("session-2"), "{fault:?}: the next call works");
        }
    }
}

#[tokio::test]
async fn cookies_of_a_sticky_load_balancer_stay_with_their_session() {
    let server = legacy().await;
    server.sets_cookie("initialize", "AWSALB=one; Path=/");
    let client = client();
    echo_in(&client, &server, "a").await.unwrap();
    server.sets_cookie("initialize", "AWSALB=two; Path=/");
    echo_in(&client, &server, "b").await.unwrap();
    echo_in(&client, &server, "a").await.unwrap();
    let calls = server.requests_of("tools/call");
    let cookies: Vec<_> = calls.iter().map(|call| call.header("cookie").unwrap_or_default()).collect();
    assert_eq!(cookies, ["AWSALB=one", "AWSALB=two", "AWSALB=one"]);
    assert!(
        server.requests_of("notifications/initialized").iter().all(|sent| sent.header("cookie").is_some())
    );
}

#[tokio::test]
async fn a_404_with_an_unknown_method_is_no_lost_session() {
    let server = legacy().await;
    let data = serde_json::Value::Null;
    let message = "Method not found".to_owned();
    server.next(MockFault::Rpc { status: 404, code: -32601, message, data, with_id: true });
    let fault = echo(&client(), &server).await.unwrap_err();
    assert!(matches!(fault, Fault::Rpc { code: -32601, .. }), "{fault:?}");
    assert_eq!(server.requests_of("initialize").len(), 1);
}

#[tokio::test]
async fn trouble_while_a_session_is_opened_never_says_that_a_tool_may_have_run() {
    for method in ["initialize", "notifications/initialized"] {
        for error in [
            MockFault::CloseBeforeAnswer,
            MockFault::CloseBeforeExecuting,
            MockFault::status(500),
            MockFault::status(503),
            MockFault::status(429),
            MockFault::status(401),
            MockFault::status(400),
        ] {
            let server = legacy().await;
            let client = client();
            server.next_for(method, error.clone());
            let fault = echo(&client, &server).await.unwrap_err();
            assert_not_executed(&fault, &server);
            assert_ne!(fault.retry_class(), RetryClass::Ambiguous, "{error:?}");
            echo(&client, &server).await.unwrap();
        }
    }
}

#[tokio::test]
async fn when_the_caller_who_opens_a_session_gives_up_the_next_takes_over() {
    let server = legacy().await;
    let client = client();
    server.next_for("initialize", MockFault::NeverAnswer);
    let first = echo(&client, &server);
    let second = async {
        server.arrived("initialize", 1).await;
        echo(&client, &server).await
    };
    let given_up = async {
        tokio::select! {
            _ = first => panic!("the first cannot end"),
            () = server.arrived("initialize", 1) => {}
        }
    };
    let ((), answer) = tokio::join!(given_up, second);
    answer.unwrap();
    assert_eq!((server.executions("echo"), server.requests_of("initialize").len()), (1, 2));
}

#[tokio::test]
async fn a_legacy_call_that_is_dropped_is_withdrawn_under_its_id() {
    let server = legacy().await;
    let client = client();
    echo(&client, &server).await.unwrap();
    server.next(MockFault::NeverAnswer);
    tokio::select! {
        _ = echo(&client, &server) => panic!("the call cannot end"),
        () = server.arrived("tools/call", 2) => {}
    }
    server.arrived("notifications/cancelled", 1).await;
    let id = server.requests_of("tools/call")[1].body["id"].clone();
    let withdrawn = server.requests_of("notifications/cancelled").remove(0);
    assert_eq!(withdrawn.body["params"]["requestId"], id);
    assert_eq!(withdrawn.header("mcp-session-id"), Some("session-1"));
}

#[tokio::test]
async fn a_legacy_call_that_runs_out_of_time_is_withdrawn_too() {
    let server = legacy().await;
    let client = client();
    echo(&client, &server).await.unwrap();
    server.next(MockFault::NeverAnswer);
    echo_until(&client, &server, soon()).await.unwrap_err();
    server.arrived("notifications/cancelled", 1).await;
}

#[tokio::test]
async fn a_modern_call_that_is_dropped_hangs_up_and_sends_nothing() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.echo();
    server.next(MockFault::NeverAnswer);
    let client = client();
    tokio::select! {
        _ = echo(&client, &server) => panic!("the call cannot end"),
        () = server.arrived("tools/call", 1) => {}
    }
    server.hung_up(1).await;
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn an_answered_call_is_never_withdrawn() {
    let server = legacy().await;
    let client = client();
    for _ in 0..3 {
        echo(&client, &server).await.unwrap();
    }
    client.end_conversation(&endpoint(&server.url()), "talk").await;
    assert!(server.requests_of("notifications/cancelled").is_empty());
    assert_eq!((server.requests_of("DELETE").len(), server.sessions().len()), (1, 0));
}

#[tokio::test]
async fn a_held_server_answers_every_waiting_call_when_it_goes_on() {
    let server = legacy().await;
    let client = client();
    let hold = server.hold();
    let calls = async { tokio::join!(echo_in(&client, &server, "a"), echo_in(&client, &server, "b")) };
    let release = async {
        server.arrived("tools/call", 2).await;
        assert_eq!(server.executions("echo"), 0);
        drop(hold);
    };
    let ((a, b), ()) = tokio::join!(calls, release);
    assert!(a.is_ok() && b.is_ok());
    assert!(Instant::now().elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn calls_that_lose_the_same_session_together_open_one_new_one() {
    let server = legacy().await;
    let client = client();
    echo(&client, &server).await.unwrap();
    server.lose_sessions(SessionLoss::NotFound);
    let hold = server.hold();
    let calls = futures::future::join_all((0..6).map(|_| echo(&client, &server)));
    let release = async {
        server.arrived("tools/call", 7).await;
        drop(hold);
    };
    let (answers, ()) = tokio::join!(calls, release);
    for answer in answers {
        assert_eq!(answer.unwrap().mcp_session.as_deref(), Some("session-2"));
    }
    assert_eq!((server.executions("echo"), server.requests_of("initialize").len()), (7, 2));
}
