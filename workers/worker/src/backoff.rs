//! Computes the wait before another try: the `backoff` crate's exponential policy with jitter.
//!
//! The crate is marked unmaintained, so it is named here and nowhere else; see docs/decisions.
//!
//! **Invariant:** a wait is never longer than [`CEILING`].

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// The longest wait proposed.
pub const CEILING: Duration = Duration::from_secs(60);

/// The wait before try number `tries + 1`, in milliseconds: about 200, 400, 800, .. each give or take a half.
pub fn after_tries(tries: u32) -> u64 {
    let mut policy = ExponentialBackoff {
        initial_interval: Duration::from_millis(200),
        current_interval: Duration::from_millis(200),
        multiplier: 2.0,
        randomization_factor: 0.5,
        max_interval: CEILING,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    let mut wait = Duration::ZERO;
    for _ in 0..tries.clamp(1, 16) {
        wait = policy.next_backoff().unwrap_or(CEILING).min(CEILING);
    }
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

/// The longest wait for a server that cannot be reached: what waits goes on soon after it is back.
const UNREACHABLE_CEILING_MS: u64 = 30_000;

/// The wait before another try to reach a server: `tries` of them failed in this delivery, the first of the call's `deliveries` or
/// a later one.
pub fn unreachable(deliveries: u32, tries: u32) -> u64 {
    let earlier = if deliveries <= 1 { 0 } else { deliveries.saturating_add(2) };
    after_tries(tries.saturating_add(earlier)).min(UNREACHABLE_CEILING_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_the_tries_and_stay_under_the_ceiling() {
        for _ in 0..100 {
            assert!((100..=300).contains(&after_tries(1)));
            assert!((400..=1_200).contains(&after_tries(3)));
            assert!(after_tries(u32::MAX) <= 60_000);
        }
    }
}
