//! The rows of limits: workers that write at the same time get different turns and no permit too many.

use std::collections::BTreeSet;

use futures::future::join_all;
use toolfleet_aws::{Applied, Tables, apply};
use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::LimitKey;
use toolfleet_core::limits::holders::{Change, Take};
use toolfleet_core::limits::turn_book::{Ask, Grant, Reserve, Wish};
use toolfleet_core::time::Timestamp;

use crate::{START_MS, world};

fn limit() -> LimitKey {
    "tenant:acme/tool:crm/any name".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_reserve_together_get_different_turns() {
    let world = world().await;
    let turns = world.aws.fleet(&Tables::with_prefix("toolfleet")).turns(&limit());
    let ask = Ask { tenant: Tenant::parse("acme").unwrap(), weight: 1, wish: Wish::Next };
    let reserve = |mark| Reserve {
        mark,
        now_us: i64::try_from(START_MS).unwrap() * 1_000,
        rate: "20/s".parse().unwrap(),
        version: 0,
        shared: false,
        give_back: Vec::new(),
        asks: vec![ask.clone(); 3],
    };
    let reserves: Vec<_> = (0..4).map(reserve).collect();
    let grants = join_all(reserves.iter().map(|reserve| apply(&turns, None, reserve))).await;
    let mut times = BTreeSet::new();
    for applied in grants {
        let Applied::Stored { then, .. } = applied.unwrap() else { panic!("turns are free") };
        for grant in then {
            let Grant::Turn(turn) = grant else { panic!("a turn, not {grant:?}") };
            assert!(times.insert(turn.at_us), "{turn:?} was given twice");
        }
    }
    let row = turns.read().await.unwrap().unwrap();
    assert_eq!((row.ahead, row.rev), (times.into_iter().collect(), 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_take_permits_together_never_exceed_the_limit() {
    let world = world().await;
    let permits = world.aws.fleet(&Tables::with_prefix("toolfleet")).permits(&limit());
    let now = Timestamp::from_ms(i64::try_from(START_MS).unwrap());
    let change = |name: String| Change {
        now,
        limit: 3,
        skew_ms: 0,
        release: Vec::new(),
        held_ms: None,
        take: vec![Take { name, until: now.plus_ms(1_000), replaces: None }],
        block: None,
    };
    let changes: Vec<_> = (0..6).map(|n| change(format!("call-{n}"))).collect();
    let granted = join_all(changes.iter().map(|change| apply(&permits, None, change))).await;
    let stored = granted.into_iter().filter(|applied| matches!(applied, Ok(Applied::Stored { .. }))).count();
    assert_eq!((stored, permits.read().await.unwrap().unwrap().held()), (3, 3));
}
