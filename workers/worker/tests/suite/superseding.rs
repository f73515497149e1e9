//! Calls with a `supersede` key: the newest that was not started runs, the older ones end as cancelled.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_core::audit::AuditKind;
use toolfleet_core::ids::Tenant;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::MockFault;
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::steps::Step;

use crate::limits::{limited, server, worker};
use crate::rig::{LEASE_MS, Rig, SKEW_MS, request};

fn keyed(id: &str, key: &str) -> Value {
    let mut body = request(id, "unsafe");
    body["supersede"] = json!(key);
    body
}

/// Sends calls of one key, each a second after the one before.
async fn send(rig: &Rig, ids: &[&str]) {
    for id in ids {
        rig.send(keyed(id, "report").to_string()).await;
        rig.clock.advance_ms(1_000);
    }
}

async fn assert_replaced(rig: &Rig, id: &str, by: &str) {
    let seen = rig.outcome(id).await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Cancelled, Some("superseded")), "{id}");
    assert_eq!(seen.may_have_run, Some(MayHaveRun::No), "{id}");
    assert!(seen.message.contains(&format!("`{by}`")), "{id}: {}", seen.message);
    let record = rig.audit_of(id, AuditKind::Call).await.remove(0);
    assert!(record.message.as_deref().is_some_and(|text| text.contains(by)), "{record:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_queued_call_of_a_key_runs_and_the_older_ones_are_cancelled() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    // All of them are received before the first is processed, and processed out of order.
    send(&rig, &["c1", "c2", "c3"]).await;
    let mut received = Vec::new();
    while let Some(delivery) = rig.receive(&context).await {
        received.push(delivery);
    }
    received.sort_by_key(|delivery| std::cmp::Reverse(delivery.sent_at));
    for delivery in received {
        pipeline::run(context.clone(), delivery, ()).await;
    }
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("c3").await.kind, OutcomeKind::Succeeded);
    assert_replaced(&rig, "c1", "c3").await;
    assert_replaced(&rig, "c2", "c3").await;
    assert_eq!(rig.mcp.executions("unsafe"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_call_is_replaced_and_one_that_was_started_goes_on() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    let mut later = keyed("waits", "report");
    later["not_before"] = json!(Timestamp::from_ms(i64::try_from(rig.clock.now_ms() + 600_000).unwrap()));
    rig.send(later.to_string()).await;
    rig.deliver(&context).await;
    rig.clock.advance_ms(1_000);
    // It is started, and waits for its second attempt.
    rig.mcp.next(MockFault::status_with(429, "retry-after", "60"));
    rig.send(keyed("started", "report").to_string()).await;
    rig.deliver(&context).await;
    assert!(rig.row("started").await.unwrap().started_at.is_some());
    rig.clock.advance_ms(1_000);
    rig.send(keyed("newest", "report").to_string()).await;
    rig.deliver(&context).await;
    rig.clock.advance_ms(600_000);
    rig.settle_with(&context).await;
    for id in ["started", "newest"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded, "{id}");
    }
    assert_replaced(&rig, "waits", "newest").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_leaves_exactly_one_winner() {
    for step in Step::ALL {
        let rig = Rig::new().await;
        send(&rig, &["c1", "c2"]).await;
        rig.crash_after(step).await;
        rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
        rig.settle().await;
        let (c1, c2) = (rig.outcome("c1").await, rig.outcome("c2").await);
        // The older one may have been started before the newer one was received; it is never the newer one that ends.
        assert_ne!(c2.code, Some("superseded"), "{step:?}");
        assert!(c1.code != Some("superseded") || rig.mcp.executions_of("c1") == 0, "{step:?}");
    }
}

/// The newer call comes while the older one, which was the newest when it was received, waits in the worker's hands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_in_hand_is_replaced_before_it_starts() {
    let rig = Rig::new().await;
    let context = worker(&rig, &limited(&rig, json!({"concurrency": 1}))).await;
    rig.send(request("c0", "unsafe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hold = rig.mcp.hold();
    let mut runs = vec![tokio::spawn(pipeline::run(context.clone(), delivery, ()))];
    rig.mcp.arrived("tools/call", 1).await;
    for (id, waiting) in [("older", 1), ("newer", 2)] {
        send(&rig, &[id]).await;
        let delivery = rig.receive(&context).await.unwrap();
        runs.push(tokio::spawn(pipeline::run(context.clone(), delivery, ())));
        while context.limiter.waiting(&server()) < waiting {
            tokio::task::yield_now().await;
        }
    }
    // One that waited for less than 50 ms since it was offered is not offered again.
    let waits_since = Instant::now();
    while waits_since.elapsed() < Duration::from_millis(60) {
        tokio::task::yield_now().await;
    }
    drop(hold);
    for run in runs {
        run.await.unwrap();
    }
    rig.settle_with(&context).await;
    assert_replaced(&rig, "older", "newer").await;
    assert_eq!(rig.outcome("newer").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.executions_of("older"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_of_the_winner_does_not_cancel_it() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    send(&rig, &["c1", "c2", "c1", "c2"]).await;
    let mut received = Vec::new();
    while let Some(delivery) = rig.receive(&context).await {
        received.push(delivery);
    }
    // The later message of the older call comes last: it has lost by then.
    received.sort_by_key(|delivery| delivery.sent_at);
    received.swap(0, 1);
    for delivery in received {
        pipeline::run(context.clone(), delivery, ()).await;
    }
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::Succeeded);
    assert_replaced(&rig, "c1", "c2").await;
    assert_eq!(rig.mcp.executions("unsafe"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_other_texts_and_other_tenants_replace_nothing() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["tenants"]["senders"] = json!({crate::rig::SENDER: ["acme", "globex"]});
    let context = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    rig.send(keyed("c1", "a").to_string()).await;
    rig.send(keyed("c2", "b").to_string()).await;
    let mut other = keyed("c3", "a");
    other["tenant"] = json!("globex");
    rig.send(other.to_string()).await;
    rig.send(request("c4", "unsafe").to_string()).await;
    rig.settle_with(&context).await;
    assert_eq!(rig.mcp.executions("unsafe"), 4);
    assert!(rig.row_of("globex", "c3").await.unwrap().finished.is_some());
    let audit = rig.audit(&Tenant::parse("acme").unwrap()).await;
    assert!(audit.iter().all(|record| record.outcome == OutcomeKind::Succeeded), "{audit:?}");
}
