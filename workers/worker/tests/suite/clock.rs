//! A worker whose clock is known to be wrong: it takes nothing, ends nothing, and goes on when the clock is right again.

use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;
use toolfleet_aws::queue::Outgoing;
use toolfleet_aws::{Clock, Tables};
use toolfleet_core::call::State;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline::{self, Reaped};
use toolfleet_worker::service_health::ServiceHealth;
use toolfleet_worker::services::control::ControlReader;
use toolfleet_worker::services::http::{self, HttpEndpoint};
use toolfleet_worker::services::intake::Intake;
use toolfleet_worker::services::reporter::Reporter;

use crate::crashes::assert_settled;
use crate::rig::{CountAcknowledged, LEASE_MS, Rig, SKEW_MS, request, run_service};
use crate::telemetry::get;

/// The date of every answer, long ago: the machine's clock is years ahead of it.
const LONG_AGO: &str = "Fri, 20 Nov 2015 12:00:00 GMT";

/// DynamoDB's last two answers say that the worker's clock is far ahead.
fn clock_is_off(context: &WorkerContext) {
    for _ in 0..2 {
        context.fleet.server_time().learn(Clock::System.now(), Clock::System.now(), LONG_AGO);
    }
    assert!(context.clock_is_off());
}

/// Requests to DynamoDB, whose answers have the date of this machine.
async fn learn_the_time(context: &WorkerContext) {
    for _ in 0..2 {
        context.fleet.worker_rows().await.unwrap();
    }
    assert!(!context.clock_is_off());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_clock_is_off_takes_and_ends_nothing() {
    let rig = Rig::new().await;
    let right = rig.context(None).await;
    let hold = rig.mcp.hold();
    rig.send(request("c1", "unsafe").to_string()).await;
    let delivery = rig.receive(&right).await.unwrap();
    let running = tokio::spawn(pipeline::run(Arc::clone(&right), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    let claimed = rig.row("c1").await.unwrap();

    // By the wrong clock the lease is over, and the deadline of another call.
    let wrong = rig.context(None).await;
    clock_is_off(&wrong);
    let mut short = request("c2", "safe");
    short["timeout_ms"] = json!(1_000);
    rig.send(short.to_string()).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
    while let Some(delivery) = rig.receive(&wrong).await {
        pipeline::run(Arc::clone(&wrong), delivery, ()).await;
    }
    let seen = rig.row("c1").await.unwrap();
    assert_eq!((seen.state, seen.fence), (State::Claimed, claimed.fence), "not taken over");
    assert!(rig.row("c2").await.is_none(), "not ended");
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!(depth.visible + depth.in_flight + depth.delayed, 3, "given back");

    drop(hold);
    running.await.unwrap();
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    // Once the clock is right, the same worker ends what is due.
    learn_the_time(&wrong).await;
    rig.settle_with(&wrong).await;
    assert_settled(&rig, "c1", "clock").await;
    assert_eq!(rig.row("c2").await.unwrap().state, State::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_clock_is_off_ends_no_dead_letter() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    let dead = context.dead_letters.clone().unwrap();
    let body = request("c1", "safe").to_string();
    dead.queue.send(Outgoing { body, ..Outgoing::default() }).await.unwrap();
    clock_is_off(&context);
    let delivery = dead.queue.receive(1, 0, 60).await.unwrap().remove(0);
    let reaped = pipeline::reap(Arc::clone(&context), Arc::clone(&dead), delivery).await;
    assert!(matches!(reaped, Reaped::NotDue { .. }), "{reaped:?}");
    assert!(rig.row("c1").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_on_by_itself_when_its_clock_is_right_again() {
    let rig = Rig::new().await;
    let gone = Arc::new(CountAcknowledged::default());
    let context = rig.context(Some(gone.clone())).await;
    clock_is_off(&context);
    Reporter::new(context.clone()).beat().await;
    let fleet = rig.direct.fleet(&Tables::with_prefix("toolfleet"));
    assert!(fleet.worker_rows().await.unwrap().remove(0).not_receiving);

    // The answer to that write had the right time.
    clock_is_off(&context);
    rig.send(request("c1", "safe").to_string()).await;
    let intake = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = http::routes(context.clone(), ServiceHealth::default(), None);
    let endpoint = HttpEndpoint::new(listener, routes).unwrap();
    let endpoint = tokio::spawn(run_service(endpoint, context.shutdown.clone()));
    let (status, text) = get(address, "/health/ready").await;
    assert!(status == 503 && text.contains("clock"), "{text}");
    assert_eq!(get(address, "/health/live").await.0, 200);
    assert!(!context.is_receiving() && rig.row("c1").await.is_none());
    assert_eq!(rig.sqs.count("ReceiveMessage"), 0);

    // What reads the control entries goes on, and learns the time.
    let control = tokio::spawn(run_service(ControlReader::new(context.clone()), context.shutdown.clone()));
    gone.reached(1).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert_eq!(get(address, "/health/ready").await.0, 200);
    // It reads until the process exits.
    control.abort();
    context.shutdown.end();
    for service in [intake, endpoint] {
        service.await.unwrap();
    }
}
