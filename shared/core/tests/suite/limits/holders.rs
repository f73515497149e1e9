//! Permits: never more than the limit, and free again after a crash by their own bound.

use std::collections::BTreeMap;

use proptest::prelude::*;
use toolfleet_core::limits::exchange::Exchange;
use toolfleet_core::limits::holders::{
    Block, Change, Granted, HolderRow, HolderTable, Take, block_size, by_blocks,
};
use toolfleet_core::state_table::{Decision, StateTable as _};
use toolfleet_core::time::Timestamp;

const SKEW_MS: u64 = 2_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_795_000_000_000).plus_ms(ms)
}

fn change(now_ms: u64, limit: u32) -> Change {
    let (release, take) = (Vec::new(), Vec::new());
    Change { now: at(now_ms), limit, skew_ms: SKEW_MS, release, held_ms: None, take, block: None }
}

fn apply(row: &mut Option<HolderRow>, change: &Change) -> Granted {
    match HolderTable::decide(row.as_ref(), change) {
        Decision::Write { row: new, then } => {
            *row = Some(*new);
            then
        }
        Decision::Leave(granted) => granted,
    }
}

fn take(name: &str, until_ms: u64) -> Take {
    Take { name: name.to_owned(), until: at(until_ms), replaces: None }
}

#[derive(Debug, Clone)]
enum Act {
    Take { call: u8, attempt_ms: u64 },
    Answer { call: u8 },
    Block { worker: u8, permits: u32 },
    Pass { ms: u64 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..12_u8, 1..5_000_u64).prop_map(|(call, attempt_ms)| Act::Take { call, attempt_ms }),
        3 => (0..12_u8).prop_map(|call| Act::Answer { call }),
        1 => (0..3_u8, 0..4_u32).prop_map(|(worker, permits)| Act::Block { worker, permits }),
        2 => (0..3_000_u64).prop_map(|ms| Act::Pass { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn open_requests_never_exceed_the_limit(limit in 1..6_u32, acts in prop::collection::vec(act(), 1..80)) {
        let (mut row, mut now_ms) = (None, 0);
        // What is open at the server: a request ends by its answer; without one, as where its worker is lost, at its time-out.
        let mut open: BTreeMap<u8, u64> = BTreeMap::new();
        let mut blocks: BTreeMap<u8, (u32, u64)> = BTreeMap::new();
        for act in acts {
            open.retain(|_, until_ms| *until_ms > now_ms);
            blocks.retain(|_, (_, until_ms)| *until_ms > now_ms);
            match act {
                Act::Take { call, attempt_ms } => {
                    if open.contains_key(&call) {
                        continue;
                    }
                    let until_ms = now_ms + attempt_ms;
                    let take = take(&format!("c{call}-{now_ms}"), until_ms);
                    let granted = apply(&mut row, &Change { take: vec![take], ..change(now_ms, limit) });
                    if granted.taken == [true] {
                        open.insert(call, until_ms);
                    }
                }
                Act::Answer { call } => {
                    open.remove(&call);
                    let names = row.iter().flat_map(|row| row.entries.keys());
                    let of_call: Vec<_> =
                        names.filter(|name| name.starts_with(&format!("c{call}-"))).cloned().collect();
                    apply(&mut row, &Change { release: of_call, ..change(now_ms, limit) });
                }
                Act::Block { worker, permits } => {
                    let until_ms = now_ms + 2_000;
                    let block = Block { permits, until: at(until_ms) };
                    let block = Some((format!("w{worker}"), block));
                    let granted = apply(&mut row, &Change { block, ..change(now_ms, limit) });
                    prop_assert!(granted.block <= permits);
                    blocks.insert(worker, (granted.block, until_ms));
                }
                Act::Pass { ms } => now_ms += ms,
            }
            let leased: u32 = blocks.values().map(|(permits, _)| permits).sum();
            prop_assert!(open.len() as u32 + leased <= limit, "{open:?} {blocks:?} {row:?}");
        }
    }
}

/// A crashed holder keeps its permit.
#[test]
fn a_crashed_holders_permit_is_free_after_its_time_out() {
    let mut row = None;
    let first = Change { take: vec![take("lost", 10_000)], ..change(0, 1) };
    assert_eq!(apply(&mut row, &first).taken, [true]);
    let next = |now_ms| Change { take: vec![take("next", now_ms + 5_000)], ..change(now_ms, 1) };
    let bound_ms = 10_000 + SKEW_MS;
    assert_eq!(apply(&mut row, &next(bound_ms - 1)).taken, [false], "the server may still work on it");
    assert_eq!(apply(&mut row, &next(bound_ms)).taken, [true]);
}

#[test]
fn a_permit_that_is_answered_passes_to_the_next_call_in_one_write() {
    let mut row = None;
    apply(&mut row, &Change { take: vec![take("a", 9_000)], ..change(0, 1) });
    let both =
        Change { release: vec!["a".into()], take: vec![take("b", 9_000), take("c", 9_000)], ..change(1, 1) };
    let granted = apply(&mut row, &both);
    assert_eq!((granted.taken, granted.held), (vec![true, false], 1));
    assert_eq!(row.as_ref().unwrap().rev, 2);
}

#[test]
fn a_lowered_limit_lets_open_requests_end_and_admits_none() {
    let mut row = None;
    let two = vec![take("a", 9_000), take("b", 9_000)];
    assert_eq!(apply(&mut row, &Change { take: two, ..change(0, 2) }).taken, [true, true]);
    let lowered = Change { release: vec!["a".into()], take: vec![take("c", 9_000)], ..change(1, 1) };
    assert_eq!(apply(&mut row, &lowered).taken, [false]);
    let kept = Change { take: vec![take("b", 20_000)], ..change(2, 1) };
    assert_eq!(apply(&mut row, &kept).taken, [true], "an open request may keep its permit for longer");
    assert_eq!(row.unwrap().entries["b"], at(20_000));
}

#[test]
fn a_lowered_limit_refuses_no_permit_that_passes_to_a_task() {
    let mut row = None;
    let two = vec![take("a", 9_000), take("b", 9_000)];
    assert_eq!(apply(&mut row, &Change { take: two, ..change(0, 2) }).taken, [true, true]);
    let task = Take { replaces: Some("a".into()), ..take("a-task", 60_000) };
    let passes = Change { release: vec!["a".into()], take: vec![task.clone()], ..change(1, 1) };
    assert_eq!(apply(&mut row, &passes), Granted { taken: vec![true], block: 0, held: 2 });
    let names: Vec<_> = row.as_ref().unwrap().entries.keys().cloned().collect();
    assert_eq!(names, ["a-task", "b"], "no permit is added");
    // The same write again, whose answer was lost, and one for an entry that has ended by its own time.
    assert_eq!(apply(&mut row, &Change { take: vec![task], ..change(2, 1) }).taken, [true]);
    let late = Take { replaces: Some("gone".into()), ..take("late", 60_000) };
    let late = |limit| Change { take: vec![late.clone()], ..change(3, limit) };
    assert_eq!(apply(&mut row, &late(1)).taken, [false]);
    assert_eq!(apply(&mut row, &late(9)).taken, [false], "its task may be over: nobody would release it");
}

#[test]
fn the_row_learns_how_long_permits_are_held() {
    let mut row = None;
    for (n, held_ms) in [(0, 400), (1, 400), (2, 1_200)] {
        let name = n.to_string();
        apply(&mut row, &Change { take: vec![take(&name, 9_000)], ..change(n, 1) });
        apply(&mut row, &Change { release: vec![name], held_ms: Some(held_ms), ..change(n, 1) });
    }
    assert_eq!(row.unwrap().hold_ms, Some(500), "an eighth of the way from 400 to 1,200");
}

#[test]
fn nothing_takes_the_place_of_a_permit_that_passes_to_a_task() {
    let mut row = None;
    apply(&mut row, &Change { take: vec![take("request", 9_000)], ..change(1, 1) });
    let pass = Take { replaces: Some("request".into()), ..take("task", 60_000) };
    let block = Some(("w1".to_owned(), Block { permits: 1, until: at(60_000) }));
    let granted = apply(&mut row, &Change { take: vec![take("new", 9_000), pass], block, ..change(2, 1) });
    assert_eq!((granted.taken, granted.block, granted.held), (vec![false, true], 0, 1));
}

#[test]
fn a_full_limit_is_told_without_a_write() {
    let mut row = None;
    apply(&mut row, &Change { take: vec![take("a", 9_000)], ..change(0, 1) });
    let refused = HolderTable::decide(row.as_ref(), &Change { take: vec![take("b", 9_000)], ..change(1, 1) });
    assert_eq!(refused, Decision::Leave(Granted { taken: vec![false], block: 0, held: 1 }));
    let nothing = HolderTable::decide(None, &Change { release: vec!["a".into()], ..change(1, 1) });
    assert_eq!(nothing, Decision::Leave(Granted::default()), "a row is not made for a release");
}

/// Another worker has turned the request into a task; its row was read here before that.
#[test]
fn a_release_of_an_entry_that_was_not_seen_is_in_the_write_of_others() {
    let mut row = None;
    apply(&mut row, &Change { take: vec![take("a", 9_000)], ..change(0, 3) });
    let seen = row.clone().unwrap();
    apply(&mut row, &Change { take: vec![take("task", 90_000)], ..change(1, 3) });
    let both = Change { release: vec!["task".into()], take: vec![take("b", 9_000)], ..change(2, 3) };
    let Decision::Write { row: new, .. } = HolderTable::decide(Some(&seen), &both) else {
        panic!("b is new")
    };
    let exchange = Exchange::between(&seen, &new, &both).unwrap();
    assert_eq!(exchange.most_before, Some(2), "it makes no room");
    let names: Vec<_> = exchange.apply(&row.unwrap()).unwrap().entries.into_keys().collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn an_entry_that_is_kept_is_there_and_never_counts_for_less() {
    let mut row = None;
    apply(&mut row, &Change { take: vec![take("a", 9_000), take("b", 9_000)], ..change(0, 2) });
    let seen = row.clone().unwrap();
    let renews = Change { take: vec![take("a", 20_000)], ..change(1, 2) };
    let Decision::Write { row: new, .. } = HolderTable::decide(Some(&seen), &renews) else {
        panic!("it is later")
    };
    let exchange = Exchange::between(&seen, &new, &renews).unwrap();
    let with = |entries: &[(&str, u64)]| HolderRow {
        entries: entries.iter().map(|(name, until_ms)| ((*name).to_owned(), at(*until_ms))).collect(),
        ..seen.clone()
    };
    let after = exchange.apply(&with(&[("a", 9_000), ("c", 1), ("d", 1)])).unwrap();
    assert_eq!(
        after.entries,
        with(&[("a", 20_000), ("c", 1), ("d", 1)]).entries,
        "whatever others have taken"
    );
    assert_eq!(
        exchange.apply(&with(&[("b", 9_000)])),
        None,
        "it was released: nobody would release it again"
    );
    assert_eq!(exchange.apply(&with(&[("a", 20_001)])), None, "another worker keeps it for longer");
    let takes = Change { take: vec![take("c", 9_000)], ..change(1, 3) };
    let Decision::Write { row: new, .. } = HolderTable::decide(Some(&seen), &takes) else {
        panic!("c is new")
    };
    let exchange = Exchange::between(&seen, &new, &takes).unwrap();
    assert_eq!(exchange.apply(&with(&[("c", 20_000)])), None, "another worker has added it for longer");
    let days = Change { take: vec![take("a", 3 * 86_400_000)], ..change(1, 2) };
    let Decision::Write { row: new, .. } = HolderTable::decide(Some(&seen), &days) else {
        panic!("it is later")
    };
    let last_s = at(3 * 86_400_000).as_s();
    assert_eq!(
        Exchange::between(&seen, &new, &days).unwrap().ends_s,
        Some(last_s),
        "the row is kept as long"
    );
}

#[test]
fn blocks_are_for_limits_far_above_the_number_of_workers() {
    assert!(!by_blocks(40, 10) && by_blocks(41, 10));
    assert!(!by_blocks(32, 1) && by_blocks(33, 1), "others may have started that are not known");
    assert!(!by_blocks(4_000, 2_000) && by_blocks(4_001, 2_000), "a row of entries has a bound");
    assert_eq!([0, 2, 40, 1_000].map(|used| block_size(100, 10, used)), [3, 4, 10, 10]);
}

/// Some entries, each with one of three times, of which the first is past.
fn entries() -> impl Strategy<Value = BTreeMap<String, Timestamp>> {
    let entry = (0..8_u8, 0..3_u64).prop_map(|(name, time)| (format!("e{name}"), at(time * 10_000)));
    prop::collection::btree_map(0..8_u8, entry, 0..8).prop_map(|all| all.into_values().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn an_exchange_keeps_the_limit_whichever_row_it_meets(
        limit in 1..8_u32,
        (seen, met) in (entries(), entries()),
        release in prop::collection::vec(0..8_u8, 0..4),
        takes in prop::collection::btree_map(8..12_u8, prop::option::of(0..2_u8), 0..4),
        renewed in prop::collection::btree_set(0..8_u8, 0..3),
        (take_s, met_end_s) in (20..100_000_u64, 0..100_000_i64),
    ) {
        let seen = HolderRow { rev: 3, entries: seen, ..HolderRow::default() };
        let seen = HolderRow { ends_s: seen.last_s(), ..seen };
        let met = HolderRow { rev: 9, entries: met, ..HolderRow::default() };
        // The end of a row is never lowered.
        let ends_s = met.last_s().max(seen.ends_s).map(|last_s| last_s + met_end_s);
        let met = HolderRow { ends_s, ..met };
        let mut release: Vec<_> = release.into_iter().map(|name| format!("e{name}")).collect();
        let replaced: BTreeMap<_, _> = takes.iter().filter_map(|(name, replaces)| {
            replaces.map(|replaces| (format!("e{name}"), format!("e{}", (name - 8) * 2 + replaces)))
        }).collect();
        release.extend(replaced.values().cloned());
        let mut take: Vec<_> = takes.into_keys().map(|name| {
            let name = format!("e{name}");
            Take { replaces: replaced.get(&name).cloned(), ..take(&name, take_s * 1_000) }
        }).collect();
        // What a worker releases it renews no longer.
        let renewed = renewed.into_iter().map(|name| format!("e{name}")).filter(|name| !release.contains(name));
        take.extend(renewed.map(|name| self::take(&name, 15_000)));
        // As workers ask: those that take the place of others first.
        take.sort_by_key(|take| take.replaces.is_none());
        let change = Change { release: release.clone(), take, ..change(5_000, limit) };
        let Decision::Write { row: new, then } = HolderTable::decide(Some(&seen), &change) else { return Ok(()) };
        let Some(exchange) = Exchange::between(&seen, &new, &change) else { return Ok(()) };
        // On the row that was seen it does what was decided; what has expired may stay where no room is needed.
        let same = exchange.apply(&seen).expect("the row that was seen");
        let live = |row: &HolderRow| -> Vec<String> {
            row.entries.iter().filter(|(_, until)| until.plus_ms(SKEW_MS) > at(5_000)).map(|(name, _)| name.clone()).collect()
        };
        prop_assert_eq!(live(&same), live(&new));
        let Some(after) = exchange.apply(&met) else { return Ok(()) };
        prop_assert!(exchange.keep.iter().all(|(name, until)| after.entries.get(name) == Some(until)));
        let shorter = |(name, until): &(String, Timestamp)| met.entries.get(name).is_none_or(|before| before > until);
        prop_assert!(!exchange.keep.iter().any(shorter), "what is not there is not kept, and no time is lowered");
        let is_new = |(name, _): &(String, Timestamp)| !replaced.contains_key(name);
        let most = if exchange.add.iter().any(is_new) { limit as usize } else { met.entries.len() };
        prop_assert!(after.entries.len() <= most, "{:?}", after);
        let last_s = after.last_s().filter(|_| !exchange.add.is_empty() || !exchange.keep.is_empty());
        prop_assert!(last_s.is_none_or(|last_s| after.ends_s.is_some_and(|ends_s| last_s - ends_s <= 12 * 3_600)));
        prop_assert!(after.ends_s >= met.ends_s, "an end is never lowered");
        prop_assert!(exchange.add.iter().all(|(name, _)| after.entries.contains_key(name)));
        prop_assert!(change.release.iter().all(|name| !after.entries.contains_key(name)), "{:?}", after);
        let touched = |name: &String| {
            let changed = exchange.expired.iter().chain(&exchange.keep);
            change.release.contains(name) || changed.clone().any(|(changed, _)| changed == name)
        };
        for (name, until) in met.entries.iter().filter(|(name, _)| !touched(name)) {
            prop_assert_eq!(after.entries.get(name), Some(until), "what others hold stays");
        }
        let granted = then.taken.iter().filter(|taken| **taken).count();
        prop_assert!(granted >= exchange.add.len());
    }
}

#[test]
fn an_exchange_is_any_change_of_entries_and_none_of_blocks() {
    let mut row = None;
    apply(&mut row, &Change { take: vec![take("a", 9_000)], ..change(0, 2) });
    let seen = row.unwrap();
    let of = |change: &Change| match HolderTable::decide(Some(&seen), change) {
        Decision::Write { row, .. } => Exchange::between(&seen, &row, change),
        Decision::Leave(_) => None,
    };
    let new = Change { take: vec![take("b", 9_000)], ..change(1, 2) };
    assert_eq!(of(&new).unwrap().most_before, Some(1));
    let kept = of(&Change { take: vec![take("a", 9_001)], ..change(1, 2) }).unwrap();
    assert_eq!((kept.most_before, kept.keep), (None, vec![("a".to_owned(), at(9_001))]), "it needs no room");
    assert_eq!(
        of(&Change { take: vec![take("a", 8_999)], ..change(1, 2) }),
        None,
        "it counts for longer already"
    );
    let replaces = Take { replaces: Some("a".into()), ..take("task", 9_000) };
    let passed = of(&Change { take: vec![replaces], ..change(1, 2) }).unwrap();
    assert_eq!((passed.most_before, passed.remove), (None, vec!["a".to_owned()]), "it needs no room");
    let block = Some(("w".to_owned(), Block { permits: 1, until: at(9_000) }));
    assert_eq!(of(&Change { block, ..change(1, 2) }), None);
    let released = of(&Change { release: vec!["a".into()], ..change(1, 2) }).unwrap();
    assert_eq!((released.most_before, released.remove.len()), (None, 0), "a release has no condition");
    assert_eq!(released.let_go, ["a"]);
    let done = HolderRow { entries: [("b".to_owned(), at(9_000))].into(), ..HolderRow::default() };
    let exchange = of(&new).unwrap();
    assert!(exchange.is_done_in(&done) && !exchange.is_done_in(&seen) && !released.is_done_in(&done));
}

#[test]
fn a_clock_that_is_ahead_frees_nobodys_permit() {
    let mut row = None;
    let taken = |row: &mut Option<HolderRow>, change: Change| apply(row, &change).taken;
    assert_eq!(taken(&mut row, Change { take: vec![take("open", 1_000)], ..change(0, 2) }), [true]);
    let block = Some(("w1".to_owned(), Block { permits: 1, until: at(1_000) }));
    assert_eq!(apply(&mut row, &Change { block, ..change(0, 2) }).block, 1);
    let an_hour_ahead =
        || Change { take: vec![take("next", 3_601_000)], skew_ms: u64::MAX, ..change(3_600_000, 2) };
    assert_eq!(taken(&mut row, an_hour_ahead()), [false]);
    assert_eq!(row.as_ref().map(HolderRow::held), Some(2));
    let with_a_right_clock = Change { skew_ms: SKEW_MS, ..an_hour_ahead() };
    assert_eq!(taken(&mut row, with_a_right_clock), [true]);
}
