//! The circuit breaker, and the pause that a server asks for. Closed lets through, open refuses, half-open lets one probe through.
//!
//! **Invariant:** time is an argument; while open or half-open at most one call is under way as the probe.

use crate::fleet::BreakerState;
use crate::time::Timestamp;

/// When a breaker opens and for how long.
#[derive(Debug, Clone, Copy)]
pub struct BreakerPolicy {
    /// How many of the latest results are remembered.
    pub window: u32,
    /// Failures among them that open it.
    pub failures: u32,
    /// How long it stays open, in milliseconds.
    pub cool_down_ms: u64,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { window: 20, failures: 10, cool_down_ms: 10_000 }
    }
}

impl BreakerPolicy {
    /// The policy for a tool whose answers do not come in time. A time-out is noticed late, so few of them open the breaker.
    pub const TIME_OUTS: Self = Self { window: 8, failures: 5, cool_down_ms: 10_000 };
}

/// When a call that a half-open breaker refused asks again, in milliseconds: the probe may end any moment.
const ASK_AGAIN_MS: u64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Closed,
    Open {
        until: Timestamp,
    },
    /// A probe is under way; one that takes longer than `until` does not keep the next one waiting.
    HalfOpen {
        until: Timestamp,
    },
}

/// One circuit breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    policy: BreakerPolicy,
    position: Position,
    /// The latest results, newest in the lowest bit; a set bit is a failure.
    results: u64,
}

/// Whether a call may go to the server now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Through,
    /// It may, and what becomes of it decides: it has to be reported, or released.
    Probe,
    /// It may not, for about this long.
    Refused {
        /// Milliseconds.
        retry_after_ms: u64,
    },
}

impl Breaker {
    /// A closed breaker.
    pub const fn new(policy: BreakerPolicy) -> Self {
        Self { policy, position: Position::Closed, results: 0 }
    }

    /// Whether a call would be let through, without becoming the probe.
    pub fn peek(&self, now: Timestamp) -> Admission {
        match self.position {
            Position::Closed => Admission::Through,
            Position::Open { until } if now < until => {
                Admission::Refused { retry_after_ms: until.ms_since(now) }
            }
            Position::HalfOpen { until } if now < until => {
                Admission::Refused { retry_after_ms: until.ms_since(now).min(ASK_AGAIN_MS) }
            }
            Position::Open { .. } | Position::HalfOpen { .. } => Admission::Probe,
        }
    }

    /// Asks for a call; an open breaker whose time is over lets this one through as its probe.
    pub fn ask(&mut self, now: Timestamp) -> Admission {
        let admission = self.peek(now);
        if admission == Admission::Probe {
            self.position = Position::HalfOpen { until: now.plus_ms(self.policy.cool_down_ms) };
        }
        admission
    }

    /// Learns how a call that was let through ended, as the `probe` or not. Returns whether this opened the breaker.
    pub fn report(&mut self, healthy: bool, probe: bool, now: Timestamp) -> bool {
        let window = self.policy.window.clamp(1, 63);
        self.results = ((self.results << 1) | u64::from(!healthy)) & ((1 << window) - 1);
        match self.position {
            Position::Closed if self.results.count_ones() >= self.policy.failures => self.open(now),
            Position::HalfOpen { .. } | Position::Open { .. } if healthy => {
                self.position = Position::Closed;
                self.results = 0;
                false
            }
            Position::HalfOpen { .. } if probe => self.open(now),
            // What was sent before the breaker opened says nothing new.
            Position::Closed | Position::Open { .. } | Position::HalfOpen { .. } => false,
        }
    }

    /// Its state for operators. An open breaker whose time is over is half-open: the next call is its probe.
    pub fn state(&self, now: Timestamp) -> BreakerState {
        match self.position {
            Position::Closed => BreakerState::Closed,
            Position::Open { until } if now < until => BreakerState::Open,
            Position::Open { .. } | Position::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Gives a probe back that says nothing of the server: the next call may be the probe at once.
    pub const fn release_probe(&mut self, now: Timestamp) {
        if let Position::HalfOpen { .. } = self.position {
            self.position = Position::Open { until: now };
        }
    }

    /// Whether it is as new: closed, and no failure is remembered.
    pub fn is_as_new(&self) -> bool {
        self.position == Position::Closed && self.results == 0
    }

    const fn open(&mut self, now: Timestamp) -> bool {
        self.position = Position::Open { until: now.plus_ms(self.policy.cool_down_ms) };
        true
    }
}

/// The shortest pause after a server asked to slow down without saying for how long, in milliseconds.
const FIRST_PAUSE_MS: u64 = 1_000;
/// The longest one that grows by itself.
const LONGEST_PAUSE_MS: u64 = 60_000;

/// A pause that a server asked for: it grows while the server keeps asking.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pause {
    until: Option<Timestamp>,
    /// How often the server asked again after a pause was over, without an answer in between.
    asked: u32,
}

impl Pause {
    /// How long it still lasts, in milliseconds.
    pub fn left_ms(&self, now: Timestamp) -> Option<u64> {
        self.until.filter(|until| now < *until).map(|until| until.ms_since(now))
    }

