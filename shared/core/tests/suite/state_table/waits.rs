//! Calls that wait before they are claimed.

use super::rows::*;
use toolfleet_core::call::{DeliveryContext, Effect, Event, HeldReason, Rejection, State};
use toolfleet_core::digest::Digest;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};

#[test]
fn a_held_call_has_a_row_that_says_why_and_when_it_goes_on() {
    let (row, then) = stored(None, &hold_by(delivery(1, 0), HeldReason::ServerUnreachable));
    assert_eq!((row.state, then), (State::Pending, Effect::Waits));
    let held = row.held().unwrap();
    assert_eq!((held.next_try_at, held.last_fault.as_deref()), (at(5_000), Some("refused")));
    // The same wait goes on: it keeps its beginning.
    let (again, _) = stored(Some(&row), &hold_by(delivery(2, 5_000), HeldReason::ServerUnreachable));
    assert_eq!((again.held().unwrap().since, again.held().unwrap().next_try_at), (at(0), at(10_000)));
    let (other, _) = stored(Some(&again), &hold_by(delivery(3, 9_000), HeldReason::ServerPause));
    assert_eq!(other.held().unwrap().since, at(9_000));
    // Whoever claims it runs it; its end says nothing of waits.
    let (claimed, then) = stored(Some(&other), &claim_by(delivery(4, 10_000)));
    assert!(matches!(then, Effect::Execute(_)) && claimed.held().is_none());
    assert_eq!((claimed.attempts, claimed.fence), (0, 1));
}

#[test]
fn a_row_keeps_the_deadline_of_its_first_message() {
    let later = |nonce| DeliveryContext { deadline: Some(at(900_000)), ..delivery(nonce, 5_000) };
    let (row, _) = stored(None, &hold_by(delivery(1, 0), HeldReason::Share));
    assert_eq!(row.deadline, Some(at(500_000)));
    assert_eq!(stored(Some(&row), &claim_by(later(2))).0.deadline, Some(at(500_000)));
    // A row that only a cancellation made, and one of an earlier version, take it from the message.
    let mut noted = cancelled(None);
    assert_eq!(noted.deadline, None);
    noted.cancel_requested_at = None;
    assert_eq!(stored(Some(&noted), &claim_by(later(3))).0.deadline, Some(at(900_000)));
    let (mut earlier, _) = stored(None, &hold_by(delivery(4, 0), HeldReason::Share));
    earlier.deadline = None;
    assert_eq!(stored(Some(&earlier), &claim_by(later(5))).0.deadline, Some(at(900_000)));
}

#[test]
fn a_wait_changes_no_claimed_and_no_ended_row() {
    let hold = |now| hold_by(delivery(9, now), HeldReason::ServerFailing);
    assert!(matches!(left(&claimed().0, &hold(10)), Rejection::HeldElsewhere { .. }));
    assert_eq!(left(&done(), &hold(10)), Rejection::AlreadyRecorded);
    assert_eq!(left(&awaiting_approval(), &hold(10)), Rejection::AwaitingApproval);
    let mut other = delivery(9, 10);
    other.digest = Digest::of_text("another question");
    assert_eq!(left(&released(false), &hold_by(other, HeldReason::ServerFailing)), Rejection::Mismatch);
    let (row, then) = stored(Some(&cancelled(None)), &hold(10));
    assert_eq!((row.state, then), (State::Done, Effect::Ended), "a withdrawn call does not wait");
}

#[test]
fn a_lost_claim_that_is_held_stays_a_lost_attempt() {
    let late = LEASE_MS + SKEW_MS + 1;
    let (row, _) = stored(Some(&claimed().0), &hold_by(delivery(2, late), HeldReason::ServerFailing));
    assert_eq!((row.state, row.attempts, row.may_have_executed), (State::Released, 1, true));
    let (ended, _) = stored(Some(&row), &claim_by(delivery(3, late + 1)));
    assert_eq!(ended.finished.unwrap().outcome.kind, OutcomeKind::OutcomeUnknown);
}

#[test]
fn a_call_that_expires_while_it_waits_says_for_what_it_waited() {
    let (row, _) = stored(None, &hold_by(delivery(1, 0), HeldReason::ServerUnreachable));
    let event = Event::Conclude { delivery: delivery(2, 9_000), outcome: expiry(), definition: None };
    let outcome = stored(Some(&row), &event).0.finished.unwrap().outcome;
    let why = outcome.error.unwrap();
    assert_eq!((outcome.kind, why.may_have_run), (OutcomeKind::Expired, MayHaveRun::No));
    assert!(why.message.starts_with("late") && why.message.contains("`crm`"), "{}", why.message);
    assert!(why.message.contains("cannot be reached") && why.message.contains("refused"), "{}", why.message);
}
