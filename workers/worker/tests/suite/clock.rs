//! A worker whose clock is known to be wrong: it takes nothing, ends nothing, and goes on when the clock is right again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use toolfleet_aws::queue::Outgoing;
use toolfleet_aws::{Clock, Tables};
use toolfleet_core::call::State;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::time::Timestamp;
use toolfleet_worker::Limits;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline::{self, Reaped};
use toolfleet_worker::service_health::ServiceHealth;
use toolfleet_worker::services::control::ControlReader;
use toolfleet_worker::services::http::{self, HttpEndpoint};
use toolfleet_worker::services::intake::Intake;
use toolfleet_worker::services::reporter::Reporter;

use crate::crashes::assert_settled;
use crate::rig::{CountAcknowledged, LEASE_MS, Rig, SKEW_MS, limits, request, run_service};
use crate::telemetry::get;

/// The date of every answer, far away: the machine's clock is years behind it, and by it every lease and every deadline is over.
const FAR_AWAY: &str = "Fri, 20 Nov 2037 12:00:00 GMT";
/// Another date, and its time.
const DATE: &str = "Fri, 20 Nov 2026 12:00:00 GMT";
const DATE_MS: i64 = 1_795_176_000_000;
/// An hour.
const HOUR_MS: i64 = 3_600_000;

/// DynamoDB's last two answers say that the worker's clock is far behind.
fn clock_is_off(context: &WorkerContext) {
    for _ in 0..2 {
        context.fleet.server_time().learn(Clock::System.now(), Clock::System.now(), FAR_AWAY);
    }
    assert!(context.clock_is_off());
}

/// DynamoDB's last two answers say by how much the worker's clock is ahead.
fn clock_is_known_to_be_ahead(context: &WorkerContext, ahead_ms: i64) {
    for _ in 0..2 {
        let now = Timestamp::from_ms(DATE_MS + ahead_ms);
        context.fleet.server_time().learn(now, now, DATE);
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

/// A lease of which the third is the pause between heartbeats, in real time.
const SHORT_LEASE_MS: u64 = 2_000;

/// A call that runs in a worker whose machine's clock can be set, and the row of its claim.
struct Running {
    context: Arc<WorkerContext>,
    ahead_ms: Arc<AtomicI64>,
    call: tokio::task::JoinHandle<()>,
    claimed_until: Timestamp,
    rev: u64,
}

async fn run_call(rig: &mut Rig, tool: &str) -> Running {
    let limits = Limits { lease: Duration::from_millis(SHORT_LEASE_MS), ..limits() };
    let context = rig.fleet_of(rig.catalog(), limits, None).await;
    let ahead_ms = std::mem::take(&mut rig.ahead_ms);
    rig.send(request("c1", tool).to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let call = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    let row = rig.row("c1").await.unwrap();
    Running { context, ahead_ms, call, claimed_until: row.lease_until.unwrap(), rev: row.rev }
}

/// A heartbeat is one write to the row. The lease it stored.
async fn renewed(rig: &Rig, rev: u64) -> (Timestamp, u64) {
    loop {
        let row = rig.row("c1").await.unwrap();
        if row.rev > rev {
            return (row.lease_until.unwrap(), row.rev);
        }
        tokio::task::yield_now().await;
    }
}

/// Else another worker would take a running call for lost, or would wait an hour for one that is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_renews_the_lease_by_the_clock_of_dynamodb() {
    for off_ms in [HOUR_MS, -HOUR_MS] {
        let mut rig = Rig::new().await;
        let hold = rig.mcp.hold();
        let running = run_call(&mut rig, "unsafe").await;
        running.ahead_ms.store(off_ms, Ordering::Relaxed);
        clock_is_known_to_be_ahead(&running.context, off_ms);
        rig.clock.advance_ms(500);
        // The second one: the first may have been under way.
        let (_, rev) = renewed(&rig, running.rev).await;
        let (until, _) = renewed(&rig, rev).await;
        let expected = running.claimed_until.plus_ms(500);
        assert_eq!(until, expected, "off by {off_ms} ms");

        // Another worker, whose clock is right, leaves the call alone; and takes it over when its lease is over.
        let other = rig.context(None).await;
        rig.send(request("c1", "unsafe").to_string()).await;
        let delivery = rig.receive(&other).await.unwrap();
        pipeline::run(Arc::clone(&other), delivery, ()).await;
        assert_eq!(rig.row("c1").await.unwrap().state, State::Claimed, "off by {off_ms} ms");
        drop(hold);
        running.call.await.unwrap();
        let ended = rig.outcome("c1").await;
        assert_eq!(ended.kind, OutcomeKind::Succeeded, "off by {off_ms} ms");
        assert_eq!(rig.row("c1").await.unwrap().finished.unwrap().at, expected_end(&rig), "{off_ms}");
    }
}

/// Its end is that of the rig's clock, whatever the machine's says.
fn expected_end(rig: &Rig) -> Timestamp {
    Timestamp::from_ms(i64::try_from(rig.clock.now_ms()).unwrap())
}

/// A clock is known to be wrong after two answers of DynamoDB; a heartbeat may come before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_just_set_back_shortens_no_lease() {
    let mut rig = Rig::new().await;
    let hold = rig.mcp.hold();
    let running = run_call(&mut rig, "unsafe").await;
    running.ahead_ms.store(-HOUR_MS, Ordering::Relaxed);
    assert!(!running.context.clock_is_off());
    let (_, rev) = renewed(&rig, running.rev).await;
    let (until, _) = renewed(&rig, rev).await;
    assert!(until > running.claimed_until, "{until} after {}", running.claimed_until);
    drop(hold);
    running.call.await.unwrap();
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}
