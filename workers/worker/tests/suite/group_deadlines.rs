//! Groups whose timer or cancellation waits behind a backlog: the deadline and the cancellation hold all the same.

use std::sync::Arc;

use serde_json::{Value, json};
use toolfleet_aws::Tables;
use toolfleet_aws::queue::Delivery;
use toolfleet_core::group::GroupResult;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_core::time::Timestamp;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline::steps::Step;

use crate::groups::{after, assert_decided, key, member, notices, row, send};
use crate::rig::{LEASE_MS, Rig, SKEW_MS, limits};

const DEADLINE_MS: u64 = 120_000;

/// A member of a group with that deadline.
fn due_member(rig: &Rig, id: &str, place: (u32, u32), deadline: Timestamp) -> Value {
    let mut body = member(rig, id, "unsafe", place, json!("all"));
    body["group"]["deadline"] = json!(deadline);
    body
}

/// Receives the message of a group, and leaves it to wait.
async fn set_aside(rig: &Rig, context: &WorkerContext, word: &str) {
    let delivery = rig.receive(context).await.expect("the group's message");
    assert!(delivery.body.contains(word), "{}", delivery.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_received_after_the_deadline_decides_its_group_and_does_not_start() {
    for step in [None, Some(Step::GroupDecided), Some(Step::GroupNotified)] {
        let rig = Rig::new().await;
        let context = rig.context(None).await;
        let deadline = after(&rig, DEADLINE_MS);
        send(&rig, &due_member(&rig, "a", (0, 3), deadline)).await;
        rig.deliver(&context).await;
        rig.clock.advance_ms(DEADLINE_MS);
        set_aside(&rig, &context, "timer").await;
        send(&rig, &due_member(&rig, "b", (1, 3), deadline)).await;
        match step {
            None => rig.deliver(&context).await,
            Some(step) => rig.crash_after(step).await,
        }
        let decision = row(&rig).await.decision.expect("decided before its timer is handled");
        assert_eq!((decision.result, decision.at), (GroupResult::Incomplete, deadline));
        rig.clock.advance_ms(LEASE_MS + SKEW_MS);
        rig.settle().await;
        let late = rig.outcome("b").await;
        assert_eq!((late.code, late.may_have_run), (Some("group_decided"), Some(MayHaveRun::No)));
        assert_eq!(rig.mcp.executions("unsafe"), 1);
        assert_decided(&rig, GroupResult::Incomplete, (1, 0), &format!("{step:?}")).await;
    }
}

/// A running member of a group with a deadline, which has reached its server.
async fn running(rig: &Rig, context: &Arc<WorkerContext>, size: u32) -> tokio::task::JoinHandle<()> {
    send(rig, &due_member(rig, "a", (0, size), after(rig, DEADLINE_MS))).await;
    let delivery: Delivery = rig.receive(context).await.unwrap();
    let running = tokio::spawn(toolfleet_worker::pipeline::run(context.clone(), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    running
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_runs_decides_its_group_at_the_deadline() {
    let rig = Rig::new().await;
    let limits = toolfleet_worker::Limits { lease: std::time::Duration::from_secs(3), ..limits() };
    let context = rig.fleet_of(rig.catalog(), limits, None).await;
    let hold = rig.mcp.hold();
    let running = running(&rig, &context, 2).await;
    rig.clock.advance_ms(DEADLINE_MS);
    running.await.unwrap();
    drop(hold);
    let seen = rig.outcome("a").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Cancelled, Some("group_decided")));
    assert_eq!(seen.may_have_run, Some(MayHaveRun::Unknown));
    assert_decided(&rig, GroupResult::Incomplete, (0, 0), "at a heartbeat").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_ends_after_the_deadline_is_counted_and_its_group_decided() {
    for (size, result) in [(1, GroupResult::Succeeded), (2, GroupResult::Incomplete)] {
        let rig = Rig::new().await;
        let context = rig.context(None).await;
        let hold = rig.mcp.hold();
        let running = running(&rig, &context, size).await;
        rig.clock.advance_ms(DEADLINE_MS);
        drop(hold);
        running.await.unwrap();
        assert_eq!(rig.outcome("a").await.kind, OutcomeKind::Succeeded);
        assert_decided(&rig, result, (1, 0), &format!("{size}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_groups_own_messages_go_to_the_queue_of_urgent_calls() {
    let rig = Rig { priorities: true, ..Rig::new().await };
    let (high, low) =
        (rig.local.queue_url("toolfleet-calls-high"), rig.local.queue_url("toolfleet-calls-low"));
    send(&rig, &due_member(&rig, "a", (0, 2), after(&rig, DEADLINE_MS))).await;
    rig.deliver(&rig.context(None).await).await;
    let urgent = rig.direct.queue(high.clone());
    assert_eq!((urgent.depth().await.unwrap().delayed, rig.queue().depth().await.unwrap().delayed), (1, 0));
    client(&rig).with_priority_queues(Some(&high), Some(&low)).cancel_group(&key("acme")).await.unwrap();
    assert_eq!((urgent.depth().await.unwrap().visible, rig.queue().depth().await.unwrap().visible), (1, 0));
}

fn client(rig: &Rig) -> toolfleet_client::Client {
    let clock = rig.clock.clone();
    let now = move || Timestamp::from_ms(i64::try_from(clock.now_ms()).unwrap());
    let (tables, queue) = (Tables::with_prefix("toolfleet"), rig.local.queue_url("toolfleet-calls"));
    toolfleet_client::Client::new(&rig.direct, queue, &tables, Arc::new(now))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_binds_before_its_message_is_received() {
    for is_known in [false, true] {
        let rig = Rig::new().await;
        let context = rig.context(None).await;
        if is_known {
            send(&rig, &member(&rig, "a", "unsafe", (0, 3), json!("all"))).await;
            rig.deliver(&context).await;
        }
        let cancelled = client(&rig).cancel_group(&key("acme")).await.unwrap();
        assert!(cancelled.not_stored.is_none(), "{cancelled:?}");
        set_aside(&rig, &context, "cancel").await;
        send(&rig, &member(&rig, "b", "unsafe", (1, 3), json!("all"))).await;
        rig.deliver(&context).await;
        let late = rig.outcome("b").await;
        assert_eq!((late.code, late.may_have_run), (Some("group_decided"), Some(MayHaveRun::No)));
        // The message owes the notice of what the client has decided.
        assert_eq!(notices(&rig).await.is_empty(), is_known);
        rig.clock.advance_ms(LEASE_MS + SKEW_MS);
        rig.settle().await;
        assert_eq!(notices(&rig).await.is_empty(), !is_known);
        let counts = row(&rig).await.decision.map(|decision| (decision.result, decision.succeeded));
        assert_eq!(counts, Some((GroupResult::Cancelled, u32::from(is_known))));
        assert_eq!(rig.mcp.executions("unsafe"), u64::from(is_known));
    }
}
