//! What operators set stops, drains and cancels: pauses, strikes, drains, cancel rules.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use serde_json::json;
use toolfleet_aws::Tables;
use toolfleet_aws::fleet::Fleet;
use toolfleet_core::audit::AuditKind;
use toolfleet_core::call::{HeldReason, State};
use toolfleet_core::control::{CallFilter, CancelRule, ControlEntry, Strike, Switch, SwitchTarget};
use toolfleet_core::ids::Tenant;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_core::time::Timestamp;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::services::control::ControlReader;
use toolfleet_worker::telemetry::Meters;
use toolfleet_worker::{Limits, pipeline};

use crate::limits::{limited, server, worker};
use crate::rig::{Rig, limits, request, run_service};
use crate::waiting::cancel;

fn fleet(rig: &Rig) -> Fleet {
    rig.direct.fleet(&Tables::with_prefix("toolfleet"))
}

pub(crate) fn now(rig: &Rig) -> Timestamp {
    Timestamp::from_ms(i64::try_from(rig.clock.now_ms()).unwrap())
}

pub(crate) fn pause(rig: &Rig, target: &str, for_ms: Option<u64>) -> ControlEntry {
    ControlEntry::Pause(Switch {
        target: SwitchTarget::parse(target).unwrap(),
        tenant: None,
        by: "ann".into(),
        why: "it drops orders".into(),
        since: now(rig),
        until: for_ms.map(|ms| now(rig).plus_ms(ms)),
    })
}

pub(crate) async fn set(rig: &Rig, context: &WorkerContext, entry: &ControlEntry) {
    fleet(rig).set_control(entry).await.unwrap();
    take(rig, context).await;
}

/// What the control reader does at its next beat.
pub(crate) async fn take(rig: &Rig, context: &WorkerContext) {
    context.gate.control().take(context.fleet.control(now(rig)).await.unwrap());
}

