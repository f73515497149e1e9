//! Calls that are executed without a claim: the first write of their row, and what the absence of a row means for every other event.

use super::rows::*;
use toolfleet_core::call::{DeliveryContext, Effect, Event, HeldReason, Rejection, State, Unclaimed, decide};
use toolfleet_core::digest::Digest;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};

fn executed(nonce: u128, now_ms: u64) -> Box<Unclaimed> {
    Box::new(Unclaimed {
        delivery: safe(delivery(nonce, now_ms)),
        attempts: 1,
        started_at: at(1),
        definition: Some(definition("d")),
        task: None,
        notes: None,
    })
}

fn finish(nonce: u128, now_ms: u64) -> Event {
    Event::FinishUnclaimed { execution: executed(nonce, now_ms), outcome: success() }
}

fn park_task(nonce: u128) -> Event {
    let execution = Unclaimed { task: Some("t".into()), ..*executed(nonce, 10) };
    Event::ParkUnclaimed { execution: Box::new(execution), poll_at: at(1_000) }
}

/// A delivery of a call that another delivery may have executed without a claim.
fn possibly_executed(nonce: u128, now_ms: u64) -> DeliveryContext {
    DeliveryContext { may_be_claimless: true, ..safe(delivery(nonce, now_ms)) }
}

#[test]
fn the_first_write_of_an_unclaimed_call_is_its_end() {
    let (row, then) = stored(None, &finish(1, 10));
    assert_eq!((row.state, then, row.rev, row.fence), (State::Done, Effect::Ended, 1, 1));
    assert_eq!((row.attempts, row.started_at), (1, Some(at(1))));
    assert_eq!(row.definition, Some(definition("d")));
    assert_eq!(outcome(&row), (OutcomeKind::Succeeded, None));
    // The same write, sent again after its answer was lost, is recognised by the row.
    assert_eq!(stored(None, &finish(1, 10)).0, row);
}

#[test]
fn whoever_comes_second_stores_nothing() {
    let by_claim = claimed().0;
    let rows = [
        (done(), Rejection::AlreadyRecorded),
        (by_claim, Rejection::Lost),
        (released(true), Rejection::Lost),
        (waiting_task(), Rejection::Lost),
        (awaiting_approval(), Rejection::Lost),
    ];
    for (row, rejection) in rows {
        assert_eq!(left(&row, &finish(2, 20)), rejection, "{:?}", row.state);
        assert_eq!(left(&row, &park_task(2)), rejection, "{:?}", row.state);
    }
    let (first, _) = stored(None, &finish(1, 10));
    assert_eq!(left(&first, &finish(2, 20)), Rejection::AlreadyRecorded);
}

#[test]
fn a_late_claim_without_a_seen_answer_takes_nothing_from_its_delivery() {
    let claimed = stored(None, &claim_by(possibly_executed(1, 10))).0;
    assert_eq!(stored(Some(&claimed), &finish(1, 20)).0.state, State::Done);
    let (parked, _) = stored(Some(&claimed), &park_task(1));
    assert_eq!((parked.state, parked.fence, parked.lease_until), (State::WaitingTask, 1, None));
    let (again, then) = stored(Some(&claimed), &claim_by(possibly_executed(1, 20)));
    assert!(matches!(then, Effect::Execute(_)));
    assert_eq!((again.state, again.fence), (State::Claimed, 2));
    assert_eq!(left(&claimed, &finish(2, 20)), Rejection::Lost);
}

#[test]
fn another_question_under_its_id_stores_nothing() {
    let execution = executed(2, 20);
    let other = DeliveryContext { digest: Digest::of_text("another"), ..execution.delivery.clone() };
    let execution = Box::new(Unclaimed { delivery: other, ..*execution });
    let event = Event::FinishUnclaimed { execution, outcome: success() };
    assert_eq!(left(&done(), &event), Rejection::Mismatch);
    assert_eq!(left(&claimed().0, &event), Rejection::Mismatch);
}

#[test]
fn an_answer_counts_although_a_cancellation_came_meanwhile() {
    let (row, then) = stored(Some(&cancelled(None)), &finish(1, 10));
    assert_eq!((row.state, then), (State::Done, Effect::Ended));
    assert_eq!(outcome(&row), (OutcomeKind::Succeeded, None));
    assert_eq!(row.digest, Some(delivery(1, 10).digest));
}

#[test]
fn a_call_that_another_delivery_holds_back_may_still_end() {
    let held = stored(None, &hold_by(possibly_executed(2, 5), HeldReason::ServerFailing)).0;
    let (row, _) = stored(Some(&held), &finish(1, 10));
    assert_eq!((row.state, row.held.is_none()), (State::Done, true));
}

#[test]
fn a_task_of_an_unclaimed_call_waits_in_its_first_row() {
    let (row, then) = stored(None, &park_task(1));
    assert_eq!((row.state, then), (State::WaitingTask, Effect::Waits));
    assert_eq!((row.task.as_deref(), row.poll_at, row.fence), (Some("t"), Some(at(1_000)), 1));
    assert!(row.may_have_executed);
    let (polled, _) = stored(Some(&row), &claim_by(delivery(2, 2_000)));
    assert_eq!((polled.state, polled.fence), (State::Claimed, 2));
}

/// The write replaced a row that another delivery had held back, and its answer was lost.
#[test]
fn a_task_whose_own_row_was_stored_without_an_answer_is_recognised() {
    let (row, _) = stored(None, &park_task(1));
    let (again, then) = stored(Some(&row), &park_task(1));
    assert_eq!((again.state, again.task.as_deref(), then), (State::WaitingTask, Some("t"), Effect::Waits));
    let execution = Unclaimed { task: Some("another".into()), ..*executed(1, 10) };
    let other = Event::ParkUnclaimed { execution: Box::new(execution), poll_at: at(1_000) };
    assert_eq!(left(&row, &other), Rejection::Lost);
    assert_eq!(left(&row, &park_task(2)), Rejection::Lost);
    assert_eq!(left(&row, &finish(1, 20)), Rejection::Lost);
}

