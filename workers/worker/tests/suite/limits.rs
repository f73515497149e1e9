//! Rate limits and what all limits share: turns that messages carry, changes by operators, and retry budgets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use toolfleet_aws::queue::Outgoing;
use toolfleet_aws::{Tables, apply_in_rounds};
use toolfleet_core::call::{HeldReason, State};
use toolfleet_core::control::{Control, LimitChange, LiveLimit};
use toolfleet_core::limits::holders::HolderRow;
use toolfleet_core::limits::turn_book::{Ask, Reserve, TurnRow, Wish};
use toolfleet_core::limits::{LimitKey, RateLimit};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::{Cut, MockFault, ProtocolRevision, Rule, ToolAnswer};
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;

use crate::rig::{Rig, START_MS, connect, limits, request};

fn start_us() -> i64 {
    i64::try_from(START_MS).unwrap() * 1_000
}

/// The rig's catalog with limits of its server.
pub(crate) fn limited(rig: &Rig, of_server: Value) -> Value {
    let mut catalog = rig.catalog();
    catalog["servers"][0]["limits"] = of_server;
    catalog
}

pub(crate) async fn worker(rig: &Rig, catalog: &Value) -> Arc<WorkerContext> {
    rig.fleet_of(catalog.clone(), limits(), None).await
}

/// What operators have set, where it is the rate of the mock server alone.
pub(crate) fn live_rate(version: u64, count: u32) -> Control {
    let change = LimitChange { rate: RateLimit::new(count, 1).ok(), concurrency: None };
    let mut limit = LiveLimit::default();
    limit.set(change, None);
    Control { version, limits: BTreeMap::from([(server(), limit)]), ..Control::default() }
}

pub(crate) fn server() -> LimitKey {
    "server:mock".parse().unwrap()
}

async fn turns_of(rig: &Rig, limit: &LimitKey) -> TurnRow {
    rig.direct.fleet(&Tables::with_prefix("toolfleet")).turns(limit).read().await.unwrap().unwrap()
}

pub(crate) async fn turns(rig: &Rig) -> TurnRow {
    rig.direct.fleet(&Tables::with_prefix("toolfleet")).turns(&server()).read().await.unwrap().unwrap()
}

pub(crate) async fn permits(rig: &Rig) -> HolderRow {
    rig.direct.fleet(&Tables::with_prefix("toolfleet")).permits(&server()).read().await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_the_turns_of_one_limit() {
    let rig = Rig::new().await;
    let catalog = limited(&rig, json!({"rate": "20/s"}));
    let workers = [worker(&rig, &catalog).await, worker(&rig, &catalog).await];
    for n in 0..6 {
        rig.send(request(&format!("c{n}"), "unsafe").to_string()).await;
    }
    let mut runs = Vec::new();
    for n in 0..6 {
        let context = &workers[n % 2];
        let delivery = rig.receive(context).await.unwrap();
        runs.push(pipeline::run(Arc::clone(context), delivery, ()));
    }
    join_all(runs).await;
    for n in 0..6 {
        let seen = rig.outcome(&format!("c{n}")).await;
        assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 1));
    }
    let row = turns(&rig).await;
    let apart: Vec<_> = row.ahead.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(row.ahead.len() >= 6 && apart.iter().all(|us| *us >= 52_500), "{apart:?}");
}

/// A message that is hidden while its call waits counts as in flight and makes its tenant noisy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_is_carried_to_another_worker() {
    used_at_once("no call used the turn that its message carried", a_carried_turn_is_used).await;
}

/// A machine that stops for 20 ms at the time of a turn lets its call miss it: so another is tried.
pub(crate) async fn used_at_once(otherwise: &str, is_used: impl AsyncFn() -> bool) {
    for _ in 0..5 {
        if is_used().await {
            return;
        }
    }
    panic!("{otherwise}");
}

