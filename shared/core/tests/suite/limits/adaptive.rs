//! The adaptive limit against a model of a server: so many requests at once at its usual speed, slower or refusing above.

use std::collections::BTreeMap;

use toolfleet_core::limits::adaptive::{AdaptiveLimit, Answered};
use toolfleet_core::time::Timestamp;

const STEP_MS: u64 = 10;
const USUAL_MS: u64 = 100;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_795_000_000_000).plus_ms(ms)
}

/// A server that answers `capacity` requests at once at its usual speed; more make all of them slower, or are refused.
struct Model {
    adaptive: AdaptiveLimit,
    now_ms: u64,
    /// When requests end: (end, number) -> when each was sent, and whether it is refused.
    open: BTreeMap<(u64, u64), (u64, bool)>,
    number: u64,
}

impl Model {
    fn new(most: u32) -> Self {
        Self { adaptive: AdaptiveLimit::new(most), now_ms: 0, open: BTreeMap::new(), number: 0 }
    }

    /// Keeps the limit busy for so long: how many requests were answered, and the lowest limit.
    fn run(&mut self, for_ms: u64, capacity: usize, refuses: bool) -> (u64, u32) {
        let (end_ms, mut answered, mut lowest) = (self.now_ms + for_ms, 0, u32::MAX);
        while self.now_ms < end_ms {
            while let Some(((end, _), (sent_ms, refused))) = self.open.pop_first() {
                if end > self.now_ms {
                    self.number += 1;
                    self.open.insert((end, self.number), (sent_ms, refused));
                    break;
                }
                let said = if refused { Answered::Overloaded } else { Answered::In(end - sent_ms) };
                answered += u64::from(!refused);
                self.adaptive.leave(said, at(sent_ms), at(self.now_ms));
            }
            while self.adaptive.enter(at(self.now_ms)) {
                let above = self.open.len() >= capacity;
                let slower = (self.open.len() as u64 + 1).div_ceil(capacity as u64).max(1);
                let took_ms = if above && refuses { 20 } else { USUAL_MS * slower };
                self.number += 1;
                self.open.insert((self.now_ms + took_ms, self.number), (self.now_ms, above && refuses));
            }
            lowest = lowest.min(self.adaptive.limit(at(self.now_ms)));
            self.now_ms += STEP_MS;
        }
        (answered, lowest)
    }
}

/// Envoy #46532, #8337: windows in which requests are held back to measure an idle server.
#[test]
fn no_requests_are_held_back_to_measure() {
    let mut model = Model::new(64);
    model.run(5_000, 64, false);
    let (_, lowest) = model.run(120_000, 64, false);
    assert!(lowest >= 60, "a healthy tool keeps its limit for two minutes: {lowest}");
}

#[test]
fn refusals_for_load_lower_the_limit_once_for_what_was_open_together() {
    let mut adaptive = AdaptiveLimit::new(64);
    (0..64).for_each(|_| assert!(adaptive.enter(at(0))));
    (0..64).for_each(|_| adaptive.leave(Answered::Overloaded, at(0), at(50)));
    assert_eq!(adaptive.limit(at(50)), 44);
    assert!(adaptive.enter(at(60)));
    adaptive.leave(Answered::Overloaded, at(60), at(80));
    assert!(adaptive.limit(at(80)) < 32, "{}", adaptive.limit(at(80)));
}

#[test]
fn a_refusing_server_is_used_and_not_flooded() {
    let mut model = Model::new(64);
    model.run(10_000, 10, true);
    let (answered, lowest) = model.run(20_000, 10, true);
    assert!(answered >= 1_000, "half of what the server can answer at least: {answered}");
    assert!(lowest <= 16, "{lowest}");
}

#[test]
fn a_slower_tool_gets_fewer_requests_at_once() {
    let mut model = Model::new(64);
    model.run(10_000, 64, false);
    model.run(6_000, 8, false);
    let limit = model.adaptive.limit(at(model.now_ms));
    assert!(limit <= 40, "{limit}");
}

#[test]
fn the_limit_is_back_within_ten_seconds_of_healing() {
    for refuses in [false, true] {
        let mut model = Model::new(64);
        model.run(10_000, 64, false);
        model.run(5_000, 2, refuses);
        model.run(10_000, 64, false);
        let limit = model.adaptive.limit(at(model.now_ms));
        assert!(limit >= 61, "refuses: {refuses}: {limit} of 64");
    }
}

#[test]
fn the_floor_is_one_request() {
    let mut adaptive = AdaptiveLimit::new(8);
    for n in 0..100 {
        assert!(adaptive.enter(at(n * 10)));
        adaptive.leave(Answered::Overloaded, at(n * 10), at(n * 10 + 5));
        assert!(adaptive.limit(at(n * 10 + 5)) >= 1);
    }
}
