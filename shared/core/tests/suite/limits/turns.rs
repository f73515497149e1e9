//! Turns: never nearer than the spacing, never more than the limit, and shared by tenants.

use std::collections::BTreeMap;

use proptest::prelude::*;
use toolfleet_core::limits::turn_book::{CHANGE_KNOWN_US, Grant, Wish, reach_us, runs, wake_us};
use toolfleet_core::limits::{RateLimit, Turn};

use super::{Book, START_US, turn};

/// The most of `times` in any `period_us`.
fn most_in_a_period(times: &[i64], period_us: i64) -> usize {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let within = |first: &i64| sorted.iter().filter(|at| **at >= *first && **at < first + period_us).count();
    sorted.iter().map(within).max().unwrap_or(0)
}

fn at_us(grant: &Grant) -> Option<i64> {
    match grant {
        Grant::Turn(turn) => Some(turn.at_us),
        Grant::Later(_) | Grant::Taken(_) => None,
    }
}

#[derive(Debug, Clone)]
enum Act {
    Pass {
        us: i64,
    },
    /// Calls that ask together, in any order: each is of a tenant and has a wish.
    Ask {
        asks: Vec<(u8, AskFor)>,
        clock_off_us: i64,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0..2_000_000_i64).prop_map(|us| Act::Pass { us }),
        4 => (prop::collection::vec((0..4_u8, ask_for()), 1..20), -50_000..50_000_i64)
            .prop_map(|(asks, clock_off_us)| Act::Ask { asks, clock_off_us }),
    ]
}

/// What a call asks for; a time is so far ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AskFor {
    Again,
    Waited,
    At { ahead_us: i64 },
    Next,
}

fn ask_for() -> impl Strategy<Value = AskFor> {
    prop_oneof![
        3 => Just(AskFor::Next),
        2 => Just(AskFor::Waited),
        2 => Just(AskFor::Again),
        1 => (0..3_000_000_i64).prop_map(|ahead_us| AskFor::At { ahead_us }),
    ]
}

fn rate() -> impl Strategy<Value = RateLimit> {
    (1..200_u32, prop_oneof![Just(1_u32), Just(3), Just(60)])
        .prop_map(|(count, seconds)| RateLimit::new(count, seconds).unwrap())
}

