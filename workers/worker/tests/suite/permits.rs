//! Limits of open requests: permits that outlive their worker and pass to calls that wait and to tasks, and the limit that each worker adapts.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use toolfleet_core::call::State;
use toolfleet_core::limits::LimitKey;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::{Cut, MockFault, Rule};
use toolfleet_worker::Limits;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::slot::Slot;
use toolfleet_worker::pipeline::steps::Step;

use crate::control::{pause, set};
use crate::limits::{limited, permits, server, turns, worker};
use crate::redrive::{give_up, redrive};
use crate::rig::{CrashAfter, LEASE_MS, Rig, SENDER, SKEW_MS, limits, request};
use crate::waiting::cancel;

/// Over-admission (bullmq #3210: limit 1 ran 2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_the_permits_of_one_limit() {
    let rig = Rig::new().await;
    let catalog = limited(&rig, json!({"concurrency": 1}));
    let (first, second) = (worker(&rig, &catalog).await, worker(&rig, &catalog).await);
    rig.send(request("c0", "unsafe").to_string()).await;
    let delivery = rig.receive(&first).await.unwrap();
    let hold = rig.mcp.hold();
    let running = tokio::spawn(pipeline::run(first, delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;

    rig.send(request("c1", "unsafe").to_string()).await;
    let delivery = rig.receive(&second).await.unwrap();
    let waiting = tokio::spawn(pipeline::run(Arc::clone(&second), delivery, ()));
    while second.limiter.waiting(&server()) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 1, "one request is open, and the limit is one");
    drop(hold);
    running.await.unwrap();
    waiting.await.unwrap();
    for id in ["c0", "c1"] {
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 1), "{id}");
    }
    while !permits(&rig).await.entries.is_empty() {
        tokio::task::yield_now().await;
    }
}

/// A released permit passes to the call that waits in the worker's hands, in the same write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_in_hand_gets_the_next_permit() {
    let rig = Rig::new().await;
    let context = worker(&rig, &limited(&rig, json!({"concurrency": 1}))).await;
    rig.send(request("c0", "unsafe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hold = rig.mcp.hold();
    let first = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let second = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    while context.limiter.waiting(&server()) == 0 {
        tokio::task::yield_now().await;
    }
    let before = permits(&rig).await;
    drop(hold);
    first.await.unwrap();
    second.await.unwrap();
    for id in ["c0", "c1"] {
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 1), "{id}");
    }
    while !permits(&rig).await.entries.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(permits(&rig).await.rev, before.rev + 2, "one write passed the permit on, one released it");
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight, depth.delayed), (0, 0, 0), "c1 did not go back to the queue");
}

/// One account's limit must not stop the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_for_its_tenants_permit_holds_no_place_at_the_tool() {
    let rig = Rig::new().await;
    let mut catalog = limited(&rig, json!({"adaptive": true}));
    catalog["tenants"]["senders"] = json!({SENDER: ["acme", "globex"]});
    catalog["tenants"]["limits"] = json!({"acme": {"concurrency": 1}});
    let context = rig.fleet_of(catalog, Limits { slots: 2, ..limits() }, None).await;
    let of_acme: LimitKey = "tenant:acme".parse().unwrap();
    let hold = rig.mcp.hold();
    let begin = async |id: &str, tenant: &str| {
        let mut request = request(id, "unsafe");
        request["tenant"] = json!(tenant);
        rig.send(request.to_string()).await;
        rig.receive(&context).await.unwrap()
    };
    let run = |delivery| tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    let runs = run(begin("c0", "acme").await);
    rig.mcp.arrived("tools/call", 1).await;
    let (begun, waits) = (Instant::now(), run(begin("c1", "acme").await));
    while context.limiter.waiting(&of_acme) == 0 {
        tokio::task::yield_now().await;
    }
    let other = run(begin("c2", "globex").await);
    rig.mcp.arrived("tools/call", 2).await;
    // After three seconds it waits in the queue.
    let too_slow = begun.elapsed() >= Duration::from_secs(3);
    assert!(context.limiter.waiting(&of_acme) == 1 || too_slow, "c2 had to wait until c1 went away");
    drop(hold);
    for call in [runs, waits, other] {
        call.await.unwrap();
    }
}

