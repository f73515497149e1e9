//! Calls without a claim: one write less, a crash after any step, and what the absence of a row means.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_aws::queue::Outgoing;
use toolfleet_core::audit::AuditKind;
use toolfleet_core::call::State;
use toolfleet_core::message_attributes::{FIRST_SENDER, FIRST_SENT, PARKS};
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::{Cut, MockFault, Rule};
use toolfleet_worker::Limits;
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::steps::Step;

use crate::crashes::assert_settled;
use crate::resume::{asking, octocat, resuming};
use crate::rig::{LEASE_MS, Rig, SENDER, SKEW_MS, START_MS, Seen, limits, request};
use crate::waiting::cancel;

/// A request whose caller says that it is safe to repeat.
fn idempotent(id: &str) -> Value {
    let mut request = request(id, "unsafe");
    request["idempotent"] = json!(true);
    request
}

/// The steps of a call that is executed without a claim.
fn steps() -> impl Iterator<Item = Step> {
    Step::ALL.into_iter().filter(|step| *step != Step::Claimed)
}

/// How often the row was written by one delivery of that request.
async fn writes(rig: &Rig, request: &Value) -> u64 {
    let id = request["call_id"].as_str().unwrap();
    rig.send(request.to_string()).await;
    rig.deliver(&rig.context(None).await).await;
    assert_eq!(assert_settled(rig, id, &request.to_string()).await, OutcomeKind::Succeeded);
    rig.row(id).await.unwrap().rev
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_claim_writes_its_row_once() {
    let rig = Rig::new().await;
    assert_eq!(writes(&rig, &request("claimed", "safe")).await, 2, "registered as idempotent, and no more");
    assert_eq!(writes(&rig, &idempotent("promised")).await, 1);
    let list = json!({"v": 1, "call_id": "list", "tenant": "acme", "operation": "tools/list", "server": "mock", "arguments": {}});
    assert_eq!(writes(&rig, &list).await, 1, "a read operation");
    let mut catalog = rig.catalog();
    catalog["tools"][0]["claimless"] = json!(true);
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.send(request("registered", "safe").to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.row("registered").await.unwrap().rev, 1);
    let row = rig.row("promised").await.unwrap();
    assert_eq!((row.fence, row.attempts, row.state), (1, 1, State::Done));
    assert!(row.started_at.is_some() && row.worker.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grouped_limited_and_received_again_calls_are_claimed() {
    let rig = Rig::new().await;
    let mut grouped = idempotent("grouped");
    grouped["group"] = json!({"id": "g", "index": 0, "size": 1});
    rig.send(grouped.to_string()).await;
    rig.deliver(&rig.context(None).await).await;
    assert_eq!(rig.row("grouped").await.unwrap().rev, 2, "grouped");
    // The group's timer is delayed.
    rig.settle().await;
    let mut catalog = rig.catalog();
    catalog["tools"][1]["limits"] = json!({"rate": "100/s"});
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.send(idempotent("limited").to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.row("limited").await.unwrap().rev, 2, "limited");
    rig.send(idempotent("again").to_string()).await;
    let context = rig.context(None).await;
    let first = rig.receive(&context).await.unwrap();
    rig.queue().change_visibility(&first.receipt, 0).await.unwrap();
    rig.deliver(&context).await;
    assert_eq!(rig.row("again").await.unwrap().rev, 2, "a second receive");
}

/// How often the row of that call was written, and by how many claims, after one delivery of that message.
async fn writes_of(rig: &Rig, id: &str, message: Outgoing) -> (u64, u64) {
    rig.queue().send(message).await.unwrap();
    rig.deliver(&rig.context(None).await).await;
    assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded, "{id}");
    let row = rig.row(id).await.unwrap();
    (row.rev, row.fence)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn superseding_scheduled_and_parked_calls_are_claimed() {
    let rig = Rig::new().await;
    let message =
        |body: &Value| Outgoing { body: body.to_string(), group: Some("acme".into()), ..Outgoing::default() };
    assert_eq!(writes_of(&rig, "alone", message(&idempotent("alone"))).await, (1, 1));
    let mut newest = idempotent("newest");
    newest["supersede"] = json!("k");
    assert_eq!(
        writes_of(&rig, "newest", message(&newest)).await,
        (2, 1),
        "its row is what a newer one replaces"
    );
    let mut due = idempotent("due");
    due["not_before"] = json!(Timestamp::from_ms(i64::try_from(START_MS).unwrap()));
    assert_eq!(writes_of(&rig, "due", message(&due)).await, (2, 1), "it may have waited before");
    // A worker has sent it on: an earlier delivery of it may have been executed.
    let attributes = [(PARKS, "0"), (FIRST_SENT, &START_MS.to_string()), (FIRST_SENDER, SENDER)];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let parked = Outgoing { attributes, ..message(&idempotent("parked")) };
    assert_eq!(writes_of(&rig, "parked", parked).await, (2, 1), "parked");
}

/// An answer is given once, whoever says that repeating is safe: the call that brings it has a claim.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_resumes_another_is_claimed() {
    let rig = asking().await;
    let first = idempotent("c1");
    rig.send(first.to_string()).await;
    rig.deliver(&rig.context(None).await).await;
    assert_eq!(
        (rig.outcome("c1").await.kind, rig.row("c1").await.unwrap().rev),
        (OutcomeKind::InputRequired, 1)
    );
    rig.send(resuming("c2", &first, octocat()).to_string()).await;
    rig.deliver(&rig.context(None).await).await;
    assert_eq!((rig.outcome("c2").await.kind, rig.row("c2").await.unwrap().rev), (OutcomeKind::Succeeded, 2));
}

/// The message of the same id that is no request ends the id, and says of itself that it did not run; of the call that ran, its own record
/// says that it may have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_message_under_its_id_does_not_deny_the_run() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    rig.send(idempotent("c1").to_string()).await;
    let hold = rig.mcp.hold();
    let delivery = rig.receive(&context).await.unwrap();
    let message = delivery.message_id.clone();
    let running = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    let mut broken = idempotent("c1");
    broken["arguments"] = json!(7);
    rig.send(broken.to_string()).await;
    rig.deliver(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some("undecodable")));
    drop(hold);
    running.await.unwrap();
    assert_eq!(rig.mcp.executions_of("c1"), 1);
    let records = rig.audit_of("c1", AuditKind::IdempotencyMismatch).await;
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(record.message_id.as_deref(), Some(message.as_str()));
    assert_eq!(record.may_have_run, Some(MayHaveRun::Unknown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_any_step_without_a_claim_leaves_one_result() {
    for step in steps() {
        let context = format!("crash after {step:?} of a call without a claim");
        let rig = Rig::new().await;
        rig.send(idempotent("c1").to_string()).await;
        rig.crash_after(step).await;
        rig.settle().await;
        let kind = assert_settled(&rig, "c1", &context).await;
        // Its answer was not stored, and it does no harm to run it again.
        let expected = if step == Step::Executed { 2 } else { 1 };
        assert_eq!((kind, rig.mcp.executions_of("c1")), (OutcomeKind::Succeeded, expected), "{context}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_of_the_only_write_changes_nothing() {
    let rig = Rig::new().await;
    rig.send(idempotent("c1").to_string()).await;
    rig.dynamodb.cut(Rule::new(Cut::AfterAnswer, "BatchExecuteStatement", 1).with_body("INSERT"));
    rig.settle().await;
    assert_eq!(rig.dynamodb.cuts(), 1);
    let kind = assert_settled(&rig, "c1", "a lost answer").await;
    assert_eq!((kind, rig.mcp.executions_of("c1")), (OutcomeKind::Succeeded, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_heartbeat_claims_a_call_without_a_claim() {
    let rig = Rig::new().await;
    // A third of this is the pause between heartbeats, in real time.
    let limits = Limits { lease: Duration::from_secs(2), ..limits() };
    let mut catalog = rig.catalog();
    catalog["tools"][1]["timeout_ms"] = json!(60_000);
    let context = rig.fleet_of(catalog, limits, None).await;
    rig.send(idempotent("c1").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hold = rig.mcp.hold();
    let running = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    assert!(rig.row("c1").await.is_none());
    let row = loop {
        match rig.row("c1").await {
            Some(row) => break row,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!((row.state, row.fence), (State::Claimed, 1));
    assert!(row.may_have_executed);
    drop(hold);
    running.await.unwrap();
    assert_eq!(assert_settled(&rig, "c1", "a late claim").await, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.executions_of("c1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_heartbeat_sees_a_cancellation() {
    let rig = Rig::new().await;
    let limits = Limits { lease: Duration::from_secs(2), ..limits() };
    let mut catalog = rig.catalog();
    catalog["tools"][1]["timeout_ms"] = json!(60_000);
    let context = rig.fleet_of(catalog, limits, None).await;
    rig.mcp.next(MockFault::ExecuteAndNeverAnswer);
    rig.send(idempotent("c1").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let running = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    cancel(&rig, "c1").await;
    running.await.unwrap();
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::Cancelled, Some(MayHaveRun::Unknown)));
    assert_eq!(assert_settled(&rig, "c1", "cancelled while it ran").await, OutcomeKind::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_executions_the_second_stores_nothing() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    rig.send(idempotent("c1").to_string()).await;
    rig.send(idempotent("c1").to_string()).await;
    let hold = rig.mcp.hold();
    let mut running = Vec::new();
    for n in 1..=2 {
        let delivery = rig.receive(&context).await.unwrap();
        running.push(tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ())));
        rig.mcp.arrived("tools/call", n).await;
    }
    drop(hold);
    for run in running {
        run.await.unwrap();
    }
    assert_eq!(assert_settled(&rig, "c1", "two executions").await, OutcomeKind::Succeeded);
    assert_eq!((rig.row("c1").await.unwrap().rev, rig.mcp.executions_of("c1")), (1, 2));
    assert!(rig.audit_of("c1", AuditKind::LateAnswer).await.is_empty());
}

/// The end of a call whose first message is executed and whose second message a worker of that catalog ends at its first receive.
async fn end_by_second_message(rig: &Rig, catalog: Value, refused_by_server: bool) -> Seen {
    let first = rig.context(None).await;
    let second = rig.fleet_of(catalog, limits(), None).await;
    for _ in 0..2 {
        rig.send(idempotent("c1").to_string()).await;
    }
    rig.mcp.next(MockFault::ExecuteAndNeverAnswer);
    let delivery = rig.receive(&first).await.unwrap();
    let running = tokio::spawn(pipeline::run(first, delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    if refused_by_server {
        let (message, data) = ("no such argument".to_owned(), Value::Null);
        rig.mcp.next(MockFault::Rpc { status: 200, code: -32_602, message, data, with_id: true });
    }
    let delivery = rig.receive(&second).await.unwrap();
    assert_eq!(delivery.receive_count, 1);
    pipeline::run(second, delivery, ()).await;
    running.abort();
    assert_eq!(rig.mcp.executions_of("c1"), 1);
    rig.outcome("c1").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_message_never_denies_that_the_first_ran() {
    let rig = Rig::new().await;
    let seen = end_by_second_message(&rig, rig.catalog(), true).await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::Failed, Some(MayHaveRun::Unknown)), "{seen:?}");
    rig.settle().await;
    assert_eq!(assert_settled(&rig, "c1", "failed by its server").await, OutcomeKind::Failed);
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["tools"][1]["access"] = json!([{"user_roles": ["admin"]}]);
    let seen = end_by_second_message(&rig, catalog, false).await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::Refused, Some(MayHaveRun::Unknown)), "{seen:?}");
    rig.settle().await;
    assert_eq!(assert_settled(&rig, "c1", "refused by a catalog").await, OutcomeKind::Refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_question_under_a_known_id_says_that_it_may_have_run() {
    let rig = Rig::new().await;
    assert_eq!(writes(&rig, &idempotent("c1")).await, 1);
    let mut other = idempotent("c1");
    other["arguments"] = json!({"call": "other"});
    rig.send(other.to_string()).await;
    rig.settle().await;
    let records = rig.audit_of("c1", AuditKind::IdempotencyMismatch).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].may_have_run, Some(MayHaveRun::Unknown));
    assert_eq!((rig.mcp.executions_of("other"), rig.row("c1").await.unwrap().rev), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_another_execution_made_useless_is_cancelled() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    let task = |id: &str| json!({"resultType": "task", "taskId": id, "status": "working", "ttlMs": null, "pollIntervalMs": 5_000});
    rig.mcp.tool("unsafe", move |_| task("t1"));
    rig.mcp.task("t1", &[json!({"status": "working", "pollIntervalMs": 5_000})]);
    rig.send(idempotent("c1").to_string()).await;
    rig.send(idempotent("c1").to_string()).await;
    rig.deliver(&context).await;
    let row = rig.row("c1").await.unwrap();
    assert_eq!((row.state, row.fence, row.rev), (State::WaitingTask, 1, 1));
    assert!(rig.mcp.requests_of("tasks/cancel").is_empty());
    rig.deliver(&context).await;
    assert_eq!(rig.mcp.requests_of("tasks/cancel").len(), 1);
    assert_eq!(rig.row("c1").await.unwrap(), row);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_goes_back_to_the_queue_has_a_row_from_then_on() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    rig.mcp.next(MockFault::ExecuteAndNeverAnswer);
    rig.send(idempotent("c1").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let running = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    context.shutdown.begin(Duration::ZERO);
    running.await.unwrap();
    let row = rig.row("c1").await.unwrap();
    assert_eq!((row.state, row.may_have_executed, row.attempts), (State::Released, true, 1));
    rig.settle().await;
    assert_eq!(assert_settled(&rig, "c1", "given back").await, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_row_an_expiry_says_that_the_call_may_have_run() {
    let rig = Rig::new().await;
    let mut body = idempotent("c1");
    body["timeout_ms"] = json!(1_000);
    rig.send(body.to_string()).await;
    rig.crash_after(Step::Executed).await;
    assert!(rig.row("c1").await.is_none());
    rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
    rig.settle().await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::TimedOut, Some(MayHaveRun::Unknown)));
    assert_eq!(assert_settled(&rig, "c1", "expired").await, OutcomeKind::TimedOut);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_row_a_cancelled_call_may_have_run() {
    let rig = Rig::new().await;
    rig.send(idempotent("c1").to_string()).await;
    rig.crash_after(Step::Executed).await;
    cancel(&rig, "c1").await;
    rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
    rig.settle().await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::Cancelled, Some(MayHaveRun::Unknown)));
    assert_eq!(rig.mcp.executions_of("c1"), 1);
}
