//! Calls under two rate limits: the time that both allow is found without asking for one limit's turns again and again.

use std::collections::BTreeMap;

use toolfleet_core::limits::Turn;
use toolfleet_core::limits::turn_book::{Grant, LATE_US, Wish};

use super::{Book, START_US, turn};

/// Sends `calls` calls that have a narrow and a wide limit, each at a time of both: when each was sent.
///
/// A call has a turn of one limit first. Shortly before, it asks the other limit for a turn at that time. Where there is none, its next
/// turn is one of the other limit, and the first goes back.
fn send_all(narrow: &str, wide: &str, calls: usize) -> Vec<i64> {
    let mut books = [Book::new(narrow, false), Book::new(wide, true)];
    let mut sent = Vec::new();
    // (when it goes on, its number) -> (the limit whose turn it has, the turn).
    let mut waiting: BTreeMap<(i64, usize), Option<(usize, Turn)>> =
        (0..calls).map(|n| ((START_US, n), None)).collect();
    while let Some(((now_us, n), held)) = waiting.pop_first() {
        let (first, held) = match held {
            Some(held) => held,
            None => match books[0].one(now_us, "acme", Wish::Next) {
                Grant::Turn(turn) => (0, turn),
                Grant::Later(at_us) => {
                    waiting.insert((at_us - 5_000_000, n), None);
                    continue;
                }
                Grant::Taken(_) => unreachable!(),
            },
        };
        let at_us = held.at_us;
        if at_us - now_us > 3_000_000 {
            waiting.insert((at_us - 1_000_000, n), Some((first, held)));
            continue;
        }
        let other = 1 - first;
        match books[other].one(now_us, "acme", Wish::At(at_us)) {
            Grant::Turn(turn) => {
                assert!(turn.at_us >= at_us && turn.at_us <= at_us + LATE_US);
                sent.push(turn.at_us);
            }
            Grant::Taken(_) => {
                books[first].reserve(now_us, 1, &[], &[held]);
                match books[other].one(now_us, "acme", Wish::Again) {
                    Grant::Turn(turn) => {
                        waiting.insert((now_us.max(turn.at_us - 1_000_000), n), Some((other, turn)));
                    }
                    Grant::Later(at_us) => {
                        waiting.insert((at_us - 5_000_000, n), None);
                    }
                    Grant::Taken(_) => unreachable!(),
                }
            }
            Grant::Later(_) => unreachable!(),
        }
    }
    sent
}

/// Two rules make 0.4 s of work take 8 s (hatchet #2866).
#[test]
fn two_limits_do_not_multiply_the_wait() {
    for (narrow, wide) in [("10/s", "10/s"), ("10/s", "20/s"), ("10/s", "13/s"), ("20/s", "10/s")] {
        let mut sent = send_all(narrow, wide, 40);
        sent.sort_unstable();
        assert_eq!(sent.len(), 40);
        // The slower limit alone takes 4.1 s.
        let took_us = sent[39] - START_US;
        assert!(took_us <= 6_200_000, "{narrow} and {wide}: {took_us} us");
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
