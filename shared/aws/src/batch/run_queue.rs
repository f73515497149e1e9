//! Decides whether batches wait for more items: only while the runtime lags behind its tasks, because only then does fewer requests
//! mean less waiting.
//!
//! The lag is measured where a batch lets other tasks run first. It does not depend on the share of CPU in use, which falls as soon as
//! batches wait, so that a decision by it would switch back and forth.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Batches wait from this mean lag on.
const ON_ABOVE: Duration = Duration::from_millis(1);
/// Batches no longer wait below this mean lag.
const OFF_BELOW: Duration = Duration::from_micros(300);
/// The decision stands for so long at least, and no longer than this without a measurement.
const DWELL: Duration = Duration::from_secs(1);
/// The share of a measurement in the mean.
const SHARE: f64 = 1.0 / 16.0;

/// How far the runtime lags behind its tasks. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct RunQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lag: Mutex<Lag>,
    /// The decision and the mean in microseconds, to be read without the lock.
    is_behind: AtomicBool,
    mean_us: AtomicU64,
}

impl RunQueue {
    /// Whether tasks wait so long for a thread that requests should be fewer.
    pub fn is_behind(&self) -> bool {
        self.0.is_behind.load(Ordering::Relaxed)
    }

    /// The mean time that a task lately waited for a thread, in microseconds.
    pub fn lag_us(&self) -> u64 {
        self.0.mean_us.load(Ordering::Relaxed)
    }

    /// Lets the other tasks that are ready run first, and measures how long that takes.
    pub(super) async fn let_others_run(&self) {
        let begun = Instant::now();
        tokio::task::yield_now().await;
        let now = Instant::now();
        self.measured(now.duration_since(begun), now);
    }

    /// A task waited for `lag` until `now`.
    pub(super) fn measured(&self, lag: Duration, now: Instant) {
        let mut state = self.0.lag.lock().unwrap_or_else(PoisonError::into_inner);
        let is_behind = state.measured(lag, now);
        self.0.is_behind.store(is_behind, Ordering::Relaxed);
        let mean_us = u64::try_from(Duration::from_secs_f64(state.mean_s).as_micros()).unwrap_or(u64::MAX);
        self.0.mean_us.store(mean_us, Ordering::Relaxed);
    }
}

/// The mean lag and the decision.
#[derive(Debug, Default)]
struct Lag {
    mean_s: f64,
    is_behind: bool,
    last: Option<Instant>,
    decided: Option<Instant>,
}

impl Lag {
    /// Takes a measurement; returns whether batches wait.
    fn measured(&mut self, lag: Duration, now: Instant) -> bool {
        let is_stale = self.last.is_none_or(|last| now.duration_since(last) > DWELL);
        if is_stale {
            (self.mean_s, self.is_behind, self.decided) = (0.0, false, None);
        }
        self.last = Some(now);
        self.mean_s += SHARE * (lag.as_secs_f64() - self.mean_s);
        let wanted = if self.is_behind {
            self.mean_s >= OFF_BELOW.as_secs_f64()
        } else {
            self.mean_s > ON_ABOVE.as_secs_f64()
        };
        let may_change = self.decided.is_none_or(|decided| now.duration_since(decided) >= DWELL);
        if wanted != self.is_behind && may_change {
            (self.is_behind, self.decided) = (wanted, Some(now));
        }
        self.is_behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Measures `lag` every millisecond for so many milliseconds; returns the last decision.
    fn measure(state: &mut Lag, now: &mut Instant, lag: Duration, for_ms: u32) -> bool {
        let mut is_behind = state.is_behind;
        for _ in 0..for_ms {
            *now += MS;
            is_behind = state.measured(lag, *now);
        }
        is_behind
    }

    #[test]
    fn batches_wait_once_the_mean_lag_exceeds_a_millisecond() {
        let (mut state, mut now) = (Lag::default(), Instant::now());
        assert!(!measure(&mut state, &mut now, Duration::from_micros(900), 5_000));
        assert!(measure(&mut state, &mut now, Duration::from_micros(1_200), 100));
    }

    #[test]
    fn a_single_long_lag_does_not_make_batches_wait() {
        let (mut state, mut now) = (Lag::default(), Instant::now());
        measure(&mut state, &mut now, Duration::from_micros(50), 100);
        assert!(!measure(&mut state, &mut now, Duration::from_millis(10), 1));
    }

    #[test]
    fn between_the_two_marks_the_decision_stands() {
        let (mut state, mut now) = (Lag::default(), Instant::now());
        assert!(measure(&mut state, &mut now, 2 * MS, 100));
        assert!(measure(&mut state, &mut now, Duration::from_micros(500), 5_000));
        assert!(!measure(&mut state, &mut now, Duration::from_micros(100), 100));
        assert!(!measure(&mut state, &mut now, Duration::from_micros(500), 5_000));
    }

    #[test]
    fn a_decision_stands_for_a_second_at_least() {
        let (mut state, mut now) = (Lag::default(), Instant::now());
        measure(&mut state, &mut now, 2 * MS, 20);
        let begun = now;
        while measure(&mut state, &mut now, Duration::ZERO, 1) {}
        assert!(now.duration_since(begun) >= DWELL - 20 * MS, "{:?}", now.duration_since(begun));
        let mut changes = 0;
        for n in 0..5_000 {
            let before = state.is_behind;
            let lag = if n % 40 < 20 { 20 * MS } else { Duration::ZERO };
            changes += u32::from(measure(&mut state, &mut now, lag, 1) != before);
        }
        assert!(changes <= 5, "{changes} changes in five seconds");
    }

    #[test]
    fn a_lag_before_a_second_of_silence_counts_no_more() {
        let (mut state, mut now) = (Lag::default(), Instant::now());
        assert!(measure(&mut state, &mut now, 5 * MS, 100));
        now += DWELL + MS;
        assert!(!measure(&mut state, &mut now, Duration::ZERO, 1));
    }
}