/// While a catalog is reloaded, or for as long as a worker refuses it, workers know different limits of one version.
#[test]
fn of_two_limits_of_one_version_the_lower_one_holds_while_somebody_asks_by_it() {
    let mut book = Book::new("20/s", false);
    let asks = |book: &mut Book, now_us: i64, rate: &str| {
        book.rate = rate.parse().unwrap();
        book.ask(now_us, &[("acme", Wish::Next)]);
        let row = book.row.as_ref().unwrap();
        (row.rate.to_string(), row.epoch)
    };
    let held = |rate: &str, epoch| (rate.to_owned(), epoch);
    assert_eq!(asks(&mut book, START_US, "20/s"), held("20/s", 1));
    for n in 1..20 {
        let now_us = START_US + n * 1_000_000;
        assert_eq!(asks(&mut book, now_us, "5/s"), held("5/s", 2), "it changes once");
        assert_eq!(asks(&mut book, now_us, "20/s"), held("5/s", 2));
    }
    let last_us = START_US + 19_000_000;
    assert_eq!(asks(&mut book, last_us + CHANGE_KNOWN_US - 1, "20/s"), held("5/s", 2));
    assert_eq!(asks(&mut book, last_us + CHANGE_KNOWN_US, "20/s"), held("20/s", 3), "nobody asks by it");
    book.version = 1;
    assert_eq!(asks(&mut book, last_us + CHANGE_KNOWN_US, "50/s"), held("50/s", 4), "an operator has set it");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Over-admission: hatchet #4778, bullmq #3210 (limit 1 ran 2). Of the calls of a tenant that ask together, those that have waited come
    /// before new ones, in whatever order they ask.
    #[test]
    fn no_period_has_more_turns_than_the_limit(
        rate in rate(),
        shared in any::<bool>(),
        acts in prop::collection::vec(act(), 1..60),
    ) {
        let mut book = Book::new(&rate.to_string(), shared);
        let (mut now_us, mut turns) = (START_US, Vec::new());
        for act in acts {
            let grants = match act {
                Act::Pass { us } => {
                    now_us += us;
                    continue;
                }
                Act::Ask { asks, clock_off_us } => {
                    let wish = |ask| match ask {
                        AskFor::Again => Wish::Again,
                        AskFor::Waited => Wish::Waited,
                        AskFor::At { ahead_us } => Wish::At(now_us + ahead_us),
                        AskFor::Next => Wish::Next,
                    };
                    let tenants: Vec<_> = asks.iter().map(|(tenant, _)| format!("t{tenant}")).collect();
                    let asks: Vec<_> =
                        tenants.iter().zip(&asks).map(|(tenant, (_, ask))| (tenant.as_str(), wish(*ask))).collect();
                    let grants = book.ask(now_us + clock_off_us, &asks);
                    for tenant in &tenants {
                        let of = |wish| {
                            let own = move |((other, asked), _): &(&(&str, Wish), _)| other == tenant && *asked == wish;
                            asks.iter().zip(&grants).filter(own).map(|(_, grant)| *grant).collect::<Vec<_>>()
                        };
                        let estimate = |grant: &Grant| match grant {
                            Grant::Turn(turn) => turn.at_us,
                            Grant::Later(at_us) | Grant::Taken(at_us) => *at_us,
                        };
                        let (waited, new) = (of(Wish::Waited), of(Wish::Next));
                        if let (Some(last), Some(first)) =
                            (waited.iter().map(estimate).max(), new.iter().filter_map(at_us).min())
                        {
                            prop_assert!(last < first, "{tenant}: {waited:?} have waited, {new:?} are new");
                        }
                    }
                    grants
                }
            };
            for grant in grants {
                if let Grant::Turn(turn) = grant {
                    prop_assert!(turn.at_us >= now_us - 50_000, "not in the past");
                    prop_assert!(turn.at_us <= now_us + 50_000 + reach_us(rate), "within the reach");
                    turns.push(turn.at_us);
                }
            }
        }
        turns.sort_unstable();
        for pair in turns.windows(2) {
            prop_assert!(pair[1] - pair[0] >= rate.spacing_us(), "{pair:?}");
        }
        // Sent up to 20 ms late, by clocks that differ by 30 ms in all.
        let late: Vec<_> = turns.iter().enumerate().map(|(n, at_us)| at_us + [0, 49_000][n % 2]).collect();
        let period_us = i64::from(rate.seconds()) * 1_000_000;
        prop_assert!(most_in_a_period(&late, period_us) <= rate.count() as usize);
    }
}

/// Per-worker leases: ten limiters with phases of their own land 30 calls in a second of 20.
#[test]
fn ten_workers_share_one_limit_exactly() {
    let mut book = Book::new("20/s", true);
    let mut sent = Vec::new();
    for step in 0..600_i64 {
        // Each of ten workers asks at a phase of its own, for two calls at a time.
        let now_us = START_US + step * 10_000;
        for grant in book.ask(now_us, &[("acme", Wish::Next), ("acme", Wish::Next)]) {
            if let Grant::Turn(turn) = grant {
                sent.push(turn.at_us);
            }
        }
    }
    assert_eq!(most_in_a_period(&sent, 1_000_000), 20);
    let whole = sent.iter().filter(|at_us| **at_us < START_US + 6_000_000).count();
    assert!(whole >= 108, "90 % of 120 are used: {whole}");
}

#[test]
fn a_lone_tenant_does_not_wait_behind_a_flood() {
    let mut book = Book::new("20/s", true);
    let flood = vec![("flood", Wish::Next); 10_000];
    let turns = book.ask(START_US, &flood).iter().filter(|grant| matches!(grant, Grant::Turn(_))).count();
    assert!(turns >= 90, "{turns}");
    let now_us = START_US + 100_000;
    let first = turn(book.one(now_us, "lone", Wish::Next)).at_us - now_us;
    assert!(first <= 1_300_000, "{first} us");
    let second = turn(book.one(now_us, "lone", Wish::Next)).at_us - now_us;
    assert!(second <= 1_500_000, "{second} us");
}

