//! Who asked first, and what others may do with the call.

use super::rows::*;
use toolfleet_core::call::{CallRow, Caller, DeliveryContext, Effect, Event, HeldReason, Rejection, State};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::SessionId;
use toolfleet_core::request::User;

/// A delivery by the message `id` that `sender` sent for a session.
fn by(sender: &str, session: &str, id: &str, now_ms: u64) -> DeliveryContext {
    let caller = Caller {
        session: Some(SessionId::parse(session).unwrap()),
        ..Caller::unknown(Some(sender), Some(id))
    };
    DeliveryContext { caller: Box::new(caller), ..delivery(u128::from(now_ms) + 100, now_ms) }
}

fn conclude(delivery: DeliveryContext) -> Event {
    Event::Conclude { delivery, outcome: refusal(), definition: None }
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
    for event in [conclude(first.clone()), Event::AwaitApproval { delivery: first.clone() }] {
        assert_eq!(stored(None, &event).0.caller, caller);
    }
    assert_eq!(stored(Some(&cancelled(None)), &claim_by(first)).0.caller, caller, "learnt from the message");
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
    for delivery in [by("B", "s2", "m2", AFTER_LEASE), by("A", "s2", "m2", AFTER_LEASE)] {
        for row in [&row, &released] {
            assert!(matches!(left(row, &claim_by(delivery.clone())), Rejection::HeldElsewhere { .. }));
            assert_eq!(left(row, &conclude(delivery.clone())), Rejection::OfAnother);
            let hold = hold_by(delivery.clone(), HeldReason::ServerPause);
            assert!(matches!(left(row, &hold), Rejection::HeldElsewhere { .. }));
        }
        let ended = stored(Some(&released), &conclude(by("A", "s1", "m1", 20))).0;
        assert_eq!(left(&ended, &claim_by(delivery.clone())), Rejection::AlreadyRecorded);
        assert_eq!(left(&ended, &conclude(delivery)), Rejection::OfAnother);
    }
    // A dead letter that an operator sent back, under a role of its own: no other sender can finish the call.
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

/// A delivery of the user by a message of its own.
fn as_user(user: Option<User>, session: &str, id: &str, now_ms: u64) -> DeliveryContext {
    let delivery = by("A", session, id, now_ms);
    DeliveryContext { caller: Box::new(Caller { user, ..*delivery.caller }), ..delivery }
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
        let delivery = as_user(said.clone(), session, "m2", AFTER_LEASE);
        assert_eq!(left(&released, &conclude(delivery)), Rejection::OfAnother, "{said:?} {session}");
    }
    let delivery = as_user(None, "s1", "m2", AFTER_LEASE);
    let agent = Caller { agent: Some("other".to_owned()), ..*delivery.caller.clone() };
    let delivery = DeliveryContext { caller: Box::new(agent), ..delivery };
    assert_eq!(left(&released, &conclude(delivery)), Rejection::OfAnother, "another agent");
    // Before a claim every user is bound: who has none then is another one.
    let delivery = as_user(None, "s1", "m2", AFTER_LEASE);
    assert!(matches!(left(&released, &claim_by(delivery)), Rejection::HeldElsewhere { .. }));
}

#[test]
fn a_row_of_an_earlier_version_is_met_as_before() {
    let (row, _) = stored(None, &claim_by(by("A", "s1", "m1", 0)));
    let older = CallRow { caller: None, state: State::Released, lease_until: None, ..row };
    assert!(matches!(stored(Some(&older), &claim_by(by("B", "s2", "m2", 1))).1, Effect::Execute(_)));
    let earlier = Digest::of_text("as earlier versions wrote it");
    let older = CallRow { digest: Some(earlier.clone()), ..older };
    assert_eq!(left(&older, &claim_by(by("A", "s1", "m1", 1))), Rejection::Mismatch);
    let delivery = DeliveryContext { earlier_digest: Some(earlier), ..by("A", "s1", "m1", 1) };
    assert!(matches!(stored(Some(&older), &claim_by(delivery.clone())).1, Effect::Execute(_)));
    let newer = CallRow { caller: Some(delivery.caller.clone()), ..older };
    assert_eq!(left(&newer, &claim_by(delivery)), Rejection::Mismatch, "no earlier version wrote this row");
}
