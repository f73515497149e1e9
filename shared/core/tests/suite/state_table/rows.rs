//! Rows in every state, and the events that lead to them.

use toolfleet_core::call::{
    CallRow, Claim, Decision, DeliveryContext, Effect, Event, Held, HeldReason, Rejection, decide,
};
use toolfleet_core::definition::ShortDefinitionDigest;
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, CallKey, Nonce, Tenant, WorkerId};
use toolfleet_core::outcome::{Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::time::Timestamp;
pub(super) const LEASE_MS: u64 = 30_000;
pub(super) const SKEW_MS: u64 = 2_000;

pub(super) fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_000_000).plus_ms(ms)
}

pub(super) fn key() -> CallKey {
    CallKey { tenant: Tenant::parse("acme").unwrap(), call_id: CallId::parse("c1").unwrap() }
}

pub(super) fn delivery(nonce: u128, now_ms: u64) -> DeliveryContext {
    DeliveryContext {
        key: key(),
        digest: Digest::of_text("question"),
        earlier_digest: None,
        caller: Box::default(),
        nonce: Nonce::from_random(nonce),
        worker: WorkerId::parse("w1").unwrap(),
        enqueued_at: at(0),
        deadline: Some(at(500_000)),
        now: at(now_ms),
        skew_ms: SKEW_MS,
        may_be_claimless: false,
        repeatable: false,
        expires_at: at(1_000_000),
    }
}

pub(super) fn definition(text: &str) -> ShortDefinitionDigest {
    ShortDefinitionDigest::from_stored(text)
}

pub(super) fn safe(delivery: DeliveryContext) -> DeliveryContext {
    DeliveryContext { repeatable: true, ..delivery }
}

pub(super) fn claim_by(delivery: DeliveryContext) -> Event {
    Event::Claim { delivery, lease_ms: LEASE_MS, definition: None, answers: None }
}

pub(super) fn refusal() -> Outcome {
    Outcome::refused(Code::AccessDenied, "no")
}

pub(super) fn expiry() -> Outcome {
    let why = toolfleet_core::outcome::CallError::new(Code::DeadlineExceeded, "late", MayHaveRun::No);
    Outcome::ended(OutcomeKind::Expired, why)
}

pub(super) fn success() -> Outcome {
    Outcome::succeeded(serde_json::value::RawValue::from_string("{}".into()).unwrap())
}

pub(super) fn stored(seen: Option<&CallRow>, event: &Event) -> (CallRow, Effect) {
    match decide(seen, event) {
        Decision::Write { row, then } => (*row, then),
        Decision::Leave(rejection) => panic!("expected a write, found {rejection:?}"),
    }
}

pub(super) fn left(seen: &CallRow, event: &Event) -> Rejection {
    match decide(Some(seen), event) {
        Decision::Leave(rejection) => rejection,
        Decision::Write { row, .. } => panic!("expected nothing to be stored, got {row:?}"),
    }
}

pub(super) fn claimed() -> (CallRow, Claim) {
    match stored(None, &claim_by(delivery(1, 0))) {
        (row, Effect::Execute(claim)) => (row, claim),
        (_, other) => panic!("expected a claim, got {other:?}"),
    }
}

pub(super) fn released(may_have_executed: bool) -> CallRow {
    let (row, claim) = claimed();
    stored(Some(&row), &Event::Release { claim, attempts: 1, may_have_executed, held: None, now: at(10) }).0
}

pub(super) fn done() -> CallRow {
    let (row, claim) = claimed();
    stored(
        Some(&row),
        &Event::Finish { claim, outcome: success(), attempts: 1, task: None, now: at(10), notes: None },
    )
    .0
}

pub(super) fn waiting_task() -> CallRow {
    let (row, claim) = claimed();
    stored(Some(&row), &park(claim)).0
}

pub(super) fn park(claim: Claim) -> Event {
    Event::Park {
        claim,
        task: "t".into(),
        input_pending: false,
        may_have_executed: true,
        attempts: 1,
        poll_at: at(1_000),
        notes: None,
        now: at(10),
    }
}

pub(super) fn awaiting_approval() -> CallRow {
    stored(None, &Event::AwaitApproval { delivery: delivery(1, 0) }).0
}

pub(super) fn pending() -> CallRow {
    stored(Some(&awaiting_approval()), &Event::Approve).0
}

pub(super) fn cancelled(row: Option<&CallRow>) -> CallRow {
    stored(row, &Event::Cancel { key: key(), now: at(5), expires_at: at(1_000_000) }).0
}

pub(super) fn outcome(row: &CallRow) -> (OutcomeKind, Option<MayHaveRun>) {
    let outcome = &row.finished.as_ref().expect("an end").outcome;
    (outcome.kind, outcome.error.as_ref().map(|t| t.may_have_run))
}

pub(super) const AFTER_LEASE: u64 = LEASE_MS + SKEW_MS + 1;

pub(super) fn hold_by(delivery: DeliveryContext, reason: HeldReason) -> Event {
    let server = toolfleet_core::ids::ServerId::parse("crm").unwrap();
    let held = Held::new(reason, Some(server), delivery.now, 5_000).with_fault("refused");
    Event::Hold { delivery, held }
}
