//! Cancelling: a call in each state.

use toolfleet_client::{CallStatus, Cancelled};
use toolfleet_core::call::{CallRow, Event, Held, HeldReason, State};
use toolfleet_core::outcome::OutcomeKind;

use crate::world::{World, answer, call, key};

async fn state(world: &World, id: &str) -> (State, bool) {
    match world.client.status(&key(id)).await.unwrap() {
        CallStatus::Open(row) => (row.state, row.cancel_requested_at.is_some()),
        other @ (CallStatus::Unknown | CallStatus::Ended(_) | CallStatus::Unreadable(_)) => {
            panic!("{other:?}")
        }
    }
}

#[tokio::test]
async fn a_cancellation_of_an_unknown_call_waits_for_its_message() {
    let world = World::start().await;
    for _ in 0..2 {
        assert_eq!(world.client.cancel(&key("c1")).await.unwrap(), Cancelled::Ahead);
    }
    assert_eq!(state(&world, "c1").await, (State::Pending, true));
    // A worker that receives the message ends the call.
    let request = call("c1", "x");
    world.end(&request, "m1", answer("not executed")).await;
    let CallStatus::Ended(result) = world.client.status(&key("c1")).await.unwrap() else { panic!("open") };
    assert_eq!(result.outcome.kind, OutcomeKind::Cancelled);
    assert_eq!(world.client.cancel(&key("c1")).await.unwrap(), Cancelled::Ended);
}

#[tokio::test]
async fn a_cancellation_is_stored_in_the_row_of_an_open_call() {
    let world = World::start().await;
    let claimed = |id: &str| {
        let request = call(id, "x");
        let world = &world;
        async move { world.claim(&request, "m").await }
    };
    claimed("claimed").await;
    let (row, claim) = claimed("released").await;
    let held = Held::new(HeldReason::ServerUnreachable, None, world.now(), 1_000);
    let release = Event::Release {
        claim,
        attempts: 1,
        may_have_executed: false,
        held: Some(Box::new(held)),
        now: world.now(),
    };
    world.apply(Some(&row), &release).await;
    let (row, claim) = claimed("parked").await;
    let park = Event::Park {
        claim,
        task: "t".into(),
        input_pending: false,
        may_have_executed: true,
        attempts: 1,
        poll_at: world.now().plus_ms(1_000),
        notes: None,
        now: world.now(),
    };
    world.apply(Some(&row), &park).await;
    for _ in 0..2 {
        assert_eq!(world.client.cancel(&key("claimed")).await.unwrap(), Cancelled::Noted);
    }
    assert_eq!(state(&world, "claimed").await, (State::Claimed, true));
    for id in ["released", "parked"] {
        for _ in 0..2 {
            assert_eq!(world.client.cancel(&key(id)).await.unwrap(), Cancelled::Ended, "{id}");
        }
    }
}

#[tokio::test]
async fn a_cancellation_of_an_ended_call_changes_nothing() {
    let world = World::start().await;
    let request = call("c1", "x");
    world.end(&request, "m1", answer("done")).await;
    let before: CallRow = world.client.row(&key("c1")).await.unwrap().unwrap();
    assert_eq!(world.client.cancel(&key("c1")).await.unwrap(), Cancelled::TooLate);
    assert_eq!(world.client.row(&key("c1")).await.unwrap(), Some(before));
}