async fn a_carried_turn_is_used() -> bool {
    let rig = Rig::new().await;
    let catalog = limited(&rig, json!({"rate": "1/10s"}));
    let first = worker(&rig, &catalog).await;
    for id in ["c0", "c1"] {
        rig.send(request(id, "unsafe").to_string()).await;
        rig.deliver(&first).await;
    }
    if !rig.has_ended("c0").await {
        return false;
    }
    assert_eq!(rig.outcome("c0").await.kind, OutcomeKind::Succeeded);
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.in_flight, depth.delayed), (0, 1), "it is a delayed message and does not look busy");
    let row = rig.row("c1").await.unwrap();
    let held = row.held().unwrap();
    assert_eq!((row.state, row.attempts, held.reason), (State::Pending, 0, HeldReason::RateLimit));
    assert!(held.detail.as_ref().unwrap().contains("server:mock, turn at"), "{held:?}");

    let given = turns(&rig).await;
    rig.clock.advance_ms(10_400);
    let second = worker(&rig, &catalog).await;
    rig.deliver(&second).await;
    rig.settle_with(&second).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    turns(&rig).await.rev == given.rev
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_carries_the_turns_of_all_its_limits() {
    used_at_once("no call used the turns of both its limits", both_turns_are_used).await;
}

async fn both_turns_are_used() -> bool {
    let rig = Rig::new().await;
    let mut catalog = limited(&rig, json!({"rate": "1/10s"}));
    catalog["tenants"]["limits"] = json!({"acme": {"rate": "1/10s"}});
    let limits = [server(), "tenant:acme".parse().unwrap()];
    for limit in &limits {
        take_a_turn(&rig, limit).await;
    }
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.deliver(&worker(&rig, &catalog).await).await;
    let row = rig.row("c1").await.unwrap();
    let detail = row.held().unwrap().detail.clone().unwrap();
    assert!(limits.iter().all(|limit| detail.contains(&limit.to_string())), "{detail}");
    assert!(detail.contains("turn at"), "{detail}");
    let mut given = Vec::new();
    for limit in &limits {
        given.push(turns_of(&rig, limit).await);
    }
    rig.clock.advance_ms(10_200);
    let second = worker(&rig, &catalog).await;
    rig.deliver(&second).await;
    rig.settle_with(&second).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    let mut now = Vec::new();
    for limit in &limits {
        now.push(turns_of(&rig, limit).await);
    }
    now == given
}

/// A server may ask for the same request again: what it gets is one more request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_that_a_server_asks_for_has_a_turn_of_its_own() {
    let rig = Rig::new().await;
    let catalog = limited(&rig, json!({"rate": "20/s"}));
    let mut left = 3;
    rig.mcp.tool("unsafe", move |_| {
        left -= 1;
        let asks = r#"{"resultType": "input_required", "requestState": "again"}"#;
        ToolAnswer::Raw(if left > 0 { asks } else { r#"{"content": []}"# }.to_owned())
    });
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.deliver(&worker(&rig, &catalog).await).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 1), "{}", seen.message);
    assert_eq!((rig.mcp.requests_of("tools/call").len(), turns(&rig).await.ahead.len()), (3, 3));
}

/// The server would see it at the time of another call's turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_its_connection_has_delayed_gets_another_turn() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    let mut catalog = rig.catalog();
    // Its list is not read, so that its session is opened by the call itself.
    catalog["servers"][0] = json!({"id": "mock", "url": rig.mcp.url(), "limits": {"rate": "20/s"}});
    let context = worker(&rig, &catalog).await;
    let hold = rig.mcp.hold_for("initialize");
    rig.send(request("c1", "unsafe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let running = tokio::spawn(pipeline::run(context, delivery, ()));
    rig.mcp.arrived("initialize", 1).await;
    let first = turns(&rig).await;
    // Later than a turn may be used, by both clocks.
    rig.clock.advance_ms(60);
    tokio::time::sleep(Duration::from_millis(60)).await;
    drop(hold);
    running.await.unwrap();
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 1), "{}", seen.message);
    let second = turns(&rig).await;
    assert!(second.ahead > first.ahead, "the first one was missed: {first:?} {second:?}");
}

