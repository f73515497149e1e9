//! Calls that are sent together: which calls form a batch, what each of them is given, and what ends one without the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use toolfleet_aws::Tables;
use toolfleet_core::audit::AuditKind;
use toolfleet_core::call::HeldReason;
use toolfleet_core::control::{CallFilter, CancelRule, ControlEntry, Strike};
use toolfleet_core::fleet::Minute;
use toolfleet_core::limits::LimitKey;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, OutcomeKind};
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::MockFault;
use toolfleet_worker::Limits;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::steps::{Step, Watch};
use toolfleet_worker::services::reporter::Reporter;

use crate::control::{now, set};
use crate::rig::{LEASE_MS, Rig, SENDER, SKEW_MS, limits, request};
use crate::step_watch::At;
use crate::waiting::cancel;

/// A call for the weather of a city.
fn weather(id: &str, city: &str) -> Value {
    let mut body = request(id, "weather");
    body["arguments"] = json!({"city": city, "units": "C"});
    body
}

/// A rig whose server takes a list of cities.
async fn rig() -> Rig {
    let rig = Rig::new().await;
    rig.mcp.tool("weather", |arguments| {
        let cities = arguments["city"].as_array().cloned().unwrap_or_default();
        let skies: Vec<_> = cities.iter().map(|city| json!({"city": city, "sky": "blue"})).collect();
        json!({"content": [], "structuredContent": {"result": skies}})
    });
    rig
}

fn catalog(rig: &Rig, max: usize, wait_ms: u64) -> Value {
    let mut catalog = rig.catalog();
    let tool = json!({
        "id": "weather", "server": "mock", "idempotent": true, "timeout_ms": 60_000,
        "batch": {"argument": "city", "max": max, "wait_ms": wait_ms}
    });
    catalog["tools"].as_array_mut().unwrap().push(tool);
    catalog["tenants"]["senders"] = json!({SENDER: ["acme", "globex"]});
    catalog
}

/// A worker that sends batches of `max` calls, and waits long for them.
async fn worker(rig: &Rig, max: usize, watch: Option<Arc<dyn Watch>>) -> Arc<WorkerContext> {
    rig.fleet_of(catalog(rig, max, 5_000), limits(), watch).await
}

/// Runs calls beside each other and beside the test.
async fn begin(rig: &Rig, context: &Arc<WorkerContext>, bodies: &[Value]) -> Vec<JoinHandle<()>> {
    let mut calls = Vec::new();
    for body in bodies {
        rig.send(body.to_string()).await;
        let delivery = rig.receive(context).await.expect("a message to deliver");
        calls.push(tokio::spawn(pipeline::run(Arc::clone(context), delivery, ())));
    }
    calls
}

async fn run(rig: &Rig, context: &Arc<WorkerContext>, bodies: &[Value]) {
    for ended in join_all(begin(rig, context, bodies).await).await {
        ended.unwrap();
    }
}

