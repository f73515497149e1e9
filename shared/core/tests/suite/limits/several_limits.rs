//! Calls under two rate limits: the time that both allow is found without asking for one limit's turns again and again.

use std::collections::BTreeMap;

use toolfleet_core::limits::Turn;
use toolfleet_core::limits::turn_book::{Grant, LATE_US, Wish, wake_us};
use toolfleet_core::limits::turn_search::{Next, TurnSearch};

use super::{Book, START_US, turn};

/// When `calls` calls that have those limits, and come at once, are sent, in order.
fn send_all(mut books: Vec<Book>, calls: usize) -> Vec<i64> {
    let call = Waiter { received: 1, tenant: "acme", sent_us: START_US, ..Waiter::default() };
    let (_, mut sent) = drive(&mut books, (0..calls).map(|n| ((START_US, n), call.clone())).collect());
    sent.sort_unstable();
    sent
}

/// Two rules make 0.4 s of work take 8 s (hatchet #2866).
#[test]
fn two_limits_do_not_multiply_the_wait() {
    for (narrow, wide) in [("10/s", "10/s"), ("10/s", "20/s"), ("10/s", "13/s"), ("20/s", "10/s")] {
        let (of_tenant, of_tool) = (|| Book::new(narrow, false), || Book::new(wide, true));
        let sent = send_all(vec![of_tenant(), of_tool()], 40);
        assert_eq!(sent.len(), 40);
        let alone = [of_tenant(), of_tool()].map(|book| send_all(vec![book], 40)[39]);
        let longer_us = sent[39] - alone.iter().max().unwrap();
        assert!(longer_us <= 2_000_000, "{narrow} and {wide}: {longer_us} us more than one of them alone");
        for pair in sent.windows(2) {
            assert!(pair[1] - pair[0] >= 105_000 - 20_000, "{narrow} and {wide}: {pair:?}");
        }
    }
}

#[test]
fn a_turn_at_a_taken_time_is_refused_and_not_taken() {
    let mut book = Book::new("10/s", true);
    let first = turn(book.one(START_US, "acme", Wish::Next));
    let row = book.row.clone();
    let Grant::Taken(next_us) = book.one(START_US, "globex", Wish::At(first.at_us + 50_000)) else {
        panic!("it is too near to the first")
    };
    assert_eq!(next_us, first.at_us + 105_001);
    assert_eq!(book.row, row, "nothing is written");
}

/// A call on its way to its turns.
#[derive(Debug, Clone, Default)]
struct Waiter {
    received: u32,
    /// What its message carries: turns, or the limit by whose estimate it has waited.
    turns: Vec<(usize, Turn)>,
    waited_for: Option<usize>,
    tenant: &'static str,
    sent_us: i64,
}

/// What a call found at one receive.
enum Found {
    Turns(Vec<(usize, Turn)>, i64),
    Wait(usize, i64),
}

/// The search of a worker that asks one limit after the other, each within a tenth of a second.
fn search(books: &mut [Book], mut now_us: i64, call: &Waiter) -> Found {
    let first = call.waited_for.unwrap_or(0);
    let own = if call.waited_for.is_some() { Wish::Waited } else { Wish::Next };
    let mut search = TurnSearch::new(books.len(), first, own);
    let mut held = call.turns.clone();
    let mut next = search.with(held.clone());
    loop {
        let (limit, wish) = match next {
            Next::Found => return Found::Turns(held, now_us),
            Next::Ask(limit, wish) => (limit, wish),
            Next::AskAnew(limit, wish) => {
                give_back(books, now_us, &mut held);
                (limit, wish)
            }
            Next::Wait(limit, at_us) => {
                give_back(books, now_us, &mut held);
                return Found::Wait(limit, at_us);
            }
        };
        now_us += 50_000;
        let grant = books[limit].one(now_us, call.tenant, wish);
        if let Grant::Turn(turn) = grant {
            held.push((limit, turn));
        }
        next = search.answered(limit, grant, now_us);
    }
}

fn give_back(books: &mut [Book], now_us: i64, held: &mut Vec<(usize, Turn)>) {
    for (limit, turn) in held.drain(..) {
        books[limit].reserve(now_us, 1, &[], &[turn]);
    }
}

