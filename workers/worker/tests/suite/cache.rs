//! Stored answers: which calls are answered from an equal one, what is kept apart, and what a crash leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_aws::Tables;
use toolfleet_core::audit::AuditKind;
use toolfleet_core::call::HeldReason;
use toolfleet_core::limits::LimitKey;
use toolfleet_core::outcome::{MayHaveRun, OTHER_TENANT, OutcomeKind};
use toolfleet_worker::Limits;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::steps::{Step, Watch};

use crate::rig::{LEASE_MS, Rig, SENDER, SKEW_MS, limits, request};
use crate::step_watch::At;
use crate::waiting::cancel;

/// A request that asks for a stored answer; its arguments do not name it.
fn asks(id: &str) -> Value {
    let mut body = request(id, "safe");
    body["arguments"] = json!({"call": "same"});
    body["cache"] = json!(true);
    body
}

async fn context(rig: &Rig, cache: Value, watch: Option<Arc<dyn Watch>>) -> Arc<WorkerContext> {
    let mut catalog = rig.catalog();
    catalog["tools"][0]["cache"] = cache;
    catalog["tenants"]["senders"] = json!({SENDER: ["acme", "globex"]});
    rig.fleet_of(catalog, limits(), watch).await
}

/// Takes calls one after the other through a worker.
async fn run(rig: &Rig, context: &Arc<WorkerContext>, bodies: &[Value]) {
    for body in bodies {
        rig.send(body.to_string()).await;
        rig.deliver(context).await;
    }
}