/// The calls of a flood and of a small tenant at one limit, simulated to the end: (waits of the small tenant's calls, times sent).
fn simulate(calls: usize, seconds: i64) -> (Vec<i64>, Vec<i64>, u32) {
    let mut book = Book::new("20/s", true);
    // When a call without a turn asks next: (time, tenant, first ask, receives).
    let mut waiting: BTreeMap<(i64, usize), (bool, i64, u32)> = BTreeMap::new();
    for n in 0..calls {
        waiting.insert((START_US + (n as i64 % 100) * 1_000, n), (false, START_US, 1));
    }
    for n in 0..seconds {
        let at_us = START_US + n * 1_000_000 + 500_000;
        waiting.insert((at_us, calls + n as usize), (true, at_us, 1));
    }
    let (mut waits, mut sent, mut most_receives) = (Vec::new(), Vec::new(), 0);
    while let Some(((now_us, n), (lone, asked_us, receives))) = waiting.pop_first() {
        if now_us > START_US + seconds * 1_000_000 {
            break;
        }
        let wish = wish(receives);
        match book.one(now_us, if lone { "lone" } else { "flood" }, wish) {
            Grant::Turn(turn) => {
                let hop = u32::from(turn.at_us - now_us > 3_000_000);
                most_receives = most_receives.max(receives + hop);
                sent.push(turn.at_us);
                if lone {
                    waits.push(turn.at_us - asked_us);
                }
            }
            Grant::Later(at_us) => {
                // SQS delays by whole seconds, and by fifteen minutes at most.
                let wait_s = ((wake_us(now_us, at_us) - now_us) / 1_000_000).clamp(1, 900);
                waiting.insert((now_us + wait_s * 1_000_000, n), (lone, asked_us, receives + 1));
            }
            Grant::Taken(_) => unreachable!("no call has a turn of another limit"),
        }
    }
    (waits, sent, most_receives)
}

/// One account's limit stops all others (Oban).
#[test]
fn a_flood_leaves_turns_to_others_and_uses_the_limit() {
    let seconds = 120;
    let (waits, sent, _) = simulate(10_000, seconds);
    assert!(waits.len() as i64 >= seconds - 3, "every call of the lone tenant had a turn: {}", waits.len());
    assert!(waits.iter().all(|us| *us <= 2_000_000), "{:?}", waits.iter().max());
    let used = sent.iter().filter(|at_us| **at_us < START_US + seconds * 1_000_000).count();
    assert!(used as i64 >= seconds * 18, "90 % of the limit is used: {used}");
    assert!(most_in_a_period(&sent, 1_000_000) <= 20);
}

#[test]
fn a_call_that_waits_for_minutes_is_received_few_times() {
    // 4,000 calls at 20 a second: the last waits for three and a half minutes.
    let (_, sent, most_receives) = simulate(4_000, 300);
    assert!(sent.len() >= 4_000, "{}", sent.len());
    assert!(most_receives <= 4, "{most_receives} receives");
}

/// What a call asks for that was received so often and had no turn.
fn wish(receives: u32) -> Wish {
    match receives {
        1 => Wish::Next,
        _ => Wish::Waited,
    }
}

/// The receives of the calls of one tenant that sends so many a second for a minute to a limit of 20 a second, and how much of it is used.
fn steady(per_s: i64, shared: bool) -> (Vec<u32>, Vec<i64>) {
    let mut book = Book::new("20/s", shared);
    let step_us = 1_000_000 / per_s;
    let mut asks: BTreeMap<(i64, i64), u32> =
        (0..per_s * 60).map(|n| ((START_US + n * step_us, n), 1)).collect();
    let (mut receives, mut sent) = (Vec::new(), Vec::new());
    while let Some(((now_us, n), received)) = asks.pop_first() {
        let wish = wish(received);
        match book.one(now_us, "acme", wish) {
            Grant::Turn(turn) => {
                receives.push(received + u32::from(turn.at_us - now_us > 3_000_000));
                sent.push(turn.at_us);
            }
            Grant::Later(at_us) => {
                let wait_us = wake_us(now_us, at_us) - now_us;
                // SQS delays by whole seconds, and hands a message out up to a second late.
                let wait_us = (wait_us / 1_000_000 + 1).clamp(1, 900) * 1_000_000 + n * 7_919 % 1_000_000;
                asks.insert((now_us + wait_us, n), received + 1);
            }
            Grant::Taken(_) => unreachable!("no call has a turn of another limit"),
        }
    }
    receives.sort_unstable();
    sent.sort_unstable();
    (receives, sent)
}

