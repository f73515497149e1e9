//! Dead letters: each gets one end, one audit record and a notice, also when a reaper crashes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_aws::queue::{Delivery, Outgoing, Queue};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::ids::Tenant;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_core::time::Timestamp;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline::steps::Step;
use toolfleet_worker::pipeline::{self, Reaped};
use toolfleet_worker::services::reaper::Reaper;

use crate::rig::{CrashAfter, LEASE_MS, Rig, SKEW_MS, request, run_service};

/// `MaxReceiveCount` of data.yaml.
const MOST_RECEIVES: u32 = 8;

fn dead(rig: &Rig) -> Queue {
    rig.direct.queue(rig.local.queue_url("toolfleet-calls-dlq"))
}

fn telling(rig: &Rig, id: &str, tool: &str) -> Value {
    let mut request = request(id, tool);
    request["reply"] = json!({"sqs_queue_url": rig.local.queue_url("toolfleet-replies")});
    request
}

/// Receives the queue's only message until it goes to the dead-letter queue.
async fn give_up(rig: &Rig) {
    for _ in 0..=MOST_RECEIVES {
        rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
        for delivery in rig.queue().receive(1, 0, 1).await.unwrap() {
            rig.queue().change_visibility(&delivery.receipt, 0).await.unwrap();
        }
    }
    assert_eq!(dead(rig).depth().await.unwrap().visible, 1, "it lies in the dead-letter queue");
}

async fn dead_letter(context: &WorkerContext) -> Option<Delivery> {
    let queue = &context.dead_letters.as_ref().unwrap().queue;
    queue.receive(1, 0, context.limits.visibility_s()).await.ok()?.pop()
}

async fn reap(context: &Arc<WorkerContext>) -> Reaped {
    let delivery = dead_letter(context).await.expect("a dead letter");
    pipeline::reap(context.clone(), context.dead_letters.clone().unwrap(), delivery).await
}

/// Reaps with a worker that dies right after `step`.
async fn crash_after(rig: &Rig, step: Step) {
    let crash = CrashAfter::new(step);
    let context = rig.context(Some(crash.clone())).await;
    tokio::select! {
        reaped = reap(&context) => panic!("the dead letter passed by {step:?}: {reaped:?}"),
        () = crash.reached.notified() => {}
    }
}

/// Reaps with a healthy worker until the dead-letter queue holds nothing.
async fn settle(rig: &Rig) {
    let context = rig.context(None).await;
    for _ in 0..50 {
        while dead(rig).depth().await.unwrap().visible > 0 {
            reap(&context).await;
        }
        if dead(rig).depth().await.unwrap().in_flight == 0 {
            return;
        }
        rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
    }
    panic!("the dead-letter queue still holds messages");
}

async fn notices(rig: &Rig) -> Vec<Value> {
    let replies = rig.direct.queue(rig.local.queue_url("toolfleet-replies"));
    let got = replies.receive(10, 0, 1).await.unwrap();
    got.iter().map(|d| serde_json::from_str(&d.body).unwrap()).collect()
}