#[test]
fn a_task_of_a_cancelled_call_ends_it_and_keeps_the_handle() {
    let (row, then) = stored(Some(&cancelled(None)), &park_task(1));
    assert_eq!((row.state, then), (State::Done, Effect::Ended));
    assert_eq!(outcome(&row), (OutcomeKind::Cancelled, Some(MayHaveRun::Unknown)));
    assert_eq!(row.task.as_deref(), Some("t"));
}

#[test]
fn a_late_claim_of_an_unclaimed_call_holds_like_any_other() {
    let (row, then) = stored(None, &claim_by(possibly_executed(1, 10)));
    let Effect::Execute(claim) = then else { panic!("expected a claim, got {then:?}") };
    assert!(row.may_have_executed);
    let end = Event::Finish { claim, outcome: success(), attempts: 1, task: None, now: at(20), notes: None };
    assert_eq!(stored(Some(&row), &end).0.state, State::Done);
    let (ended, then) = stored(Some(&cancelled(None)), &claim_by(possibly_executed(1, 10)));
    assert_eq!(then, Effect::Ended);
    assert_eq!(outcome(&ended), (OutcomeKind::Cancelled, Some(MayHaveRun::Unknown)));
}

#[test]
fn without_a_row_an_unclaimed_call_may_have_run() {
    let conclude =
        |outcome| Event::Conclude { delivery: possibly_executed(2, 10), outcome, definition: None };
    let dead = CallError::new(Code::DeadLettered, "received too often", MayHaveRun::No);
    let rows = [
        (refusal(), OutcomeKind::Refused),
        (expiry(), OutcomeKind::TimedOut),
        (Outcome::failed(dead), OutcomeKind::OutcomeUnknown),
    ];
    for (unexecuted, kind) in rows {
        // A cancellation before the message came has a row that says no more than none.
        let (row, _) = stored(None, &conclude(unexecuted));
        assert_eq!(outcome(&row), (kind, Some(MayHaveRun::Unknown)));
    }
    let (row, _) = stored(Some(&cancelled(None)), &conclude(refusal()));
    assert_eq!(outcome(&row), (OutcomeKind::Cancelled, Some(MayHaveRun::Unknown)));
    let held = stored(None, &hold_by(possibly_executed(2, 5), HeldReason::ServerFailing)).0;
    assert_eq!(outcome(&cancelled(Some(&held))).1, Some(MayHaveRun::Unknown));
}

/// What an end of the call says that itself executed nothing.
fn unexecuted() -> Outcome {
    let why = CallError::new(Code::ServerUnreachable, "The server cannot be reached.", MayHaveRun::No);
    Outcome::failed(why.retryable(None))
}

#[test]
fn no_end_of_a_possibly_unclaimed_call_says_that_it_did_not_run() {
    let unclaimed = Unclaimed { delivery: possibly_executed(1, 10), ..*executed(1, 10) };
    let event = Event::FinishUnclaimed { execution: Box::new(unclaimed), outcome: unexecuted() };
    let (alone, _) = stored(None, &event);
    let (row, then) = stored(None, &claim_by(possibly_executed(1, 10)));
    let Effect::Execute(claim) = then else { panic!("expected a claim, got {then:?}") };
    assert!(row.may_have_executed && !row.was_sent(), "nothing of it is known to be sent");
    let finish =
        Event::Finish { claim, outcome: unexecuted(), attempts: 0, task: None, now: at(20), notes: None };
    for row in [alone, stored(Some(&row), &finish).0] {
        assert_eq!(outcome(&row), (OutcomeKind::Failed, Some(MayHaveRun::Unknown)));
        let error = row.finished.unwrap().outcome.error.unwrap();
        assert!(error.retryable);
        assert_eq!(
            error.message,
            "The server cannot be reached. Whether another delivery of its message has executed it is not known."
        );
    }
}

#[test]
fn a_call_that_waited_and_was_not_sent_is_cancelled_without_a_denial() {
    let held = stored(None, &hold_by(possibly_executed(2, 5), HeldReason::ServerFailing)).0;
    let row = cancelled(Some(&held));
    assert_eq!(outcome(&row), (OutcomeKind::Cancelled, Some(MayHaveRun::Unknown)));
    let text = row.finished.unwrap().outcome.error.unwrap().message;
    assert!(
        text.starts_with("The caller cancelled this call before it was sent to the tool. Whether"),
        "{text}"
    );
}

#[test]
fn an_answer_of_a_possibly_unclaimed_call_stays_as_it_is() {
    let (row, _) = stored(None, &finish(1, 10));
    assert_eq!(row.finished.unwrap().outcome, success());
}

#[test]
fn a_call_that_may_have_run_and_is_unsafe_is_not_claimed() {
    let unsafe_now = DeliveryContext { repeatable: false, ..possibly_executed(2, 10) };
    let (row, then) = stored(None, &claim_by(unsafe_now));
    assert_eq!(then, Effect::Ended);
    assert_eq!(outcome(&row), (OutcomeKind::OutcomeUnknown, Some(MayHaveRun::Unknown)));
    assert!(matches!(
        decide(None, &claim_by(possibly_executed(2, 10))),
        toolfleet_core::call::Decision::Write { then: Effect::Execute(_), .. }
    ));
}