/// The slots of a worker that runs as many calls as it can.
struct NoSlot;

impl Slot for NoSlot {
    fn set_down(&mut self) {}

    fn take_up(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_in_hand_goes_back_when_its_worker_drains() {
    let rig = Rig::new().await;
    let context = worker(&rig, &limited(&rig, json!({"concurrency": 1}))).await;
    rig.send(request("c0", "unsafe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hold = rig.mcp.hold();
    let first = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let second = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, NoSlot));
    while context.limiter.waiting(&server()) == 0 {
        tokio::task::yield_now().await;
    }
    context.shutdown.begin(Duration::from_secs(60));
    second.await.unwrap();
    assert_eq!(rig.queue().depth().await.unwrap().visible, 1, "for the next worker, at once");
    drop(hold);
    first.await.unwrap();
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 1, "c1 was not sent");
}

/// A crashed holder keeps its permit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permit_of_a_killed_worker_is_free_after_its_time_out() {
    let rig = Rig::new().await;
    let catalog = limited(&rig, json!({"concurrency": 1}));
    let (first, second) = (worker(&rig, &catalog).await, worker(&rig, &catalog).await);
    rig.send(request("lost", "unsafe").to_string()).await;
    let delivery = rig.receive(&first).await.unwrap();
    let hold = rig.mcp.hold();
    let running = tokio::spawn(pipeline::run(first, delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    drop(hold);

    rig.send(request("next", "safe").to_string()).await;
    rig.deliver(&second).await;
    assert_eq!(rig.mcp.executions_of("next"), 0, "the server may still work on the lost request");
    assert_eq!(permits(&rig).await.entries.len(), 1);
    // The time-out of the tool, what lies between permit and request, and the difference of two clocks.
    rig.clock.advance_ms(2_000 + 2_000 + SKEW_MS);
    rig.deliver(&second).await;
    assert_eq!(rig.outcome("next").await.kind, OutcomeKind::Succeeded);
}

/// Long before the time-out of its attempt, which `hold` would wait for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permit_of_a_killed_worker_is_free_after_its_lease_where_loss_frees_it() {
    let rig = Rig::new().await;
    let mut catalog = limited(&rig, json!({"concurrency": {"limit": 1, "on_loss": "free"}}));
    catalog["tools"][1]["timeout_ms"] = json!(600_000);
    let (first, second) = (worker(&rig, &catalog).await, worker(&rig, &catalog).await);
    rig.send(request("lost", "unsafe").to_string()).await;
    let delivery = rig.receive(&first).await.unwrap();
    let hold = rig.mcp.hold();
    let running = tokio::spawn(pipeline::run(first, delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    drop(hold);
    rig.send(request("next", "safe").to_string()).await;
    rig.clock.advance_ms(LEASE_MS + SKEW_MS - 1);
    rig.deliver(&second).await;
    assert_eq!(rig.mcp.executions_of("next"), 0, "its worker may live and renew it");
    rig.clock.advance_ms(60_000);
    rig.settle_with(&second).await;
    assert_eq!(rig.outcome("next").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_living_worker_renews_a_permit_that_its_loss_would_free() {
    let rig = Rig::new().await;
    let mut catalog = limited(&rig, json!({"concurrency": {"limit": 1, "on_loss": "free"}}));
    catalog["tools"][1]["timeout_ms"] = json!(600_000);
    let lease = Limits { lease: Duration::from_secs(2), ..limits() };
    let context = rig.fleet_of(catalog, lease, None).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hold = rig.mcp.hold();
    let running = tokio::spawn(pipeline::run(context, delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    let until = async || permits(&rig).await.entries.into_values().next().unwrap();
    let first = until().await;
    rig.clock.advance_ms(500);
    while until().await < first.plus_ms(500) {
        tokio::task::yield_now().await;
    }
    drop(hold);
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_request_releases_its_permit_only_where_the_server_is_done() {
    for (fault, released) in [(MockFault::status(400), true), (MockFault::NeverAnswer, false)] {
        let rig = Rig::new().await;
        let mut catalog = limited(&rig, json!({"concurrency": 1}));
        catalog["tools"][1]["timeout_ms"] = json!(100);
        let context = worker(&rig, &catalog).await;
        rig.mcp.always_for("tools/call", fault);
        rig.send(request("c0", "unsafe").to_string()).await;
        rig.deliver(&context).await;
        assert!(rig.row("c0").await.unwrap().finished.is_some());
        rig.mcp.behave();
        rig.send(request("c1", "safe").to_string()).await;
        rig.deliver(&context).await;
        assert_eq!(rig.mcp.executions_of("c1") == 1, released);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adaptive_limit_lets_a_healthy_tool_run() {
    let rig = Rig::new().await;
    let context = worker(&rig, &limited(&rig, json!({"adaptive": true}))).await;
    for n in 0..5 {
        rig.send(request(&format!("c{n}"), "unsafe").to_string()).await;
        rig.deliver(&context).await;
        assert_eq!(rig.outcome(&format!("c{n}")).await.kind, OutcomeKind::Succeeded);
    }
}

/// Else a tenant that gives its calls little time would take the others' places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_short_deadline_lowers_no_adaptive_limit() {
    let rig = Rig::new().await;
    let mut catalog = limited(&rig, json!({"adaptive": true}));
    catalog["tenants"]["senders"] = json!({SENDER: ["acme", "globex"]});
    let context = rig.fleet_of(catalog, Limits { slots: 2, ..limits() }, None).await;
    let _hold = rig.mcp.hold();
    let mut short = request("c0", "unsafe");
    short["timeout_ms"] = json!(300);
    rig.send(short.to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c0").await.kind, OutcomeKind::TimedOut);
    let mut runs = Vec::new();
    for (sent, id, tenant) in [(2, "c1", "acme"), (3, "c2", "globex")] {
        let mut request = request(id, "unsafe");
        request["tenant"] = json!(tenant);
        rig.send(request.to_string()).await;
        let delivery = rig.receive(&context).await.unwrap();
        let mut run = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
        tokio::select! {
            () = rig.mcp.arrived("tools/call", sent) => {}
            _ = &mut run => panic!("{id} found no place at the tool"),
        }
        runs.push(run);
    }
    for run in runs {
        run.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_limit_is_leased_in_blocks() {
    let rig = Rig::new().await;
    let context = worker(&rig, &limited(&rig, json!({"concurrency": 100}))).await;
    context.limiter.learn_workers(10);
    for n in 0..4 {
        rig.send(request(&format!("c{n}"), "unsafe").to_string()).await;
        rig.deliver(&context).await;
        assert_eq!(rig.outcome(&format!("c{n}")).await.kind, OutcomeKind::Succeeded);
    }
    let row = permits(&rig).await;
    let block = row.blocks.get(context.activity.boot.as_str()).copied().unwrap();
    assert_eq!((row.rev, row.entries.len(), block.permits), (1, 0, 3), "one write for all of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_keeps_its_permit_where_tasks_count_and_polls_need_none() {
    for counts in [true, false] {
        let rig = Rig::new().await;
        let of_server = json!({"rate": "50/s", "concurrency": {"limit": 1, "count_tasks": counts}});
        let context = worker(&rig, &limited(&rig, of_server)).await;
        rig.mcp.tool("unsafe", |_| json!({ "resultType": "task", "taskId": "t1", "status": "working", "ttlMs": null, "pollIntervalMs": 5_000 }));
        let done = json!({ "status": "completed", "result": { "content": [] } });
        rig.mcp.task("t1", &[json!({ "status": "working", "pollIntervalMs": 5_000 }), done]);
        rig.send(request("c1", "unsafe").to_string()).await;
        rig.deliver(&context).await;
        // A machine that stops for 20 ms at the time of the turn lets the call miss it and ask for another.
        while rig.row("c1").await.is_none_or(|row| row.state != State::WaitingTask) {
            rig.clock.advance_ms(1_000);
            if let Some(delivery) = rig.receive(&context).await {
                pipeline::run(Arc::clone(&context), delivery, ()).await;
            }
        }
        let given = turns(&rig).await;
        rig.clock.advance_ms(5_000);
        rig.deliver(&context).await;
        assert_eq!(turns(&rig).await.rev, given.rev, "a poll takes no turn");
        rig.send(request("other", "safe").to_string()).await;
        rig.deliver(&context).await;
        assert_eq!(rig.mcp.executions_of("other") == 0, counts);
        rig.settle_with(&context).await;
        for id in ["c1", "other"] {
            assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded, "{id}");
        }
        while !permits(&rig).await.entries.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

/// Without this, the server would work on one task and one call more than its limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_passes_to_a_task_and_not_to_a_call_that_waits() {
    let rig = Rig::new().await;
    let of_server = json!({"concurrency": {"limit": 1, "count_tasks": true}});
    let context = worker(&rig, &limited(&rig, of_server)).await;
    rig.mcp.tool("unsafe", |_| json!({ "resultType": "task", "taskId": "t1", "status": "working", "ttlMs": null, "pollIntervalMs": 5_000 }));
    rig.send(request("c0", "unsafe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hold = rig.mcp.hold();
    let first = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    rig.send(request("other", "safe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let second = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    while context.limiter.waiting(&server()) == 0 {
        tokio::task::yield_now().await;
    }
    drop(hold);
    first.await.unwrap();
    let row = rig.row("c0").await.unwrap();
    assert_eq!(row.state, State::WaitingTask);
    let until: Vec<_> = permits(&rig).await.entries.into_values().collect();
    assert_eq!(until, [row.deadline.unwrap()], "the only permit is that of the task");
    assert_eq!(context.limiter.waiting(&server()), 1);
    second.abort();
    assert_eq!(rig.mcp.executions_of("other"), 0);
}

/// Without this, a call that is cancelled while its permit passes to its task would forget the task, and nobody would cancel that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_cancelled_while_its_permit_passes_cancels_its_task() {
    let rig = Rig::new().await;
    let of_server = json!({"concurrency": {"limit": 1, "count_tasks": true}});
    let context = worker(&rig, &limited(&rig, of_server)).await;
    rig.mcp.tool("unsafe", |_| json!({ "resultType": "task", "taskId": "t1", "status": "working", "ttlMs": null, "pollIntervalMs": 5_000 }));
    rig.mcp.task("t1", &[json!({ "status": "working", "pollIntervalMs": 5_000 })]);
    rig.send(request("c1", "unsafe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hold = rig.mcp.hold();
    let running = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    // The limit's row is not written for as long as the call waits for it.
    rig.dynamodb.cut(Rule::new(Cut::BeforeRequest, "", 1).with_body("limit#server:").times(usize::MAX));
    drop(hold);
    rig.dynamodb.cut_made(1).await;
    cancel(&rig, "c1").await;
    running.await.unwrap();
    rig.dynamodb.behave();
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Cancelled);
    assert_eq!(rig.mcp.requests_of("tasks/cancel").len(), 1);
}

fn asks() -> serde_json::Value {
    let question = json!({ "method": "elicitation/create", "params": { "message": "Who?" } });
    json!({ "status": "input_required", "pollIntervalMs": 5_000, "inputRequests": { "who": question } })
}

/// A server of one open request, tasks included.
pub(crate) fn of_one_task(rig: &Rig) -> serde_json::Value {
    limited(rig, json!({"concurrency": {"limit": 1, "count_tasks": true}}))
}

/// A message of a call `c1`, which becomes a task that tells these states.
pub(crate) async fn send_a_task(rig: &Rig, told: &[serde_json::Value]) {
    rig.mcp.tool("unsafe", |_| json!({ "resultType": "task", "taskId": "t1", "status": "working", "ttlMs": null, "pollIntervalMs": 5_000 }));
    rig.mcp.task("t1", told);
    rig.send(request("c1", "unsafe").to_string()).await;
}

/// A rig with a server of one open request, tasks included, and a call `c1` that has become a task which tells these states.
async fn with_a_task(told: &[serde_json::Value]) -> (Rig, Arc<WorkerContext>) {
    let rig = Rig::new().await;
    let context = worker(&rig, &of_one_task(&rig)).await;
    send_a_task(&rig, told).await;
    rig.deliver(&context).await;
    assert_eq!(rig.row("c1").await.unwrap().state, State::WaitingTask);
    (rig, context)
}

pub(crate) fn done() -> serde_json::Value {
    json!({ "status": "completed", "result": { "content": [] } })
}

/// The only permit is that of its own task: a poll that asked for one would wait until the call's deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_was_paused_needs_no_permit() {
    let (rig, context) = with_a_task(&[done()]).await;
    rig.clock.advance_ms(5_000);
    set(&rig, &context, &pause(&rig, "server:mock", Some(5_000))).await;
    rig.deliver(&context).await;
    assert!(rig.mcp.requests_of("tasks/get").is_empty(), "it is paused");
    rig.clock.advance_ms(7_001);
    let delivery = rig.receive(&context).await.unwrap();
    assert_eq!(delivery.attributes.get("toolfleet-turn").map(String::as_str), Some("poll"));
    pipeline::run(Arc::clone(&context), delivery, ()).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

/// The old message says nothing of the task.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redelivery_after_a_task_was_parked_needs_no_permit() {
    let rig = Rig::new().await;
    let crash = CrashAfter::new(Step::Parked);
    let dies = rig.fleet_of(of_one_task(&rig), limits(), Some(crash.clone())).await;
    send_a_task(&rig, &[done()]).await;
    let delivery = rig.receive(&dies).await.unwrap();
    tokio::select! {
        () = pipeline::run(dies, delivery, ()) => panic!("the call passed by"),
        () = crash.reached.notified() => {}
    }
    assert_eq!(permits(&rig).await.entries.len(), 1, "its task has the permit");
    rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
    rig.deliver(&worker(&rig, &of_one_task(&rig)).await).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

/// What is moved back carries nothing of the fleet's own but its origin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redriven_task_is_polled_beside_its_own_permit() {
    let (rig, context) = with_a_task(&[done()]).await;
    give_up(&rig, 1).await;
    let (report, _) = redrive(&rig, false).await;
    assert_eq!(report.moved, 1);
    assert_eq!(permits(&rig).await.entries.len(), 1, "its task has the permit");
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

/// A call whose server has lost its task is sent again: its message must not go on to say that it only polls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_sent_again_after_its_task_was_lost_polls_no_longer() {
    let rig = Rig::new().await;
    let context = worker(&rig, &of_one_task(&rig)).await;
    rig.mcp.tool("safe", |_| json!({ "resultType": "task", "taskId": "t1", "status": "working", "ttlMs": null, "pollIntervalMs": 5_000 }));
    rig.send(request("c1", "safe").to_string()).await;
    rig.deliver(&context).await;
    rig.mcp.forget_tasks();
    let MockFault::Status { status, body, .. } = MockFault::status(503) else { panic!("a status") };
    let headers = vec![("Retry-After".to_owned(), "60".to_owned())];
    rig.mcp.always_for("tools/call", MockFault::Status { status, headers, body });
    rig.clock.advance_ms(5_000);
    rig.deliver(&context).await;
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 2);
    rig.clock.advance_ms(61_000);
    let delivery = rig.receive(&context).await.unwrap();
    assert_eq!(delivery.attributes.get("toolfleet-turn"), None);
}

/// `c2`, which answers `c1`.
fn answer() -> serde_json::Value {
    let mut body = request("c1", "unsafe");
    body["call_id"] = json!("c2");
    body["resume"] =
        json!({ "call_id": "c1", "input_responses": { "who": { "action": "accept", "content": {} } } });
    body
}

/// Without this, the server would work on one task and one call more than its limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_asks_keeps_its_permit_until_it_has_ended() {
    let done = json!({ "status": "completed", "result": { "content": [] } });
    let (rig, context) =
        with_a_task(&[asks(), json!({ "status": "working", "pollIntervalMs": 5_000 }), done]).await;
    rig.clock.advance_ms(5_000);
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::InputRequired);
    rig.send(request("other", "safe").to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.mcp.executions_of("other"), 0, "the task lives on at its server");
    // A worker dies with the answers; its task still has the one permit.
    rig.send(answer().to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    pipeline::run(Arc::clone(&context), delivery, ()).await;
    let row = rig.row("c2").await.unwrap();
    assert_eq!((row.state, row.task.as_deref()), (State::WaitingTask, Some("t1")));
    let until: Vec<_> = permits(&rig).await.entries.into_values().collect();
    assert_eq!(until, [row.deadline.unwrap()], "it counts until the later call's deadline");
    rig.settle_with(&context).await;
    for id in ["c2", "other"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded, "{id}");
    }
    while !permits(&rig).await.entries.is_empty() {
        tokio::task::yield_now().await;
    }
}

/// The permit has ended with the first call's deadline, and another call has it: the answers wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_a_task_wait_for_a_permit_where_its_own_has_ended() {
    let done = json!({ "status": "completed", "result": { "content": [] } });
    let (rig, context) = with_a_task(&[asks(), done]).await;
    rig.clock.advance_ms(5_000);
    rig.deliver(&context).await;
    let deadline = rig.row("c1").await.unwrap().deadline.unwrap();
    rig.clock.advance_ms(deadline.ms_since(context.now()) + SKEW_MS + 1);
    rig.send(request("other", "safe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hold = rig.mcp.hold();
    let other = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 2).await;
    rig.send(answer().to_string()).await;
    rig.deliver(&context).await;
    assert!(rig.mcp.requests_of("tasks/update").is_empty(), "the limit is one");
    assert!(rig.row("c2").await.unwrap().finished.is_none());
    drop(hold);
    other.await.unwrap();
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.requests_of("tasks/update").len(), 1);
}

/// The entry was made while the limit counted tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_gives_its_permit_back_though_tasks_count_no_longer() {
    let (rig, _counting) =
        with_a_task(&[json!({ "status": "completed", "result": { "content": [] } })]).await;
    assert_eq!(permits(&rig).await.entries.len(), 1);
    let context = worker(&rig, &limited(&rig, json!({"concurrency": 1}))).await;
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    while !permits(&rig).await.entries.is_empty() {
        tokio::task::yield_now().await;
    }
}

/// A server that does not confirm may go on working: its permit ends at the call's deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permit_of_a_cancelled_task_is_free_once_its_server_confirms() {
    for confirms in [true, false] {
        let working = json!({ "status": "working", "pollIntervalMs": 5_000 });
        let (rig, context) = with_a_task(&[working]).await;
        let until = rig.row("c1").await.unwrap().deadline.unwrap();
        if !confirms {
            rig.mcp.always_for("tasks/cancel", MockFault::status(500));
        }
        cancel(&rig, "c1").await;
        rig.settle_with(&context).await;
        assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Cancelled);
        assert!(!rig.mcp.requests_of("tasks/cancel").is_empty());
        if confirms {
            while !permits(&rig).await.entries.is_empty() {
                tokio::task::yield_now().await;
            }
        } else {
            let kept: Vec<_> = permits(&rig).await.entries.into_values().collect();
            assert_eq!(kept, [until]);
        }
        rig.send(request("other", "safe").to_string()).await;
        rig.deliver(&context).await;
        assert_eq!(rig.mcp.executions_of("other") == 1, confirms);
    }
}