    /// The server asks to slow down, for at least `floor_ms` where it says so. Calls that were under way together are one such
    /// question. Gives how long the pause lasts, in milliseconds.
    pub fn asked(&mut self, floor_ms: Option<u64>, now: Timestamp) -> u64 {
        let current = self.until.filter(|until| now < *until);
        if current.is_none() {
            self.asked = self.asked.saturating_add(1);
        }
        // A server that says how long is taken at its word; one that says nothing, or next to nothing, is asked ever more rarely.
        let grown_ms = (FIRST_PAUSE_MS << self.asked.saturating_sub(1).min(16)).min(LONGEST_PAUSE_MS);
        let until = match (current, floor_ms) {
            (None, Some(floor_ms)) if floor_ms >= FIRST_PAUSE_MS => now.plus_ms(floor_ms),
            (None, Some(_) | None) => now.plus_ms(grown_ms),
            (Some(current), None) => current,
            (Some(current), Some(floor_ms)) => current.max(now.plus_ms(floor_ms)),
        };
        self.until = Some(until);
        until.ms_since(now)
    }

    /// The server answered a call.
    pub const fn answered(&mut self) {
        self.asked = 0;
    }

    /// Whether it is over and nothing of it is remembered.
    pub fn is_as_new(&self, now: Timestamp) -> bool {
        self.asked == 0 && self.left_ms(now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(BreakerPolicy { window: 4, failures: 2, cool_down_ms: 1_000 });
        breaker.report(false, false, at(0));
        assert_eq!(breaker.ask(at(0)), Admission::Through);
        assert!(breaker.report(false, false, at(0)));
        breaker
    }

    #[test]
    fn enough_failures_among_the_latest_results_open_it() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(at(400)), Admission::Refused { retry_after_ms: 600 });
        let states = [400, 1_000].map(|ms| breaker.state(at(ms)));
        assert_eq!(states, [BreakerState::Open, BreakerState::HalfOpen]);
    }

    #[test]
    fn old_failures_leave_the_window() {
        let mut breaker = Breaker::new(BreakerPolicy { window: 2, failures: 2, cool_down_ms: 1_000 });
        for healthy in [false, true, false, true, false] {
            assert!(!breaker.report(healthy, false, at(0)));
        }
    }

    #[test]
    fn after_the_cool_down_one_probe_goes_through_and_decides() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(at(1_000)), Admission::Probe);
        assert_eq!(breaker.ask(at(1_001)), Admission::Refused { retry_after_ms: 999 });
        breaker.report(true, true, at(1_002));
        assert_eq!(breaker.ask(at(1_003)), Admission::Through);
        assert_eq!(breaker.state(at(1_003)), BreakerState::Closed);

        let mut breaker = opened();
        assert_eq!(breaker.ask(at(1_000)), Admission::Probe);
        assert!(breaker.report(false, true, at(1_100)));
        assert_eq!(breaker.ask(at(1_200)), Admission::Refused { retry_after_ms: 900 });
    }

    #[test]
    fn after_an_inconclusive_probe_the_next_call_probes() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(at(1_000)), Admission::Probe);
        breaker.release_probe(at(1_100));
        assert_eq!(breaker.ask(at(1_100)), Admission::Probe);
    }

    #[test]
    fn a_failure_from_before_the_opening_does_not_end_the_probe() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(at(1_000)), Admission::Probe);
        assert!(!breaker.report(false, false, at(1_001)));
        breaker.report(true, true, at(1_002));
        assert_eq!(breaker.ask(at(1_003)), Admission::Through);
    }

    #[test]
    fn a_slow_probe_delays_the_next_by_one_cool_down() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(at(1_000)), Admission::Probe);
        assert_eq!(breaker.ask(at(2_000)), Admission::Probe);
    }

    #[test]
    fn a_pause_without_a_header_grows_with_each_request_for_it() {
        let mut pause = Pause::default();
        assert_eq!(pause.asked(None, at(0)), 1_000);
        assert_eq!(pause.asked(None, at(400)), 600, "calls under way together ask once");
        assert_eq!(pause.asked(None, at(1_000)), 2_000);
        assert_eq!(pause.asked(None, at(3_000)), 4_000);
        for n in 0..10 {
            assert!(pause.asked(None, at(1_000_000 * (n + 1))) <= LONGEST_PAUSE_MS);
        }
        pause.answered();
        assert_eq!(pause.asked(None, at(20_000_000)), 1_000);
    }

    #[test]
    fn the_time_a_server_names_is_a_floor() {
        let mut pause = Pause::default();
        assert_eq!(pause.asked(Some(30_000), at(0)), 30_000);
        assert_eq!(pause.asked(Some(5_000), at(1_000)), 29_000, "a later word does not shorten it");
        assert_eq!(pause.asked(Some(60_000), at(2_000)), 60_000, "and may lengthen it");
        assert_eq!(pause.asked(None, at(3_000)), 59_000);
        assert_eq!(pause.left_ms(at(61_999)), Some(1));
        assert_eq!(pause.left_ms(at(62_000)), None);
        assert_eq!(pause.asked(Some(1), at(62_000)), 2_000, "it grows above a floor that is too low");
        for n in 1..5 {
            assert_eq!(
                pause.asked(Some(1_500), at(62_000 + n * 10_000)),
                1_500,
                "it is waited for, and no longer"
            );
        }
    }
}