/// The cities of each request, in the order of their names.
fn requests(rig: &Rig) -> Vec<Vec<String>> {
    let cities = |body: &Value| {
        let list =
            body.pointer("/params/arguments/city").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut names: Vec<_> = list.iter().map(|city| city.as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    rig.mcp.requests_of("tools/call").iter().map(|request| cities(&request.body)).collect()
}

async fn error(rig: &Rig, id: &str) -> CallError {
    rig.outcome(id).await.row.finished.unwrap().outcome.error.unwrap()
}

async fn batch_of(rig: &Rig, id: &str) -> Option<String> {
    rig.outcome(id).await.row.finished.unwrap().outcome.source.batch().map(str::to_owned)
}

/// That a call has the sky of its own city.
async fn assert_answered(rig: &Rig, id: &str, city: &str) {
    let seen = rig.outcome(id).await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{id}");
    let result: Value = serde_json::from_str(seen.content.as_deref().unwrap()).unwrap();
    assert_eq!(result["structuredContent"], json!({"city": city, "sky": "blue"}), "{id}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_sent_as_one_and_answered_one_by_one() {
    let rig = rig().await;
    let context = worker(&rig, 3, None).await;
    run(&rig, &context, &[weather("c1", "Paris"), weather("c2", "Rome"), weather("c3", "Oslo")]).await;
    assert_eq!(requests(&rig), [["Oslo", "Paris", "Rome"]]);
    let sent = &rig.mcp.requests_of("tools/call")[0];
    assert_eq!(sent.body.pointer("/params/arguments/units"), Some(&json!("C")));
    let id = batch_of(&rig, "c1").await;
    assert!(["c1#1", "c2#1", "c3#1"].contains(&id.as_deref().unwrap()), "{id:?}");
    for (call, city) in [("c1", "Paris"), ("c2", "Rome"), ("c3", "Oslo")] {
        assert_answered(&rig, call, city).await;
        assert_eq!(rig.row(call).await.unwrap().attempts, 1, "{call}");
        let records = rig.audit_of(call, AuditKind::Call).await;
        assert_eq!(records.len(), 1, "{call}");
        assert_eq!((&records[0].batch, records[0].attempts), (&id, 1), "{call}");
    }
}

/// Each answer alone is small enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_batch_whose_answer_is_too_large_are_sent_alone() {
    let rig = rig().await;
    rig.mcp.tool("weather", |arguments| {
        let cities = arguments["city"].as_array().cloned().unwrap_or_default();
        let skies = cities.iter().map(|city| json!({"city": city, "sky": "blue".repeat(10_000)}));
        json!({"content": [], "structuredContent": {"result": skies.collect::<Vec<_>>()}})
    });
    let mut catalog = catalog(&rig, 3, 5_000);
    let tools = catalog["tools"].as_array_mut().unwrap();
    tools.last_mut().unwrap()["max_attempts"] = json!(1);
    let context = rig.fleet_of(catalog, limits(), None).await;
    run(&rig, &context, &[weather("c1", "Paris"), weather("c2", "Rome"), weather("c3", "Oslo")]).await;
    let mut sent = requests(&rig);
    sent.sort();
    assert_eq!(sent, [vec!["Oslo"], vec!["Oslo", "Paris", "Rome"], vec!["Paris"], vec!["Rome"]]);
    for id in ["c1", "c2", "c3"] {
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 1), "{id}: {}", seen.message);
        assert_eq!(batch_of(&rig, id).await, Some(format!("{id}#1")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_its_server_refuses_for_its_size_is_sent_call_by_call() {
    let rig = rig().await;
    let context = worker(&rig, 2, None).await;
    rig.mcp.next(MockFault::status(413));
    run(&rig, &context, &[weather("c1", "Paris"), weather("c2", "Rome")]).await;
    assert_answered(&rig, "c1", "Paris").await;
    assert_answered(&rig, "c2", "Rome").await;
    assert_eq!(requests(&rig).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_company_is_sent_after_its_wait_as_a_list_of_one() {
    let rig = rig().await;
    let context = rig.fleet_of(catalog(&rig, 10, 20), limits(), None).await;
    run(&rig, &context, &[weather("c1", "Paris")]).await;
    assert_eq!(requests(&rig), [["Paris"]]);
    assert_answered(&rig, "c1", "Paris").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_tenants_users_sessions_and_arguments_are_sent_apart() {
    let rig = rig().await;
    let context = rig.fleet_of(catalog(&rig, 10, 300), limits(), None).await;
    let with = |id: &str, city: &str, field: &str, value: Value| {
        let mut body = weather(id, city);
        body[field] = value;
        body
    };
    let bodies = [
        weather("c1", "a"),
        with("c2", "b", "tenant", json!("globex")),
        with("c3", "c", "user", json!({"id": "ann"})),
        with("c4", "d", "session", json!("s1")),
        with("c5", "e", "arguments", json!({"city": "e", "units": "F"})),
        weather("c6", "f"),
    ];
    run(&rig, &context, &bodies).await;
    let mut sent = requests(&rig);
    sent.sort();
    assert_eq!(sent, [vec!["a", "f"], vec!["b"], vec!["c"], vec!["d"], vec!["e"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_another_length_fails_every_member_and_is_kept_by_none() {
    let rig = rig().await;
    rig.mcp.tool("weather", |_| json!({"content": [], "structuredContent": {"result": ["secret"]}}));
    let context = worker(&rig, 2, None).await;
    run(&rig, &context, &[weather("c1", "Paris"), weather("c2", "Rome")]).await;
    for id in ["c1", "c2"] {
        let why = error(&rig, id).await;
        assert_eq!((why.code, why.may_have_run), (Code::InvalidAnswer, MayHaveRun::Yes), "{id}");
        assert!(
            why.message.contains("a list of 2 results, but its list in `structuredContent` has the length 1")
        );
        assert!(rig.outcome(id).await.content.is_none(), "{id}");
        assert!(batch_of(&rig, id).await.is_some(), "{id}");
    }
    assert_eq!(requests(&rig).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_whole_is_every_members() {
    let rig = rig().await;
    rig.mcp.tool("weather", |_| json!({"isError": true, "content": [{"type": "text", "text": "closed"}]}));
    let context = worker(&rig, 2, None).await;
    run(&rig, &context, &[weather("c1", "Paris"), weather("c2", "Rome")]).await;
    for id in ["c1", "c2"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::ToolError, "{id}");
        assert_eq!(error(&rig, id).await.message, "closed", "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_batch_its_members_are_sent_together_again() {
    let rig = rig().await;
    rig.mcp.next(MockFault::status(500));
    let context = worker(&rig, 2, None).await;
    run(&rig, &context, &[weather("c1", "Paris"), weather("c2", "Rome")]).await;
    rig.settle_with(&context).await;
    assert_eq!(requests(&rig), [["Paris", "Rome"], ["Paris", "Rome"]]);
    for (id, city) in [("c1", "Paris"), ("c2", "Rome")] {
        assert_answered(&rig, id, city).await;
        assert_eq!(rig.row(id).await.unwrap().attempts, 2, "{id}");
        assert!(batch_of(&rig, id).await.unwrap().ends_with("#2"), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cancelled_while_the_batch_forms_leaves_it() {
    let rig = rig().await;
    // A third of the lease is the pause between heartbeats, in real time.
    let limits = Limits { lease: Duration::from_secs(2), ..limits() };
    let claimed = At::new(Step::Claimed);
    let context = rig.fleet_of(catalog(&rig, 3, 5_000), limits, Some(claimed.clone())).await;
    let leader = begin(&rig, &context, &[weather("c1", "Paris")]).await;
    claimed.reached(1).await;
    let mut others = begin(&rig, &context, &[weather("c2", "Rome")]).await;
    claimed.reached(2).await;
    cancel(&rig, "c1").await;
    join_all(leader).await;
    others.extend(begin(&rig, &context, &[weather("c3", "Oslo"), weather("c4", "Bern")]).await);
    join_all(others).await;
    assert_eq!(requests(&rig), [["Bern", "Oslo", "Rome"]]);
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Cancelled);
    assert_eq!(error(&rig, "c1").await.may_have_run, MayHaveRun::No);
    assert_eq!((batch_of(&rig, "c1").await, rig.row("c1").await.unwrap().attempts), (None, 0));
    for (id, city) in [("c2", "Rome"), ("c3", "Oslo"), ("c4", "Bern")] {
        assert_answered(&rig, id, city).await;
    }
}

/// What an operator sets while the batch forms counts for each member, the leader too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_or_struck_member_leaves_before_its_batch_is_sent() {
    let rig = rig().await;
    let claimed = At::new(Step::Claimed);
    let context = worker(&rig, 4, Some(claimed.clone())).await;
    let mut calls = begin(&rig, &context, &[weather("cancelled", "Rome")]).await;
    claimed.reached(1).await;
    let sent_before = now(&rig).plus_ms(1);
    rig.clock.advance_ms(2);
    calls.extend(begin(&rig, &context, &[weather("struck", "Paris")]).await);
    claimed.reached(2).await;
    calls.extend(begin(&rig, &context, &[weather("c3", "Oslo")]).await);
    claimed.reached(3).await;
    let struck = CallRequest::decode(&weather("struck", "Paris").to_string()).unwrap();
    let strike = Strike {
        digest: struck.digest.to_string(),
        by: "ann".into(),
        why: "it breaks the server".into(),
        since: now(&rig),
        until: None,
    };
    let filter = CallFilter { tenant: None, tool: Some("weather".into()), session: None, sent_before };
    let rule = CancelRule {
        id: "r1".into(),
        filter,
        by: "ann".into(),
        why: "no more".into(),
        since: now(&rig),
        until: now(&rig).plus_ms(3_600_000),
    };
    set(&rig, &context, &ControlEntry::Strike(strike)).await;
    set(&rig, &context, &ControlEntry::Cancel(rule)).await;
    calls.extend(begin(&rig, &context, &[weather("c4", "Bern")]).await);
    join_all(calls).await;
    assert_eq!(requests(&rig), [["Bern", "Oslo"]]);
    let struck = rig.row("struck").await.unwrap();
    let held = struck.held().map(|held| held.reason);
    assert_eq!((struck.attempts, held), (0, Some(HeldReason::Paused)), "{struck:?}");
    let cancelled = error(&rig, "cancelled").await;
    assert_eq!((cancelled.code, cancelled.may_have_run), (Code::CancelledByOperator, MayHaveRun::No));
    for (id, city) in [("c3", "Oslo"), ("c4", "Bern")] {
        assert_answered(&rig, id, city).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_one_member_and_the_others_are_answered() {
    let rig = rig().await;
    let context = worker(&rig, 2, None).await;
    let hold = rig.mcp.hold();
    let mut short = weather("c1", "Paris");
    short["timeout_ms"] = json!(700);
    let ends = begin(&rig, &context, &[short]).await;
    let stays = begin(&rig, &context, &[weather("c2", "Rome")]).await;
    rig.mcp.arrived("tools/call", 1).await;
    join_all(ends).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::TimedOut);
    assert_eq!(error(&rig, "c1").await.may_have_run, MayHaveRun::Unknown);
    drop(hold);
    join_all(stays).await;
    assert_eq!(requests(&rig), [["Paris", "Rome"]]);
    assert_answered(&rig, "c2", "Rome").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_takes_one_turn_and_one_permit() {
    let rig = rig().await;
    let mut catalog = catalog(&rig, 3, 5_000);
    let tool = catalog["tools"].as_array_mut().unwrap().last_mut().unwrap();
    tool["limits"] = json!({"rate": "1/10s", "concurrency": 1});
    let context = rig.fleet_of(catalog, limits(), None).await;
    let bodies: Vec<_> = (0..6).map(|n| weather(&format!("c{n}"), &format!("city {n}"))).collect();
    run(&rig, &context, &bodies[..3]).await;
    assert_eq!(requests(&rig), [["city 0", "city 1", "city 2"]]);
    let fleet = rig.direct.fleet(&Tables::with_prefix("toolfleet"));
    let limit: LimitKey = "tool:weather".parse().unwrap();
    assert_eq!(fleet.turns(&limit).read().await.unwrap().unwrap().ahead.len(), 1);
    // The next batch waits for its turn, and its members with it.
    run(&rig, &context, &bodies[3..]).await;
    assert_eq!(requests(&rig).len(), 1);
    for n in 3..6 {
        let row = rig.row(&format!("c{n}")).await.unwrap();
        assert_eq!((row.attempts, row.held().unwrap().reason), (0, HeldReason::RateLimit), "c{n}");
    }
    // They come back together, and the one whose message carries the turn leads, whichever is received first.
    let given = fleet.turns(&limit).read().await.unwrap().unwrap().rev;
    rig.clock.advance_ms(10_400);
    let mut calls = Vec::new();
    while let Some(delivery) = rig.receive(&context).await {
        calls.push(tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ())));
    }
    join_all(calls).await;
    assert_eq!(requests(&rig)[1..], [["city 3", "city 4", "city 5"]]);
    assert_eq!(fleet.turns(&limit).read().await.unwrap().unwrap().rev, given, "the carried turn is used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_loses_and_doubles_nothing() {
    use Step::{Acknowledged, Claimed, Executed, Notified, Prepared, Recorded, ResultStored};
    for step in [Prepared, Claimed, Executed, ResultStored, Recorded, Notified, Acknowledged] {
        let rig = rig().await;
        let at = At::new(step);
        at.holds.store(true, Ordering::SeqCst);
        let killed = worker(&rig, 2, Some(at.clone())).await;
        let calls = begin(&rig, &killed, &[weather("c1", "Paris"), weather("c2", "Rome")]).await;
        at.reached(2).await;
        calls.iter().for_each(JoinHandle::abort);
        rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
        rig.settle_with(&rig.fleet_of(catalog(&rig, 2, 20), limits(), None).await).await;
        for (id, city) in [("c1", "Paris"), ("c2", "Rome")] {
            assert_answered(&rig, id, city).await;
            assert_eq!(rig.audit_of(id, AuditKind::Call).await.len(), 1, "{step:?} {id}");
        }
        let stored = !matches!(step, Prepared | Claimed | Executed);
        assert!(!stored || requests(&rig).len() == 1, "{step:?}: no call that has ended is sent again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_known_to_be_read_only_is_sent_alone() {
    for (hint, sent) in [(false, 2), (true, 1)] {
        let rig = rig().await;
        let tool = rig.mcp.tool("weather", |arguments| json!({"content": arguments["city"].as_array().unwrap().iter().map(|city| json!({"type": "text", "text": city})).collect::<Vec<_>>()}));
        tool.annotations(json!({"readOnlyHint": hint}));
        let mut catalog = catalog(&rig, 2, 5_000);
        catalog["tools"].as_array_mut().unwrap().last_mut().unwrap()["idempotent"] = json!(false);
        let context = rig.fleet_of(catalog, limits(), None).await;
        run(&rig, &context, &[weather("c1", "Paris"), weather("c2", "Rome")]).await;
        assert_eq!(requests(&rig).len(), sent, "readOnlyHint {hint}");
        for (id, city) in [("c1", "Paris"), ("c2", "Rome")] {
            let result: Value =
                serde_json::from_str(rig.outcome(id).await.content.as_deref().unwrap()).unwrap();
            assert_eq!(result, json!({"content": [{"type": "text", "text": city}]}), "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_the_argument_is_refused() {
    let rig = rig().await;
    let context = worker(&rig, 2, None).await;
    let mut body = weather("c1", "Paris");
    body["arguments"] = json!({"town": "Paris"});
    run(&rig, &context, &[body]).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Refused);
    let why = error(&rig, "c1").await;
    assert_eq!(why.code, Code::InvalidArguments);
    assert!(why.message.contains("`city` is missing"), "{}", why.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_stored_counted_and_need_no_claim() {
    let rig = rig().await;
    let mut catalog = catalog(&rig, 2, 5_000);
    let tool = catalog["tools"].as_array_mut().unwrap().last_mut().unwrap();
    tool["cache"] = json!(true);
    tool["claimless"] = json!(true);
    let context = rig.fleet_of(catalog, limits(), None).await;
    let cached = |id: &str, city: &str| {
        let mut body = weather(id, city);
        body["cache"] = json!(true);
        body
    };
    run(&rig, &context, &[cached("c1", "Paris"), cached("c2", "Rome")]).await;
    run(&rig, &context, &[cached("c3", "Rome")]).await;
    assert_eq!(requests(&rig), [["Paris", "Rome"]]);
    for (id, city) in [("c1", "Paris"), ("c2", "Rome"), ("c3", "Rome")] {
        assert_answered(&rig, id, city).await;
        assert_eq!(rig.row(id).await.unwrap().rev, 1, "{id}: one write");
    }
    let source = rig.row("c3").await.unwrap().finished.unwrap().outcome.source;
    assert_eq!(source.cached_from(), Some("c2"));
    // One request for three calls: the counts of `toolfleet stats`.
    Reporter::new(Arc::clone(&context)).report_last().await;
    let minute = Minute::of(Timestamp::from_ms(i64::try_from(rig.clock.now_ms()).unwrap()));
    let fleet = rig.direct.fleet(&Tables::with_prefix("toolfleet"));
    let rollup = fleet.rollups("weather", minute, minute).await.unwrap().remove(0).1;
    assert_eq!((rollup.calls.total(), rollup.batched, rollup.batches), (3, 2, 1));
    assert_eq!((rollup.cached, rollup.cache_misses, rollup.saved()), (1, 2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_or_a_question_for_a_batch_is_no_answer() {
    let task = json!({"resultType": "task", "taskId": "t1", "status": "working", "ttlMs": null, "pollIntervalMs": 5_000});
    let question = json!({"resultType": "input_required", "inputRequests": {}, "requestState": "s"});
    for (answer, says, cancelled) in [(task, "answers with a task", 1), (question, "asks for input", 0)] {
        let rig = rig().await;
        rig.mcp.tool("weather", move |_| answer.clone());
        rig.mcp.task("t1", &[json!({"status": "working", "pollIntervalMs": 5_000})]);
        let context = worker(&rig, 2, None).await;
        run(&rig, &context, &[weather("c1", "Paris"), weather("c2", "Rome")]).await;
        for id in ["c1", "c2"] {
            let why = error(&rig, id).await;
            assert_eq!(why.code, Code::InvalidAnswer, "{says}");
            assert!(why.message.contains(says), "{}", why.message);
        }
        assert_eq!(rig.mcp.requests_of("tasks/cancel").len(), cancelled, "{says}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_all_members_have_left_is_given_up() {
    let rig = rig().await;
    rig.mcp.next(MockFault::ExecuteAndNeverAnswer);
    let context = worker(&rig, 2, None).await;
    let bodies = [("c1", "Paris"), ("c2", "Rome")].map(|(id, city)| {
        let mut body = weather(id, city);
        body["timeout_ms"] = json!(900);
        body
    });
    run(&rig, &context, &bodies).await;
    rig.mcp.hung_up(1).await;
    for id in ["c1", "c2"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::TimedOut, "{id}");
        assert_eq!(error(&rig, id).await.may_have_run, MayHaveRun::Unknown, "{id}");
        assert!(batch_of(&rig, id).await.is_some(), "{id}: the record names the batch");
    }
}