#[test]
fn a_limit_under_steady_overload_is_used_with_three_receives() {
    for shared in [false, true] {
        for per_s in [22, 25, 40, 100] {
            let (receives, sent) = steady(per_s, shared);
            let p99 = receives[receives.len() * 99 / 100];
            assert!(p99 <= 3, "{per_s}/s: {p99} receives");
            assert!(most_in_a_period(&sent, 1_000_000) <= 20);
            let used = sent.iter().filter(|at_us| **at_us < START_US + 60_000_000).count();
            assert!(used >= 60 * 18, "{per_s}/s: {used} turns are used");
        }
    }
}

#[test]
fn new_calls_wait_behind_those_that_wait_already() {
    let mut book = Book::new("20/s", false);
    book.ask(START_US, &vec![("acme", Wish::Next); 300]);
    let later_us = START_US + 4_000_000;
    // Turns within the reach are free again, and 100 calls wait for them by an estimate.
    let Grant::Later(_) = book.one(later_us, "acme", Wish::Next) else { panic!("a new call comes first") };
    turn(book.one(later_us, "acme", Wish::Waited));
}

#[test]
fn calls_that_never_come_back_do_not_hold_new_ones_up() {
    let mut book = Book::new("20/s", false);
    // 2,000 calls wait 100 s; then all of them are cancelled.
    book.ask(START_US, &vec![("acme", Wish::Next); 2_000]);
    let mut waits = Vec::new();
    let mut asks: BTreeMap<(i64, i64), (i64, bool)> = (0..600)
        .map(|n| (START_US + 11_000_000 + n * 100_000, n))
        .map(|(at_us, n)| ((at_us, n), (at_us, false)))
        .collect();
    while let Some(((now_us, n), (asked_us, waited))) = asks.pop_first() {
        match book.one(now_us, "acme", if waited { Wish::Waited } else { Wish::Next }) {
            Grant::Turn(turn) => waits.push(turn.at_us - asked_us),
            Grant::Later(at_us) => {
                let _none = asks.insert((wake_us(now_us, at_us), n), (asked_us, true));
            }
            Grant::Taken(_) => unreachable!("no call has a turn of another limit"),
        }
    }
    assert!(waits.iter().all(|us| *us <= 1_100_000), "{:?}", waits.iter().max());
}

#[test]
fn after_a_cancelled_flood_a_burst_is_served_at_once() {
    let mut book = Book::new("20/s", false);
    // 20,000 calls wait for a quarter of an hour; then all of them are cancelled.
    book.ask(START_US, &vec![("acme", Wish::Next); 20_000]);
    let now_us = START_US + 15_000_000;
    let late = book.ask(now_us, &vec![("acme", Wish::Next); 60]);
    let turns = late.iter().filter(|grant| matches!(grant, Grant::Turn(_))).count();
    assert_eq!(turns, 60, "turns within the reach");
}

#[test]
fn a_fast_limit_reaches_as_far_ahead_as_a_slow_one_in_a_small_row() {
    for shared in [false, true] {
        let mut book = Book::new("500/s", shared);
        let grants = book.ask(START_US, &vec![("acme", Wish::Next); 8_000]);
        let turns: Vec<_> = grants.iter().filter_map(at_us).collect();
        // A tenant that shares the limit takes every second turn that is not due shortly.
        let least = if shared { 2_500 } else { 4_700 };
        assert!(turns.len() >= least, "{} turns", turns.len());
        assert!(turns.iter().max().unwrap() - START_US > 9_900_000);
        let stored = runs(&book.row.as_ref().unwrap().ahead);
        assert!(stored.len() <= 8, "{} runs", stored.len());
    }
}

