//! A crash after every step, and a lost reply of every write: the same end each time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_testkit::{Cut, MockFault, Rule};
use toolfleet_worker::Limits;
use toolfleet_worker::pipeline::steps::Step;

use crate::rig::{Rig, request};

/// One result, one audit record that says the same, no message left.
pub(crate) async fn assert_settled(rig: &Rig, id: &str, context: &str) -> OutcomeKind {
    let seen = rig.outcome(id).await;
    let audit = rig.audit_of(id, AuditKind::Call).await;
    assert_eq!(audit.len(), 1, "{context}: one audit record, got {audit:?}");
    assert_eq!(audit[0].outcome, seen.kind, "{context}: record and result agree");
    assert_eq!(audit[0].attempts, seen.row.attempts, "{context}");
    assert_eq!(audit[0].at, seen.row.finished.as_ref().unwrap().at, "{context}");
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!(depth.visible + depth.in_flight + depth.delayed, 0, "{context}: the message is gone");
    seen.kind
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_any_step_leaves_one_result_and_one_record() {
    for step in Step::ALL {
        for tool in ["safe", "unsafe"] {
            let context = format!("crash after {step:?} of a call of `{tool}`");
            let rig = Rig::new().await;
            rig.send(request("c1", tool).to_string()).await;
            rig.crash_after(step).await;
            rig.settle().await;
            let kind = assert_settled(&rig, "c1", &context).await;
            let executions = rig.mcp.executions_of("c1");
            let expected = match (step, tool) {
                (Step::Claimed, "unsafe") => (OutcomeKind::OutcomeUnknown, 0),
                (Step::Executed, "unsafe") => (OutcomeKind::OutcomeUnknown, 1),
                // It ran, its answer was not stored, and it does no harm to run it again.
                (Step::Executed, _) => (OutcomeKind::Succeeded, 2),
                _ => (OutcomeKind::Succeeded, 1),
            };
            assert_eq!((kind, executions), expected, "{context}");
            if kind == OutcomeKind::OutcomeUnknown {
                assert_eq!(rig.outcome("c1").await.may_have_run, Some(MayHaveRun::Unknown), "{context}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lost_answer_of_any_write_changes_nothing() {
    let writes = [
        ("claim", "\\\"attempts\\\"", "INSERT", true),
        ("result", "", "UPDATE", true),
        ("audit record", "toolfleet-history", "INSERT", true),
        ("delete", "DeleteMessage", "", false),
        ("receive", "ReceiveMessage", "", false),
    ];
    for (name, part, verb, in_table) in writes {
        let context = format!("lost answer of the {name}");
        let rig = Rig::new().await;
        rig.send(request("c1", "unsafe").to_string()).await;
        let rule = if in_table {
            let text = if name == "audit record" { part } else { verb };
            Rule::new(Cut::AfterAnswer, "BatchExecuteStatement", 1).with_body(text)
        } else {
            Rule::new(Cut::AfterAnswer, part, 1)
        };
        if in_table {
            rig.dynamodb.cut(rule)
        } else {
            rig.sqs.cut(rule)
        }
        rig.settle().await;
        let cuts = if in_table { rig.dynamodb.cuts() } else { rig.sqs.cuts() };
        assert_eq!(cuts, 1, "{context}: the answer was lost");
        let kind = assert_settled(&rig, "c1", &context).await;
        assert_eq!((kind, rig.mcp.executions_of("c1")), (OutcomeKind::Succeeded, 1), "{context}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_away_for_a_while_only_ever_means_later() {
    let writes = [
        ("claim", Cut::BeforeRequest, "INSERT"),
        // It is stored, and no answer of its round says so.
        ("claim", Cut::AfterAnswer, "INSERT"),
        ("result", Cut::BeforeRequest, "UPDATE"),
        ("release", Cut::BeforeRequest, "UPDATE"),
        ("release", Cut::AfterAnswer, "UPDATE"),
        ("audit record", Cut::BeforeRequest, "toolfleet-history"),
    ];
    for (name, cut, text) in writes {
        let context = format!("no answer to the {name} for five tries ({cut:?})");
        let rig = Rig::new().await;
        if name == "release" {
            // Proves that the call did not run.
            rig.mcp.next_for("tools/call", MockFault::status_with(429, "Retry-After", "10"));
        }
        rig.send(request("c1", "unsafe").to_string()).await;
        rig.dynamodb.cut(Rule::new(cut, "BatchExecuteStatement", 1).with_body(text).times(5));
        rig.settle().await;
        assert_eq!(rig.dynamodb.cuts(), 5, "{context}");
        let kind = assert_settled(&rig, "c1", &context).await;
        assert_eq!((kind, rig.mcp.executions_of("c1")), (OutcomeKind::Succeeded, 1), "{context}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_outlasts_an_outage_of_the_table_of_several_leases() {
    let rig = Rig::new().await;
    let short = Limits { lease: Duration::from_secs(1), skew: Duration::ZERO, ..crate::rig::limits() };
    let context = rig.fleet_of(rig.catalog(), short, None).await;
    let hold = rig.mcp.hold();
    rig.send(request("c1", "unsafe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let running = tokio::spawn(toolfleet_worker::pipeline::run(Arc::clone(&context), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    rig.dynamodb.cut(Rule::new(Cut::BeforeRequest, "", 1).times(usize::MAX));
    let (began, hidden) = (Instant::now(), rig.sqs.count("ChangeMessageVisibility"));
    drop(hold);
    // The table answers nothing for three leases, however many requests that are.
    while began.elapsed() < context.limits.lease * 3 {
        rig.dynamodb.cut_made(rig.dynamodb.cuts() + 1).await;
    }
    assert!(rig.sqs.count("ChangeMessageVisibility") > hidden, "no other delivery comes meanwhile");
    rig.dynamodb.behave();
    running.await.unwrap();
    rig.settle_with(&context).await;
    let kind = assert_settled(&rig, "c1", "three leases without a table").await;
    assert_eq!((kind, rig.mcp.executions_of("c1")), (OutcomeKind::Succeeded, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_worker_overwrites_nothing_and_its_answer_is_audited() {
    let rig = Rig::new().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    let slow = rig.context(None).await;
    let delivery = rig.receive(&slow).await.unwrap();
    let hold = rig.mcp.hold();
    let late = tokio::spawn(toolfleet_worker::pipeline::run(slow, delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    // The worker stands still past its lease; another one settles the call.
    rig.clock.advance_ms(crate::rig::LEASE_MS + crate::rig::SKEW_MS + 1);
    rig.settle().await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::OutcomeUnknown);
    drop(hold);
    late.await.unwrap();
    assert_eq!(assert_settled(&rig, "c1", "late worker").await, OutcomeKind::OutcomeUnknown);
    let answers = rig.audit_of("c1", AuditKind::LateAnswer).await;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].outcome, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.executions_of("c1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_sent_twice_and_a_message_delivered_twice_run_once() {
    let rig = Rig::new().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle().await;
    assert_settled(&rig, "c1", "duplicate").await;
    assert_eq!(rig.mcp.executions_of("c1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_answered_after_its_lease_sends_nothing() {
    let rig = Rig::new().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    // No answer comes within a nanosecond.
    let limits = toolfleet_worker::Limits {
        lease: std::time::Duration::from_nanos(1),
        skew: std::time::Duration::ZERO,
        ..crate::rig::limits()
    };
    let slow = rig.fleet_of(rig.catalog(), limits, None).await;
    rig.deliver(&slow).await;
    assert_eq!(rig.mcp.executions_of("c1"), 0);
    assert_eq!(rig.row("c1").await.unwrap().state, toolfleet_core::call::State::Released);
    rig.settle().await;
    let kind = assert_settled(&rig, "c1", "slow claim").await;
    assert_eq!((kind, rig.mcp.executions_of("c1")), (OutcomeKind::Succeeded, 1));
}
