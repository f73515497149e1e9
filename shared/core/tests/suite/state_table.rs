//! The state table, as a table: for each state, what each visitor finds there.

use toolfleet_core::call::{
    CallRow, Caller, Claim, Decision, DeliveryContext, Effect, Event, Held, HeldReason, Rejection, State,
    decide,
};
use toolfleet_core::definition::ShortDefinitionDigest;
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, CallKey, Nonce, SessionId, Tenant, WorkerId};
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::progress::CallProgress;
use toolfleet_core::request::User;
use toolfleet_core::time::Timestamp;

const LEASE_MS: u64 = 30_000;
const SKEW_MS: u64 = 2_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_000_000).plus_ms(ms)
}

fn key() -> CallKey {
    CallKey { tenant: Tenant::parse("acme").unwrap(), call_id: CallId::parse("c1").unwrap() }
}

fn visit(nonce: u128, now_ms: u64) -> DeliveryContext {
    DeliveryContext {
        key: key(),
        digest: Digest::of_text("question"),
        earlier_digest: None,
        caller: Box::default(),
        nonce: Nonce::from_random(nonce),
        worker: WorkerId::parse("w1").unwrap(),
        enqueued_at: at(0),
        now: at(now_ms),
        skew_ms: SKEW_MS,
        repeatable: false,
        expires_at: at(1_000_000),
    }
}

fn definition(text: &str) -> ShortDefinitionDigest {
    ShortDefinitionDigest::from_stored(text)
}

fn safe(visit: DeliveryContext) -> DeliveryContext {
    DeliveryContext { repeatable: true, ..visit }
}

fn claim_by(visit: DeliveryContext) -> Event {
    Event::Claim { visit, lease_ms: LEASE_MS, definition: None, answers: None }
}

fn refusal() -> Outcome {
    Outcome::refused(Code::AccessDenied, "no")
}

fn expiry() -> Outcome {
    let why = toolfleet_core::outcome::CallError::new(Code::DeadlineExceeded, "late", MayHaveRun::No);
    Outcome::ended(OutcomeKind::Expired, why)
}

fn success() -> Outcome {
    Outcome::succeeded(serde_json::value::RawValue::from_string("{}".into()).unwrap())
}

fn stored(seen: Option<&CallRow>, event: &Event) -> (CallRow, Effect) {
    match decide(seen, event) {
        Decision::Write { row, then } => (*row, then),
        Decision::Leave(rejection) => panic!("expected a write, found {rejection:?}"),
    }
}

fn left(seen: &CallRow, event: &Event) -> Rejection {
    match decide(Some(seen), event) {
        Decision::Leave(rejection) => rejection,
        Decision::Write { row, .. } => panic!("expected nothing to be stored, got {row:?}"),
    }
}

fn claimed() -> (CallRow, Claim) {
    match stored(None, &claim_by(visit(1, 0))) {
        (row, Effect::Execute(claim)) => (row, claim),
        (_, other) => panic!("expected a claim, got {other:?}"),
    }
}

fn released(may_have_executed: bool) -> CallRow {
    let (row, claim) = claimed();
    stored(Some(&row), &Event::Release { claim, attempts: 1, may_have_executed, held: None, now: at(10) }).0
}

fn done() -> CallRow {
    let (row, claim) = claimed();
    stored(
        Some(&row),
        &Event::Finish { claim, outcome: success(), attempts: 1, task: None, now: at(10), notes: None },
    )
    .0
}

fn waiting_task() -> CallRow {
    let (row, claim) = claimed();
    stored(Some(&row), &park(claim)).0
}

