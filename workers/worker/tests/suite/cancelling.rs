//! A call that is given up is cancelled at its server: `notifications/cancelled` in a session, a dropped stream in 2026-07-28.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_aws::{Store as _, Tables};
use toolfleet_core::call::{Decision, Event, decide};
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::{MockFault, ProtocolRevision};
use toolfleet_worker::Limits;
use toolfleet_worker::pipeline;

use crate::rig::{Rig, key, limits, request};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    Caller,
    Deadline,
    AttemptTimeOut,
    WorkerStops,
}

impl Ending {
    const ALL: [Self; 4] = [Self::Caller, Self::Deadline, Self::AttemptTimeOut, Self::WorkerStops];

    fn outcome(self) -> (OutcomeKind, &'static str) {
        match self {
            Self::Caller => (OutcomeKind::Cancelled, "cancelled_by_caller"),
            Self::Deadline => (OutcomeKind::TimedOut, "deadline_exceeded"),
            Self::AttemptTimeOut => (OutcomeKind::OutcomeUnknown, "attempt_timed_out"),
            Self::WorkerStops => (OutcomeKind::OutcomeUnknown, "worker_lost"),
        }
    }

    fn catalog(self, rig: &Rig) -> Value {
        let mut catalog = rig.catalog();
        let timeout_ms = if self == Self::AttemptTimeOut { 1_000 } else { 60_000 };
        catalog["tools"][1]["timeout_ms"] = json!(timeout_ms);
        catalog
    }
}

/// CallProgress in the call's row that its caller withdrew it, as the client does.
async fn withdraw(rig: &Rig, id: &str) {
    let calls = rig.direct.calls(&Tables::with_prefix("toolfleet"));
    let now = Timestamp::from_ms(i64::try_from(rig.clock.now_ms()).unwrap());
    let event = Event::Cancel { key: key("acme", id), now, expires_at: now.plus_ms(1_000_000) };
    let seen = rig.row(id).await;
    let Decision::Write { row, .. } = decide(seen.as_ref(), &event) else { panic!("a running call") };
    calls.swap(seen.as_ref(), &row).await.unwrap();
}

/// Runs a call whose server never answers to its end.
async fn given_up(era: ProtocolRevision, ending: Ending) -> Rig {
    let rig = Rig::with(era).await;
    // A third of the lease is the pause between heartbeats, in real time.
    let limits = Limits { lease: Duration::from_millis(1_500), ..limits() };
    let context = rig.fleet_of(ending.catalog(&rig), limits, None).await;
    rig.mcp.next(MockFault::ExecuteAndNeverAnswer);
    let mut body = request("c1", "unsafe");
    if ending == Ending::Deadline {
        body["timeout_ms"] = json!(1_200);
    }
    rig.send(body.to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let running = tokio::spawn(pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    match ending {
        Ending::Caller => withdraw(&rig, "c1").await,
        Ending::WorkerStops => context.shutdown.begin(Duration::ZERO),
        Ending::Deadline | Ending::AttemptTimeOut => {}
    }
    running.await.unwrap();
    let seen = rig.outcome("c1").await;
    let (kind, code) = ending.outcome();
    assert_eq!((seen.kind, seen.code), (kind, Some(code)), "{ending:?} in {era:?}: {}", seen.message);
    assert_eq!(seen.may_have_run, Some(MayHaveRun::Unknown), "{ending:?} in {era:?}");
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_call_in_a_session_is_cancelled_by_its_id() {
    for ending in Ending::ALL {
        let rig = given_up(ProtocolRevision::Legacy, ending).await;
        rig.mcp.arrived("notifications/cancelled", 1).await;
        let call = rig.mcp.requests_of("tools/call").remove(0);
        let withdrawn = rig.mcp.requests_of("notifications/cancelled").remove(0);
        assert_eq!(withdrawn.body["params"]["requestId"], call.body["id"], "{ending:?}");
        assert_eq!(withdrawn.header("mcp-session-id"), call.header("mcp-session-id"), "{ending:?}");
        assert_eq!(rig.mcp.requests_of("notifications/cancelled").len(), 1, "{ending:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_call_without_a_session_drops_its_stream() {
    for ending in Ending::ALL {
        let rig = given_up(ProtocolRevision::Modern, ending).await;
        rig.mcp.hung_up(1).await;
        assert!(rig.mcp.requests_of("notifications/cancelled").is_empty(), "{ending:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_answered_is_never_withdrawn() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle().await;
    rig.send(request("c2", "unsafe").to_string()).await;
    rig.settle().await;
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::Succeeded);
    assert!(rig.mcp.requests_of("notifications/cancelled").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_changes_its_revision_runs_each_call_once() {
    for (before, after) in [
        (ProtocolRevision::Legacy, ProtocolRevision::Modern),
        (ProtocolRevision::Modern, ProtocolRevision::Legacy),
    ] {
        let rig = Rig::with(before).await;
        let context = rig.context(None).await;
        for (id, era) in [("c1", before), ("c2", after), ("c3", after)] {
            if id == "c2" {
                rig.mcp.become_era(era);
            }
            rig.send(request(id, "unsafe").to_string()).await;
            rig.settle_with(&context).await;
            let seen = rig.outcome(id).await;
            assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 1), "{}", seen.message);
            assert_eq!(rig.mcp.executions_of(id), 1, "{id} from {before:?} to {after:?}");
        }
    }
}
