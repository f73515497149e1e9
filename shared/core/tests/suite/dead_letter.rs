//! What a redrive does to the call of a dead letter: every state of its row, safe and not safe to repeat.

use toolfleet_core::call::{CallRow, Decision, DeliveryContext, Event, State, decide};
use toolfleet_core::dead_letter::{DeadLetterFacts, RedriveClass};
use toolfleet_core::ids::{Nonce, WorkerId};
use toolfleet_core::request::CallRequest;
use toolfleet_core::retention::OLDEST_MESSAGE_MS;
use toolfleet_core::time::Timestamp;

const LEASE_MS: u64 = 30_000;
const DEADLINE_MS: u64 = 600_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_795_000_000_000).plus_ms(ms)
}

fn request(more: &str) -> CallRequest {
    let body = format!(r#"{{"v":1,"call_id":"c1","tenant":"acme","tool":"t","arguments":{{"n":1}}{more}}}"#);
    CallRequest::decode(&body).unwrap()
}

fn claimed() -> CallRow {
    let request = request("");
    let delivery = DeliveryContext {
        key: request.key.clone(),
        digest: request.digest,
        earlier_digest: None,
        caller: Box::default(),
        nonce: Nonce::from_random(1),
        worker: WorkerId::parse("w1").unwrap(),
        enqueued_at: at(0),
        deadline: Some(at(DEADLINE_MS)),
        now: at(0),
        skew_ms: 0,
        may_be_claimless: false,
        repeatable: false,
        expires_at: at(1_000_000),
    };
    let event = Event::Claim { delivery, lease_ms: LEASE_MS, definition: None, answers: None };
    match decide(None, &event) {
        Decision::Write { row, .. } => *row,
        Decision::Leave(rejection) => panic!("{rejection:?}"),
    }
}

fn class(row: Option<&CallRow>, repeatable: bool, now_ms: u64) -> RedriveClass {
    let request = request("");
    RedriveClass::of(&DeadLetterFacts { row, repeatable, ..facts(Some(&request), at(now_ms)) })
}

fn facts(request: Option<&CallRequest>, now: Timestamp) -> DeadLetterFacts<'_> {
    DeadLetterFacts { request, row: None, first_sent: at(0), repeatable: false, may_be_claimless: false, now }
}

/// No row says that nothing was sent only where each delivery claims first.
#[test]
fn a_call_that_may_have_no_claim_may_have_run_without_a_row() {
    let request = request("");
    let of = |may_be_claimless, now_ms| {
        RedriveClass::of(&DeadLetterFacts {
            repeatable: true,
            may_be_claimless,
            ..facts(Some(&request), at(now_ms))
        })
    };
    assert_eq!((of(false, 10), of(true, 10)), (RedriveClass::NotRun, RedriveClass::Safe));
    assert_eq!(of(true, OLDEST_MESSAGE_MS + 1), RedriveClass::TooOld);
}

#[test]
fn the_class_follows_from_state_and_safety() {
    let unclaimed = [State::Pending, State::Released, State::WaitingTask, State::AwaitingApproval];
    for repeatable in [false, true] {
        let sent = if repeatable { RedriveClass::Safe } else { RedriveClass::MayHaveRun };
        for state in unclaimed {
            for (may_have_executed, expected) in [(false, RedriveClass::NotRun), (true, sent)] {
                let row = CallRow { state, may_have_executed, ..claimed() };
                assert_eq!(class(Some(&row), repeatable, 10), expected, "{state:?}");
            }
        }
        let row = claimed();
        assert_eq!(class(Some(&row), repeatable, LEASE_MS), RedriveClass::Running);
        assert_eq!(class(Some(&row), repeatable, LEASE_MS + 1), sent, "its worker is lost");
        let done = CallRow { state: State::Done, ..claimed() };
        assert_eq!(class(Some(&done), repeatable, 10), RedriveClass::Ended);
        assert_eq!(class(None, repeatable, 10), RedriveClass::NotRun, "nothing is sent before the claim");
    }
}

#[test]
fn a_call_with_a_task_is_only_polled() {
    let row =
        CallRow { state: State::WaitingTask, may_have_executed: true, task: Some("t".into()), ..claimed() };
    assert_eq!(class(Some(&row), false, 10), RedriveClass::Safe);
}

#[test]
fn a_cancelled_or_late_call_ends_without_running() {
    let row = CallRow { state: State::Released, ..claimed() };
    assert_eq!(class(Some(&row), false, DEADLINE_MS), RedriveClass::Expired);
    let cancelled = CallRow { cancel_requested_at: Some(at(5)), ..row };
    assert_eq!(class(Some(&cancelled), false, 10), RedriveClass::Cancelled);
    let named = request(r#","timeout_ms":5000"#);
    let late = |now| facts(Some(&named), now);
    assert_eq!(RedriveClass::of(&late(at(4_999))), RedriveClass::NotRun);
    assert_eq!(RedriveClass::of(&late(at(5_000))), RedriveClass::Expired);
    assert_eq!(class(None, false, OLDEST_MESSAGE_MS + 1), RedriveClass::TooOld);
}

#[test]
fn another_question_and_an_unreadable_message_are_told_apart() {
    let mut row = claimed();
    row.digest = Some(toolfleet_core::digest::Digest::of_text("another"));
    assert_eq!(class(Some(&row), true, 10), RedriveClass::OtherQuestion);
    assert_eq!(RedriveClass::of(&facts(None, at(10))), RedriveClass::Unreadable);
}

#[test]
fn what_may_have_run_is_moved_only_if_asked_for() {
    for class in RedriveClass::ALL {
        let expected = match class {
            RedriveClass::NotRun
            | RedriveClass::Safe
            | RedriveClass::Cancelled
            | RedriveClass::Expired
            | RedriveClass::Unreadable => [true, true],
            RedriveClass::MayHaveRun => [false, true],
            RedriveClass::Running
            | RedriveClass::Ended
            | RedriveClass::OtherQuestion
            | RedriveClass::TooOld => [false, false],
        };
        assert_eq!([class.is_moved(false), class.is_moved(true)], expected, "{class:?}");
        assert!(!class.sentence().is_empty());
        assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
    }
}
