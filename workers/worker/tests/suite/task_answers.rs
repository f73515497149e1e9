//! A task that asks in the middle of its work: the call ends as `input_required`, a later one sends the answers and continues
//! the same task. Answered questions are not asked again, and the tool runs once.

use serde_json::{Value, json};
use toolfleet_core::call::State;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_testkit::MockFault;
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::steps::Step;

use crate::crashes::assert_settled;
use crate::rig::{Rig, Seen, limits, request};
use crate::waiting::cancel;

fn asks(key: &str) -> Value {
    let question = json!({ "method": "elicitation/create", "params": { "message": "Who?" } });
    json!({ "status": "input_required", "pollIntervalMs": 5_000, "inputRequests": { key: question } })
}

fn completed() -> Value {
    json!({ "status": "completed", "result": { "content": [{ "type": "text", "text": "done" }] } })
}

/// `c2`, which answers `c1`.
fn answering(key: &str) -> Value {
    let mut body = request("c1", "unsafe");
    body["call_id"] = json!("c2");
    body["resume"] =
        json!({ "call_id": "c1", "input_responses": { key: { "action": "accept", "content": {} } } });
    body
}

/// A rig whose tool has made a task of `c1` that tells these states, the first of which is a question.
async fn asked(told: &[Value]) -> Rig {
    let rig = Rig::new().await;
    rig.mcp.tool("unsafe", |_| json!({ "resultType": "task", "taskId": "t1", "status": "working" }));
    rig.mcp.task("t1", told);
    let seen = ended(&rig, request("c1", "unsafe")).await;
    assert_eq!(
        (seen.kind, seen.code),
        (OutcomeKind::InputRequired, Some("input_required")),
        "{}",
        seen.message
    );
    assert!(seen.message.contains("`resume`"), "{}", seen.message);
    rig
}

async fn ended(rig: &Rig, body: Value) -> Seen {
    rig.send(body.to_string()).await;
    rig.settle().await;
    rig.outcome(body["call_id"].as_str().unwrap()).await
}