/// Calls of `tenants`, each with its calls a second, for a minute: (receives of a sent call, its wait, its tenant), and when all were sent.
fn run(books: &mut [Book], tenants: &[(&'static str, i64)]) -> (Vec<(u32, i64, &'static str)>, Vec<i64>) {
    let mut asks: BTreeMap<(i64, usize), Waiter> = BTreeMap::new();
    for (tenant, per_s) in tenants {
        for n in 0..per_s * 60 {
            let sent_us = START_US + n * 1_000_000 / per_s + 1_300 * i64::try_from(asks.len() % 17).unwrap();
            let call = Waiter { received: 1, tenant, sent_us, ..Waiter::default() };
            let _none = asks.insert((sent_us, asks.len()), call);
        }
    }
    drive(books, asks)
}

/// Lets each call look for its turns, wait and look again until it has them: (receives, wait, tenant) of each, and when all were sent.
fn drive(
    books: &mut [Book],
    mut asks: BTreeMap<(i64, usize), Waiter>,
) -> (Vec<(u32, i64, &'static str)>, Vec<i64>) {
    let (mut done, mut sent) = (Vec::new(), Vec::new());
    let mut events = 0;
    while let Some(((now_us, n), call)) = asks.pop_first() {
        events += 1;
        assert!(events < 60_000, "call {n} of {} finds no turn: {call:?}", call.tenant);
        let late_us = i64::try_from(n).unwrap() * 7_919 % 1_000_000;
        let (waiter, wait_us) = match search(books, now_us, &call) {
            Found::Turns(turns, at_us) => {
                let due_us = turns.iter().map(|(_, turn)| turn.at_us).max().unwrap();
                if due_us - at_us <= 3_000_000 {
                    // A request that is found too late for its turn is a missed turn, which the worker replaces.
                    sent.push(due_us);
                    done.push((call.received, due_us - call.sent_us, call.tenant));
                    continue;
                }
                let wait_us = (due_us - at_us - 1_000_000) / 1_000_000 * 1_000_000;
                (Waiter { turns, waited_for: None, ..call }, wait_us + late_us / 2)
            }
            Found::Wait(limit, at_us) => {
                let wait_us = ((wake_us(now_us, at_us) - now_us) / 1_000_000 + 1).clamp(1, 900) * 1_000_000;
                (Waiter { turns: Vec::new(), waited_for: Some(limit), ..call }, wait_us + late_us)
            }
        };
        asks.insert((now_us + wait_us, n), Waiter { received: waiter.received + 1, ..waiter });
    }
    (done, sent)
}

fn p99(mut figures: Vec<u32>) -> u32 {
    figures.sort_unstable();
    figures[figures.len() * 99 / 100]
}

#[test]
fn a_call_of_a_tool_limit_and_a_tenant_limit_is_received_three_times() {
    for (tool, tenant) in
        [("20/s", "10/s"), ("20/s", "20/s"), ("10/s", "20/s"), ("20/s", "17/s"), ("50/s", "20/s")]
    {
        for per_s in [1, 12, 25, 40, 100] {
            let mut books = [Book::new(tenant, false), Book::new(tool, true)];
            let (done, sent) = run(&mut books, &[("acme", per_s)]);
            let receives = p99(done.iter().map(|(receives, ..)| *receives).collect());
            let first = sent.iter().filter(|at_us| **at_us < START_US + 60_000_000).count();
            let of = format!("{per_s}/s at {tool} and {tenant}");
            assert_eq!(done.len() as i64, per_s * 60, "{of}");
            assert!(receives <= 3, "{of}: {receives} receives at p99");
            // What both limits allow, or what is sent.
            let slower = books.iter().map(|book| 60_000_000 / book.rate.spacing_us()).min().unwrap();
            assert!(first as i64 * 100 >= slower.min(per_s * 60) * 93, "{of}: {first} are sent in a minute");
            let mut sent = sent;
            sent.sort_unstable();
            let spacing_us = books.iter().map(|book| book.rate.spacing_us()).max().unwrap();
            for pair in sent.windows(2) {
                assert!(pair[1] - pair[0] >= spacing_us - LATE_US, "{of}: {pair:?}");
            }
        }
    }
}

#[test]
fn a_lone_tenant_finds_turns_of_two_shared_limits_beside_a_flood() {
    let mut books = [Book::new("20/s", true), Book::new("25/s", true)];
    let (done, _) = run(&mut books, &[("flood", 100), ("lone", 1)]);
    let lone = done.iter().filter(|(_, _, tenant)| *tenant == "lone");
    let longest = lone.map(|(_, wait_us, _)| *wait_us).max().unwrap();
    assert!(longest <= 2_000_000, "{longest} us");
}

/// Else the turn of one limit, which passed while the other was asked, would hold up the next call for a whole spacing.
#[test]
fn a_turn_that_passed_before_it_was_given_back_holds_up_no_other_call() {
    let mut books = [Book::new("1/s", false), Book::new("1/10s", false)];
    turn(books[1].one(START_US, "acme", Wish::Next));
    let call = Waiter { received: 1, tenant: "acme", sent_us: START_US, ..Waiter::default() };
    let (Found::Turns(_, at_us) | Found::Wait(_, at_us)) = search(&mut books, START_US, &call);
    assert!(at_us > START_US + 50_000, "the first turn has passed: {at_us}");
    let next_us = START_US + 400_000;
    assert_eq!(turn(books[0].one(next_us, "globex", Wish::Next)).at_us, next_us);
}

/// What a worker knows of a limit may be old when it gives a turn back.
#[test]
fn a_turn_that_is_given_back_changes_no_limit() {
    let mut book = Book::new("20/s", false);
    let first = turn(book.one(START_US, "acme", Wish::Next));
    let row = book.row.clone();
    book.rate = "5/s".parse().unwrap();
    book.reserve(START_US + 1_000, 1, &[], &[first]);
    let (before, after) = (row.unwrap(), book.row.clone().unwrap());
    assert_eq!((after.rate, after.epoch, after.rate_us), (before.rate, before.epoch, before.rate_us));
    assert!(after.ahead.is_empty());
    book.reserve(START_US + 2_000, 1, &[], &[first]);
    assert_eq!(book.row, Some(after), "it is given back already: nothing is written");
    book.row = None;
    book.reserve(START_US, 1, &[], &[first]);
    assert_eq!(book.row, None, "there is no row to give it back to");
}