/// What stood of the call when its message was given up, and how it must end.
const BEFORE: [(Option<Step>, &str, OutcomeKind, Option<MayHaveRun>); 4] = [
    (None, "safe", OutcomeKind::Failed, Some(MayHaveRun::No)),
    (Some(Step::Claimed), "unsafe", OutcomeKind::OutcomeUnknown, Some(MayHaveRun::Unknown)),
    (Some(Step::Executed), "unsafe", OutcomeKind::OutcomeUnknown, Some(MayHaveRun::Unknown)),
    (Some(Step::ResultStored), "unsafe", OutcomeKind::Succeeded, None),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_ends_once_though_the_reaper_crashes_anywhere() {
    let steps = [Step::Decoded, Step::ResultStored, Step::Recorded, Step::Notified, Step::Acknowledged];
    for (before, tool, kind, may_have_run) in BEFORE {
        // What has ended is not stored a second time.
        let ended = before == Some(Step::ResultStored);
        for step in steps.into_iter().filter(|step| !(ended && *step == Step::ResultStored)) {
            let context =
                format!("a worker died after {before:?} of a call of `{tool}`, its reaper after {step:?}");
            let rig = Rig::new().await;
            rig.send(telling(&rig, "c1", tool).to_string()).await;
            if let Some(before) = before {
                rig.crash_after(before).await;
            }
            give_up(&rig).await;
            crash_after(&rig, step).await;
            settle(&rig).await;

            let seen = rig.outcome("c1").await;
            assert_eq!((seen.kind, seen.may_have_run), (kind, may_have_run), "{context}: {}", seen.message);
            if kind != OutcomeKind::Succeeded {
                assert_eq!(seen.code, Some("dead_lettered"), "{context}");
            }
            let audit = rig.audit_of("c1", AuditKind::Call).await;
            assert_eq!(audit.len(), 1, "{context}: {audit:?}");
            assert_eq!(audit[0].outcome, kind, "{context}");
            let caller = seen.row.caller.expect("who asked");
            assert_eq!(
                (audit[0].sender.clone(), audit[0].message_id.clone()),
                (caller.sender, caller.message_id)
            );
            assert!(audit[0].message_id.is_some() && audit[0].sender.is_some(), "{context}: {audit:?}");
            assert!(rig.audit_of("c1", AuditKind::Duplicate).await.is_empty(), "{context}");
            let told = notices(&rig).await;
            assert!(!told.is_empty(), "{context}: the caller is told");
            assert!(
                told.iter().all(|n| n["call_id"] == "c1" && n["outcome"] == kind.as_str()),
                "{context}: {told:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_a_live_worker_holds_is_left_to_it() {
    let rig = Rig::new().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.crash_after(Step::Prepared).await;
    give_up(&rig).await;
    // The same call once more, held by a worker that lives.
    rig.send(request("c1", "unsafe").to_string()).await;
    let context = rig.context(None).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hold = rig.mcp.hold();
    let live = tokio::spawn(pipeline::run(context.clone(), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    assert_eq!(reap(&context).await, Reaped::Met);
    assert!(rig.row("c1").await.unwrap().finished.is_none(), "the holder is not overtaken");
    drop(hold);
    live.await.unwrap();
    settle(&rig).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.audit_of("c1", AuditKind::Call).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_dead_letter_is_recorded_once_and_kept() {
    let rig = Rig::new().await;
    rig.send("not json").await;
    give_up(&rig).await;
    for _ in 0..2 {
        let context = rig.context(None).await;
        for _ in 0..2 {
            let letter = dead_letter(&context).await.expect("it stays");
            let receipt = letter.receipt.clone();
            let reaped = pipeline::reap(context.clone(), context.dead_letters.clone().unwrap(), letter).await;
            assert!(matches!(reaped, Reaped::NotDue { .. }), "{reaped:?}");
            dead(&rig).change_visibility(&receipt, 0).await.unwrap();
        }
    }
    let records = rig.audit(&Tenant::undecodable()).await;
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((records[0].kind, records[0].code.as_deref()), (AuditKind::Undecodable, Some("undecodable")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_of_an_unknown_sender_is_under_no_tenant() {
    let rig = Rig::new().await;
    let mut foreign = request("c1", "safe");
    foreign["tenant"] = json!("globex");
    rig.send(foreign.to_string()).await;
    give_up(&rig).await;
    settle(&rig).await;
    assert_eq!(rig.audit(&Tenant::tenant_not_allowed()).await.len(), 1);
    assert!(rig.audit(&Tenant::parse("globex").unwrap()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_is_not_due_can_be_redriven_and_run() {
    let rig = Rig { reap_after: Duration::from_secs(1800), ..Rig::new().await };
    rig.send(request("c1", "safe").to_string()).await;
    give_up(&rig).await;
    let context = rig.context(None).await;
    assert!(matches!(reap(&context).await, Reaped::NotDue { after_ms } if after_ms > 0));
    assert!(rig.row("c1").await.is_none(), "nothing is written before it is due");
    rig.clock.advance_ms(LEASE_MS);
    // A look of the reaper ends when the queue has nothing more to give.
    let looks = rig.fleet_direct(None).await;
    let reaping = tokio::spawn(run_service(Reaper::new(looks.clone()), looks.shutdown.clone()));
    while dead(&rig).depth().await.unwrap().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    while dead(&rig).depth().await.unwrap().visible == 0 {
        tokio::task::yield_now().await;
    }
    looks.shutdown.begin(Duration::ZERO);
    reaping.await.unwrap();
    let moved = dead_letter(&context).await.expect("it is visible for a message move task");
    rig.send(moved.body.clone()).await;
    dead(&rig).delete(&moved.receipt).await.unwrap();
    rig.settle().await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

/// Operators could not have redriven it before: it was not tried yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_of_a_call_that_waited_is_left_to_operators_too() {
    let rig = Rig { reap_after: Duration::from_secs(1800), ..Rig::new().await };
    let begins = Timestamp::from_ms(i64::try_from(rig.clock.now_ms()).unwrap()).plus_ms(2 * 3_600_000);
    let mut later = request("c1", "safe");
    later["not_before"] = json!(begins);
    rig.send(later.to_string()).await;
    let context = rig.context(None).await;
    while context.now() < begins {
        if let Some(delivery) = rig.receive(&context).await {
            pipeline::run(context.clone(), delivery, ()).await;
        }
        rig.clock.advance_ms(60_000);
    }
    give_up(&rig).await;
    let Reaped::NotDue { after_ms } = reap(&context).await else { panic!("it is ended at once") };
    assert!((1_000_000..1_800_000).contains(&after_ms), "{after_ms}");
    rig.clock.advance_ms(after_ms);
    settle(&rig).await;
    assert_eq!(rig.outcome("c1").await.code, Some("dead_lettered"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_due_at_the_deadline_of_its_call() {
    let rig = Rig { reap_after: Duration::from_secs(14 * 24 * 3600), ..Rig::new().await };
    let mut request = request("c1", "safe");
    request["timeout_ms"] = json!(120_000);
    rig.send(request.to_string()).await;
    give_up(&rig).await;
    settle(&rig).await;
    assert_eq!(rig.outcome("c1").await.code, Some("dead_lettered"));
    rig.send(request.to_string()).await;
    rig.settle().await;
    assert_eq!(rig.outcome("c1").await.code, Some("dead_lettered"), "its end stands");
    assert_eq!(rig.mcp.executions_of("c1"), 0);
    assert_eq!(rig.audit_of("c1", AuditKind::Call).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reaper_ends_dead_letters_until_the_worker_drains() {
    let rig = Rig::new().await;
    rig.send(telling(&rig, "c1", "safe").to_string()).await;
    give_up(&rig).await;
    let context = rig.fleet_direct(None).await;
    let reaping = tokio::spawn(run_service(Reaper::new(context.clone()), context.shutdown.clone()));
    let replies = rig.direct.queue(rig.local.queue_url("toolfleet-replies"));
    assert_eq!(replies.receive(1, 20, 30).await.unwrap().len(), 1, "the notice comes by itself");
    context.shutdown.begin(Duration::from_secs(5));
    reaping.await.unwrap();
    assert_eq!(rig.outcome("c1").await.code, Some("dead_lettered"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_due_dead_letter_does_not_starve_behind_others() {
    let rig = Rig { reap_after: Duration::from_secs(3600), ..Rig::new().await };
    for n in 0..40 {
        let body = request(&format!("undue{n}"), "safe").to_string();
        dead(&rig).send(Outgoing { body, ..Outgoing::default() }).await.unwrap();
    }
    let mut due = telling(&rig, "due", "safe");
    due["timeout_ms"] = json!(1);
    dead(&rig).send(Outgoing { body: due.to_string(), ..Outgoing::default() }).await.unwrap();
    rig.clock.advance_ms(10);
    let context = rig.fleet_direct(None).await;
    let reaping = tokio::spawn(run_service(Reaper::new(context.clone()), context.shutdown.clone()));
    let replies = rig.direct.queue(rig.local.queue_url("toolfleet-replies"));
    assert_eq!(replies.receive(1, 20, 30).await.unwrap().len(), 1, "the due one is ended in the first look");
    context.shutdown.begin(Duration::from_secs(5));
    reaping.await.unwrap();
    assert_eq!(rig.outcome("due").await.code, Some("dead_lettered"));
    assert!(rig.row("undue0").await.is_none());
    assert_eq!(dead(&rig).depth().await.unwrap().visible, 40, "the others are visible again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_may_have_run_without_a_claim_is_unknown() {
    let rig = Rig::new().await;
    let mut idempotent = telling(&rig, "c1", "unsafe");
    idempotent["idempotent"] = json!(true);
    rig.send(idempotent.to_string()).await;
    give_up(&rig).await;
    settle(&rig).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::OutcomeUnknown, Some(MayHaveRun::Unknown)));
}
