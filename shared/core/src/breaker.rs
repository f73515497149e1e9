//! Owns the circuit breaker of one server: closed lets through, open refuses, probing lets one through.
//!
//! **Invariant:** time is an argument; while open or probing at most one call is let through per cool-down.

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Closed,
    Open { until: Timestamp },
    Probing { until: Timestamp },
}

/// The breaker of one server.
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

    /// Asks for a call; an open breaker whose time is over lets this one through as its probe.
    pub fn ask(&mut self, now: Timestamp) -> Admission {
        match self.position {
            Position::Closed => Admission::Through,
            Position::Open { until } | Position::Probing { until } if now < until => {
                Admission::Refused { retry_after_ms: until.ms_since(now) }
            }
            // A probe that never reported is given up after another cool-down.
            Position::Open { .. } | Position::Probing { .. } => {
                self.position = Position::Probing { until: now.plus_ms(self.policy.cool_down_ms) };
                Admission::Through
            }
        }
    }

    /// Whether a call would be let through, without becoming the probe.
    pub fn peek(&self, now: Timestamp) -> Admission {
        self.clone().ask(now)
    }

    /// Learns how a call that was let through ended. Returns whether this opened the breaker.
    pub fn report(&mut self, healthy: bool, now: Timestamp) -> bool {
        let window = self.policy.window.clamp(1, 63);
        self.results = ((self.results << 1) | u64::from(!healthy)) & ((1 << window) - 1);
        match self.position {
            Position::Closed if self.results.count_ones() >= self.policy.failures => self.open(now),
            Position::Probing { .. } | Position::Open { .. } if healthy => {
                self.position = Position::Closed;
                self.results = 0;
                false
            }
            Position::Probing { .. } => self.open(now),
            // Who peeked and went without asking is as good a probe.
            Position::Open { until } if now >= until => self.open(now),
            Position::Closed | Position::Open { .. } => false,
        }
    }

    const fn open(&mut self, now: Timestamp) -> bool {
        self.position = Position::Open { until: now.plus_ms(self.policy.cool_down_ms) };
        true
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
        breaker.report(false, at(0));
        assert_eq!(breaker.ask(at(0)), Admission::Through);
        assert!(breaker.report(false, at(0)));
        breaker
    }

    #[test]
    fn enough_failures_among_the_latest_results_open_it() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(at(400)), Admission::Refused { retry_after_ms: 600 });
    }

    #[test]
    fn old_failures_leave_the_window() {
        let mut breaker = Breaker::new(BreakerPolicy { window: 2, failures: 2, cool_down_ms: 1_000 });
        for healthy in [false, true, false, true, false] {
            assert!(!breaker.report(healthy, at(0)));
        }
    }

    #[test]
    fn after_the_cool_down_one_probe_goes_through_and_decides() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(at(1_000)), Admission::Through);
        assert_ne!(breaker.ask(at(1_001)), Admission::Through);
        breaker.report(true, at(1_002));
        assert_eq!(breaker.ask(at(1_003)), Admission::Through);

        let mut breaker = opened();
        assert_eq!(breaker.ask(at(1_000)), Admission::Through);
        assert!(breaker.report(false, at(1_100)));
        assert_ne!(breaker.ask(at(1_200)), Admission::Through);
    }

    #[test]
    fn a_probe_that_never_reports_does_not_close_the_server_off_for_ever() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(at(1_000)), Admission::Through);
        assert_eq!(breaker.ask(at(2_000)), Admission::Through);
    }
}
