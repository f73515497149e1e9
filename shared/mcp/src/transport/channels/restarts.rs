//! The back-off before a program that ended too early is started again: the pause doubles up to a limit.
//!
//! **Invariant:** a program that ran for a while, or has never failed, is started without a pause.

use std::time::Duration;
use tokio::time::Instant;

/// The pause after the first failure, and the longest one.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// How the last starts of one tenant's programs went, since one was up for a while.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    failures: u32,
    not_before: Option<Instant>,
    /// What the last failure said.
    why: String,
}

impl Restarts {
    /// It could not be started, or ended at once, for that reason.
    pub(crate) fn failed(&mut self, why: String) {
        self.why = why;
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Instant::now().checked_add(FIRST.saturating_mul(doubled).min(LONGEST));
    }

    /// The pause that is left.
    pub(crate) fn pause(&self) -> Duration {
        self.not_before.map(|at| at.saturating_duration_since(Instant::now())).unwrap_or_default()
    }

    /// How often in a row it failed, and why it did so last.
    pub(crate) fn failures(&self) -> (u32, &str) {
        (self.failures, &self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pause_doubles_up_to_its_bound_and_passes() {
        let mut restarts = Restarts::default();
        let mut pauses = Vec::new();
        for _ in 0..40 {
            restarts.failed("no licence".to_owned());
            pauses.push(restarts.pause().as_millis());
        }
        assert_eq!(pauses[..4], [250, 500, 1000, 2000]);
        assert_eq!(pauses[39], 30_000);
        tokio::time::advance(LONGEST).await;
        assert_eq!((restarts.pause(), restarts.failures()), (Duration::ZERO, (40, "no licence")));
    }
}
