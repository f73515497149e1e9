//! Faults: what each failure of a server means for retry and for `may_have_run`; see docs/reference/answers.md.

use toolfleet_core::failure::RetryClass;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_mcp::Fault;
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision};

use crate::support::*;

async fn modern() -> MockMcp {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.echo();
    server
}

async fn met(fault: MockFault) -> (Fault, MockMcp) {
    let server = modern().await;
    server.next(fault);
    let fault = echo(&client(), &server).await.unwrap_err();
    (fault, server)
}

#[tokio::test]
async fn a_refused_connection_is_not_executed() {
    let server = modern().await;
    let client = client();
    echo(&client, &server).await.unwrap();
    let before = server.executions("echo");
    server.stop().await;
    let fault = echo(&client, &server).await.unwrap_err();
    assert!(matches!(fault, Fault::Connect { .. } | Fault::AnswerLost { .. }), "{fault:?}");
    let fault = echo(&client, &server).await.unwrap_err();
    assert!(matches!(fault, Fault::Connect { .. }), "{fault:?}");
    assert_eq!(server.executions("echo"), before);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_not_executed() {
    let endpoint = endpoint("http://no-such-host.invalid/mcp");
    let arguments = raw("{}");
    let call = toolfleet_mcp::ToolCall::new(&endpoint, "echo", &arguments, later());
    let fault = client().call_tool(call).await.unwrap_err();
    assert_eq!(fault.retry_class(), RetryClass::NotExecuted, "{fault:?}");
}

#[tokio::test]
async fn an_answer_lost_before_during_or_after_execution_is_ambiguous() {
    for (cut, executions) in
        [(MockFault::CloseBeforeExecuting, 0), (MockFault::CloseBeforeAnswer, 1), (MockFault::CutAnswer, 1)]
    {
        let (fault, server) = met(cut).await;
        assert!(matches!(fault, Fault::AnswerLost { .. }), "{fault:?}");
        assert_eq!(server.executions("echo"), executions);
        assert_eq!(server.requests_of("tools/call").len(), 1);
    }
}

#[tokio::test]
async fn every_5xx_is_ambiguous_and_sent_once() {
    for status in [500, 502, 503, 504] {
        let (fault, server) = met(MockFault::status_with(status, "retry-after", "1")).await;
        assert_eq!(fault, Fault::ServerStatus { status, detail: String::new(), retry_after_ms: Some(1000) });
        assert_eq!(server.requests_of("tools/call").len(), 1);
    }
}

#[tokio::test]
async fn a_429_is_a_pause_of_the_length_the_server_names() {
    let (fault, server) = met(MockFault::status_with(429, "Retry-After", "3")).await;
    assert_eq!(fault.retry_class(), RetryClass::Pause { after_ms: Some(3000) });
    assert_not_executed(&fault, &server);
}

#[tokio::test]
async fn refused_credentials_and_scopes_are_themselves() {
    let (fault, server) = met(MockFault::status(401)).await;
    assert_eq!(fault, Fault::Unauthorized { detail: String::new() });
    assert_not_executed(&fault, &server);
    let challenge = r#"Bearer error="insufficient_scope", scope="tools:write""#;
    let (fault, server) = met(MockFault::status_with(403, "WWW-Authenticate", challenge)).await;
    assert_eq!(
        fault,
        Fault::Forbidden { scope: Some("tools:write".to_owned()), detail: "insufficient_scope".to_owned() }
    );
    assert_not_executed(&fault, &server);
}

#[tokio::test]
async fn json_rpc_errors_that_refuse_the_request_prove_that_nothing_ran() {
    for code in [-32700, -32600, -32601, -32602, -32021] {
        let (fault, server) = met(MockFault::rpc(code, "no\u{1b}[0m!")).await;
        assert_eq!(fault, Fault::Rpc { code, message: "no [0m!".to_owned() });
        assert_not_executed(&fault, &server);
    }
}

#[tokio::test]
async fn every_other_json_rpc_error_leaves_open_whether_the_tool_ran() {
    for code in [-32603, -32000, -32001, -32002, -32042, 42, 0] {
        let (fault, server) = met(MockFault::rpc(code, "session not found").after_running()).await;
        assert_eq!(fault, Fault::RpcAmbiguous { code, message: "session not found".to_owned() });
        assert_eq!(fault.may_have_run(), MayHaveRun::Unknown);
        assert_eq!((server.executions("echo"), server.requests_of("tools/call").len()), (1, 1));
    }
}

#[tokio::test]
async fn an_error_without_an_id_is_the_answer_and_proves_nothing_by_its_code() {
    let without_id = |status| MockFault::Rpc {
        status,
        code: -32602,
        message: "no".to_owned(),
        data: serde_json::Value::Null,
        with_id: false,
    };
    let (fault, _) = met(without_id(200)).await;
    assert_eq!(fault, Fault::RpcAmbiguous { code: -32602, message: "no".to_owned() });
    let (fault, server) = met(without_id(400)).await;
    assert_eq!(fault, Fault::Rpc { code: -32602, message: "no".to_owned() });
    assert_not_executed(&fault, &server);
}

#[tokio::test]
async fn answers_that_are_no_mcp_may_have_run_and_are_not_repeated() {
    let html = MockFault::Answer { content_type: "text/html".to_owned(), chunks: vec!["<html>".to_owned()] };
    let text = |text: &str| MockFault::Garbage(text.to_owned());
    for fault in [
        MockFault::WrongId,
        MockFault::NoId,
        html,
        text("hello"),
        text("{}"),
        text(r#"{"jsonrpc":"2.0""#),
        text(""),
        text("[]"),
        MockFault::Answer {
            content_type: "application/json".to_owned(),
            chunks: vec![r#"{"jsonrpc":"2.0","id":{id},"result":[1]}"#.to_owned()],
        },
        MockFault::status(202),
    ] {
        let (fault, server) = met(fault).await;
        assert!(matches!(fault, Fault::InvalidAnswer { .. }), "{fault:?}");
        assert_eq!((fault.may_have_run(), fault.retry_class()), (MayHaveRun::Unknown, RetryClass::Permanent));
        assert_eq!(server.requests_of("tools/call").len(), 1);
    }
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused_declared_or_not() {
    let client = small_client(10_000);
    let server = modern().await;
    let events = format!("data: {{\"x\":\"{}\n\n", "x".repeat(20_000));
    for fault in
        [MockFault::Garbage("x".repeat(20_000)), MockFault::EndlessBody, MockFault::events(&[&events])]
    {
        server.next(fault);
        let fault = echo(&client, &server).await.unwrap_err();
        assert_eq!(fault, Fault::AnswerTooLarge { limit_bytes: 10_000 });
    }
    let answer = echo(&client, &server).await;
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test]
async fn an_attempt_ends_at_its_deadline_whatever_the_server_does() {
    for fault in [MockFault::NeverAnswer, MockFault::ExecuteAndNeverAnswer, MockFault::EndlessStream] {
        let server = modern().await;
        let client = client();
        echo(&client, &server).await.unwrap();
        server.next(fault);
        let fault = echo_until(&client, &server, soon()).await.unwrap_err();
        assert!(matches!(fault, Fault::AttemptTimeout { after_ms: 200..5000, .. }), "{fault:?}");
        server.hung_up(1).await;
    }
}

#[tokio::test]
async fn a_deadline_that_passes_before_the_call_is_sent_is_not_executed() {
    for method in ["server/discover", "initialize", "notifications/initialized"] {
        let server = MockMcp::start(if method == "server/discover" {
            ProtocolRevision::Modern
        } else {
            ProtocolRevision::Legacy
        })
        .await;
        server.echo();
        server.next_for(method, MockFault::NeverAnswer);
        let fault = echo_until(&client(), &server, soon()).await.unwrap_err();
        assert_eq!(fault.retry_class(), RetryClass::NotExecuted, "{fault:?}");
        assert_not_executed(&fault, &server);
    }
}

#[tokio::test]
async fn a_redirect_to_another_origin_is_not_followed_and_its_query_not_told() {
    let other = modern().await;
    let (fault, server) = met(MockFault::Redirect(format!("{}?token=hush", other.url()))).await;
    assert_eq!(fault, Fault::Redirect { location: other.url(), may_have_run: MayHaveRun::No });
    assert_not_executed(&fault, &server);
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed_once_with_the_whole_request() {
    let server = modern().await;
    server.next(MockFault::Redirect("/moved".to_owned()));
    echo(&client(), &server).await.unwrap();
    let calls = server.requests_of("tools/call");
    assert_eq!((calls.len(), calls[1].path.as_str(), &calls[1].body), (2, "/moved", &calls[0].body));
    server.next(MockFault::Redirect("/a".to_owned())).next(MockFault::Redirect("/b".to_owned()));
    let fault = echo(&client(), &server).await.unwrap_err();
    assert!(matches!(fault, Fault::Redirect { .. }), "{fault:?}");
}

#[tokio::test]
async fn a_refusal_is_told_with_the_reason_in_its_body() {
    let server = modern().await;
    let client = client();
    echo(&client, &server).await.unwrap();
    let body = format!("<h1>teapot</h1>\n{}", "x".repeat(5000));
    server.next(MockFault::Status { status: 418, headers: vec![], body });
    let Fault::ServerStatus { status: 418, detail, .. } = echo(&client, &server).await.unwrap_err() else {
        panic!("a status")
    };
    assert_eq!(detail, "teapot");
}