fn park(claim: Claim) -> Event {
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

fn awaiting_approval() -> CallRow {
    stored(None, &Event::AwaitApproval { visit: visit(1, 0) }).0
}

fn pending() -> CallRow {
    stored(Some(&awaiting_approval()), &Event::Approve).0
}

fn withdrawn(row: Option<&CallRow>) -> CallRow {
    stored(row, &Event::Cancel { key: key(), now: at(5), expires_at: at(1_000_000) }).0
}

fn outcome(row: &CallRow) -> (OutcomeKind, Option<MayHaveRun>) {
    let outcome = &row.finished.as_ref().expect("an end").outcome;
    (outcome.kind, outcome.error.as_ref().map(|t| t.may_have_run))
}

const AFTER_LEASE: u64 = LEASE_MS + SKEW_MS + 1;

#[test]
fn every_state_of_the_table_is_reached_by_an_event() {
    let reached = [pending(), claimed().0, released(false), waiting_task(), awaiting_approval(), done()];
    for state in State::ALL {
        assert!(reached.iter().any(|row| row.state == state), "{state:?}");
        assert_eq!(State::from_stored(state.as_str()), Some(state));
    }
}

#[test]
fn a_first_delivery_claims_with_lease_fence_and_nonce() {
    let (row, claim) = claimed();
    assert_eq!((row.state, row.fence, row.rev), (State::Claimed, 1, 1));
    assert_eq!(row.lease_until, Some(at(LEASE_MS)));
    assert_eq!(claim.fence(), 1);
}

#[test]
fn a_redelivery_finds_in_each_state_what_that_state_means() {
    let again = claim_by(visit(2, 1_000));
    for row in [pending(), released(false), waiting_task()] {
        let (next, then) = stored(Some(&row), &again);
        assert!(matches!(then, Effect::Execute(_)), "{:?}", row.state);
        assert_eq!(next.fence, row.fence + 1);
        assert_eq!(next.attempts, row.attempts);
    }
    assert_eq!(left(&done(), &again), Rejection::AlreadyRecorded);
    assert_eq!(left(&awaiting_approval(), &again), Rejection::AwaitingApproval);
    let wait = LEASE_MS + SKEW_MS - 1_000;
    assert_eq!(left(&claimed().0, &again), Rejection::HeldElsewhere { retry_after_ms: wait });
}

#[test]
fn another_question_under_the_same_id_is_a_mismatch_in_every_state() {
    let other = DeliveryContext { digest: Digest::of_text("another"), ..visit(2, AFTER_LEASE) };
    for row in [pending(), claimed().0, released(false), waiting_task(), awaiting_approval(), done()] {
        assert_eq!(left(&row, &claim_by(other.clone())), Rejection::Mismatch, "{:?}", row.state);
        let refuse = Event::Conclude { visit: other.clone(), outcome: refusal(), definition: None };
        assert_eq!(left(&row, &refuse), Rejection::Mismatch, "{:?}", row.state);
    }
}

#[test]
fn an_expired_lease_is_believed_only_after_the_allowance_for_clock_skew() {
    let row = claimed().0;
    assert!(matches!(
        left(&row, &claim_by(safe(visit(2, LEASE_MS + SKEW_MS)))),
        Rejection::HeldElsewhere { .. }
    ));
    let (next, then) = stored(Some(&row), &claim_by(safe(visit(2, AFTER_LEASE))));
    assert!(matches!(then, Effect::Execute(_)));
    assert_eq!((next.fence, next.attempts, next.may_have_executed), (2, 1, true));
}

#[test]
fn an_expired_claim_on_an_unsafe_tool_ends_as_unknown_and_is_not_handed_out() {
    let (row, then) = stored(Some(&claimed().0), &claim_by(visit(2, AFTER_LEASE)));
    assert_eq!(then, Effect::Ended);
    assert_eq!(outcome(&row), (OutcomeKind::OutcomeUnknown, Some(MayHaveRun::Unknown)));
}

#[test]
fn a_released_call_that_may_have_run_is_not_handed_out_once_the_tool_counts_as_unsafe() {
    let (row, then) = stored(Some(&released(true)), &claim_by(visit(2, 100)));
    assert_eq!((then, row.state), (Effect::Ended, State::Done));
    assert_eq!(outcome(&row).0, OutcomeKind::OutcomeUnknown);
}

#[test]
fn asking_after_a_task_is_safe_even_after_a_lost_claim_and_is_no_attempt() {
    let (polling, _) = stored(Some(&waiting_task()), &claim_by(visit(2, 1_000)));
    let (again, then) = stored(Some(&polling), &claim_by(visit(3, 1_000 + AFTER_LEASE)));
    assert!(matches!(then, Effect::Execute(_)));
    assert_eq!((again.task.as_deref(), again.attempts), (Some("t"), 1));
}

#[test]
fn a_question_after_a_task_keeps_the_definition_that_the_call_was_sent_by() {
    let by = |visit, definition: &str| Event::Claim {
        visit,
        lease_ms: LEASE_MS,
        definition: Some(self::definition(definition)),
        answers: None,
    };
    let (row, Effect::Execute(claim)) = stored(None, &by(visit(1, 0), "then")) else { panic!("a claim") };
    let (parked, _) = stored(Some(&row), &park(claim));
    let (asking, _) = stored(Some(&parked), &by(visit(2, 1_000), "now"));
    assert_eq!(asking.definition, Some(definition("then")));
}

#[test]
fn a_duplicate_asks_after_a_task_no_earlier_than_its_server_wants() {
    let parked = CallRow { poll_at: Some(at(10_000)), ..waiting_task() };
    let early = 10_000 - SKEW_MS - 1;
    assert_eq!(left(&parked, &claim_by(visit(2, early))), Rejection::HeldElsewhere { retry_after_ms: 1 });
    let (asking, then) = stored(Some(&parked), &claim_by(visit(2, early + 1)));
    assert!(matches!(then, Effect::Execute(_)));
    assert_eq!(asking.poll_at, None);
    // What ends the call does not wait for that time.
    let refuse = Event::Conclude { visit: visit(2, early), outcome: expiry(), definition: None };
    assert_eq!(outcome(&stored(Some(&parked), &refuse).0).0, OutcomeKind::TimedOut);
    let (ended, _) = stored(Some(&withdrawn(Some(&parked))), &claim_by(visit(2, early)));
    assert_eq!(outcome(&ended).0, OutcomeKind::Cancelled);
}

#[test]
fn a_call_that_ends_before_its_task_keeps_the_handle_and_one_that_ends_with_it_does_not() {
    let parked = waiting_task();
    let expired = stored(
        Some(&parked),
        &Event::Conclude { visit: visit(2, 2_000), outcome: expiry(), definition: None },
    )
    .0;
    let cancelled = stored(Some(&withdrawn(Some(&parked))), &claim_by(visit(2, 2_000))).0;
    for row in [expired, cancelled] {
        assert_eq!((row.state, row.task.as_deref(), row.poll_at), (State::Done, Some("t"), None));
    }
    let (asking, Effect::Execute(claim)) = stored(Some(&parked), &claim_by(visit(2, 2_000))) else {
        panic!("a claim")
    };
    let end = |task| Event::Finish {
        claim: claim.clone(),
        outcome: success(),
        attempts: 1,
        task,
        now: at(2_100),
        notes: None,
    };
    assert_eq!(stored(Some(&asking), &end(None)).0.task, None);
    assert_eq!(stored(Some(&asking), &end(Some("t".into()))).0.task.as_deref(), Some("t"));
}

#[test]
fn a_cancellation_that_comes_before_the_task_is_parked_ends_the_call_with_its_handle() {
    let (row, claim) = claimed();
    let (ended, then) = stored(Some(&withdrawn(Some(&row))), &park(claim));
    assert_eq!((then, ended.task.as_deref()), (Effect::Ended, Some("t")));
    assert_eq!(outcome(&ended), (OutcomeKind::Cancelled, Some(MayHaveRun::Unknown)));
}

#[test]
fn a_call_that_brings_a_task_its_answers_only_ever_speaks_to_the_task() {
    let by = |visit: DeliveryContext| Event::Claim {
        visit: DeliveryContext { repeatable: false, ..visit },
        lease_ms: LEASE_MS,
        definition: Some(definition("d")),
        answers: Some("t".into()),
    };
    let (row, Effect::Execute(claim)) = stored(None, &by(visit(1, 0))) else { panic!("a claim") };
    assert_eq!((row.task.as_deref(), row.input_pending, row.may_have_executed), (Some("t"), true, false));
    assert_eq!(row.definition, Some(definition("d")));
    // Its worker dies: the answer is given again, and is no attempt.
    let (again, then) = stored(Some(&row), &by(visit(2, AFTER_LEASE)));
    assert!(matches!(then, Effect::Execute(_)));
    assert_eq!((again.task.as_deref(), again.input_pending, again.attempts), (Some("t"), true, 0));
    // The server is away: nothing was sent, and the task is still to be answered.
    let parked = |input_pending, may_have_executed| Event::Park {
        claim: claim.clone(),
        task: "t".into(),
        input_pending,
        may_have_executed,
        attempts: 0,
        poll_at: at(1_000),
        notes: None,
        now: at(10),
    };
    let (waiting, _) = stored(Some(&row), &parked(true, false));
    assert_eq!(
        (waiting.state, waiting.input_pending, waiting.may_have_executed),
        (State::WaitingTask, true, false)
    );
    let (asking, _) = stored(Some(&waiting), &by(visit(2, 1_000)));
    assert!(asking.input_pending);
    let expired = Event::Conclude { visit: visit(2, 2_000), outcome: expiry(), definition: None };
    let (ended, _) = stored(Some(&waiting), &expired);
    assert_eq!(
        (ended.task.as_deref(), outcome(&ended).0),
        (None, OutcomeKind::Expired),
        "another call may answer it"
    );
    let (unsure, _) = stored(Some(&row), &parked(true, true));
    let (ended, _) = stored(Some(&unsure), &expired);
    assert_eq!((ended.task.as_deref(), outcome(&ended).0), (Some("t"), OutcomeKind::TimedOut));
    // The server has taken the answers: from here on it is a task like any other.
    let (answered, _) = stored(Some(&row), &parked(false, true));
    let (asking, _) = stored(Some(&answered), &by(visit(2, 1_000)));
    assert_eq!((asking.input_pending, asking.may_have_executed), (false, true));
}

#[test]
fn a_late_worker_can_write_nothing_in_any_state() {
    let (row, old) = claimed();
    let (taken, _) = stored(Some(&row), &claim_by(safe(visit(2, AFTER_LEASE))));
    for row in [pending(), released(false), waiting_task(), awaiting_approval(), done(), taken] {
        for event in [
            Event::Finish {
                claim: old.clone(),
                outcome: success(),
                attempts: 9,
                task: None,
                now: at(99_000),
                notes: None,
            },
            Event::Heartbeat { claim: old.clone(), lease_until: at(99_000), notes: None },
            Event::Release {
                claim: old.clone(),
                attempts: 9,
                may_have_executed: true,
                held: None,
                now: at(99_000),
            },
            park(old.clone()),
        ] {
            assert_eq!(left(&row, &event), Rejection::Lost, "{:?} {event:?}", row.state);
        }
    }
}

#[test]
fn a_cancellation_is_obeyed_wherever_it_meets_the_call() {
    let by_message = claim_by(visit(2, 100));
    for (row, ran) in [
        (withdrawn(None), MayHaveRun::No),
        (withdrawn(Some(&pending())), MayHaveRun::No),
        (withdrawn(Some(&released(false))), MayHaveRun::No),
        (withdrawn(Some(&released(true))), MayHaveRun::Unknown),
        (withdrawn(Some(&waiting_task())), MayHaveRun::Unknown),
        (withdrawn(Some(&awaiting_approval())), MayHaveRun::No),
    ] {
        let (ended, then) = stored(Some(&row), &by_message);
        assert_eq!(then, Effect::Ended, "{:?}", row.state);
        assert_eq!(outcome(&ended), (OutcomeKind::Cancelled, Some(ran)), "{:?}", row.state);
    }
    let held = withdrawn(Some(&claimed().0));
    assert!(matches!(left(&held, &by_message), Rejection::HeldElsewhere { .. }));
    let beat = Event::Heartbeat { claim: claimed().1, lease_until: at(LEASE_MS + 100), notes: None };
    assert_eq!(stored(Some(&held), &beat).1, Effect::Extended { cancel: true });
    let (ended, _) = stored(Some(&held), &claim_by(safe(visit(2, AFTER_LEASE))));
    assert_eq!(outcome(&ended), (OutcomeKind::Cancelled, Some(MayHaveRun::Unknown)));
    let release = Event::Release {
        claim: claimed().1,
        attempts: 1,
        may_have_executed: false,
        held: None,
        now: at(100),
    };
    assert_eq!(outcome(&stored(Some(&held), &release).0), (OutcomeKind::Cancelled, Some(MayHaveRun::No)));
}

#[test]
fn a_cancellation_after_the_end_changes_nothing_and_a_second_one_neither() {
    let cancel = Event::Cancel { key: key(), now: at(5), expires_at: at(6) };
    assert_eq!(left(&done(), &cancel), Rejection::AlreadyRecorded);
    assert_eq!(left(&withdrawn(None), &cancel), Rejection::Nothing);
}

#[test]
fn an_answer_that_came_before_its_cancellation_was_seen_stands() {
    let (row, claim) = claimed();
    let finish =
        Event::Finish { claim, outcome: success(), attempts: 1, task: None, now: at(10), notes: None };
    assert_eq!(outcome(&stored(Some(&withdrawn(Some(&row))), &finish).0).0, OutcomeKind::Succeeded);
}

#[test]
fn a_refusal_ends_what_nobody_holds_and_says_what_may_have_happened_before() {
    let refuse = |outcome| Event::Conclude { visit: visit(2, AFTER_LEASE), outcome, definition: None };
    let ended = |row: Option<&CallRow>, event| outcome(&stored(row, &event).0);
    assert_eq!(ended(None, refuse(refusal())), (OutcomeKind::Refused, Some(MayHaveRun::No)));
    assert_eq!(ended(Some(&released(false)), refuse(expiry())), (OutcomeKind::Expired, Some(MayHaveRun::No)));
    assert_eq!(
        ended(Some(&released(true)), refuse(expiry())),
        (OutcomeKind::TimedOut, Some(MayHaveRun::Unknown))
    );
    assert_eq!(
        ended(Some(&claimed().0), refuse(expiry())),
        (OutcomeKind::TimedOut, Some(MayHaveRun::Unknown))
    );
    assert_eq!(
        ended(Some(&claimed().0), refuse(refusal())),
        (OutcomeKind::OutcomeUnknown, Some(MayHaveRun::Unknown))
    );
    assert_eq!(left(&done(), &refuse(refusal())), Rejection::AlreadyRecorded);
    let early = Event::Conclude { visit: visit(2, 10), outcome: refusal(), definition: None };
    assert!(matches!(left(&claimed().0, &early), Rejection::HeldElsewhere { .. }));
}

#[test]
fn a_refused_call_keeps_the_definition_it_was_sent_by_and_else_gets_the_one_of_its_refusal() {
    let refuse = Event::Conclude {
        visit: visit(2, AFTER_LEASE),
        outcome: refusal(),
        definition: Some(definition("of the refusal")),
    };
    assert_eq!(stored(None, &refuse).0.definition, Some(definition("of the refusal")));
    let sent = CallRow { definition: Some(definition("of the call")), ..released(true) };
    assert_eq!(stored(Some(&sent), &refuse).0.definition, Some(definition("of the call")));
}

#[test]
fn approval_lets_a_waiting_call_run_and_nothing_else() {
    assert_eq!(pending().state, State::Pending);
    assert_eq!(left(&done(), &Event::Approve), Rejection::Nothing);
    assert_eq!(decide(None, &Event::Approve), Decision::Leave(Rejection::Nothing));
    let ask = Event::AwaitApproval { visit: visit(2, 10) };
    assert_eq!(left(&awaiting_approval(), &ask), Rejection::AwaitingApproval);
    assert_eq!(left(&done(), &ask), Rejection::AlreadyRecorded);
    assert_eq!(left(&pending(), &ask), Rejection::Nothing);
}

#[test]
fn a_heartbeat_extends_the_lease_and_nothing_else() {
    let (row, claim) = claimed();
    let (next, then) = stored(Some(&row), &Event::Heartbeat { claim, lease_until: at(50_000), notes: None });
    assert_eq!(then, Effect::Extended { cancel: false });
    assert_eq!(next, CallRow { rev: row.rev + 1, lease_until: Some(at(50_000)), ..row });
}

#[test]
fn what_a_server_told_stays_until_its_holder_heard_more_and_outlasts_the_end() {
    let heard = |ms| Some(Box::new(CallProgress::none(at(ms))));
    let (row, claim) = claimed();
    let beat = |notes| Event::Heartbeat { claim: claim.clone(), lease_until: at(50_000), notes };
    let row = stored(Some(&row), &beat(heard(5))).0;
    let row = stored(Some(&row), &beat(None)).0;
    assert_eq!(row.notes, heard(5));
    let finish = |notes| Event::Finish {
        claim: claim.clone(),
        outcome: success(),
        attempts: 1,
        task: None,
        now: at(10),
        notes,
    };
    assert_eq!(stored(Some(&row), &finish(None)).0.notes, heard(5));
    assert_eq!(stored(Some(&row), &finish(heard(9))).0.notes, heard(9));
}

#[test]
fn a_dead_letter_is_a_failure_until_something_was_sent_and_unknown_after_that() {
    let why = CallError::new(Code::DeadLettered, "received too often", MayHaveRun::No);
    let give_up = |now| Event::Conclude {
        visit: visit(2, now),
        outcome: Outcome::failed(why.clone()),
        definition: None,
    };
    let (row, then) = stored(None, &give_up(0));
    assert_eq!((outcome(&row), then), ((OutcomeKind::Failed, Some(MayHaveRun::No)), Effect::Ended));
    let (row, _) = stored(Some(&released(false)), &give_up(0));
    assert_eq!(outcome(&row), (OutcomeKind::Failed, Some(MayHaveRun::No)));
    for seen in [claimed().0, released(true), waiting_task()] {
        let (row, _) = stored(Some(&seen), &give_up(AFTER_LEASE));
        assert_eq!(
            outcome(&row),
            (OutcomeKind::OutcomeUnknown, Some(MayHaveRun::Unknown)),
            "{:?}",
            seen.state
        );
    }
    assert!(matches!(left(&claimed().0, &give_up(0)), Rejection::HeldElsewhere { .. }));
    assert_eq!(left(&done(), &give_up(0)), Rejection::AlreadyRecorded);
}

/// A visit by the message `id` that `sender` sent for a session.
fn by(sender: &str, session: &str, id: &str, now_ms: u64) -> DeliveryContext {
    let caller = Caller {
        session: Some(SessionId::parse(session).unwrap()),
        ..Caller::unknown(Some(sender), Some(id))
    };
    DeliveryContext { caller: Box::new(caller), ..visit(u128::from(now_ms) + 100, now_ms) }
}

fn conclude(visit: DeliveryContext) -> Event {
    Event::Conclude { visit, outcome: refusal(), definition: None }
}

#[test]
fn a_row_keeps_who_asked_first_whatever_made_it() {
    let first = by("A", "s1", "m1", 0);
    let caller = Some(first.caller.clone());
    let (row, then) = stored(None, &claim_by(first.clone()));
    let Effect::Execute(claim) = then else { panic!("a claim") };
    assert_eq!(row.caller, caller);
    let released = stored(
        Some(&row),
        &Event::Release { claim, attempts: 1, may_have_executed: false, held: None, now: at(10) },
    )
    .0;
    // Another message of the same caller goes on with it, in the first one's name.
    let (again, _) = stored(Some(&released), &claim_by(by("A:other-process", "s1", "m2", 20)));
    assert_eq!(again.caller, caller);
    for event in [conclude(first.clone()), Event::AwaitApproval { visit: first.clone() }] {
        assert_eq!(stored(None, &event).0.caller, caller);
    }
    assert_eq!(stored(Some(&withdrawn(None)), &claim_by(first)).0.caller, caller, "learnt from the message");
}

#[test]
fn a_message_of_somebody_else_neither_claims_nor_ends_a_call() {
    let (row, then) = stored(None, &claim_by(by("A", "s1", "m1", 0)));
    let Effect::Execute(claim) = then else { panic!("a claim") };
    let released = stored(
        Some(&row),
        &Event::Release { claim, attempts: 1, may_have_executed: false, held: None, now: at(10) },
    )
    .0;
    for visit in [by("B", "s2", "m2", AFTER_LEASE), by("A", "s2", "m2", AFTER_LEASE)] {
        for row in [&row, &released] {
            assert!(matches!(left(row, &claim_by(visit.clone())), Rejection::HeldElsewhere { .. }));
            assert_eq!(left(row, &conclude(visit.clone())), Rejection::OfAnother);
            let hold = hold_by(visit.clone(), HeldReason::ServerPause);
            assert!(matches!(left(row, &hold), Rejection::HeldElsewhere { .. }));
        }
        let ended = stored(Some(&released), &conclude(by("A", "s1", "m1", 20))).0;
        assert_eq!(left(&ended, &claim_by(visit.clone())), Rejection::AlreadyRecorded);
        assert_eq!(left(&ended, &conclude(visit)), Rejection::OfAnother);
    }
    // A dead letter that an operator sent back, under a role of its own: nobody else is left to finish the call.
    let redriven = by("OPERATOR", "s1", "m2", AFTER_LEASE);
    for row in [&row, &released] {
        let (finished, _) = stored(Some(row), &claim_by(safe(redriven.clone())));
        assert_eq!(finished.caller, row.caller, "in the first caller's name");
        assert_eq!(finished.state, State::Claimed);
    }
    // The first message itself, however its sender is named by then.
    assert!(matches!(stored(Some(&released), &claim_by(by("C", "s1", "m1", 20))).1, Effect::Execute(_)));
}

fn user(id: &str, kind: Option<&str>, roles: &[&str]) -> User {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    User { id: id.to_owned(), kind: kind.map(str::to_owned), roles }
}

/// A visit of the user by a message of its own.
fn as_user(user: Option<User>, session: &str, id: &str, now_ms: u64) -> DeliveryContext {
    let visit = by("A", session, id, now_ms);
    DeliveryContext { caller: Box::new(Caller { user, ..*visit.caller }), ..visit }
}

#[test]
fn a_message_that_says_less_of_its_bound_user_ends_the_call() {
    let ann = user("ann", Some("internal"), &["support", "admin"]);
    let (row, then) = stored(None, &claim_by(as_user(Some(ann.clone()), "s1", "m1", 0)));
    let Effect::Execute(claim) = then else { panic!("a claim") };
    let released = stored(
        Some(&row),
        &Event::Release { claim, attempts: 1, may_have_executed: false, held: None, now: at(10) },
    )
    .0;
    for said in [None, Some(user("ann", None, &[])), Some(user("ann", Some("internal"), &[])), Some(ann)] {
        for row in [&row, &released] {
            let (over, _) = stored(Some(row), &conclude(as_user(said.clone(), "s1", "m2", AFTER_LEASE)));
            assert_eq!((over.state, &over.caller), (State::Done, &row.caller), "{said:?}");
        }
    }
    let others =
        [(Some(user("eve", None, &[])), "s1"), (Some(user("ann", Some("guest"), &[])), "s1"), (None, "s2")];
    for (said, session) in others {
        let visit = as_user(said.clone(), session, "m2", AFTER_LEASE);
        assert_eq!(left(&released, &conclude(visit)), Rejection::OfAnother, "{said:?} {session}");
    }
    let visit = as_user(None, "s1", "m2", AFTER_LEASE);
    let agent = Caller { agent: Some("other".to_owned()), ..*visit.caller.clone() };
    let visit = DeliveryContext { caller: Box::new(agent), ..visit };
    assert_eq!(left(&released, &conclude(visit)), Rejection::OfAnother, "another agent");
    // Before a claim every user is bound: who has none then is another one.
    let visit = as_user(None, "s1", "m2", AFTER_LEASE);
    assert!(matches!(left(&released, &claim_by(visit)), Rejection::HeldElsewhere { .. }));
}

#[test]
fn a_row_of_an_earlier_version_is_met_as_before() {
    let (row, _) = stored(None, &claim_by(by("A", "s1", "m1", 0)));
    let older = CallRow { caller: None, state: State::Released, lease_until: None, ..row };
    assert!(matches!(stored(Some(&older), &claim_by(by("B", "s2", "m2", 1))).1, Effect::Execute(_)));
    let earlier = Digest::of_text("as earlier versions wrote it");
    let older = CallRow { digest: Some(earlier.clone()), ..older };
    assert_eq!(left(&older, &claim_by(by("A", "s1", "m1", 1))), Rejection::Mismatch);
    let visit = DeliveryContext { earlier_digest: Some(earlier), ..by("A", "s1", "m1", 1) };
    assert!(matches!(stored(Some(&older), &claim_by(visit.clone())).1, Effect::Execute(_)));
    let newer = CallRow { caller: Some(visit.caller.clone()), ..older };
    assert_eq!(left(&newer, &claim_by(visit)), Rejection::Mismatch, "no earlier version wrote this row");
}

fn hold_by(visit: DeliveryContext, reason: HeldReason) -> Event {
    let server = toolfleet_core::ids::ServerId::parse("crm").unwrap();
    let held = Held::new(reason, Some(server), visit.now, 5_000).with_fault("refused");
    Event::Hold { visit, held }
}

#[test]
fn a_held_call_has_a_row_that_says_why_and_when_it_goes_on() {
    let (row, then) = stored(None, &hold_by(visit(1, 0), HeldReason::ServerUnreachable));
    assert_eq!((row.state, then), (State::Pending, Effect::Waits));
    let held = row.held().unwrap();
    assert_eq!((held.next_try_at, held.last_fault.as_deref()), (at(5_000), Some("refused")));
    // The same wait goes on: it keeps its beginning.
    let (again, _) = stored(Some(&row), &hold_by(visit(2, 5_000), HeldReason::ServerUnreachable));
    assert_eq!((again.held().unwrap().since, again.held().unwrap().next_try_at), (at(0), at(10_000)));
    let (other, _) = stored(Some(&again), &hold_by(visit(3, 9_000), HeldReason::ServerPause));
    assert_eq!(other.held().unwrap().since, at(9_000));
    // Whoever claims it runs it; its end says nothing of waits.
    let (claimed, then) = stored(Some(&other), &claim_by(visit(4, 10_000)));
    assert!(matches!(then, Effect::Execute(_)) && claimed.held().is_none());
    assert_eq!((claimed.attempts, claimed.fence), (0, 1));
}

#[test]
fn a_wait_is_written_into_no_row_that_somebody_holds_or_has_ended() {
    let hold = |now| hold_by(visit(9, now), HeldReason::ServerFailing);
    assert!(matches!(left(&claimed().0, &hold(10)), Rejection::HeldElsewhere { .. }));
    assert_eq!(left(&done(), &hold(10)), Rejection::AlreadyRecorded);
    assert_eq!(left(&awaiting_approval(), &hold(10)), Rejection::AwaitingApproval);
    let mut other = visit(9, 10);
    other.digest = Digest::of_text("another question");
    assert_eq!(left(&released(false), &hold_by(other, HeldReason::ServerFailing)), Rejection::Mismatch);
    let (row, then) = stored(Some(&withdrawn(None)), &hold(10));
    assert_eq!((row.state, then), (State::Done, Effect::Ended), "a withdrawn call does not wait");
}

#[test]
fn a_lost_claim_that_is_held_stays_a_lost_attempt() {
    let late = LEASE_MS + SKEW_MS + 1;
    let (row, _) = stored(Some(&claimed().0), &hold_by(visit(2, late), HeldReason::ServerFailing));
    assert_eq!((row.state, row.attempts, row.may_have_executed), (State::Released, 1, true));
    let (ended, _) = stored(Some(&row), &claim_by(visit(3, late + 1)));
    assert_eq!(ended.finished.unwrap().outcome.kind, OutcomeKind::OutcomeUnknown);
}

#[test]
fn a_call_that_expires_while_it_waits_says_for_what_it_waited() {
    let (row, _) = stored(None, &hold_by(visit(1, 0), HeldReason::ServerUnreachable));
    let event = Event::Conclude { visit: visit(2, 9_000), outcome: expiry(), definition: None };
    let outcome = stored(Some(&row), &event).0.finished.unwrap().outcome;
    let why = outcome.error.unwrap();
    assert_eq!((outcome.kind, why.may_have_run), (OutcomeKind::Expired, MayHaveRun::No));
    assert!(why.message.starts_with("late") && why.message.contains("`crm`"), "{}", why.message);
    assert!(why.message.contains("cannot be reached") && why.message.contains("refused"), "{}", why.message);
}
