//! The rows of groups: an index is one call's, counts are shared, and one decision is stored.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures::future::join_all;
use toolfleet_aws::Tables;
use toolfleet_aws::fleet::groups::Count;
use toolfleet_core::group::{Binding, Decider, Decision, GroupResult, GroupRow, Terms};
use toolfleet_core::ids::{CallId, GroupId, Tenant};
use toolfleet_core::request::{GroupKey, Policy, Tolerance};
use toolfleet_core::time::Timestamp;

use crate::world;

const SIZE: u32 = 40;

fn row() -> GroupRow {
    GroupRow {
        key: GroupKey {
            tenant: Tenant::parse("acme").unwrap(),
            id: GroupId::parse("turn/7@a").unwrap(),
            round: 2,
        },
        terms: Terms {
            size: SIZE,
            policy: Policy::Tolerate(Tolerance::Percent(10)),
            deadline: Timestamp::from_ms(1_795_000_000_123),
            reply: Some("https://sqs/replies".into()),
        },
        made_by: CallId::parse("c0").unwrap(),
        timer_sent: false,
        ok: BTreeSet::new(),
        failed: BTreeSet::new(),
        decision: None,
        notified: false,
        expires_at: Timestamp::from_ms(1_800_000_000_000),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_read_as_it_was_made_and_made_once() {
    let world = world().await;
    let fleet = world.aws.fleet(&Tables::with_prefix("toolfleet"));
    let (row, call) = (row(), CallId::parse("c3").unwrap());
    assert_eq!(fleet.group_at(&row.key, 3).await.unwrap(), (None, Binding::Free));
    assert!(fleet.make_group(&row).await.unwrap());
    assert!(!fleet.make_group(&GroupRow { made_by: call.clone(), ..row.clone() }).await.unwrap());
    assert!(fleet.bind_member(&row.key, 3, &call, row.expires_at).await.unwrap());
    assert!(!fleet.bind_member(&row.key, 3, &row.made_by, row.expires_at).await.unwrap());
    assert_eq!(fleet.group_at(&row.key, 3).await.unwrap(), (Some(row.clone()), Binding::Of(call.clone())));
    assert_eq!(fleet.group_members(&row.key).await.unwrap(), [(3, call)]);
    fleet.note_timer(&row.key).await.unwrap();
    fleet.note_notice(&row.key).await.unwrap();
    let noted = GroupRow { timer_sent: true, notified: true, ..row.clone() };
    assert_eq!(fleet.group(&row.key).await.unwrap(), Some(noted));
    // Another round is another group.
    let other = GroupKey { round: 1, ..row.key };
    assert_eq!(fleet.group(&other).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_end_together_are_all_counted_and_share_updates() {
    let world = world().await;
    let fleet = world.aws.fleet(&Tables::with_prefix("toolfleet"));
    let key = row().key;
    let count = |index: u32| Count { key: key.clone(), index, succeeded: !index.is_multiple_of(4) };
    assert!(fleet.count_member(count(0)).await.unwrap().is_none(), "there is no row");
    assert!(fleet.make_group(&row()).await.unwrap());
    let counted = join_all((0..SIZE).map(|index| fleet.count_member(count(index)))).await;
    let counted: Vec<_> = counted.into_iter().map(|counted| counted.unwrap().unwrap()).collect();
    // Members of one update share its lock.
    let updates: HashSet<_> = counted.iter().map(|counted| Arc::as_ptr(&counted.is_decided)).collect();
    let updates = updates.len();
    assert!(updates < 20, "{updates} updates for {SIZE} members");
    for (index, counted) in (0..).zip(&counted) {
        assert!(counted.row.ok.contains(&index) || counted.row.failed.contains(&index), "{index}");
    }
    // A redelivery counts again.
    let again = fleet.count_member(count(7)).await.unwrap().unwrap();
    assert_eq!((again.row.ok.len(), again.row.failed.len(), again.row.open()), (30, 10, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_decisions_one_is_stored() {
    let world = world().await;
    let fleet = world.aws.fleet(&Tables::with_prefix("toolfleet"));
    let key = row().key;
    let decision = |index| Decision {
        result: GroupResult::Succeeded,
        by: Decider::Member(index),
        at: Timestamp::from_ms(i64::from(index)),
        succeeded: index,
        failed: 1,
    };
    assert!(fleet.decide_group(&key, &decision(0)).await.unwrap().is_none(), "there is no row");
    assert!(fleet.make_group(&row()).await.unwrap());
    let decisions: Vec<_> = (0..12).map(decision).collect();
    let decided = join_all(decisions.iter().map(|decision| fleet.decide_group(&key, decision))).await;
    let found: BTreeSet<_> =
        decided.into_iter().map(|row| row.unwrap().unwrap().decision.unwrap().by.to_string()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
}
