//! Tasks: a call that its server works on for longer waits in the queue, holds no slot, is sent once, and ends once.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_core::call::State;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_testkit::{Cut, MockFault, Rule};
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::steps::Step;

use crate::crashes::assert_settled;
use crate::rig::{Rig, limits, request};
use crate::waiting::cancel;

/// What a server that makes a task of a call answers it with.
fn handle(poll_interval_ms: u64) -> Value {
    json!({ "resultType": "task", "taskId": "t1", "status": "working", "ttlMs": null, "pollIntervalMs": poll_interval_ms })
}

fn working() -> Value {
    json!({ "status": "working", "pollIntervalMs": 5_000 })
}

fn completed() -> Value {
    json!({ "status": "completed", "result": { "content": [{ "type": "text", "text": "done" }] } })
}

/// A rig whose tool makes a task that tells these states, one after the other.
async fn rig(tool: &str, told: &[Value]) -> Rig {
    let rig = Rig::new().await;
    rig.mcp.tool(tool, |_| handle(5_000));
    rig.mcp.task("t1", told);
    rig.send(request("c1", tool).to_string()).await;
    rig
}

/// Delivers the message that is due in `after_ms`.
async fn deliver_in(rig: &Rig, context: &Arc<WorkerContext>, after_ms: u64) {
    rig.clock.advance_ms(after_ms);
    rig.deliver(context).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_polled_from_the_queue_and_ends_like_an_answer() {
    let telling = json!({ "status": "working", "pollIntervalMs": 5_000, "statusMessage": "half of it" });
    let rig = rig("unsafe", &[telling, completed()]).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    let row = rig.row("c1").await.unwrap();
    assert_eq!((row.state, row.task.as_deref(), row.fence), (State::WaitingTask, Some("t1"), 1));
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight, depth.delayed), (0, 0, 1));
    rig.clock.advance_ms(4_000);
    assert!(rig.receive(&context).await.is_none(), "the server wants five seconds");
    deliver_in(&rig, &context, 1_000).await;
    let row = rig.row("c1").await.unwrap();
    assert_eq!((row.state, row.notes.unwrap().log[0].text.as_str()), (State::WaitingTask, "half of it"));
    deliver_in(&rig, &context, 5_000).await;
    assert_eq!(assert_settled(&rig, "c1", "a task").await, OutcomeKind::Succeeded);
    let seen = rig.outcome("c1").await;
    assert_eq!(seen.content.as_deref(), Some(r#"{"content":[{"text":"done","type":"text"}]}"#));
    assert_eq!((seen.row.attempts, seen.row.fence, seen.row.task), (1, 3, None));
    assert_eq!((rig.mcp.executions_of("c1"), rig.mcp.requests_of("tasks/get").len()), (1, 2));
    assert!(rig.mcp.requests_of("tasks/cancel").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_end_of_a_task_is_the_end_of_its_call() {
    let of = |result: Value| json!({ "status": "completed", "result": result });
    let error = json!({ "code": -32603, "message": "out of paper" });
    let cases = [
        (of(json!({ "isError": true, "content": [] })), OutcomeKind::ToolError, "tool_reported_error"),
        (of(json!({ "resultType": "prophecy" })), OutcomeKind::Failed, "unknown_result_type"),
        (of(handle(1)), OutcomeKind::Failed, "unknown_result_type"),
        (json!({ "status": "failed", "error": error }), OutcomeKind::Failed, "rpc_error"),
        (
            json!({ "status": "cancelled", "statusMessage": "no more" }),
            OutcomeKind::Cancelled,
            "task_cancelled",
        ),
        (
            json!({ "status": "input_required", "inputRequests": { "q": {} } }),
            OutcomeKind::InputRequired,
            "input_required",
        ),
    ];
    for (told, kind, code) in cases {
        let rig = rig("unsafe", std::slice::from_ref(&told)).await;
        rig.settle().await;
        let seen = rig.outcome("c1").await;
        assert_eq!((seen.kind, seen.code), (kind, Some(code)), "{told}: {}", seen.message);
        assert_settled(&rig, "c1", &told.to_string()).await;
        assert_eq!(rig.mcp.executions_of("c1"), 1, "{told}");
        // The server ended it itself, or waits for an answer to what it asks.
        assert!(rig.mcp.requests_of("tasks/cancel").is_empty(), "{told}");
        if kind == OutcomeKind::InputRequired {
            let content = seen.content.unwrap();
            assert!(content.contains("\"taskId\":\"t1\"") && content.contains("inputRequests"), "{content}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_any_step_of_a_poll_loses_and_repeats_nothing() {
    let in_every = [Step::Decoded, Step::Admitted, Step::Prepared, Step::Claimed, Step::Executed];
    let between = in_every.into_iter().chain([Step::Parked, Step::Reposted]);
    let at_the_end = Step::ALL;
    let of = |told: Vec<Value>| move |step| (step, told.clone());
    let cases = between
        .map(of(vec![working(), completed()]))
        .chain(at_the_end.into_iter().map(of(vec![completed()])));
    for (step, told) in cases {
        let case = format!("crash after {step:?} of a question that is told {}", told[0]);
        let rig = rig("unsafe", &told).await;
        let context = rig.context(None).await;
        rig.deliver(&context).await;
        rig.clock.advance_ms(5_000);
        rig.crash_after(step).await;
        rig.settle().await;
        assert_eq!(assert_settled(&rig, "c1", &case).await, OutcomeKind::Succeeded, "{case}");
        assert_eq!(rig.mcp.executions_of("c1"), 1, "{case}");
        assert_eq!(rig.outcome("c1").await.row.attempts, 1, "{case}: questions are no attempts");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_task_handle_and_message_loses_no_call() {
    for (step, kind) in [
        (Step::Executed, OutcomeKind::OutcomeUnknown),
        (Step::Parked, OutcomeKind::Succeeded),
        (Step::Reposted, OutcomeKind::Succeeded),
    ] {
        let context = format!("crash after {step:?} of the call");
        let rig = rig("unsafe", &[working(), completed()]).await;
        rig.crash_after(step).await;
        rig.settle().await;
        assert_eq!(assert_settled(&rig, "c1", &context).await, kind, "{context}");
        assert_eq!(rig.mcp.executions_of("c1"), 1, "{context}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lost_answer_of_any_write_of_a_task_changes_nothing() {
    for (name, verb, nth) in
        [("park", "UPDATE", 1), ("claim of a question", "UPDATE", 2), ("park again", "UPDATE", 3)]
    {
        let context = format!("lost answer of the {name}");
        let rig = rig("unsafe", &[working(), completed()]).await;
        rig.dynamodb.cut(Rule::new(Cut::AfterAnswer, "BatchExecuteStatement", nth).with_body(verb));
        rig.settle().await;
        assert_eq!(rig.dynamodb.cuts(), 1, "{context}");
        assert_eq!(assert_settled(&rig, "c1", &context).await, OutcomeKind::Succeeded, "{context}");
        assert_eq!(rig.mcp.executions_of("c1"), 1, "{context}");
    }
    let rig = rig("unsafe", &[working(), completed()]).await;
    rig.sqs.cut(Rule::new(Cut::AfterAnswer, "SendMessage", 1));
    rig.settle().await;
    assert_eq!(rig.sqs.cuts(), 1);
    assert_eq!(assert_settled(&rig, "c1", "lost answer of the new message").await, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.executions_of("c1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicate_parked_messages_respect_the_poll_interval() {
    let rig = rig("unsafe", &[working()]).await;
    rig.mcp.tool("unsafe", |_| handle(20_000));
    rig.mcp.task("t1", &[json!({ "status": "working", "pollIntervalMs": 20_000 })]);
    rig.crash_after(Step::Reposted).await;
    let context = rig.context(None).await;
    for _ in 0..200 {
        rig.clock.advance_ms(1_000);
        while let Some(delivery) = rig.receive(&context).await {
            pipeline::run(context.clone(), delivery, ()).await;
        }
    }
    let asked = rig.mcp.requests_of("tasks/get").len();
    // Two clocks may differ by two seconds, which is what a duplicate can gain.
    assert!((8..=11).contains(&asked), "{asked} questions in 200 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_task_never_climbs_towards_the_dead_letter_queue() {
    let rig = rig("unsafe", &[working()]).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    for _ in 0..40 {
        rig.clock.advance_ms(5_000);
        let delivery = rig.receive(&context).await.expect("the message that asks");
        assert_eq!(delivery.receive_count, 1);
        pipeline::run(context.clone(), delivery, ()).await;
    }
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight, depth.delayed), (0, 0, 1));
    assert_eq!(rig.row("c1").await.unwrap().attempts, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_questions_are_waited_out_and_cost_no_attempt() {
    let rig = rig("unsafe", &[completed()]).await;
    for fault in [
        MockFault::status(503),
        MockFault::status_with(429, "retry-after", "40"),
        MockFault::CloseBeforeExecuting,
        MockFault::status(500),
        MockFault::rpc(-32603, "boom"),
        MockFault::CloseBeforeAnswer,
    ] {
        rig.mcp.next_for("tasks/get", fault);
    }
    rig.settle().await;
    assert_eq!(assert_settled(&rig, "c1", "faults").await, OutcomeKind::Succeeded);
    assert_eq!((rig.mcp.executions_of("c1"), rig.outcome("c1").await.row.attempts), (1, 1));
    assert_eq!(rig.mcp.requests_of("tasks/get").len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_task_is_unknown_or_repeated_if_safe() {
    for (tool, kind, code, executions) in [
        ("unsafe", OutcomeKind::OutcomeUnknown, Some("task_lost"), 1),
        ("safe", OutcomeKind::Succeeded, None, 2),
    ] {
        let rig = rig(tool, &[working()]).await;
        let context = rig.context(None).await;
        rig.deliver(&context).await;
        rig.mcp.forget_tasks();
        rig.mcp.tool(tool, |_| json!({ "content": [] }));
        rig.settle().await;
        let seen = rig.outcome("c1").await;
        assert_eq!((seen.kind, seen.code, seen.row.task), (kind, code, None), "{}", seen.message);
        assert_settled(&rig, "c1", tool).await;
        assert_eq!(rig.mcp.executions_of("c1"), executions);
        assert!(rig.mcp.requests_of("tasks/cancel").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_polls_are_forbidden_is_cancelled() {
    let rig = rig("unsafe", &[working()]).await;
    rig.mcp.next_for("tasks/get", MockFault::status(403));
    rig.settle().await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::OutcomeUnknown, Some("forbidden")));
    assert_eq!(rig.mcp.requests_of("tasks/cancel").len(), 1);
}

async fn with_deadline(timeout_ms: u64) -> Rig {
    let rig = Rig::new().await;
    rig.mcp.tool("unsafe", |_| handle(600_000));
    rig.mcp.task("t1", &[working()]);
    let mut body = request("c1", "unsafe");
    body["timeout_ms"] = json!(timeout_ms);
    rig.send(body.to_string()).await;
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_deadline_the_task_is_cancelled_and_the_call_timed_out() {
    let rig = with_deadline(12_000).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    // However long the server wants to be left alone.
    deliver_in(&rig, &context, 12_000).await;
    assert_eq!(assert_settled(&rig, "c1", "deadline").await, OutcomeKind::TimedOut);
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.code, seen.may_have_run), (Some("deadline_exceeded"), Some(MayHaveRun::Unknown)));
    assert!(!seen.message.contains("Nothing was sent"), "{}", seen.message);
    let cancelled = rig.mcp.requests_of("tasks/cancel");
    assert_eq!((cancelled.len(), cancelled[0].header("mcp-name")), (1, Some("t1")));
    assert!(rig.mcp.requests_of("tasks/get").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_end_and_task_cancellation_leaves_both_done() {
    for step in [Step::ResultStored, Step::Recorded, Step::Notified] {
        let rig = with_deadline(12_000).await;
        let context = rig.context(None).await;
        rig.deliver(&context).await;
        rig.clock.advance_ms(12_000);
        rig.crash_after(step).await;
        rig.settle().await;
        let kind = assert_settled(&rig, "c1", &format!("crash after {step:?}")).await;
        assert_eq!((kind, rig.mcp.requests_of("tasks/cancel").len()), (OutcomeKind::TimedOut, 1), "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_hear_of_the_end_holds_nothing_up() {
    let rig = with_deadline(12_000).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    rig.mcp.stop().await;
    deliver_in(&rig, &context, 12_000).await;
    assert_eq!(assert_settled(&rig, "c1", "no server").await, OutcomeKind::TimedOut);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_cancels_its_task_between_two_questions() {
    let rig = rig("unsafe", &[working()]).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    cancel(&rig, "c1").await;
    deliver_in(&rig, &context, 5_000).await;
    assert_eq!(assert_settled(&rig, "c1", "cancelled").await, OutcomeKind::Cancelled);
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.code, seen.may_have_run), (Some("cancelled_by_caller"), Some(MayHaveRun::Unknown)));
    assert_eq!(rig.mcp.requests_of("tasks/cancel").len(), 1);
    assert!(rig.mcp.requests_of("tasks/get").is_empty(), "no poll after the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_during_a_call_or_a_poll_cancels_the_task() {
    for method in ["tools/call", "tasks/get"] {
        let rig = rig("unsafe", &[working()]).await;
        let context = rig.context(None).await;
        if method == "tasks/get" {
            rig.deliver(&context).await;
            rig.clock.advance_ms(5_000);
        }
        let held = rig.mcp.hold_for(method);
        let delivery = rig.receive(&context).await.unwrap();
        let running = tokio::spawn(pipeline::run(context.clone(), delivery, ()));
        rig.mcp.arrived(method, 1).await;
        cancel(&rig, "c1").await;
        drop(held);
        running.await.unwrap();
        rig.settle().await;
        assert_eq!(assert_settled(&rig, "c1", method).await, OutcomeKind::Cancelled, "{method}");
        assert_eq!(rig.mcp.requests_of("tasks/cancel").len(), 1, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_refused_while_its_task_runs_cancels_the_task() {
    let rig = rig("unsafe", &[working()]).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    let mut catalog = rig.catalog();
    catalog["tools"][1]["paused"] = json!(true);
    let context = rig.fleet_of(catalog, limits(), None).await;
    deliver_in(&rig, &context, 5_000).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::OutcomeUnknown, Some("paused")));
    assert_eq!(rig.mcp.requests_of("tasks/cancel").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_outlasts_the_drain_is_requeued() {
    let rig = rig("unsafe", &[completed()]).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    rig.clock.advance_ms(5_000);
    let held = rig.mcp.hold_for("tasks/get");
    let delivery = rig.receive(&context).await.unwrap();
    let asking = tokio::spawn(pipeline::run(context.clone(), delivery, ()));
    rig.mcp.arrived("tasks/get", 1).await;
    context.shutdown.begin(Duration::ZERO);
    asking.await.unwrap();
    assert_eq!(rig.row("c1").await.unwrap().state, State::WaitingTask);
    drop(held);
    rig.settle().await;
    assert_eq!(assert_settled(&rig, "c1", "drained").await, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.executions_of("c1"), 1);
}
