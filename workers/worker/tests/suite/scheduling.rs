//! Calls with `not_before`: they start when they are due, and wait in the queue until then.

use serde_json::{Value, json};
use toolfleet_aws::queue::Depth;
use toolfleet_core::audit::AuditKind;
use toolfleet_core::call::{HeldReason, State};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::time::Timestamp;
use toolfleet_worker::pipeline::steps::Step;

use crate::rig::{Rig, START_MS, request};

const HOUR_MS: u64 = 3_600_000;

fn at(after_ms: u64) -> Timestamp {
    Timestamp::from_ms(i64::try_from(START_MS + after_ms).unwrap())
}

fn due(id: &str, after_ms: u64) -> Value {
    let mut body = request(id, "unsafe");
    body["not_before"] = json!(at(after_ms));
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_starts_when_it_is_due_however_often_it_was_sent_on() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    rig.send(due("c1", 2 * HOUR_MS).to_string()).await;
    // Seven hops of fifteen minutes, and one receive too early in between: more than the receives of the template.
    for _ in 0..8 {
        rig.deliver(&context).await;
        let row = rig.row("c1").await.unwrap();
        let held = row.held().unwrap();
        assert_eq!((row.state, held.reason), (State::Pending, HeldReason::NotBefore));
        assert_eq!((held.next_try_at, held.since), (at(2 * HOUR_MS), at(0)), "the row says when");
        assert_eq!(rig.queue().depth().await.unwrap(), Depth { visible: 0, in_flight: 0, delayed: 1 });
        rig.clock.advance_ms(900_000);
    }
    assert_eq!(rig.mcp.executions("unsafe"), 0);
    let delivery = rig.receive(&context).await.unwrap();
    assert_eq!(delivery.receive_count, 1, "each hop is a new message");
    toolfleet_worker::pipeline::run(context.clone(), delivery, ()).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 1));
    assert_eq!(rig.mcp.executions("unsafe"), 1);
    assert!(rig.audit_of("c1", AuditKind::Duplicate).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_of_a_hop_starts_nothing_early_and_loses_nothing() {
    for step in [Step::Decoded, Step::Admitted, Step::Reposted] {
        let rig = Rig::new().await;
        rig.send(due("c1", HOUR_MS / 2).to_string()).await;
        rig.crash_after(step).await;
        let context = rig.context(None).await;
        for _ in 0..40 {
            while let Some(delivery) = rig.receive(&context).await {
                toolfleet_worker::pipeline::run(context.clone(), delivery, ()).await;
            }
            let early = rig.clock.now_ms() < START_MS + HOUR_MS / 2;
            assert!(!early || rig.mcp.executions("unsafe") == 0, "{step:?}: started early");
            rig.clock.advance_ms(60_000);
        }
        rig.settle_with(&context).await;
        assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded, "{step:?}");
        assert_eq!(rig.mcp.executions("unsafe"), 1, "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_deadline_counts_from_not_before() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    // Later than the hour that a call has by default.
    rig.send(due("c1", HOUR_MS + 600_000).to_string()).await;
    let mut limited = due("c2", HOUR_MS + 600_000);
    limited["timeout_ms"] = json!(60_000);
    rig.send(limited.to_string()).await;
    for _ in 0..6 {
        while let Some(delivery) = rig.receive(&context).await {
            toolfleet_worker::pipeline::run(context.clone(), delivery, ()).await;
        }
        rig.clock.advance_ms(840_000);
    }
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.outcome("c2").await.code, None, "its minute began at not_before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_no_call_can_reach_is_refused() {
    let rig = Rig::new().await;
    let mut late = due("c1", 60_000);
    late["deadline"] = json!(at(60_000));
    rig.send(late.to_string()).await;
    rig.send(due("c2", 15 * 24 * HOUR_MS).to_string()).await;
    rig.settle().await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some("undecodable")));
    assert!(seen.message.contains("not_before") && seen.message.contains("deadline"), "{}", seen.message);
    let seen = rig.outcome("c2").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some("unsupported")));
    assert!(seen.message.starts_with("not_before: ") && seen.message.contains("14 days"), "{}", seen.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_before_is_no_part_of_the_question() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    rig.send(due("c1", HOUR_MS).to_string()).await;
    rig.deliver(&context).await;
    // The same call without a wait: the message that is due first runs it.
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    rig.clock.advance_ms(900_000);
    rig.settle_with(&context).await;
    assert_eq!(rig.mcp.executions("unsafe"), 1);
    assert!(rig.audit_of("c1", AuditKind::IdempotencyMismatch).await.is_empty());
}
