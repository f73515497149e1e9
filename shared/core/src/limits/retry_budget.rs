//! The retries that one worker allows itself at one server, so that a server in trouble is not met with more requests than usual.
//!
//! Within ten seconds, retries are at most a fifth of the first attempts, and this worker's part of ten a second for the whole fleet on top
//! of it, so that a server with few calls can be retried too. A worker of a fleet of more than a hundred has less than one of these in ten
//! seconds: it waits for its turn.

use crate::time::Timestamp;

/// Over how many seconds attempts are counted.
const SECONDS: usize = 10;
/// Retries for each hundred first attempts.
const PERCENT: u32 = 20;
/// Retries a second that the whole fleet has in any case.
const FLEET_PER_SECOND: u32 = 10;

/// The attempts of the last ten seconds.
#[derive(Debug, Clone, Default)]
pub struct RetryBudget {
    /// First attempts and retries, by second.
    counts: [(u32, u32); SECONDS],
    /// The second of the latest count.
    second: i64,
    /// When the worker last had its part of the fleet's retries, or asked for it first, where that is less than one in ten seconds.
    own_at: Option<Timestamp>,
}

impl RetryBudget {
    /// Counts a first attempt.
    pub fn first(&mut self, now: Timestamp) {
        if let Some((first, _)) = self.current(now) {
            *first = first.saturating_add(1);
        }
    }

    /// Counts a retry, if it is within the budget of a worker of a fleet of that many.
    ///
    /// # Errors
    /// It is not; milliseconds until the oldest count is forgotten.
    pub fn retry(&mut self, workers: u32, now: Timestamp) -> Result<(), u64> {
        self.current(now);
        let sum = |of: fn(&(u32, u32)) -> u32| self.counts.iter().map(of).fold(0_u32, u32::saturating_add);
        let (firsts, retries) = (sum(|count| count.0), sum(|count| count.1));
        let own = FLEET_PER_SECOND * SECONDS as u32 / workers.max(1);
        let allowed = (firsts.saturating_mul(PERCENT) / 100).saturating_add(own);
        if retries >= allowed {
            if own > 0 {
                return Err(1_000_u64.saturating_sub(now.as_ms().rem_euclid(1_000).unsigned_abs()).max(1));
            }
            self.rare(workers, now)?;
        }
        if let Some((_, retry)) = self.current(now) {
            *retry = retry.saturating_add(1);
        }
        Ok(())
    }

    /// A retry that was counted then is not made. The worker's rare part of a large fleet's retries is not given back.
    pub fn give_back(&mut self, counted_at: Timestamp) {
        let age = self.second.saturating_sub(counted_at.as_s());
        let place = usize::try_from(counted_at.as_s().rem_euclid(SECONDS as i64)).ok();
        if (0..SECONDS as i64).contains(&age)
            && let Some((_, retry)) = place.and_then(|place| self.counts.get_mut(place))
        {
            *retry = retry.saturating_sub(1);
        }
    }

    /// One retry in as many tenths of a second as the fleet has workers.
    fn rare(&mut self, workers: u32, now: Timestamp) -> Result<(), u64> {
        let every_ms = u64::from(workers).saturating_mul(1_000) / u64::from(FLEET_PER_SECOND);
        let since = *self.own_at.get_or_insert(now);
        match every_ms.saturating_sub(now.ms_since(since)) {
            0 => {
                self.own_at = Some(now);
                Ok(())
            }
            left_ms => Err(left_ms),
        }
    }

    /// The count of this second; those that are older than the window are forgotten.
    fn current(&mut self, now: Timestamp) -> Option<&mut (u32, u32)> {
        let second = now.as_s();
        let passed = second.saturating_sub(self.second).clamp(0, SECONDS as i64);
        for back in 0..passed {
            let place = second.saturating_sub(back).rem_euclid(SECONDS as i64);
            if let Some(count) = self.counts.get_mut(usize::try_from(place).ok()?) {
                *count = (0, 0);
            }
        }
        self.second = self.second.max(second);
        self.counts.get_mut(usize::try_from(self.second.rem_euclid(SECONDS as i64)).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(1_795_000_000_000 + ms)
    }

    /// How many of `asked` retries at one moment are allowed after so many first attempts.
    fn allowed(firsts: u32, workers: u32, asked: u32) -> u32 {
        let mut budget = RetryBudget::default();
        (0..firsts).for_each(|_| budget.first(at(0)));
        (0..asked).map(|_| u32::from(budget.retry(workers, at(0)).is_ok())).sum()
    }

    #[test]
    fn retries_are_a_fifth_of_first_attempts_and_a_part_of_ten_a_second() {
        assert_eq!(allowed(1_000, 10, 1_000), 200 + 10);
        assert_eq!(allowed(0, 1, 1_000), 100);
        assert_eq!(allowed(0, 100, 1_000), 1, "every worker of a hundred has one");
    }

    #[test]
    fn a_thousand_workers_have_ten_retries_a_second_together() {
        let mut workers: Vec<_> = (0..1_000).map(|_| RetryBudget::default()).collect();
        let mut retries = 0;
        for second in 0..1_000 {
            retries += workers
                .iter_mut()
                .map(|budget| u32::from(budget.retry(1_000, at(second * 1_000)).is_ok()))
                .sum::<u32>();
        }
        assert!((8_000..=10_000).contains(&retries), "{retries} in 1,000 s");
    }

    #[test]
    fn the_budget_comes_back_within_ten_seconds() {
        let mut budget = RetryBudget::default();
        while budget.retry(100, at(0)).is_ok() {}
        let wait_ms = budget.retry(100, at(250)).unwrap_err();
        assert_eq!(wait_ms, 750);
        assert!(budget.retry(100, at(9_999)).is_err());
        assert!(budget.retry(100, at(10_000)).is_ok());
    }

    #[test]
    fn a_retry_that_is_not_made_is_not_counted() {
        let mut budget = RetryBudget::default();
        while budget.retry(100, at(0)).is_ok() {}
        budget.give_back(at(0));
        assert!(budget.retry(100, at(5_000)).is_ok() && budget.retry(100, at(5_000)).is_err());
        assert!(budget.retry(100, at(14_000)).is_err());
        budget.give_back(at(0));
        assert!(budget.retry(100, at(14_000)).is_err(), "it was forgotten already");
    }

    #[test]
    fn a_clock_that_goes_back_forgets_nothing() {
        let mut budget = RetryBudget::default();
        while budget.retry(100, at(5_000)).is_ok() {}
        assert!(budget.retry(100, at(0)).is_err());
        assert!(budget.retry(100, at(5_000)).is_err());
    }
}
