//! The permit of a task whose worker dies between the server's answer, the task's row and the poll.

use serde_json::json;
use toolfleet_core::call::State;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::steps::Step;

use crate::limits::{permits, worker};
use crate::permits::{done, of_one_task, send_a_task};
use crate::rig::{CrashAfter, LEASE_MS, Rig, SKEW_MS, limits, request};

/// A server of one open request, tasks included, and a call `c1` whose worker dies after that step, when it has become a task.
async fn dies_after(step: Step) -> Rig {
    let rig = Rig::new().await;
    send_a_task(&rig, &[json!({ "status": "working", "pollIntervalMs": 5_000 }), done()]).await;
    dies(&rig, step).await;
    rig
}

async fn dies(rig: &Rig, step: Step) {
    let crash = CrashAfter::new(step);
    let context = rig.fleet_of(of_one_task(rig), limits(), Some(crash.clone())).await;
    let delivery = rig.receive(&context).await.unwrap();
    tokio::select! {
        () = pipeline::run(context, delivery, ()) => panic!("the call passed by {step:?}"),
        () = crash.reached.notified() => {}
    }
}

/// Other calls would wait for it until the deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permit_of_a_task_that_was_not_stored_ends_like_that_of_a_lost_request() {
    let rig = dies_after(Step::Executed).await;
    assert_eq!(permits(&rig).await.entries.len(), 1, "the server works on the task");
    rig.send(request("other", "safe").to_string()).await;
    let context = worker(&rig, &of_one_task(&rig)).await;
    rig.deliver(&context).await;
    assert_eq!(rig.mcp.executions_of("other"), 0);
    rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
    while let Some(delivery) = rig.receive(&context).await {
        pipeline::run(context.clone(), delivery, ()).await;
    }
    assert_eq!(rig.mcp.executions_of("other"), 1);
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::OutcomeUnknown);
    while !permits(&rig).await.entries.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permit_of_a_stored_task_is_kept_by_the_next_delivery() {
    let rig = dies_after(Step::TaskStored).await;
    let deadline = rig.row("c1").await.unwrap().deadline.unwrap();
    let until: Vec<_> = permits(&rig).await.entries.into_values().collect();
    assert!(until.len() == 1 && until < vec![deadline], "{until:?}");
    rig.clock.advance_ms(LEASE_MS + 1);
    let context = worker(&rig, &of_one_task(&rig)).await;
    rig.deliver(&context).await;
    assert_eq!(rig.row("c1").await.unwrap().state, State::WaitingTask);
    let until: Vec<_> = permits(&rig).await.entries.into_values().collect();
    assert_eq!(until, [deadline]);
    rig.send(request("other", "safe").to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.mcp.executions_of("other"), 0, "the server works on the task");
    rig.settle_with(&context).await;
    for id in ["c1", "other"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded, "{id}");
    }
    while !permits(&rig).await.entries.is_empty() {
        tokio::task::yield_now().await;
    }
}

/// Once the end is stored, nobody looks at the task again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permit_of_a_task_is_free_before_its_end_is_stored() {
    let rig = Rig::new().await;
    send_a_task(&rig, &[done()]).await;
    rig.deliver(&worker(&rig, &of_one_task(&rig)).await).await;
    assert_eq!(permits(&rig).await.entries.len(), 1);
    rig.clock.advance_ms(5_000);
    dies(&rig, Step::Executed).await;
    assert!(rig.row("c1").await.unwrap().finished.is_none());
    assert!(permits(&rig).await.entries.is_empty());
}
