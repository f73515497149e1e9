//! The queues of high and low priority: what happens to a message happens in the queue that it came from.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use toolfleet_aws::queue::{Depth, Outgoing, Queue};
use toolfleet_core::control::{Control, ControlEntry, Switch, SwitchTarget};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::Priority;
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::MockFault;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;
use toolfleet_worker::services::intake::Intake;

use crate::rig::{CountAcknowledged, LEASE_MS, Rig, limits, request, run_service};

async fn rig() -> Rig {
    Rig { priorities: true, ..Rig::new().await }
}

fn queue(rig: &Rig, name: &str) -> Queue {
    rig.direct.queue(rig.local.queue_url(name))
}

async fn send(rig: &Rig, name: &str, body: String) {
    let message = Outgoing { body, group: Some("acme".into()), ..Outgoing::default() };
    queue(rig, name).send(message).await.unwrap();
}

async fn deliver(context: &Arc<WorkerContext>, priority: Priority) {
    let queue = context.queues.of(priority).unwrap();
    let delivery = queue.receive(1, 0, 30).await.unwrap().remove(0);
    pipeline::run(context.clone(), delivery, ()).await;
}

async fn depth(rig: &Rig, name: &str) -> (u64, u64, u64) {
    let Depth { visible, in_flight, delayed } = queue(rig, name).depth().await.unwrap();
    (visible, in_flight, delayed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_hidden_parked_and_deleted_in_the_queue_it_came_from() {
    for (priority, name) in [(Priority::High, "toolfleet-calls-high"), (Priority::Low, "toolfleet-calls-low")]
    {
        let rig = rig().await;
        let context = rig.context(None).await;
        rig.mcp.next(MockFault::status_with(429, "retry-after", "5"));
        rig.mcp.next(MockFault::status_with(429, "retry-after", "300"));
        send(&rig, name, request("c1", "safe").to_string()).await;
        deliver(&context, priority).await;
        assert_eq!(depth(&rig, name).await, (0, 1, 0), "hidden");
        rig.clock.advance_ms(LEASE_MS);
        deliver(&context, priority).await;
        assert_eq!(depth(&rig, name).await, (0, 0, 1), "parked");
        rig.clock.advance_ms(300_000);
        deliver(&context, priority).await;
        assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
        for other in ["toolfleet-calls", "toolfleet-calls-high", "toolfleet-calls-low"] {
            assert_eq!(depth(&rig, other).await, (0, 0, 0), "{other}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_message_of_any_queue_goes_to_the_dead_letter_queue() {
    let rig = rig().await;
    let context = rig.context(None).await;
    send(&rig, "toolfleet-calls-low", "not json".into()).await;
    deliver(&context, Priority::Low).await;
    assert_eq!(depth(&rig, "toolfleet-calls-low").await, (0, 0, 0));
    assert_eq!(depth(&rig, "toolfleet-calls-dlq").await, (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_priority_without_a_queue_is_refused_and_names_the_setting() {
    let urgent = |id: &str, priority: &str| {
        let mut body = request(id, "safe");
        body["priority"] = json!(priority);
        body.to_string()
    };
    let mut without = Rig::new().await;
    for (id, priority) in [("c1", "high"), ("c2", "low")] {
        without.send(urgent(id, priority)).await;
        without.settle().await;
        let seen = without.outcome(id).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some("unsupported")));
        let variable = format!("TOOLFLEET_QUEUE_URL_{}", priority.to_uppercase());
        assert!(seen.message.contains(&variable), "{}", seen.message);
    }
    // A worker that reads such a queue accepts the field in a message of any queue.
    without.priorities = true;
    without.send(urgent("c3", "high")).await;
    without.settle().await;
    assert_eq!(without.outcome("c3").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_reads_all_of_its_queues() {
    let rig = rig().await;
    let gone = Arc::new(CountAcknowledged::default());
    let context = rig.fleet_of(rig.catalog(), limits(), Some(gone.clone())).await;
    let worker = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
    for n in 0..4 {
        for name in ["toolfleet-calls", "toolfleet-calls-high", "toolfleet-calls-low"] {
            send(&rig, name, request(&format!("{name}-{n}"), "safe").to_string()).await;
        }
    }
    gone.reached(12).await;
    context.shutdown.begin(Duration::from_secs(5));
    worker.await.unwrap();
    assert_eq!(rig.mcp.executions("safe"), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_queue_is_not_received_and_the_others_are() {
    let rig = rig().await;
    let gone = Arc::new(CountAcknowledged::default());
    let context = rig.fleet_of(rig.catalog(), limits(), Some(gone.clone())).await;
    let since = Timestamp::from_ms(0);
    let (target, by, why) = (SwitchTarget::Queue("low".into()), "ann".into(), "a test".into());
    let pause = Switch { target, tenant: None, by, why, since, until: None };
    context.gate.control().take(Control::new(1, [ControlEntry::Pause(pause)], since));
    send(&rig, "toolfleet-calls-low", request("low", "safe").to_string()).await;
    send(&rig, "toolfleet-calls", request("normal", "safe").to_string()).await;
    let worker = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
    gone.reached(1).await;
    context.shutdown.begin(Duration::from_secs(5));
    worker.await.unwrap();
    assert_eq!(rig.outcome("normal").await.kind, OutcomeKind::Succeeded);
    assert_eq!(depth(&rig, "toolfleet-calls-low").await, (1, 0, 0));
}
