//! The end of a call: cancellations, refusals, dead letters, heartbeats before it.

use super::rows::*;
use toolfleet_core::call::{CallRow, Decision, Effect, Event, Rejection, State, decide};
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::progress::CallProgress;

#[test]
fn a_cancellation_is_obeyed_wherever_it_meets_the_call() {
    let by_message = claim_by(delivery(2, 100));
    for (row, ran) in [
        (pending(), MayHaveRun::No),
        (released(false), MayHaveRun::No),
        (released(true), MayHaveRun::Unknown),
        (waiting_task(), MayHaveRun::Unknown),
        (awaiting_approval(), MayHaveRun::No),
    ] {
        // No worker holds it: the cancellation itself ends it.
        let ended = cancelled(Some(&row));
        assert_eq!(outcome(&ended), (OutcomeKind::Cancelled, Some(ran)), "{:?}", row.state);
        assert_eq!(left(&ended, &by_message), Rejection::AlreadyRecorded, "{:?}", row.state);
        // A worker of an earlier version only noted it.
        let noted = CallRow { cancel_requested_at: Some(at(5)), ..row };
        assert_eq!(outcome(&cancelled(Some(&noted))), (OutcomeKind::Cancelled, Some(ran)));
        let (ended, then) = stored(Some(&noted), &by_message);
        assert_eq!(then, Effect::Ended, "{:?}", noted.state);
        assert_eq!(outcome(&ended), (OutcomeKind::Cancelled, Some(ran)), "{:?}", noted.state);
    }
    let (ended, then) = stored(Some(&cancelled(None)), &by_message);
    assert_eq!((then, outcome(&ended)), (Effect::Ended, (OutcomeKind::Cancelled, Some(MayHaveRun::No))));
    let held = cancelled(Some(&claimed().0));
    assert!(matches!(left(&held, &by_message), Rejection::HeldElsewhere { .. }));
    let beat = Event::Heartbeat { claim: claimed().1, lease_until: at(LEASE_MS + 100), notes: None };
    assert_eq!(stored(Some(&held), &beat).1, Effect::Extended { cancel: true });
    let (ended, _) = stored(Some(&held), &claim_by(safe(delivery(2, AFTER_LEASE))));
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
fn a_late_or_second_cancellation_changes_nothing() {
    let cancel = Event::Cancel { key: key(), now: at(5), expires_at: at(6) };
    assert_eq!(left(&done(), &cancel), Rejection::AlreadyRecorded);
    assert_eq!(left(&cancelled(None), &cancel), Rejection::Nothing);
}

#[test]
fn a_newer_call_replaces_only_one_that_was_not_started() {
    let replaced = |delivery| {
        let why = CallError::new(Code::Superseded, "replaced by `c2`", MayHaveRun::No);
        Event::Conclude { delivery, outcome: Outcome::ended(OutcomeKind::Cancelled, why), definition: None }
    };
    for row in [None, Some(pending())] {
        let (ended, _) = stored(row.as_ref(), &replaced(delivery(2, 100)));
        assert_eq!(outcome(&ended), (OutcomeKind::Cancelled, Some(MayHaveRun::No)));
    }
    let (claimed, _) = claimed();
    for (row, now) in
        [(claimed.clone(), 100), (claimed, AFTER_LEASE), (released(false), 100), (waiting_task(), 100)]
    {
        assert_eq!(left(&row, &replaced(delivery(2, now))), Rejection::Nothing, "{:?}", row.state);
    }
    assert_eq!(left(&done(), &replaced(delivery(2, 100))), Rejection::AlreadyRecorded);
}

#[test]
fn an_answer_that_came_before_its_cancellation_was_seen_stands() {
    let (row, claim) = claimed();
    let finish =
        Event::Finish { claim, outcome: success(), attempts: 1, task: None, now: at(10), notes: None };
    assert_eq!(outcome(&stored(Some(&cancelled(Some(&row))), &finish).0).0, OutcomeKind::Succeeded);
}

#[test]
fn a_refusal_ends_an_unclaimed_call_and_says_if_it_may_have_run() {
    let refuse = |outcome| Event::Conclude { delivery: delivery(2, AFTER_LEASE), outcome, definition: None };
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
    let early = Event::Conclude { delivery: delivery(2, 10), outcome: refusal(), definition: None };
    assert!(matches!(left(&claimed().0, &early), Rejection::HeldElsewhere { .. }));
}

#[test]
fn a_refused_call_keeps_the_definition_it_was_sent_with() {
    let refuse = Event::Conclude {
        delivery: delivery(2, AFTER_LEASE),
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
    let ask = Event::AwaitApproval { delivery: delivery(2, 10) };
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
fn progress_stays_in_the_row_until_newer_progress_comes() {
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
fn a_dead_letter_that_may_have_run_ends_as_unknown() {
    let why = CallError::new(Code::DeadLettered, "received too often", MayHaveRun::No);
    let give_up = |now| Event::Conclude {
        delivery: delivery(2, now),
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