/// The call whose stored answer a call was given.
async fn cached_from(rig: &Rig, id: &str) -> Option<String> {
    let row = rig.outcome(id).await.row;
    row.finished.unwrap().outcome.source.cached_from().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_equal_call_is_given_the_stored_answer() {
    let rig = Rig::new().await;
    let context = context(&rig, json!(true), None).await;
    run(&rig, &context, &[asks("c1"), asks("c2")]).await;
    let (first, second) = (rig.outcome("c1").await, rig.outcome("c2").await);
    assert_eq!((first.kind, second.kind), (OutcomeKind::Succeeded, OutcomeKind::Succeeded));
    assert_eq!(first.content, second.content);
    assert_eq!((second.row.attempts, second.row.started_at), (0, None), "one write, no claim");
    assert_eq!(second.row.definition, first.row.definition);
    assert_eq!(rig.mcp.executions("safe"), 1);
    for (id, from) in [("c1", None), ("c2", Some("c1"))] {
        assert_eq!(cached_from(&rig, id).await.as_deref(), from);
        let records = rig.audit_of(id, AuditKind::Call).await;
        assert_eq!(records.len(), 1, "{id}");
        assert_eq!(records[0].cached_from.as_deref(), from, "{id}");
    }
}

/// One after the other they would time out too, each at the end of its own time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_leader_that_timed_out_its_followers_are_sent_at_once() {
    let rig = Rig::new().await;
    let claimed = At::new(Step::Claimed);
    let context = context(&rig, json!(true), Some(claimed.clone())).await;
    let hold = rig.mcp.hold();
    let mut calls = Vec::new();
    for id in ["c1", "c2", "c3", "c4"] {
        let mut body = asks(id);
        if id == "c1" {
            body["timeout_ms"] = json!(3_000);
        }
        rig.send(body.to_string()).await;
        let delivery = rig.receive(&context).await.unwrap();
        calls.push(tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ())));
        rig.mcp.arrived("tools/call", 1).await;
    }
    claimed.reached(4).await;
    // All three are open at once: none of them is answered.
    let sent = tokio::time::timeout(Duration::from_secs(30), rig.mcp.arrived("tools/call", 4)).await;
    assert!(sent.is_ok(), "{} were sent", rig.mcp.requests_of("tools/call").len());
    drop(hold);
    for call in calls {
        call.await.unwrap();
    }
    // The first is tried again later.
    for id in ["c2", "c3", "c4"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_wish_a_rule_or_safety_every_call_is_sent() {
    let rig = Rig::new().await;
    let context = context(&rig, json!(true), None).await;
    let mut silent = asks("c2");
    silent["cache"] = json!(false);
    let mut other = asks("c3");
    other["arguments"] = json!({"call": "other"});
    run(&rig, &context, &[asks("c1"), silent, other]).await;
    assert_eq!(rig.mcp.executions("safe"), 3);
    let mut catalog = rig.catalog();
    catalog["tools"][1]["cache"] = json!(true);
    let context = rig.fleet_of(catalog, limits(), None).await;
    let on = |id, tool| {
        let mut body = asks(id);
        body["tool"] = json!(tool);
        body
    };
    // `safe` has no rule here; `unsafe` has one, and is not safe to repeat.
    let bodies = [on("d1", "safe"), on("d2", "safe"), on("d3", "unsafe"), on("d4", "unsafe")];
    run(&rig, &context, &bodies).await;
    assert_eq!((rig.mcp.executions("safe"), rig.mcp.executions("unsafe")), (5, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_other_tenants_and_users_are_kept_apart() {
    let rig = Rig::new().await;
    let of = |id: &str, tenant: &str, user: &str| {
        let mut body = asks(id);
        body["tenant"] = json!(tenant);
        body["user"] = json!({"id": user});
        body
    };
    let bodies = [of("c1", "acme", "ann"), of("c2", "acme", "bob"), of("c3", "globex", "ann")];
    let by_user = context(&rig, json!({"scope": "user"}), None).await;
    run(&rig, &by_user, &bodies).await;
    assert_eq!(rig.mcp.executions("safe"), 3);
    let bodies = [of("d1", "acme", "ann"), of("d2", "acme", "bob"), of("d3", "globex", "ann")];
    let by_tenant = context(&rig, json!({"scope": "tenant"}), None).await;
    run(&rig, &by_tenant, &bodies).await;
    assert_eq!(rig.mcp.executions("safe"), 5, "ann and bob share an answer");
    // Public in the catalog alone is not public.
    let bodies = [of("e1", "acme", "ann"), of("e2", "globex", "ann")];
    let public = context(&rig, json!({"scope": "public"}), None).await;
    run(&rig, &public, &bodies).await;
    assert_eq!(rig.mcp.executions("safe"), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_answer_serves_other_tenants_without_naming_the_call() {
    let rig = Rig::new().await;
    rig.mcp.tool("safe", |_| json!({"content": [], "cacheScope": "public"}));
    let context = context(&rig, json!({"scope": "public"}), None).await;
    let mut other = asks("c2");
    other["tenant"] = json!("globex");
    run(&rig, &context, &[asks("c1"), other]).await;
    assert_eq!(rig.mcp.executions("safe"), 1);
    let row = rig.row_of("globex", "c2").await.unwrap();
    assert_eq!(row.finished.unwrap().outcome.source.cached_from(), Some(OTHER_TENANT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_used_until_its_time_to_live_is_over() {
    let rig = Rig::new().await;
    let context = context(&rig, json!({"ttl_ms": 60_000}), None).await;
    run(&rig, &context, &[asks("c1")]).await;
    rig.clock.advance_ms(59_000);
    run(&rig, &context, &[asks("c2")]).await;
    assert_eq!(rig.mcp.executions("safe"), 1);
    rig.clock.advance_ms(1_000);
    run(&rig, &context, &[asks("c3")]).await;
    assert_eq!(rig.mcp.executions("safe"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_never_stored() {
    let rig = Rig::new().await;
    rig.mcp.tool("safe", |_| json!({"isError": true, "content": [{"type": "text", "text": "no"}]}));
    let context = context(&rig, json!(true), None).await;
    run(&rig, &context, &[asks("c1"), asks("c2")]).await;
    assert_eq!(rig.mcp.executions("safe"), 2);
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::ToolError);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_operation_is_stored_as_long_as_its_server_says() {
    let rig = Rig::new().await;
    let read = |id: &str| {
        json!({
            "v": 1, "call_id": id, "tenant": "acme", "server": "mock", "operation": "resources/read",
            "arguments": {"uri": "demo://a"}, "cache": true
        })
    };
    let context = context(&rig, json!(true), None).await;
    rig.mcp.method("resources/read", |_| json!({"contents": []}));
    run(&rig, &context, &[read("c1"), read("c2")]).await;
    assert_eq!(rig.mcp.requests_of("resources/read").len(), 2, "nobody allowed it");
    rig.mcp.method("resources/read", |_| json!({"contents": [], "ttlMs": 60_000}));
    run(&rig, &context, &[read("c3"), read("c4")]).await;
    assert_eq!(rig.mcp.requests_of("resources/read").len(), 3);
    assert_eq!(cached_from(&rig, "c4").await.as_deref(), Some("c3"));
}

/// Receives a call and runs it beside the test.
async fn begin(rig: &Rig, context: &Arc<WorkerContext>, id: &str) -> tokio::task::JoinHandle<()> {
    rig.send(asks(id).to_string()).await;
    let delivery = rig.receive(context).await.expect("a message to deliver");
    tokio::spawn(pipeline::run(context.clone(), delivery, ()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_follow_a_leader_send_no_request() {
    let rig = Rig::new().await;
    let claimed = At::new(Step::Claimed);
    let context = context(&rig, json!(true), Some(claimed.clone())).await;
    let hold = rig.mcp.hold();
    let mut calls = vec![begin(&rig, &context, "c1").await];
    rig.mcp.arrived("tools/call", 1).await;
    for id in ["c2", "c3", "c4"] {
        calls.push(begin(&rig, &context, id).await);
    }
    claimed.reached(4).await;
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 1);
    drop(hold);
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!((rig.mcp.requests_of("tools/call").len(), rig.mcp.executions("safe")), (1, 1));
    for id in ["c2", "c3", "c4"] {
        assert_eq!(cached_from(&rig, id).await.as_deref(), Some("c1"), "{id}");
        assert_eq!(rig.outcome(id).await.row.attempts, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_is_killed_the_next_follower_leads() {
    let rig = Rig::new().await;
    let claimed = At::new(Step::Claimed);
    let context = context(&rig, json!(true), Some(claimed.clone())).await;
    let hold = rig.mcp.hold();
    let leader = begin(&rig, &context, "c1").await;
    rig.mcp.arrived("tools/call", 1).await;
    let followers = [begin(&rig, &context, "c2").await, begin(&rig, &context, "c3").await];
    claimed.reached(3).await;
    leader.abort();
    rig.mcp.arrived("tools/call", 2).await;
    drop(hold);
    for follower in followers {
        follower.await.unwrap();
    }
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 2);
    let given = [cached_from(&rig, "c2").await, cached_from(&rig, "c3").await];
    assert_eq!(given.iter().flatten().count(), 1, "{given:?}");
    // The leader's message comes again, and finds the answer.
    rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_of_a_cached_call_loses_and_doubles_nothing() {
    use Step::{Acknowledged, Admitted, Decoded, Notified, Prepared, Recorded, ResultStored};
    for step in [Decoded, Admitted, Prepared, ResultStored, Recorded, Notified, Acknowledged] {
        let rig = Rig::new().await;
        let at = At::new(step);
        let first = context(&rig, json!(true), Some(at.clone())).await;
        run(&rig, &first, &[asks("c1")]).await;
        at.holds.store(true, Ordering::SeqCst);
        let cached = begin(&rig, &first, "c2").await;
        at.reached(2).await;
        cached.abort();
        rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
        rig.settle().await;
        let seen = rig.outcome("c2").await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{step:?}");
        assert_eq!(seen.content, rig.outcome("c1").await.content, "{step:?}");
        assert_eq!(rig.audit_of("c2", AuditKind::Call).await.len(), 1, "{step:?}");
        // Another worker has no stored answers: the call is sent unless its end was stored.
        let stored = !matches!(step, Decoded | Admitted | Prepared);
        assert_eq!(rig.mcp.executions("safe"), if stored { 1 } else { 2 }, "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_a_claim_lead_follow_and_are_answered() {
    let rig = Rig::new().await;
    // A third of the lease is the pause between heartbeats, in real time.
    let limits = Limits { lease: Duration::from_secs(2), ..limits() };
    let mut catalog = rig.catalog();
    catalog["tools"][0] = json!({
        "id": "safe", "server": "mock", "idempotent": true, "claimless": true, "cache": true, "timeout_ms": 60_000
    });
    let context = rig.fleet_of(catalog, limits, None).await;
    let hold = rig.mcp.hold();
    let mut calls = vec![begin(&rig, &context, "c1").await];
    rig.mcp.arrived("tools/call", 1).await;
    calls.push(begin(&rig, &context, "c2").await);
    // The heartbeat of the follower claims it: it waits for the leader.
    while rig.row("c2").await.is_none() {
        tokio::task::yield_now().await;
    }
    drop(hold);
    for call in calls {
        call.await.unwrap();
    }
    run(&rig, &context, &[asks("c3")]).await;
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 1);
    for (id, from) in [("c1", None), ("c2", Some("c1")), ("c3", Some("c1"))] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded, "{id}");
        assert_eq!(cached_from(&rig, id).await.as_deref(), from, "{id}");
    }
    assert_eq!(rig.row("c3").await.unwrap().rev, 1, "one write");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_answer_uses_no_turn_and_no_permit() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["tools"][0]["cache"] = json!(true);
    catalog["tools"][0]["limits"] = json!({"rate": "1/60s", "concurrency": 1});
    let context = rig.fleet_of(catalog, limits(), None).await;
    run(&rig, &context, &[asks("c1")]).await;
    let fleet = rig.direct.fleet(&Tables::with_prefix("toolfleet"));
    let limit: LimitKey = "tool:safe".parse().unwrap();
    let turns = fleet.turns(&limit).read().await.unwrap().unwrap().rev;
    run(&rig, &context, &[asks("c2"), asks("c3")]).await;
    for id in ["c2", "c3"] {
        assert_eq!(cached_from(&rig, id).await.as_deref(), Some("c1"), "{id}");
    }
    assert_eq!(fleet.turns(&limit).read().await.unwrap().unwrap().rev, turns);
    let mut other = asks("c4");
    other["arguments"] = json!({"call": "other"});
    run(&rig, &context, &[other]).await;
    assert_eq!(rig.row("c4").await.unwrap().held().unwrap().reason, HeldReason::RateLimit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_leader_is_its_own_and_the_next_one_leads() {
    let rig = Rig::new().await;
    let asked = AtomicUsize::new(0);
    rig.mcp
        .tool("safe", move |_| json!({"isError": asked.fetch_add(1, Ordering::SeqCst) == 0, "content": []}));
    let claimed = At::new(Step::Claimed);
    let context = context(&rig, json!(true), Some(claimed.clone())).await;
    let hold = rig.mcp.hold();
    let mut calls = vec![begin(&rig, &context, "c1").await];
    rig.mcp.arrived("tools/call", 1).await;
    for id in ["c2", "c3"] {
        calls.push(begin(&rig, &context, id).await);
    }
    claimed.reached(3).await;
    drop(hold);
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::ToolError);
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 2);
    let given = [cached_from(&rig, "c2").await, cached_from(&rig, "c3").await];
    assert!(given == [None, Some("c2".into())] || given == [Some("c3".into()), None], "{given:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_follower_has_not_run_and_a_cancelled_leader_passes_on() {
    let rig = Rig::new().await;
    let limits = Limits { lease: Duration::from_secs(3), ..limits() };
    let mut catalog = rig.catalog();
    catalog["tools"][0]["cache"] = json!(true);
    catalog["tools"][0]["timeout_ms"] = json!(60_000);
    let claimed = At::new(Step::Claimed);
    let context = rig.fleet_of(catalog, limits, Some(claimed.clone())).await;
    let hold = rig.mcp.hold();
    let leader = begin(&rig, &context, "c1").await;
    rig.mcp.arrived("tools/call", 1).await;
    let follower = begin(&rig, &context, "c2").await;
    claimed.reached(2).await;
    cancel(&rig, "c2").await;
    follower.await.unwrap();
    let second = begin(&rig, &context, "c3").await;
    claimed.reached(3).await;
    cancel(&rig, "c1").await;
    leader.await.unwrap();
    rig.mcp.arrived("tools/call", 2).await;
    drop(hold);
    second.await.unwrap();
    for (id, kind, ran) in [
        ("c1", OutcomeKind::Cancelled, Some(MayHaveRun::Unknown)),
        ("c2", OutcomeKind::Cancelled, Some(MayHaveRun::No)),
        ("c3", OutcomeKind::Succeeded, None),
    ] {
        let outcome = rig.outcome(id).await.row.finished.unwrap().outcome;
        assert_eq!((outcome.kind, outcome.error.map(|why| why.may_have_run)), (kind, ran), "{id}");
    }
    assert_eq!(cached_from(&rig, "c3").await, None);
}

#[tokio::test]
async fn a_changed_definition_gets_no_answer_of_the_one_before() {
    let rig = Rig::new().await;
    rig.mcp.lists_are_fresh(10_000, "public");
    let mut catalog = rig.catalog();
    catalog["servers"][0]["cache"] = json!({"ttl_ms": 3_600_000});
    let context = rig.fleet_of(catalog, limits(), None).await;
    let listed = |id: &str| json!({"v": 1, "call_id": id, "tenant": "acme", "server": "mock", "name": "hinted", "arguments": {}, "cache": true});
    run(&rig, &context, &[listed("c1"), listed("c2")]).await;
    assert_eq!(cached_from(&rig, "c2").await.as_deref(), Some("c1"));
    let described = rig.mcp.tool("hinted", |_| json!({"content": []}));
    described.annotations(json!({"readOnlyHint": true})).description("It means something else now");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(600)).await;
    tokio::time::resume();
    run(&rig, &context, &[listed("c3"), listed("c4")]).await;
    assert_eq!(cached_from(&rig, "c3").await, None);
    assert_eq!(cached_from(&rig, "c4").await.as_deref(), Some("c3"));
    assert_eq!(rig.mcp.executions("hinted"), 2);
}
