//! Calls that their server works on as a task.

use super::rows::*;
use toolfleet_core::call::{CallRow, DeliveryContext, Effect, Event, Rejection, State};
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};

#[test]
fn polling_a_task_is_safe_and_no_attempt() {
    let (polling, _) = stored(Some(&waiting_task()), &claim_by(delivery(2, 1_000)));
    let (again, then) = stored(Some(&polling), &claim_by(delivery(3, 1_000 + AFTER_LEASE)));
    assert!(matches!(then, Effect::Execute(_)));
    assert_eq!((again.task.as_deref(), again.attempts), (Some("t"), 1));
}

#[test]
fn a_poll_keeps_the_definition_that_the_call_was_sent_with() {
    let by = |delivery, definition: &str| Event::Claim {
        delivery,
        lease_ms: LEASE_MS,
        definition: Some(self::definition(definition)),
        answers: None,
    };
    let (row, Effect::Execute(claim)) = stored(None, &by(delivery(1, 0), "then")) else { panic!("a claim") };
    let (parked, _) = stored(Some(&row), &park(claim));
    let (asking, _) = stored(Some(&parked), &by(delivery(2, 1_000), "now"));
    assert_eq!(asking.definition, Some(definition("then")));
}

#[test]
fn a_duplicate_polls_no_earlier_than_the_server_wants() {
    let parked = CallRow { poll_at: Some(at(10_000)), ..waiting_task() };
    let early = 10_000 - SKEW_MS - 1;
    assert_eq!(left(&parked, &claim_by(delivery(2, early))), Rejection::HeldElsewhere { retry_after_ms: 1 });
    let (asking, then) = stored(Some(&parked), &claim_by(delivery(2, early + 1)));
    assert!(matches!(then, Effect::Execute(_)));
    assert_eq!(asking.poll_at, None);
    // What ends the call does not wait for that time.
    let refuse = Event::Conclude { delivery: delivery(2, early), outcome: expiry(), definition: None };
    assert_eq!(outcome(&stored(Some(&parked), &refuse).0).0, OutcomeKind::TimedOut);
    assert_eq!(outcome(&cancelled(Some(&parked))).0, OutcomeKind::Cancelled);
}

#[test]
fn only_a_call_that_ends_before_its_task_keeps_the_handle() {
    let parked = waiting_task();
    let expired = stored(
        Some(&parked),
        &Event::Conclude { delivery: delivery(2, 2_000), outcome: expiry(), definition: None },
    )
    .0;
    let cancelled = cancelled(Some(&parked));
    for row in [expired, cancelled] {
        assert_eq!((row.state, row.task.as_deref(), row.poll_at), (State::Done, Some("t"), None));
    }
    let (asking, Effect::Execute(claim)) = stored(Some(&parked), &claim_by(delivery(2, 2_000))) else {
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
fn a_cancellation_before_parking_ends_with_the_task_handle() {
    let (row, claim) = claimed();
    let (ended, then) = stored(Some(&cancelled(Some(&row))), &park(claim));
    assert_eq!((then, ended.task.as_deref()), (Effect::Ended, Some("t")));
    assert_eq!(outcome(&ended), (OutcomeKind::Cancelled, Some(MayHaveRun::Unknown)));
}

#[test]
fn a_call_with_answers_for_a_task_only_uses_the_task() {
    let by = |delivery: DeliveryContext| Event::Claim {
        delivery: DeliveryContext { repeatable: false, ..delivery },
        lease_ms: LEASE_MS,
        definition: Some(definition("d")),
        answers: Some("t".into()),
    };
    let (row, Effect::Execute(claim)) = stored(None, &by(delivery(1, 0))) else { panic!("a claim") };
    assert_eq!((row.task.as_deref(), row.input_pending, row.may_have_executed), (Some("t"), true, false));
    assert_eq!(row.definition, Some(definition("d")));
    // Its worker dies: the answer is given again, and is no attempt.
    let (again, then) = stored(Some(&row), &by(delivery(2, AFTER_LEASE)));
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
    let (asking, _) = stored(Some(&waiting), &by(delivery(2, 1_000)));
    assert!(asking.input_pending);
    let expired = Event::Conclude { delivery: delivery(2, 2_000), outcome: expiry(), definition: None };
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
    let (asking, _) = stored(Some(&answered), &by(delivery(2, 1_000)));
    assert_eq!((asking.input_pending, asking.may_have_executed), (false, true));
}
