//! Shutdown of a worker: unstarted calls are requeued at once, running ones finish or are requeued, a panic affects no other call.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::steps::{Step, Watch};
use toolfleet_worker::services::intake::Intake;

use crate::rig::{Rig, request, run_service};

/// Holds every call at one step until it is told to go on.
struct Gate {
    at: Step,
    arrived: Notify,
    open: Notify,
}

impl Gate {
    fn at(step: Step) -> Arc<Self> {
        Arc::new(Self { at: step, arrived: Notify::new(), open: Notify::new() })
    }
}

impl Watch for Gate {
    fn passed(&self, step: Step) -> BoxFuture<'_, ()> {
        async move {
            if step == self.at {
                self.arrived.notify_one();
                self.open.notified().await;
            }
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unclaimed_call_is_requeued_when_the_worker_stops() {
    let rig = Rig::new().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    let gate = Gate::at(Step::Prepared);
    let context = rig.fleet_direct(Some(gate.clone())).await;
    let worker = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
    gate.arrived.notified().await;
    context.shutdown.begin(Duration::from_secs(60));
    gate.open.notify_one();
    worker.await.unwrap();
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (1, 0), "visible for the next worker, at once");
    assert!(rig.row("c1").await.is_none());
    rig.settle().await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_finished_before_the_worker_leaves() {
    let rig = Rig::new().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    let context = rig.fleet_direct(None).await;
    let hold = rig.mcp.hold();
    let worker = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
    rig.mcp.arrived("tools/call", 1).await;
    context.shutdown.begin(Duration::from_secs(60));
    drop(hold);
    worker.await.unwrap();
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.queue().depth().await.unwrap().in_flight, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_outlasts_the_drain_is_requeued_only_if_safe() {
    for (tool, kind, executions) in
        [("safe", OutcomeKind::Succeeded, 1), ("unsafe", OutcomeKind::OutcomeUnknown, 0)]
    {
        let rig = Rig::new().await;
        rig.send(request("c1", tool).to_string()).await;
        let context = rig.fleet_direct(None).await;
        let hold = rig.mcp.hold();
        let worker = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
        rig.mcp.arrived("tools/call", 1).await;
        context.shutdown.begin(Duration::ZERO);
        worker.await.unwrap();
        // The server saw its caller hang up and never ran the tool; the worker cannot know that.
        rig.mcp.hung_up(1).await;
        drop(hold);
        if tool == "safe" {
            assert_eq!(rig.queue().depth().await.unwrap().visible, 1, "visible for the next worker, at once");
        }
        rig.settle().await;
        let seen = rig.outcome("c1").await;
        assert_eq!((seen.kind, rig.mcp.executions_of("c1")), (kind, executions), "{tool}: {}", seen.message);
    }
}

/// Panics in the middle of the first call that comes by.
struct Defect(std::sync::atomic::AtomicBool, Notify);

impl Watch for Defect {
    fn passed(&self, step: Step) -> BoxFuture<'_, ()> {
        async move {
            if step == Step::Prepared && !self.0.swap(true, std::sync::atomic::Ordering::SeqCst) {
                panic!("a defect, made for this test");
            }
            if step == Step::Acknowledged {
                self.1.notify_one();
            }
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_one_call_affects_no_other_and_is_redelivered() {
    let rig = Rig::new().await;
    let defect = Arc::new(Defect(std::sync::atomic::AtomicBool::new(false), Notify::new()));
    let context = rig.context(Some(defect.clone())).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.send(request("c2", "unsafe").to_string()).await;
    let worker = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
    defect.1.notified().await;
    context.shutdown.begin(Duration::from_secs(5));
    worker.await.unwrap();
    rig.settle().await;
    for id in ["c1", "c2"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded, "{id}");
        assert_eq!(rig.mcp.executions_of(id), 1, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_calls_runs_each_once_with_batched_writes() {
    let rig = Rig::new().await;
    const CALLS: usize = 150;
    let queue = rig.queue();
    let sends = (0..CALLS).map(|n| {
        let (queue, body) = (queue.clone(), request(&format!("c{n}"), "unsafe").to_string());
        async move { queue.send(toolfleet_aws::queue::Outgoing { body, ..Default::default() }).await }
    });
    for sent in futures::future::join_all(sends).await {
        sent.unwrap();
    }
    rig.work_off(CALLS).await;
    for n in 0..CALLS {
        let id = format!("c{n}");
        assert_eq!(rig.outcome(&id).await.kind, OutcomeKind::Succeeded, "{id}");
        assert_eq!(rig.mcp.executions_of(&id), 1, "{id}");
    }
    assert_eq!(rig.audit(&toolfleet_core::ids::Tenant::parse("acme").unwrap()).await.len(), CALLS);
    let requests = rig.dynamodb.count("BatchExecuteStatement");
    assert!(requests < CALLS * 3, "{requests} requests for {} writes", CALLS * 3);
    assert!(rig.sqs.count("DeleteMessageBatch") < CALLS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_past_its_deadline_holds_no_slot() {
    let rig = Rig::new().await;
    rig.mcp.next(toolfleet_testkit::MockFault::ExecuteAndNeverAnswer);
    let mut body = request("c1", "unsafe");
    body["timeout_ms"] = serde_json::json!(300);
    rig.send(body.to_string()).await;
    let context = rig.context(None).await;
    let delivery = rig.receive(&context).await.unwrap();
    pipeline::run(context, delivery, ()).await;
    let seen = rig.outcome("c1").await;
    assert_eq!(
        (seen.kind, seen.code),
        (OutcomeKind::TimedOut, Some("deadline_exceeded")),
        "{}",
        seen.message
    );
}