fn ran_once(rig: &Rig, context: &str) {
    assert_eq!(rig.mcp.executions("unsafe"), 1, "{context}");
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 1, "{context}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_call_brings_the_answers_and_ends_as_the_task_does() {
    let rig =
        asked(&[asks("who"), json!({ "status": "working", "pollIntervalMs": 5_000 }), completed()]).await;
    let seen = ended(&rig, answering("who")).await;
    assert_eq!(assert_settled(&rig, "c2", "answered").await, OutcomeKind::Succeeded);
    assert_eq!(seen.content.as_deref(), Some(r#"{"content":[{"text":"done","type":"text"}]}"#));
    assert_eq!((seen.row.attempts, seen.row.task), (0, None), "an answer is no attempt");
    let updates = rig.mcp.requests_of("tasks/update");
    assert_eq!((updates.len(), updates[0].header("mcp-name")), (1, Some("t1")));
    let expected = json!({ "taskId": "t1", "who": { "action": "accept", "content": {} } });
    let params = &updates[0].body["params"];
    assert_eq!(json!({ "taskId": params["taskId"], "who": params["inputResponses"]["who"] }), expected);
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::InputRequired, "its outcome stands");
    assert!(rig.mcp.requests_of("tasks/cancel").is_empty());
    ran_once(&rig, "answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_may_ask_again_and_each_round_answers_the_last_one() {
    let rig = asked(&[asks("who"), asks("where"), completed()]).await;
    let seen = ended(&rig, answering("who")).await;
    assert_eq!(seen.kind, OutcomeKind::InputRequired, "{}", seen.message);
    let content: Value = serde_json::from_str(seen.content.as_deref().unwrap()).unwrap();
    assert!(content["inputRequests"].get("where").is_some(), "{content}");
    let mut third = answering("where");
    third["call_id"] = json!("c3");
    let wrong = ended(&rig, third.clone()).await;
    assert_eq!((wrong.kind, wrong.code), (OutcomeKind::Refused, Some("not_resumable")), "c1 asked for `who`");
    third["call_id"] = json!("c4");
    third["resume"]["call_id"] = json!("c2");
    let seen = ended(&rig, third).await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    ran_once(&rig, "twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_may_ask_again_under_a_key_answered_before() {
    let rig = Rig::new().await;
    let handle = |_: &Value| json!({ "resultType": "task", "taskId": "t1", "status": "working" });
    rig.mcp
        .tool("unsafe", handle)
        .asks(json!({ "who": { "method": "elicitation/create", "params": {} } }), "state");
    rig.mcp.task("t1", &[asks("who"), completed()]);
    assert_eq!(ended(&rig, request("c1", "unsafe")).await.kind, OutcomeKind::InputRequired);
    let seen = ended(&rig, answering("who")).await;
    assert_eq!(seen.kind, OutcomeKind::InputRequired, "{}", seen.message);
    assert!(seen.content.unwrap().contains("taskId"), "it is the task that asks");
    assert!(rig.mcp.requests_of("tasks/update").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_any_step_of_an_answer_loses_nothing() {
    let steps = [
        Step::Decoded,
        Step::Admitted,
        Step::Prepared,
        Step::Claimed,
        Step::Executed,
        Step::Parked,
        Step::Reposted,
    ];
    for step in steps {
        let context = format!("crash after {step:?}");
        let rig = asked(&[asks("who"), completed()]).await;
        rig.send(answering("who").to_string()).await;
        rig.crash_after(step).await;
        rig.settle().await;
        assert_eq!(assert_settled(&rig, "c2", &context).await, OutcomeKind::Succeeded, "{context}");
        ran_once(&rig, &context);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_answers_are_waited_out_and_leave_no_doubt() {
    let rig = asked(&[asks("who"), completed()]).await;
    for fault in [
        MockFault::status(503),
        MockFault::status_with(429, "retry-after", "40"),
        MockFault::CloseBeforeExecuting,
        MockFault::rpc(-32603, "boom"),
        MockFault::CloseBeforeAnswer,
    ] {
        rig.mcp.next_for("tasks/update", fault);
    }
    let seen = ended(&rig, answering("who")).await;
    assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 0), "{}", seen.message);
    ran_once(&rig, "faults");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_not_answered_in_time_waits_for_another_call() {
    let rig = asked(&[asks("who"), completed()]).await;
    rig.mcp.always_for("tasks/update", MockFault::status_with(429, "retry-after", "900"));
    let mut late = answering("who");
    late["timeout_ms"] = json!(60_000);
    let seen = ended(&rig, late).await;
    assert_eq!(
        (seen.kind, seen.may_have_run),
        (OutcomeKind::Expired, Some(MayHaveRun::No)),
        "{}",
        seen.message
    );
    assert!(rig.mcp.requests_of("tasks/cancel").is_empty());
    rig.mcp.behave();
    let mut again = answering("who");
    again["call_id"] = json!("c3");
    let seen = ended(&rig, again).await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    ran_once(&rig, "answered in the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_may_have_its_answers_is_cancelled_with_its_call() {
    let rig = asked(&[asks("who"), completed()]).await;
    rig.mcp.next_for(
        "tasks/update",
        MockFault::Status { status: 202, headers: Vec::new(), body: String::new() },
    );
    rig.mcp.always_for("tasks/get", MockFault::status_with(429, "retry-after", "900"));
    rig.mcp.always_for("tasks/update", MockFault::status_with(429, "retry-after", "900"));
    let mut late = answering("who");
    late["timeout_ms"] = json!(60_000);
    let seen = ended(&rig, late).await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::TimedOut, Some(MayHaveRun::Unknown)));
    assert_eq!(rig.mcp.requests_of("tasks/cancel").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_after_the_answers_were_taken_do_not_end_the_call() {
    let rig =
        asked(&[asks("who"), json!({ "status": "working", "pollIntervalMs": 5_000 }), completed()]).await;
    rig.send(answering("who").to_string()).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    assert_eq!(rig.row("c2").await.unwrap().state, State::WaitingTask);
    let mut catalog = rig.catalog();
    catalog["tools"][1]["description"] = json!("Reworded.");
    catalog["tools"][1]["input_schema"] = json!({ "type": "object", "title": "Reworded" });
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("c2").await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    ran_once(&rig, "reworded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_refused_by_a_proxy_leave_the_task_to_another_call() {
    let rig = asked(&[asks("who"), completed()]).await;
    rig.mcp.next_for("tasks/update", MockFault::status(413));
    let seen = ended(&rig, answering("who")).await;
    assert_eq!(seen.kind, OutcomeKind::InputRequired, "{}", seen.message);
    assert!(seen.message.contains("did not take the answers"), "{}", seen.message);
    assert!(rig.mcp.requests_of("tasks/cancel").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_answers_are_asked_for_again_with_the_reason() {
    let rig = asked(&[asks("who"), completed()]).await;
    rig.mcp.next_for("tasks/update", MockFault::rpc(-32602, "who: not a name"));
    let seen = ended(&rig, answering("who")).await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::InputRequired, Some("input_required")));
    assert!(seen.message.contains("-32602: who: not a name"), "{}", seen.message);
    let mut better = answering("who");
    better["call_id"] = json!("c3");
    better["resume"]["call_id"] = json!("c2");
    let seen = ended(&rig, better).await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    ran_once(&rig, "refused answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_its_server_forgot_is_not_begun_anew() {
    let rig = asked(&[asks("who"), completed()]).await;
    rig.mcp.forget_tasks();
    let seen = ended(&rig, answering("who")).await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::OutcomeUnknown, Some("task_lost")), "{}", seen.message);
    assert!(rig.mcp.requests_of("tasks/cancel").is_empty());
    ran_once(&rig, "forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_ends_around_its_answer_cancels_the_task() {
    for method in ["tasks/update", "tasks/get"] {
        let rig = asked(&[asks("who"), completed()]).await;
        rig.send(answering("who").to_string()).await;
        let context = rig.fleet_of(rig.catalog(), limits(), None).await;
        if method == "tasks/get" {
            rig.deliver(&context).await;
            assert_eq!(rig.row("c2").await.unwrap().state, State::WaitingTask);
            rig.clock.advance_ms(5_000);
        }
        let asked_before = rig.mcp.requests_of(method).len();
        let held = rig.mcp.hold_for(method);
        let delivery = rig.receive(&context).await.unwrap();
        let running = tokio::spawn(pipeline::run(context.clone(), delivery, ()));
        rig.mcp.arrived(method, asked_before + 1).await;
        cancel(&rig, "c2").await;
        drop(held);
        running.await.unwrap();
        rig.settle().await;
        assert_eq!(assert_settled(&rig, "c2", method).await, OutcomeKind::Cancelled, "{method}");
        assert_eq!(rig.outcome("c2").await.may_have_run, Some(MayHaveRun::Unknown), "{method}");
        assert_eq!(rig.mcp.requests_of("tasks/cancel").len(), 1, "{method}");
        ran_once(&rig, method);
    }
}
