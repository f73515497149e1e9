//! Computes the pause between two receives. While the runtime lags and messages are frequent but come one at a time, a pause of a few
//! milliseconds lets one receive return several, whose claims and results then share batches too. Otherwise there is no pause.
//!
//! **Invariant:** a pause is never longer than [`LONGEST`].

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many messages are worth waiting for.
const WORTH: f64 = 5.0;
/// Fewer than these within the longest pause are not.
const TOO_FEW: f64 = 2.0;
/// The longest pause: what it adds to a call's latency, on average half of it, stays well under ten milliseconds.
const LONGEST: Duration = Duration::from_millis(8);
/// Over how many seconds the rate is averaged.
const MEMORY_S: f64 = 1.0;

/// The recent rate of messages.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Option<Lately>>);

#[derive(Debug, Clone, Copy)]
struct Lately {
    a_second: f64,
    at: Instant,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// How long to wait before the next receive, now that one brought `got` messages. `is_behind`: the runtime lags behind its tasks.
    pub(super) fn after(&self, got: u32, now: Instant, is_behind: bool) -> Duration {
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = lately.unwrap_or(Lately { a_second: 0.0, at: now });
        let faded = (-now.duration_since(before.at).as_secs_f64() / MEMORY_S).exp();
        let a_second = before.a_second.mul_add(faded, f64::from(got) / MEMORY_S);
        *lately = Some(Lately { a_second, at: now });
        if !is_behind || a_second * LONGEST.as_secs_f64() < TOO_FEW {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(WORTH / a_second).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last pause after five seconds of `a_second` messages each second, received in twos.
    fn settled(a_second: u32) -> Duration {
        let pace = Pace::new();
        let begun = Instant::now();
        let step = Duration::from_secs_f64(2.0 / f64::from(a_second));
        (0..a_second * 5 / 2).map(|n| pace.after(2, begun + step * n, true)).last().unwrap_or_default()
    }

    #[test]
    fn messages_that_come_seldom_are_not_waited_for() {
        assert_eq!(Pace::new().after(1, Instant::now(), true), Duration::ZERO);
        assert_eq!(settled(200), Duration::ZERO);
    }

    #[test]
    fn messages_that_come_often_are_received_about_five_at_once() {
        assert_eq!(settled(400), LONGEST);
        let pause = settled(1_000);
        assert!(pause > Duration::from_millis(4) && pause < Duration::from_millis(6), "{pause:?}");
    }

    #[test]
    fn a_worker_that_keeps_up_receives_without_a_pause() {
        let pace = Pace::new();
        let begun = Instant::now();
        for n in 0..1_000 {
            assert_eq!(pace.after(2, begun + Duration::from_millis(n), false), Duration::ZERO);
        }
        assert!(pace.after(2, begun + Duration::from_secs(1), true) > Duration::ZERO);
    }

    #[test]
    fn a_rush_is_forgotten_within_seconds() {
        let pace = Pace::new();
        let begun = Instant::now();
        for n in 0..1_000 {
            pace.after(10, begun + Duration::from_millis(n), true);
        }
        assert_eq!(pace.after(1, begun + Duration::from_secs(8), true), Duration::ZERO);
    }
}
