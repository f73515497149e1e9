//! FIFO queues: one message of a group at a time, in the order in which they were sent.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_aws::{Tables, apply_in_rounds};
use toolfleet_core::group::GroupResult;
use toolfleet_core::ids::{GroupId, Tenant};
use toolfleet_core::limits::turn_book::{Ask, Reserve, Wish};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::GroupKey;
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::MockFault;
use toolfleet_worker::services::intake::Intake;

use crate::limits::{limited, live_rate, server, turns};
use crate::rig::{CountAcknowledged, Rig, limits, request, run_service};

pub(crate) async fn rig() -> Rig {
    let rig = Rig { queue_name: "calls.fifo", ..Rig::new().await };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({"QueueName": "calls.fifo", "Attributes": {"FifoQueue": "true"}});
    let create = client.post(rig.local.sqs_url()).header("x-amz-target", "AmazonSQS.CreateQueue");
    let create = create.header("content-type", "application/x-amz-json-1.0").body(body.to_string());
    assert!(create.send().await.unwrap().status().is_success());
    rig
}

/// The calls in the order in which the server saw them.
pub(crate) fn seen(rig: &Rig) -> Vec<String> {
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

/// `why` reads this from the row. A message that was received often stays hidden for longer than its call wishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_calls_row_says_when_its_message_can_be_received_again() {
    let rig = rig().await;
    let context = rig.fleet_of(rig.catalog(), limits(), None).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.mcp.always_for("tools/call", MockFault::status_with(429, "retry-after", "1"));
    for hidden_s in [1, 5, 15, 60, 300] {
        rig.deliver(&context).await;
        let row = rig.row("c1").await.unwrap();
        if hidden_s > 1 {
            let next = row.held().expect("the row says why it waits").next_try_at;
            assert_eq!(next.as_ms() - i64::try_from(rig.clock.now_ms()).unwrap(), hidden_s * 1_000);
        }
        rig.clock.advance_ms(u64::try_from(hidden_s).unwrap() * 1_000 - 1);
        assert!(rig.receive(&context).await.is_none(), "it is hidden for {hidden_s} s");
        rig.clock.advance_ms(1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_a_fifo_call_is_polled_when_its_row_says() {
    let rig = rig().await;
    let context = rig.fleet_of(rig.catalog(), limits(), None).await;
    rig.mcp.tool(
        "unsafe",
        |_| json!({ "resultType": "task", "taskId": "t1", "status": "working", "pollIntervalMs": 1_000 }),
    );
    rig.mcp.task("t1", &vec![json!({ "status": "working", "pollIntervalMs": 1_000 }); 5]);
    rig.send(request("c1", "unsafe").to_string()).await;
    for hidden_s in [1, 5, 15, 60] {
        rig.deliver(&context).await;
        let poll_at = rig.row("c1").await.unwrap().poll_at.expect("the row says when it is polled");
        assert_eq!(poll_at.as_ms() - i64::try_from(rig.clock.now_ms()).unwrap(), hidden_s * 1_000);
        rig.clock.advance_ms(u64::try_from(hidden_s).unwrap() * 1_000);
    }
}

/// Such a call waits for up to twelve seconds in the worker, longer than a turn is trusted without another look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_was_waited_for_long_is_void_if_its_limit_has_changed() {
    let rig = rig().await;
    let catalog = limited(&rig, json!({"rate": "20/m"}));
    let context = rig.fleet_of(catalog, limits(), None).await;
    for id in ["c0", "c1"] {
        rig.send(request(id, "unsafe").to_string()).await;
    }
    rig.deliver(&context).await;
    let delivery = rig.receive(&context).await.unwrap();
    let waits = tokio::spawn(toolfleet_worker::pipeline::run(context.clone(), delivery, ()));
    while turns(&rig).await.ahead.len() < 2 {
        tokio::task::yield_now().await;
    }
    // A worker that knows of the change gives the row the new setting. Neither it nor this one can recall a turn.
    let store = rig.direct.fleet(&Tables::with_prefix("toolfleet")).turns(&server());
    let before = turns(&rig).await;
    let (now_us, rate) = (i64::try_from(rig.clock.now_ms()).unwrap() * 1_000, "50/s".parse().unwrap());
    let asks = vec![Ask { tenant: "acme".parse().unwrap(), weight: 1, wish: Wish::Next }];
    let reserve = Reserve { now_us, mark: 1, rate, version: 1, shared: true, give_back: Vec::new(), asks };
    apply_in_rounds(&store, Some(&before), &reserve, 1).await.unwrap();
    context.gate.control().take(live_rate(1, 50));
    let changed = turns(&rig).await;
    assert_eq!((changed.epoch, changed.rev), (before.epoch + 1, before.rev + 1));
    waits.await.unwrap();
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert_eq!(turns(&rig).await.rev, changed.rev + 1, "it asked for a turn of the new limit");
}

/// A group of two, of which the other member is never sent.
fn lone_member(rig: &Rig, deadline_ms: u64) -> Value {
    let mut body = request("c1", "unsafe");
    let deadline = Timestamp::from_ms(i64::try_from(rig.clock.now_ms() + deadline_ms).unwrap());
    body["group"] = json!({"id": "turn", "index": 0, "size": 2, "deadline": deadline});
    body
}

fn group_key() -> GroupKey {
    let (tenant, id) = (Tenant::parse("acme").unwrap(), GroupId::parse("turn").unwrap());
    GroupKey { tenant, id, round: 1 }
}

async fn decision(rig: &Rig) -> Option<GroupResult> {
    let fleet = rig.direct.fleet(&Tables::with_prefix("toolfleet"));
    let row = fleet.group(&group_key()).await.unwrap();
    row.expect("the group has a row").decision.map(|decision| decision.result)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_groups_timer_waits_for_hours_and_holds_up_no_call() {
    let rig = rig().await;
    let context = rig.fleet_of(rig.catalog(), limits(), None).await;
    rig.send(lone_member(&rig, 10 * 3_600_000).to_string()).await;
    rig.deliver(&context).await;
    // The timer: a FIFO queue takes no delay, so it is received at once and hidden until the deadline.
    rig.deliver(&context).await;
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 1));
    rig.send(request("c2", "unsafe").to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::Succeeded, "the tenant's calls go on");
    rig.clock.advance_ms(10 * 3_600_000 - 60_000);
    assert!(rig.receive(&context).await.is_none(), "it was hidden for as long as was left");
    assert_eq!(decision(&rig).await, None);
    rig.clock.advance_ms(61_000);
    rig.deliver(&context).await;
    assert_eq!(decision(&rig).await, Some(GroupResult::Incomplete));
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_beyond_what_a_fifo_queue_can_hide_is_refused() {
    let rig = rig().await;
    let context = rig.fleet_of(rig.catalog(), limits(), None).await;
    rig.send(lone_member(&rig, 12 * 3_600_000).to_string()).await;
    rig.deliver(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some("unsupported")));
    assert!(seen.message.starts_with("group.deadline: "), "{}", seen.message);
    assert!(seen.message.contains("at most 11 hours, in a FIFO queue"), "{}", seen.message);
    assert!(rig.mcp.requests_of("tools/call").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_groups_cancellation_overtakes_the_tenants_calls() {
    let rig = rig().await;
    let context = rig.fleet_of(rig.catalog(), limits(), None).await;
    let clock = rig.clock.clone();
    let now = move || Timestamp::from_ms(i64::try_from(clock.now_ms()).unwrap());
    let (tables, queue) = (Tables::with_prefix("toolfleet"), rig.local.queue_url("calls.fifo"));
    let client = toolfleet_client::Client::new(&rig.direct, queue, &tables, Arc::new(now));
    let key = group_key();
    rig.send(lone_member(&rig, 3_600_000).to_string()).await;
    rig.deliver(&context).await;
    rig.deliver(&context).await;
    // The tenant's next call waits for its server, and so do all after it.
    rig.mcp.next(MockFault::status_with(429, "retry-after", "300"));
    for id in ["c2", "c3"] {
        rig.send(request(id, "unsafe").to_string()).await;
    }
    rig.deliver(&context).await;
    client.cancel_group(&key).await.unwrap();
    rig.deliver(&context).await;
    assert_eq!(decision(&rig).await, Some(GroupResult::Cancelled));
    assert_eq!(seen(&rig), ["c1", "c2"]);
}