fn rule(rig: &Rig, tool: Option<&str>) -> ControlEntry {
    ControlEntry::Cancel(CancelRule {
        id: "r1".into(),
        filter: CallFilter {
            tenant: Some(Tenant::parse("acme").unwrap()),
            tool: tool.map(str::to_owned),
            session: None,
            sent_before: now(rig).plus_ms(1),
        },
        by: "ann".into(),
        why: "the campaign is off".into(),
        since: now(rig),
        until: now(rig).plus_ms(3_600_000),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_call_waits_without_an_attempt_and_runs_when_resumed() {
    for target in ["server:mock", "tool:unsafe", "tool:unsafe.unsafe", "tool:mock/unsafe", "tenant:acme"] {
        let rig = Rig::new().await;
        let context = rig.context(None).await;
        let entry = pause(&rig, target, None);
        set(&rig, &context, &entry).await;
        rig.send(request("c1", "unsafe").to_string()).await;
        // Far more receives than the queue's redrive policy allows.
        for _ in 0..12 {
            rig.deliver(&context).await;
            let depth = rig.queue().depth().await.unwrap();
            assert_eq!((depth.visible, depth.in_flight, depth.delayed), (0, 0, 1), "{target}");
            rig.clock.advance_ms(60_001);
        }
        let row = rig.row("c1").await.unwrap();
        let held = row.held().expect("the row says why it waits");
        assert_eq!((row.state, row.attempts, held.reason), (State::Pending, 0, HeldReason::Paused));
        let detail = held.detail.as_deref().unwrap();
        assert!(detail.starts_with(target) && detail.ends_with("it drops orders"), "{detail}");
        assert_eq!(rig.mcp.executions_of("c1"), 0);
        fleet(&rig).clear_control(&entry.key()).await.unwrap();
        take(&rig, &context).await;
        rig.settle_with(&context).await;
        assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
        assert_eq!(rig.mcp.executions_of("c1"), 1);
    }
}

/// hatchet #4930: autoscalers act on work that is paused. A paused message is delayed, and so neither visible nor in flight: no backlog metric
/// counts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_calls_are_in_no_backlog_metric() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    set(&rig, &context, &pause(&rig, "tool:unsafe", None)).await;
    for n in 0..20 {
        rig.send(request(&format!("c{n}"), "unsafe").to_string()).await;
        rig.deliver(&context).await;
    }
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight, depth.delayed), (0, 0, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_expires_ends_by_itself() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    set(&rig, &context, &pause(&rig, "server:mock", Some(5_000))).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.mcp.executions_of("c1"), 0);
    rig.clock.advance_ms(7_001);
    // No worker has read the table again.
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_paused_past_its_deadline_says_who_paused_it() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    set(&rig, &context, &pause(&rig, "server:mock", None)).await;
    let mut body = request("c1", "unsafe");
    body["timeout_ms"] = 90_000.into();
    rig.send(body.to_string()).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!(
        (seen.kind, seen.may_have_run),
        (OutcomeKind::Expired, Some(MayHaveRun::No)),
        "{}",
        seen.message
    );
    assert!(seen.message.contains("paused by ann"), "{}", seen.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strike_holds_equal_requests_alone() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    let body = |id: &str, value: u32| {
        let mut body = request(id, "unsafe");
        body["arguments"] = serde_json::json!({"n": value});
        body.to_string()
    };
    rig.send(body("first", 1)).await;
    rig.deliver(&context).await;
    let digest = rig.row("first").await.unwrap().digest.unwrap().to_string();
    let strike = Strike {
        digest: digest[..16].into(),
        by: "ann".into(),
        why: "it breaks the server".into(),
        since: now(&rig),
        until: None,
    };
    set(&rig, &context, &ControlEntry::Strike(strike)).await;
    for (id, value) in [("same", 1), ("other", 2)] {
        rig.send(body(id, value)).await;
        rig.deliver(&context).await;
    }
    assert_eq!(rig.outcome("other").await.kind, OutcomeKind::Succeeded);
    let held = rig.row("same").await.unwrap();
    assert!(held.held().unwrap().detail.as_deref().unwrap().contains("struck by ann"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_cancels_the_queued_calls_that_fit_and_no_later_ones() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    for (id, tool) in [("c1", "unsafe"), ("c2", "safe")] {
        rig.send(request(id, tool).to_string()).await;
    }
    set(&rig, &context, &rule(&rig, Some("unsafe"))).await;
    rig.clock.advance_ms(10);
    rig.send(request("c3", "unsafe").to_string()).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::Cancelled, Some(MayHaveRun::No)));
    assert_eq!(seen.code, Some("cancelled_by_operator"));
    assert!(seen.message.contains("rule r1 of ann: the campaign is off"), "{}", seen.message);
    assert_eq!(rig.mcp.executions_of("c1"), 0);
    assert_eq!(rig.audit_of("c1", AuditKind::Call).await.len(), 1);
    for id in ["c2", "c3"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_meets_a_running_call_at_its_next_heartbeat() {
    let rig = Rig::new().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    // A third of this is the pause between heartbeats, in real time.
    let limits = Limits { lease: Duration::from_millis(1_500), ..limits() };
    let context = rig.fleet_of(rig.catalog(), limits, None).await;
    let delivery = rig.receive(&context).await.unwrap();
    let _hold = rig.mcp.hold();
    let running = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    set(&rig, &context, &rule(&rig, None)).await;
    running.await.unwrap();
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::Cancelled, Some(MayHaveRun::Unknown)));
    assert_eq!(seen.code, Some("cancelled_by_operator"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_ends_by_its_cancellation_before_its_message_returns() {
    let registry = prometheus::Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().unwrap();
    let provider = SdkMeterProvider::builder().with_reader(exporter).build();
    let rig = Rig { meters: Meters::new(&provider.meter("test")), ..Rig::new().await };
    let context = rig.context(None).await;
    set(&rig, &context, &pause(&rig, "server:mock", None)).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.deliver(&context).await;
    cancel(&rig, "c1").await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::Cancelled, Some(MayHaveRun::No)));
    // Its message brings the record and the notice.
    assert!(rig.audit_of("c1", AuditKind::Call).await.is_empty());
    rig.settle_with(&context).await;
    let records = rig.audit_of("c1", AuditKind::Call).await;
    assert_eq!(records.iter().map(|r| r.outcome).collect::<Vec<_>>(), [OutcomeKind::Cancelled]);
    assert_eq!(rig.mcp.executions_of("c1"), 0);
    let metrics = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let ended: Vec<_> = metrics.lines().filter(|l| l.starts_with("toolfleet_calls_ended_total{")).collect();
    assert!(
        ended.len() == 1 && ended[0].contains("cancelled_by_caller") && ended[0].ends_with(" 1"),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_cancels_a_call_that_waits_in_hand_before_it_is_sent() {
    let rig = Rig::new().await;
    let context = worker(&rig, &limited(&rig, json!({"concurrency": 1}))).await;
    let begin = async |id: &str| {
        rig.send(request(id, "unsafe").to_string()).await;
        rig.receive(&context).await.unwrap()
    };
    let run = |delivery| tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    let hold = rig.mcp.hold();
    let first = run(begin("c0").await);
    rig.mcp.arrived("tools/call", 1).await;
    let second = run(begin("c1").await);
    while context.limiter.waiting(&server()) == 0 {
        tokio::task::yield_now().await;
    }
    rig.clock.advance_ms(1);
    set(&rig, &context, &rule(&rig, Some("unsafe"))).await;
    drop(hold);
    first.await.unwrap();
    second.await.unwrap();
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::Cancelled, Some(MayHaveRun::No)));
    assert_eq!(rig.mcp.executions_of("c1"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reader_takes_changes_and_drains_its_worker() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    rig.clock.advance_ms(1);
    let reader = ControlReader::new(context.clone());
    let running = tokio::spawn(run_service(reader, context.shutdown.clone()));
    let entry = pause(&rig, "server:mock", None);
    fleet(&rig).set_control(&entry).await.unwrap();
    rig.clock.advance_ms(1);
    let drain = ControlEntry::Drain {
        worker: context.worker.clone(),
        by: "ann".into(),
        why: "deploy".into(),
        since: now(&rig),
        until: now(&rig).plus_ms(1_000),
    };
    fleet(&rig).set_control(&drain).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), context.shutdown.draining()).await.expect("it drains");
    // It reads on for the calls under way.
    running.abort();
    assert_eq!(context.gate.control().current().unwrap().switches.len(), 1);
}