#[test]
fn scattered_turns_of_a_fast_limit_shorten_its_reach_and_bound_its_row() {
    let mut book = Book::new("500/s", false);
    let turns: Vec<_> =
        book.ask(START_US, &vec![("acme", Wish::Next); 4_000]).into_iter().map(turn).collect();
    // Two of five go back: what is left lies at changing distances.
    let back: Vec<_> = turns.iter().enumerate().filter(|(n, _)| n % 5 < 2).map(|(_, turn)| *turn).collect();
    book.reserve(START_US, 1, &[("acme", Wish::At(START_US + 9_000_000))], &back);
    let grants = book.ask(START_US, &vec![("acme", Wish::Next); 100]);
    assert!(grants.iter().all(|grant| matches!(grant, Grant::Later(_))), "the row is full");
    let later_us = START_US + 9_800_000;
    turn(book.one(later_us, "acme", Wish::Next));
}

#[test]
fn a_changed_limit_voids_turns_that_all_workers_can_know_of() {
    let mut book = Book::new("20/s", false);
    let first = turn(book.one(START_US, "acme", Wish::Next));
    book.ask(START_US, &vec![("acme", Wish::Next); 150]);
    let kept = |book: &Book| {
        let row = book.row.as_ref().unwrap();
        (row.epoch, row.ahead.iter().filter(|at_us| **at_us > START_US + CHANGE_KNOWN_US).count())
    };
    assert!(kept(&book).1 > 50);
    (book.rate, book.version) = ("1/s".parse().unwrap(), 7);
    let next = turn(book.one(START_US, "acme", Wish::Again));
    assert_eq!(next.epoch, first.epoch + 1);
    assert_eq!(kept(&book), (next.epoch, 1), "only the new turn lies so far ahead");
    assert!(next.at_us > START_US + CHANGE_KNOWN_US, "what may still be used is kept apart from");

    // A worker that does not know the change yet works by the new limit all the same.
    (book.rate, book.version) = ("20/s".parse().unwrap(), 0);
    let late = turn(book.one(START_US + 4_000_000, "acme", Wish::Next));
    assert_eq!((late.epoch, late.at_us - next.at_us >= 1_050_000), (next.epoch, true));
}

#[test]
fn a_limit_that_nobody_used_gives_a_turn_at_once() {
    let mut book = Book::new("1/m", true);
    assert_eq!(turn(book.one(START_US, "acme", Wish::Next)).at_us, START_US);
    let later_us = START_US + 3_600_000_000;
    assert_eq!(turn(book.one(later_us, "acme", Wish::Next)).at_us, later_us);
}

#[test]
fn a_slow_limit_gives_its_turns_in_order() {
    let mut book = Book::new("1/m", true);
    let at: Vec<_> = (0..3).map(|_| turn(book.one(START_US, "acme", Wish::Next)).at_us - START_US).collect();
    assert_eq!(at, [0, 63_000_001, 126_000_002]);
}

#[test]
fn a_tenant_of_more_weight_gets_more_turns_ahead() {
    let mut book = Book::new("20/s", true);
    let mut counts = [0, 0];
    for _ in 0..100 {
        for (tenant, weight, count) in [("heavy", 3, 0), ("light", 1, 1)] {
            let grants = book.reserve(START_US, weight, &[(tenant, Wish::Next)], &[]);
            counts[count] += usize::from(matches!(grants[0], Grant::Turn(_)));
        }
    }
    assert!(counts[0] > counts[1] + 20 && counts[1] > 30, "{counts:?}");
}

#[test]
fn a_turn_that_is_given_back_is_given_to_the_next_call() {
    let mut book = Book::new("1/s", false);
    let turns: Vec<_> = (0..3).map(|_| turn(book.one(START_US, "acme", Wish::Next))).collect();
    let again = book.reserve(START_US, 1, &[("acme", Wish::Next)], &turns[1..2]);
    assert_eq!(turn(again[0]), turns[1]);
    let old = Turn { epoch: 0, ..turns[1] };
    assert_ne!(turn(book.reserve(START_US, 1, &[("acme", Wish::Next)], &[old])[0]), turns[1]);
}
