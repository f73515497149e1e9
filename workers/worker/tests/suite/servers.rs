//! Servers that misbehave: each ends as the policy says, and a neighbour on a healthy server succeeds.

use serde_json::json;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_testkit::{Era, MockFault};

use crate::rig::{Rig, request};

struct Case {
    name: &'static str,
    fault: MockFault,
    tool: &'static str,
    kind: OutcomeKind,
    code: Option<&'static str>,
    ran: Option<MayHaveRun>,
    executions: u64,
}

fn case(
    name: &'static str,
    fault: MockFault,
    tool: &'static str,
    (kind, code, ran): (OutcomeKind, Option<&'static str>, Option<MayHaveRun>),
    executions: u64,
) -> Case {
    Case { name, fault, tool, kind, code, ran, executions }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_misbehaviour_of_a_server_ends_as_the_policy_says() {
    use MayHaveRun::{No, Unknown};
    use OutcomeKind::{Failed, OutcomeUnknown, Succeeded};
    let ok = (Succeeded, None, None);
    let cases = [
        case(
            "garbage",
            MockFault::Garbage("<html>".into()),
            "unsafe",
            (Failed, Some("invalid_answer"), Some(Unknown)),
            1,
        ),
        case("wrong id", MockFault::WrongId, "unsafe", (Failed, Some("invalid_answer"), Some(Unknown)), 1),
        case("no id", MockFault::NoId, "unsafe", (Failed, Some("invalid_answer"), Some(Unknown)), 1),
        case(
            "closes early",
            MockFault::CloseBeforeAnswer,
            "unsafe",
            (OutcomeUnknown, Some("answer_lost"), Some(Unknown)),
            1,
        ),
        case("closes early, safe", MockFault::CloseBeforeAnswer, "safe", ok, 2),
        case(
            "cut in the middle",
            MockFault::CutAnswer,
            "unsafe",
            (OutcomeUnknown, Some("answer_lost"), Some(Unknown)),
            1,
        ),
        case(
            "never answers",
            MockFault::ExecuteAndNeverAnswer,
            "unsafe",
            (OutcomeUnknown, Some("attempt_timed_out"), Some(Unknown)),
            1,
        ),
        case("never answers, safe", MockFault::NeverAnswer, "safe", ok, 1),
        case(
            "stream without end",
            MockFault::EndlessStream,
            "unsafe",
            (Failed, Some("answer_too_large"), Some(Unknown)),
            1,
        ),
        case(
            "body without end",
            MockFault::EndlessBody,
            "unsafe",
            (Failed, Some("answer_too_large"), Some(Unknown)),
            1,
        ),
        case(
            "503, unsafe",
            MockFault::status(503),
            "unsafe",
            (OutcomeUnknown, Some("server_error"), Some(Unknown)),
            0,
        ),
        case("503, safe", MockFault::status(503), "safe", ok, 1),
        case(
            "-32603",
            MockFault::rpc(-32603, "boom"),
            "unsafe",
            (OutcomeUnknown, Some("rpc_error"), Some(Unknown)),
            0,
        ),
        case("-32602", MockFault::rpc(-32602, "bad"), "unsafe", (Failed, Some("rpc_error"), Some(No)), 0),
        case("401", MockFault::status(401), "unsafe", (Failed, Some("unauthorized"), Some(No)), 0),
        case("403", MockFault::status(403), "unsafe", (Failed, Some("forbidden"), Some(No)), 0),
        case(
            "redirect",
            MockFault::Redirect("http://127.0.0.2:1/mcp".into()),
            "unsafe",
            (Failed, Some("redirected"), Some(No)),
            0,
        ),
    ];
    for case in cases {
        let rig = Rig::new().await;
        // Worker-wide learning comes first, so that the fault meets the tool call and nothing before it.
        rig.send(request("first", "safe").to_string()).await;
        rig.settle().await;
        rig.mcp.next(case.fault);
        rig.send(request("c1", case.tool).to_string()).await;
        rig.settle().await;
        let seen = rig.outcome("c1").await;
        assert_eq!((seen.kind, seen.may_have_run), (case.kind, case.ran), "{}: {}", case.name, seen.message);
        if case.code.is_some() || case.kind == Succeeded {
            assert_eq!(seen.code, case.code, "{}: {}", case.name, seen.message);
        }
        assert_eq!(rig.mcp.executions_of("c1"), case.executions, "{}", case.name);
        rig.send(request("neighbour", "unsafe").to_string()).await;
        rig.settle().await;
        assert_eq!(rig.outcome("neighbour").await.kind, Succeeded, "after {}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_stored_byte_for_byte_in_both_generations() {
    for era in [Era::Modern, Era::Legacy] {
        let rig = Rig::with(era).await;
        let raw = r#"{"content":[{"type":"text","text":"é\u00e9"},{"type":"hologram","x":1.0}],"structuredContent":{"b":2,"a":1e2}}"#;
        rig.mcp.tool("safe", move |_| toolfleet_testkit::ToolAnswer::Raw(raw.to_owned()));
        rig.send(request("c1", "safe").to_string()).await;
        rig.settle().await;
        let seen = rig.outcome("c1").await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
        assert_eq!(seen.content.as_deref(), Some(raw));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_error_is_the_tools_answer_and_is_never_retried() {
    let rig = Rig::new().await;
    rig.mcp.tool(
        "safe",
        |_| json!({"content": [{"type": "text", "text": "no such customer"}], "isError": true}),
    );
    rig.send(request("c1", "safe").to_string()).await;
    rig.settle().await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::ToolError, Some("tool_reported_error")));
    assert_eq!(seen.message, "no such customer");
    assert!(seen.content.unwrap().contains("isError"));
    assert_eq!(rig.mcp.executions("safe"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_of_a_trusted_server_makes_a_listed_tool_safe_to_repeat() {
    let rig = Rig::new().await;
    let body = |id: &str| {
        json!({"v":1,"call_id":id,"tenant":"acme","server":"mock","name":"hinted","arguments":{"call":id}})
            .to_string()
    };
    rig.mcp.next(MockFault::CloseBeforeAnswer);
    rig.send(body("c1")).await;
    rig.settle().await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.executions_of("c1"), 2);

    // The same server, not trusted: its word is not enough.
    let mut catalog = rig.catalog();
    catalog["servers"][0]["trusted"] = json!(false);
    let fleet = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    rig.mcp.next(MockFault::CloseBeforeAnswer);
    rig.send(body("c2")).await;
    rig.settle_with(&fleet).await;
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::OutcomeUnknown);
    assert_eq!(rig.mcp.executions_of("c2"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_asked_again_and_in_the_end_reported_as_unreachable() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["servers"][0]["url"] = json!("http://127.0.0.1:9/mcp");
    let fleet = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle_with(&fleet).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("server_unreachable")), "{}", seen.message);
    assert_eq!((seen.may_have_run, seen.row.attempts), (Some(MayHaveRun::No), 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_come_from_secrets_and_a_missing_one_is_said_without_its_value() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["servers"][0]["headers"] = json!({"Authorization": "Bearer secret://missing/token"});
    let fleet = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle_with(&fleet).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("credential_unavailable")));
    assert!(seen.message.contains("missing/token"), "{}", seen.message);
    assert_eq!(rig.mcp.executions("unsafe"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_a_server_echoes_reaches_neither_row_nor_record() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["servers"][0]["headers"] = json!({"Authorization": "Bearer sk-live-12345"});
    let fleet = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    rig.mcp.next(MockFault::rpc(-32000, "invalid api key: sk-live-12345"));
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle_with(&fleet).await;
    let seen = rig.outcome("c1").await;
    assert!(
        seen.message.contains("invalid api key") && !seen.message.contains("sk-live"),
        "{}",
        seen.message
    );
    let audit = rig.audit_of("c1", toolfleet_core::audit::AuditKind::Call).await;
    assert!(!serde_json::to_string(&audit).unwrap().contains("sk-live"));
}
