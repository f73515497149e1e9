//! The turns of a batch's requests: each has one of its own, also after a session or a token was opened.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use toolfleet_core::call::HeldReason;
use toolfleet_core::limits::turn_book::TurnRow;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::{ProtocolRevision, ToolAnswer};
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;

use crate::limits::{server, take_a_turn_of, turns};
use crate::rig::{Rig, limits, request};

fn weather(id: &str, city: &str) -> Value {
    let mut body = request(id, "weather");
    body["arguments"] = json!({"city": city});
    body
}

/// A worker for a server of that rate, whose list is not read, so that a call opens its session itself.
async fn worker(rig: &Rig, rate: &str, timeout_ms: u64) -> Arc<WorkerContext> {
    let mut catalog = rig.catalog();
    catalog["servers"][0] = json!({"id": "mock", "url": rig.mcp.url(), "limits": {"rate": rate}});
    let batch = json!({"argument": "city", "max": 2, "wait_ms": 5_000});
    let tool = json!({"id": "weather", "server": "mock", "idempotent": true, "timeout_ms": timeout_ms, "batch": batch});
    catalog["tools"].as_array_mut().unwrap().push(tool);
    rig.fleet_of(catalog, limits(), None).await
}

/// A batch of two calls, which runs beside the test.
async fn begin(rig: &Rig, context: &Arc<WorkerContext>) -> Vec<JoinHandle<()>> {
    let mut calls = Vec::new();
    for (id, city) in [("c1", "Paris"), ("c2", "Rome")] {
        rig.send(weather(id, city).to_string()).await;
        let delivery = rig.receive(context).await.expect("a message to deliver");
        calls.push(tokio::spawn(pipeline::run(Arc::clone(context), delivery, ())));
    }
    calls
}

async fn ended(calls: Vec<JoinHandle<()>>) {
    for call in calls {
        call.await.unwrap();
    }
}

fn skies(_: &Value) -> ToolAnswer {
    ToolAnswer::from(
        json!({"content": [], "structuredContent": {"result": [{"sky": "blue"}, {"sky": "blue"}]}}),
    )
}

/// The batch is at the server's session when its turn has passed, by both clocks. Gives the turns of before.
async fn delayed_by_its_connection(
    rig: &Rig,
    context: &Arc<WorkerContext>,
    meanwhile: impl AsyncFnOnce(),
) -> TurnRow {
    let hold = rig.mcp.hold_for("initialize");
    let calls = begin(rig, context).await;
    rig.mcp.arrived("initialize", 1).await;
    let first = turns(rig).await;
    meanwhile().await;
    rig.clock.advance_ms(60);
    tokio::time::sleep(Duration::from_millis(60)).await;
    drop(hold);
    ended(calls).await;
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_its_connection_has_delayed_gets_another_turn() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    rig.mcp.tool("weather", skies);
    let context = worker(&rig, "20/s", 60_000).await;
    let first = delayed_by_its_connection(&rig, &context, async || {}).await;
    for id in ["c1", "c2"] {
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 1), "{}", seen.message);
    }
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 1);
    let second = turns(&rig).await;
    assert!(second.ahead > first.ahead, "the first one was missed: {first:?} {second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_without_another_turn_waits_and_was_no_attempt() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    rig.mcp.tool("weather", skies);
    // Another call has the next turn, and the one after it is later than the attempt may last.
    let context = worker(&rig, "1/60s", 10_000).await;
    delayed_by_its_connection(&rig, &context, async || take_a_turn_of(&rig, &server(), "1/60s").await).await;
    assert!(rig.mcp.requests_of("tools/call").is_empty());
    for id in ["c1", "c2"] {
        let row = rig.row(id).await.unwrap();
        assert_eq!((row.attempts, row.held().unwrap().reason), (0, HeldReason::RateLimit), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_that_a_server_asks_of_a_batch_has_a_turn() {
    let rig = Rig::new().await;
    let mut left = 3;
    rig.mcp.tool("weather", move |arguments| {
        left -= 1;
        let asks = r#"{"resultType": "input_required", "requestState": "again"}"#;
        if left > 0 { ToolAnswer::Raw(asks.to_owned()) } else { skies(arguments) }
    });
    let context = worker(&rig, "20/s", 60_000).await;
    ended(begin(&rig, &context).await).await;
    for id in ["c1", "c2"] {
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 1), "{}", seen.message);
    }
    assert_eq!((rig.mcp.requests_of("tools/call").len(), turns(&rig).await.ahead.len()), (3, 3));
}
