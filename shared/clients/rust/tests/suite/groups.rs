//! Groups from the client: a redrive sends again what did not succeed, and cancels nothing it does not send.

use std::collections::BTreeSet;

use serde_json::json;
use toolfleet_aws::fleet::Fleet;
use toolfleet_client::{GroupError, GroupRedrive, RequestBuilder, Tables};
use toolfleet_core::group::{Decider, Decision, GroupResult, GroupRow, Terms};
use toolfleet_core::ids::{CallId, GroupId, Tenant};
use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::request::{CallRequest, GroupKey, Policy};
use toolfleet_core::retention::RETENTION_MS;

use crate::world::World;

fn key() -> GroupKey {
    let (tenant, id) = (Tenant::parse("acme").unwrap(), GroupId::parse("turn").unwrap());
    GroupKey { tenant, id, round: 1 }
}

fn member(id: &str, index: u32) -> CallRequest {
    RequestBuilder::tool("acme", "crm.search")
        .call_id(id)
        .arguments(json!({"n": index}))
        .group("turn", index, 3, Policy::All)
        .build()
        .unwrap()
}

fn fleet(world: &World) -> Fleet {
    world.aws.fleet(&Tables::with_prefix("toolfleet"))
}

/// A group of three: the first member was refused, the others have not come.
async fn group_of_three(world: &World) -> Vec<CallRequest> {
    let members: Vec<_> = ["a", "b", "c"].into_iter().zip(0..).map(|(id, n)| member(id, n)).collect();
    let first = members.first().unwrap();
    let (deadline, expires_at) = (world.now().plus_ms(60_000), world.now().plus_ms(RETENTION_MS).whole_s());
    let row = GroupRow {
        key: key(),
        terms: Terms { size: 3, policy: Policy::All, deadline, reply: None },
        made_by: CallId::parse("a").unwrap(),
        timer_sent: true,
        ok: BTreeSet::new(),
        failed: BTreeSet::new(),
        decision: None,
        notified: false,
        expires_at,
    };
    let fleet = fleet(world);
    assert!(fleet.make_group(&row).await.unwrap());
    assert!(fleet.bind_member(&key(), 0, &first.key.call_id, expires_at).await.unwrap());
    world.end(first, "m-a", Outcome::refused(Code::InvalidArguments, "no")).await;
    members
}

async fn decide(world: &World) {
    let (result, by) = (GroupResult::Incomplete, Decider::Timer);
    let decision = Decision { result, by, at: world.now(), succeeded: 0, failed: 1 };
    fleet(world).decide_group(&key(), &decision).await.unwrap();
}

#[tokio::test]
async fn a_redrive_of_an_open_group_is_refused_and_cancels_nothing() {
    let world = World::start().await;
    let members = group_of_three(&world).await;
    let refused = world.client.redrive_group(&key(), members.clone(), None).await.unwrap_err();
    assert!(
        matches!(&refused, GroupError::Redrive(text) if text.contains("is not decided yet")),
        "{refused}"
    );
    for member in &members[1..] {
        assert_eq!(world.calls().read(&member.key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_redrive_cancels_members_that_never_came_and_sends_all_again_once() {
    let world = World::start().await;
    let members = group_of_three(&world).await;
    decide(&world).await;
    let planned = world.client.plan_group_redrive(&key(), members.clone(), None).await.unwrap();
    assert_eq!((planned.requests.len(), planned.key.round), (3, 2));
    assert_eq!(world.calls().read(&members[1].key).await.unwrap(), None, "a plan changes nothing");
    let sent = world.client.redrive_group(&key(), members.clone(), None).await.unwrap();
    let again = world.client.redrive_group(&key(), members.clone(), None).await.unwrap();
    for redrive in [&sent, &again] {
        let places = redrive.requests.iter().map(|request| {
            let group = request.group.as_deref().unwrap();
            (request.key.call_id.as_str(), group.index, group.size, group.round)
        });
        let expected = [("a.r2", 0, 3, 2), ("b.r2", 1, 3, 2), ("c.r2", 2, 3, 2)];
        assert_eq!(places.collect::<Vec<_>>(), expected);
    }
    for member in &members[1..] {
        let row = world.calls().read(&member.key).await.unwrap().expect("a cancelled call has a row");
        assert!(row.cancel_requested_at.is_some(), "{row:?}");
    }
}

/// The place of each request of a redrive.
fn places(redrive: &GroupRedrive) -> Vec<(&str, u32, u32)> {
    let mut places = Vec::new();
    for request in &redrive.requests {
        let group = request.group.as_deref().unwrap();
        places.push((request.key.call_id.as_str(), group.index, group.size));
    }
    places
}

#[tokio::test]
async fn a_repeated_redrive_keeps_the_members_of_its_round() {
    let world = World::start().await;
    let members = group_of_three(&world).await;
    let [_, running, third] = members.as_slice() else { panic!("three members") };
    let fleet = fleet(&world);
    let expires_at = world.now().plus_ms(RETENTION_MS).whole_s();
    assert!(fleet.bind_member(&key(), 1, &running.key.call_id, expires_at).await.unwrap());
    let claimed = world.claim(running, "m-b").await;
    decide(&world).await;
    let first = world.client.redrive_group(&key(), members.clone(), None).await.unwrap();
    assert_eq!(places(&first), [("a.r2", 0, 2), ("c.r2", 1, 2)]);
    assert_eq!(first.skipped.len(), 1, "it has not ended");
    // It ends otherwise, and would be a member of a round that is planned now.
    world.finish(claimed, Outcome::refused(Code::InvalidArguments, "no")).await;
    let planned = world.client.plan_group_redrive(&key(), members.clone(), None).await.unwrap();
    let again = world.client.redrive_group(&key(), members.clone(), None).await.unwrap();
    for redrive in [&planned, &again] {
        assert_eq!(places(redrive), [("a.r2", 0, 2), ("c.r2", 1, 2)]);
        let [skipped] = redrive.skipped.as_slice() else { panic!("{:?}", redrive.skipped) };
        assert!(skipped.why.starts_with("it was not in the round's first redrive"), "{}", skipped.why);
    }
    // Without a member's request its round could not be complete.
    let part = world.client.redrive_group(&key(), vec![third.clone()], None).await.unwrap_err();
    assert!(
        matches!(&part, GroupError::Redrive(text) if text.starts_with("requests: round 2 has the members 0 since")),
        "{part}"
    );
    let deadline = Some(world.now().plus_ms(60_000));
    let refused = world.client.redrive_group(&key(), members, deadline).await.unwrap_err();
    assert!(
        matches!(&refused, GroupError::Redrive(text) if text.starts_with("deadline: round 2 has")),
        "{refused}"
    );
}

/// A member's row can expire before its group's: a call that succeeded would look as if it had never come, and run again.
#[tokio::test]
async fn a_group_whose_members_rows_may_be_gone_is_not_sent_again() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
    let world = World::start().await;
    let members = group_of_three(&world).await;
    decide(&world).await;
    world.clock.advance_ms(44 * DAY_MS);
    assert!(world.client.plan_group_redrive(&key(), members.clone(), None).await.is_ok());
    world.clock.advance_ms(2 * DAY_MS);
    for refused in [
        world.client.plan_group_redrive(&key(), members.clone(), None).await,
        world.client.redrive_group(&key(), members.clone(), None).await,
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(&error, GroupError::Redrive(text) if text.contains("is too old")), "{error}");
    }
    assert_eq!(world.calls().read(&members[1].key).await.unwrap(), None, "no member is cancelled");
}
