//! FIFO queues: one message of a group at a time, in the order in which they were sent.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::MockFault;
use toolfleet_worker::services::intake::Intake;

use crate::rig::{CountAcknowledged, Rig, limits, request, run_service};

async fn rig() -> Rig {
    let rig = Rig { queue_name: "calls.fifo", ..Rig::new().await };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({"QueueName": "calls.fifo", "Attributes": {"FifoQueue": "true"}});
    let create = client.post(rig.local.sqs_url()).header("x-amz-target", "AmazonSQS.CreateQueue");
    let create = create.header("content-type", "application/x-amz-json-1.0").body(body.to_string());
    assert!(create.send().await.unwrap().status().is_success());
    rig
}

/// The calls in the order in which the server saw them.
fn seen(rig: &Rig) -> Vec<String> {
    let call = |body: &Value| body.pointer("/params/arguments/call")?.as_str().map(str::to_owned);
    rig.mcp.requests_of("tools/call").iter().filter_map(|request| call(&request.body)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_groups_next_call_starts_when_the_former_is_acknowledged() {
    let rig = rig().await;
    for id in ["c1", "c2", "c3"] {
        rig.send(request(id, "unsafe").to_string()).await;
    }
    let gone = Arc::new(CountAcknowledged::default());
    let context = rig.fleet_of(rig.catalog(), limits(), Some(gone.clone())).await;
    let hold = rig.mcp.hold();
    let worker = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
    rig.mcp.arrived("tools/call", 1).await;
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (2, 1), "the others stay in the queue");
    drop(hold);
    gone.reached(3).await;
    context.shutdown.begin(Duration::from_secs(5));
    worker.await.unwrap();
    assert_eq!(seen(&rig), ["c1", "c2", "c3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_keeps_its_place_in_the_group() {
    let rig = rig().await;
    let context = rig.fleet_of(rig.catalog(), limits(), None).await;
    for id in ["c1", "c2"] {
        rig.send(request(id, "unsafe").to_string()).await;
    }
    // Longer than a message of a standard queue would stay hidden.
    rig.mcp.next(MockFault::status_with(429, "retry-after", "300"));
    rig.deliver(&context).await;
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.in_flight, depth.delayed), (1, 0), "it is not sent anew");
    assert!(rig.receive(&context).await.is_none(), "and no message overtakes it");
    rig.clock.advance_ms(301_000);
    rig.deliver(&context).await;
    rig.deliver(&context).await;
    assert_eq!(seen(&rig), ["c1", "c1", "c2"]);
    for id in ["c1", "c2"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frequent_short_waits_do_not_dead_letter_a_message_early() {
    let rig = rig().await;
    let context = rig.fleet_of(rig.catalog(), limits(), None).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.mcp.always_for("tools/call", MockFault::status_with(429, "retry-after", "1"));
    let mut receives = 0;
    for _ in 0..900 {
        if let Some(delivery) = rig.receive(&context).await {
            receives += 1;
            toolfleet_worker::pipeline::run(context.clone(), delivery, ()).await;
        }
        rig.clock.advance_ms(1_000);
    }
    assert!(receives < 8, "{receives} receives in a quarter of an hour");
}