/// Takes a turn of a limit of one in ten seconds, so that the next is ten seconds away.
async fn take_a_turn(rig: &Rig, limit: &LimitKey) {
    take_a_turn_of(rig, limit, "1/10s").await;
}

/// Takes the next turn of a limit of that rate.
pub(crate) async fn take_a_turn_of(rig: &Rig, limit: &LimitKey, rate: &str) {
    let store = rig.direct.fleet(&Tables::with_prefix("toolfleet")).turns(limit);
    let now_us = start_us();
    let asks = vec![Ask { tenant: "acme".parse().unwrap(), weight: 1, wish: Wish::Next }];
    let (mark, rate, version, give_back) = (1, rate.parse().unwrap(), 0, Vec::new());
    let reserve = Reserve { now_us, mark, rate, version, shared: limit.is_shared(), give_back, asks };
    assert!(apply_in_rounds(&store, None, &reserve, 2).await.unwrap().0.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_of_a_call_that_waited_keeps_its_wait() {
    let rig = Rig::new().await;
    let catalog = limited(&rig, json!({"rate": "1/10s"}));
    let context = worker(&rig, &catalog).await;
    for id in ["c0", "c1"] {
        rig.send(request(id, "safe").to_string()).await;
        rig.deliver(&context).await;
    }
    rig.clock.advance_ms(10_400);
    let fault = MockFault::status(503);
    let headers = vec![("Retry-After".to_owned(), "60".to_owned())];
    let MockFault::Status { status, body, .. } = fault else { panic!("a status") };
    rig.mcp.next(MockFault::Status { status, headers, body });
    rig.deliver(&context).await;
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 2, "it was sent in its turn");
    rig.clock.advance_ms(61_000);
    let delivery = rig.receive(&context).await.unwrap();
    let carried = delivery.attributes.get("toolfleet-turn").map(String::as_str).unwrap_or_default();
    assert!(carried.starts_with("estimate 0 ") && carried.ends_with(" server:mock"), "{carried}");
    pipeline::run(context, delivery, ()).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_beyond_the_reach_waits_by_an_estimate() {
    let rig = Rig::new().await;
    let catalog = limited(&rig, json!({"rate": "1/10s"}));
    let context = worker(&rig, &catalog).await;
    for n in 0..6 {
        rig.send(request(&format!("c{n}"), "unsafe").to_string()).await;
        rig.deliver(&context).await;
    }
    let held = rig.row("c5").await.unwrap();
    let detail = held.held().unwrap().detail.clone().unwrap();
    assert!(detail.contains("server:mock (1/10s), about"), "{detail}");
    for _ in 0..100 {
        rig.clock.advance_ms(1_000);
        while let Some(delivery) = rig.receive(&context).await {
            pipeline::run(Arc::clone(&context), delivery, ()).await;
        }
    }
    for n in 0..6 {
        let seen = rig.outcome(&format!("c{n}")).await;
        assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 1), "c{n}");
    }
    assert_eq!(rig.queue().depth().await.unwrap().delayed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_of_a_foreign_sender_is_not_used() {
    let rig = Rig::new().await;
    let mut catalog = limited(&rig, json!({"rate": "20/s"}));
    catalog["tenants"]["senders"]["AKIAOTHER"] = json!(["acme"]);
    let context = worker(&rig, &catalog).await;
    rig.send(request("own", "unsafe").to_string()).await;
    rig.deliver(&context).await;
    let before = turns(&rig).await;
    let local = &rig.local;
    let other = connect(local.sqs_url(), local.dynamodb_url(), local.secretsmanager_url(), "AKIAOTHER").await;
    let turn = format!("turn {} {} server:mock", before.epoch, start_us() + 1_000_000);
    let message = Outgoing {
        body: request("forged", "unsafe").to_string(),
        attributes: BTreeMap::from([("toolfleet-turn".to_owned(), turn)]),
        ..Outgoing::default()
    };
    other.queue(local.queue_url(rig.queue_name)).send(message).await.unwrap();
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("forged").await.kind, OutcomeKind::Succeeded);
    assert_eq!(turns(&rig).await.rev, before.rev + 1, "it asked for a turn of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_changed_live_voids_the_turns_of_the_old_one() {
    let rig = Rig::new().await;
    let catalog = limited(&rig, json!({"rate": "1/10s"}));
    let context = worker(&rig, &catalog).await;
    for id in ["c0", "c1"] {
        rig.send(request(id, "unsafe").to_string()).await;
        rig.deliver(&context).await;
    }
    let old = turns(&rig).await;
    context.gate.control().take(live_rate(1, 50));
    rig.clock.advance_ms(10_000);
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    let new = turns(&rig).await;
    assert_eq!((new.epoch, new.rate.to_string().as_str(), new.version), (old.epoch + 1, "50/s", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_rate_limits_give_one_turn() {
    let rig = Rig::new().await;
    let mut catalog = limited(&rig, json!({"rate": "20/s"}));
    catalog["tools"][1]["limits"] = json!({"rate": "10/s"});
    catalog["tenants"]["limits"] = json!({"acme": {"rate": "15/s", "tools": {"unsafe": {"rate": "12/s"}}}});
    let context = worker(&rig, &catalog).await;
    let mut runs = Vec::new();
    for n in 0..4 {
        rig.send(request(&format!("c{n}"), "unsafe").to_string()).await;
        let delivery = rig.receive(&context).await.unwrap();
        runs.push(pipeline::run(Arc::clone(&context), delivery, ()));
    }
    join_all(runs).await;
    for n in 0..4 {
        assert_eq!(rig.outcome(&format!("c{n}")).await.kind, OutcomeKind::Succeeded, "c{n}");
    }
}

/// The turn is seconds away: a permit may be free once it has come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carried_turn_survives_a_full_concurrency_limit() {
    let rig = Rig::new().await;
    let mut catalog = limited(&rig, json!({"concurrency": 1}));
    catalog["tools"][1]["limits"] = json!({"rate": "1/10s"});
    let context = worker(&rig, &catalog).await;
    take_a_turn(&rig, &"tool:unsafe".parse().unwrap()).await;
    rig.send(request("open", "safe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hold = rig.mcp.hold();
    let open = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    let turn = format!("turn 1 {} tool:unsafe", start_us() + 8_000_000);
    let message = Outgoing {
        body: request("c1", "unsafe").to_string(),
        attributes: BTreeMap::from([("toolfleet-turn".to_owned(), turn.clone())]),
        ..Outgoing::default()
    };
    rig.queue().send(message).await.unwrap();
    let delivery = rig.receive(&context).await.unwrap();
    rig.send(request("refused", "safe").to_string()).await;
    let other = rig.receive(&context).await.unwrap();
    let refused = tokio::spawn(pipeline::run(Arc::clone(&context), other, ()));
    while context.limiter.waiting(&server()) == 0 {
        tokio::task::yield_now().await;
    }
    pipeline::run(Arc::clone(&context), delivery, ()).await;
    let row = rig.row("c1").await.unwrap();
    assert_eq!(row.held().unwrap().reason, HeldReason::RateLimit, "{:?}", row.held());
    drop(hold);
    open.await.unwrap();
    refused.await.unwrap();
    rig.clock.advance_ms(7_000);
    let delivery = rig.receive(&context).await.unwrap();
    assert_eq!(delivery.attributes.get("toolfleet-turn"), Some(&turn));
}

/// The message is replaced although nothing says why its call waits: hidden, it would lose its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_is_carried_although_its_wait_could_not_be_stored() {
    let rig = Rig::new().await;
    let context = worker(&rig, &limited(&rig, json!({"rate": "1/10s"}))).await;
    take_a_turn(&rig, &server()).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.dynamodb.cut(Rule::new(Cut::BeforeRequest, "", 1).with_body("toolfleet-calls").times(usize::MAX));
    rig.deliver(&context).await;
    rig.dynamodb.behave();
    assert!(rig.row("c1").await.is_none(), "its wait is not stored");
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.in_flight, depth.delayed), (0, 1));
    rig.clock.advance_ms(5_000);
    let delivery = rig.receive(&context).await.unwrap();
    let carried = delivery.attributes.get("toolfleet-turn").map(String::as_str).unwrap_or_default();
    assert!(carried.starts_with("turn 1 "), "{carried}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_takes_no_turn_while_no_permit_is_free() {
    let otherwise =
        "c1 took a turn and gave it back, and c2 asked for one though the limit had no permit a moment ago";
    used_at_once(otherwise, one_turn_is_given_back).await;
}

async fn one_turn_is_given_back() -> bool {
    let rig = Rig::new().await;
    let catalog = limited(&rig, json!({"concurrency": 1, "rate": "50/s"}));
    let (first, second) = (worker(&rig, &catalog).await, worker(&rig, &catalog).await);
    rig.send(request("c0", "unsafe").to_string()).await;
    let delivery = rig.receive(&first).await.unwrap();
    let hold = rig.mcp.hold();
    let running = tokio::spawn(pipeline::run(first, delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    let given = turns(&rig).await;
    let mut deliveries = Vec::new();
    for id in ["c1", "c2"] {
        rig.send(request(id, "unsafe").to_string()).await;
        deliveries.push(rig.receive(&second).await.unwrap());
    }
    for delivery in deliveries {
        pipeline::run(Arc::clone(&second), delivery, ()).await;
    }
    while second.limiter.is_writing() {
        tokio::task::yield_now().await;
    }
    let writes = turns(&rig).await.rev - given.rev;
    drop(hold);
    running.await.unwrap();
    rig.settle_with(&second).await;
    for id in ["c0", "c1", "c2"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded, "{id}");
    }
    // A machine that is slow for a fifth of a second lets c2 take and give back a turn, too.
    assert!((2..=4).contains(&writes), "{writes}");
    writes == 2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_beyond_the_budget_wait_and_are_no_attempt() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    // A worker of so many has one retry in ten seconds.
    context.limiter.learn_workers(100);
    rig.mcp.always_for("tools/call", MockFault::status(500));
    rig.send(request("c0", "safe").to_string()).await;
    rig.deliver(&context).await;
    let row = rig.row("c0").await.unwrap();
    assert_eq!((row.state, row.attempts), (State::Released, 2), "a first attempt and one retry");
    assert_eq!(row.held().map(|held| held.reason), Some(HeldReason::RetryBudget));
    rig.mcp.behave();
    rig.clock.advance_ms(20_000);
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("c0").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_limits_touches_no_row_of_a_limit() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    rig.send(request("c0", "unsafe").to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c0").await.kind, OutcomeKind::Succeeded);
    let fleet = rig.direct.fleet(&Tables::with_prefix("toolfleet"));
    assert_eq!(fleet.turns(&server()).read().await.unwrap(), None);
    assert_eq!(fleet.permits(&server()).read().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogs_limit_holds_again_after_a_live_one_ends() {
    let rig = Rig::new().await;
    let context = worker(&rig, &limited(&rig, json!({"rate": "50/s"}))).await;
    let ended = Control { version: 4, ..Control::default() };
    for (control, expected) in [live_rate(3, 40), ended].into_iter().zip(["40/s", "50/s"]) {
        let version = control.version;
        context.gate.control().take(control);
        rig.clock.advance_ms(6_000);
        rig.send(request(&format!("c{version}"), "unsafe").to_string()).await;
        rig.deliver(&context).await;
        let row = turns(&rig).await;
        assert_eq!((row.rate.to_string().as_str(), row.version), (expected, version));
    }
}
