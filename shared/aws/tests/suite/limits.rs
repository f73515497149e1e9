//! The rows of limits: workers that write at the same time get different turns and no permit too many.

use std::collections::BTreeSet;

use futures::future::join_all;
use toolfleet_aws::fleet::limits::Exchanged;
use toolfleet_aws::{Applied, Tables, apply};
use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::LimitKey;
use toolfleet_core::limits::exchange::Exchange;
use toolfleet_core::limits::holders::{Block, Change, Take};
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

/// What the table does is what `Exchange::apply` says, and writes of others in between break nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_are_exchanged_whatever_else_the_row_holds() {
    let world = world().await;
    let permits = world.aws.fleet(&Tables::with_prefix("toolfleet")).permits(&limit());
    let now = Timestamp::from_ms(i64::try_from(START_MS).unwrap());
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let timed = |list: &[(&str, u64)]| {
        list.iter().map(|(name, ms)| ((*name).to_owned(), now.plus_ms(*ms))).collect::<Vec<_>>()
    };
    let exchange = |add: &[(&str, u64)], remove: &[&str], expired: &[(&str, u64)], most_before| Exchange {
        add: timed(add),
        keep: Vec::new(),
        remove: names(remove),
        let_go: Vec::new(),
        expired: timed(expired),
        most_before,
        ends_s: None,
        hold_ms: Some(400),
    };
    let keeps = |kept: &[(&str, u64)]| Exchange { keep: timed(kept), ..exchange(&[], &[], &[], None) };
    let ends_in = |days: i64| Some(now.as_s() + days * 86_400);
    let first = exchange(&[("a", 1)], &[], &[], Some(2));
    assert!(matches!(permits.exchange(&first).await.unwrap(), Exchanged::Found(None)), "there is no row yet");
    let take = |name: &str| Take { name: name.to_owned(), until: now.plus_ms(1_000), replaces: None };
    let (release, held_ms, block) = (Vec::new(), None, None);
    let change = Change { now, limit: 3, skew_ms: 0, release, held_ms, take: vec![take("a")], block };
    apply(&permits, None, &change).await.unwrap();
    let exchanges = [
        exchange(&[("b", 2), ("c", 3)], &[], &[], Some(1)),
        exchange(&[("d", 4)], &[], &[], Some(2)),
        exchange(&[("d", 4)], &["b"], &[], Some(3)),
        exchange(&[("e", 5)], &["b"], &[], Some(3)),
        exchange(&[("e", 5)], &[], &[("c", 9)], Some(3)),
        exchange(&[("e", 5)], &[], &[("c", 3)], Some(3)),
        exchange(&[("task", 6)], &["gone"], &[], None),
        Exchange { let_go: names(&["a", "gone"]), ..exchange(&[("task", 6)], &["e"], &[], None) },
        Exchange { ends_s: ends_in(3), ..exchange(&[("f", 7)], &[], &[], Some(2)) },
        Exchange { ends_s: ends_in(2), ..exchange(&[("g", 8)], &[], &[], Some(9)) },
        Exchange { let_go: names(&["f"]), ..exchange(&[], &[], &[], None) },
        keeps(&[("d", 9), ("task", 6)]),
        keeps(&[("d", 8)]),
        exchange(&[("d", 10)], &[], &[], Some(9)),
        keeps(&[("task", 9), ("gone", 9)]),
        Exchange { keep: timed(&[("d", 10)]), ..exchange(&[("h", 9)], &[], &[], Some(2)) },
        Exchange { ends_s: ends_in(4), let_go: names(&["h"]), ..keeps(&[("d", 11)]) },
    ];
    let mut done = Vec::new();
    for exchange in exchanges {
        let before = permits.read().await.unwrap().unwrap();
        let expected = exchange.apply(&before);
        done.push(expected.is_some());
        match permits.exchange(&exchange).await.unwrap() {
            Exchanged::Stored(row) => assert_eq!(Some(*row), expected, "{exchange:?}"),
            Exchanged::Found(row) => assert_eq!((row.map(|row| *row), &expected), (Some(before), &None)),
        }
    }
    assert_eq!(
        done,
        [
            true, false, true, false, false, true, false, true, true, false, true, true, false, false, false,
            true, true
        ]
    );
    let row = permits.read().await.unwrap().unwrap();
    assert_eq!((row.ends_s, row.entries.into_keys().collect()), (ends_in(4), names(&["d", "task"])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_entry_is_added_beside_a_block() {
    let world = world().await;
    let permits = world.aws.fleet(&Tables::with_prefix("toolfleet")).permits(&limit());
    let now = Timestamp::from_ms(i64::try_from(START_MS).unwrap());
    let block = Some(("w-1".to_owned(), Block { permits: 2, until: now.plus_ms(1_000) }));
    let (release, held_ms, take) = (Vec::new(), None, Vec::new());
    apply(&permits, None, &Change { now, limit: 3, skew_ms: 0, release, held_ms, take, block })
        .await
        .unwrap();
    let add = vec![("a".to_owned(), now.plus_ms(1))];
    let (keep, remove, let_go, expired) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let exchange =
        Exchange { add, keep, remove, let_go, expired, most_before: Some(2), ends_s: None, hold_ms: None };
    assert!(matches!(permits.exchange(&exchange).await.unwrap(), Exchanged::Found(Some(_))));
}
