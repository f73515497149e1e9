//! Claims: who gets the call, and when a claim that ended may be taken over.

use super::rows::*;
use toolfleet_core::call::{DeliveryContext, Effect, Event, Rejection, State};
use toolfleet_core::digest::Digest;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};

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
    let again = claim_by(delivery(2, 1_000));
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
fn another_question_under_one_id_is_a_mismatch_everywhere() {
    let other = DeliveryContext { digest: Digest::of_text("another"), ..delivery(2, AFTER_LEASE) };
    for row in [pending(), claimed().0, released(false), waiting_task(), awaiting_approval(), done()] {
        assert_eq!(left(&row, &claim_by(other.clone())), Rejection::Mismatch, "{:?}", row.state);
        let refuse = Event::Conclude { delivery: other.clone(), outcome: refusal(), definition: None };
        assert_eq!(left(&row, &refuse), Rejection::Mismatch, "{:?}", row.state);
    }
}

#[test]
fn a_lease_expires_only_after_the_clock_skew_allowance() {
    let row = claimed().0;
    assert!(matches!(
        left(&row, &claim_by(safe(delivery(2, LEASE_MS + SKEW_MS)))),
        Rejection::HeldElsewhere { .. }
    ));
    let (next, then) = stored(Some(&row), &claim_by(safe(delivery(2, AFTER_LEASE))));
    assert!(matches!(then, Effect::Execute(_)));
    assert_eq!((next.fence, next.attempts, next.may_have_executed), (2, 1, true));
}

#[test]
fn an_expired_claim_on_an_unsafe_tool_ends_as_unknown() {
    let (row, then) = stored(Some(&claimed().0), &claim_by(delivery(2, AFTER_LEASE)));
    assert_eq!(then, Effect::Ended);
    assert_eq!(outcome(&row), (OutcomeKind::OutcomeUnknown, Some(MayHaveRun::Unknown)));
}

#[test]
fn a_released_call_that_may_have_run_is_not_sent_if_unsafe() {
    let (row, then) = stored(Some(&released(true)), &claim_by(delivery(2, 100)));
    assert_eq!((then, row.state), (Effect::Ended, State::Done));
    assert_eq!(outcome(&row).0, OutcomeKind::OutcomeUnknown);
}

#[test]
fn a_late_worker_can_write_nothing_in_any_state() {
    let (row, old) = claimed();
    let (taken, _) = stored(Some(&row), &claim_by(safe(delivery(2, AFTER_LEASE))));
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
