//! The clock of the endpoints: the system's, or one that a test sets and advances.
//!
//! **Invariant:** this is the only file of the crate that reads the system's time.

use std::future::Future;
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::watch;

/// Where the endpoints take the time from. Clones share one time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(watch::Sender<u64>),
}

impl Clock {
    /// The time of the machine.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A time that stands at `start_ms` (milliseconds since 1970) until [`Clock::advance_ms`] moves it.
    ///
    /// Visibility timeouts, delays, retention and the wait of a long poll follow it. A long poll also ends after its
    /// real wait, so that a forgotten `advance_ms` makes a test slow instead of endless.
    #[must_use]
    pub fn manual(start_ms: u64) -> Self {
        Self(Source::Manual(watch::Sender::new(start_ms)))
    }

    /// Advances a manual clock and wakes its waiters. It has no effect on the system's clock.
    pub fn advance_ms(&self, by_ms: u64) {
        match &self.0 {
            Source::System => {}
            Source::Manual(now) => now.send_modify(|now_ms| *now_ms = now_ms.saturating_add(by_ms)),
        }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::System => system_now_ms(),
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Ends when this clock shows `at_ms` or later.
    pub(crate) fn sleep_until(&self, at_ms: u64) -> impl Future<Output = ()> + Send + 'static {
        let source = self.0.clone();
        async move {
            match source {
                Source::System => {
                    let wait_ms = at_ms.saturating_sub(system_now_ms());
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
                Source::Manual(now) => {
                    // The sender lives in `now` itself, so the channel cannot close while this waits.
                    let mut shown = now.subscribe();
                    let _closed = shown.wait_for(|now_ms| *now_ms >= at_ms).await.is_err();
                }
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place where the endpoints read the time")]
fn system_now_ms() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
