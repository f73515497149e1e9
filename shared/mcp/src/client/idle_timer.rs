//! The idle time-out of an attempt: it is reset by each progress notification.
//!
//! **Invariant:** an attempt never lasts beyond its deadline.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use toolfleet_core::progress::ProgressNote;

/// When progress was heard last.
#[derive(Debug)]
pub(crate) struct Heard {
    begun: Instant,
    after_ms: AtomicU64,
}

impl Heard {
    /// Counts from now.
    pub(crate) fn now() -> Self {
        Self { begun: Instant::now(), after_ms: AtomicU64::new(0) }
    }

    /// Progress is a sign of life; a log line is none.
    pub(crate) fn hear(&self, note: &ProgressNote) {
        match note {
            ProgressNote::Progress(_) => {
                let after_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.after_ms.store(after_ms, Ordering::Release);
            }
            ProgressNote::Log(_) => {}
        }
    }

    /// Ends when nothing was heard for so long, at the latest at the deadline.
    pub(crate) async fn silence(&self, patience: Duration, deadline: Instant) {
        loop {
            let last = self.begun + Duration::from_millis(self.after_ms.load(Ordering::Acquire));
            let until = last.checked_add(patience).unwrap_or(deadline).min(deadline);
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_core::progress::{Amount, LogLine, Progress};

    use super::*;

    async fn lasts(hears: impl Fn(u64) -> Option<ProgressNote>) -> Duration {
        let (begun, heard) = (Instant::now(), Heard::now());
        let telling = async {
            for second in 1.. {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if let Some(note) = hears(second) {
                    heard.hear(&note);
                }
            }
        };
        tokio::select! {
            () = heard.silence(Duration::from_secs(3), begun + Duration::from_secs(20)) => begun.elapsed(),
            () = telling => unreachable!(),
        }
    }

    fn progress() -> Option<ProgressNote> {
        let progress = Amount::new(1.0).unwrap();
        Some(ProgressNote::Progress(Progress { progress, total: None, message: None }))
    }

    #[tokio::test(start_paused = true)]
    async fn progress_lengthens_an_attempt_and_never_the_deadline() {
        assert_eq!(lasts(|_| None).await, Duration::from_secs(3));
        assert_eq!(lasts(|second| (second <= 4).then(progress).flatten()).await, Duration::from_secs(7));
        assert_eq!(lasts(|_| progress()).await, Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_line_is_no_sign_of_progress() {
        let line = |_| Some(ProgressNote::Log(LogLine { level: "info".into(), text: "still here".into() }));
        assert_eq!(lasts(line).await, Duration::from_secs(3));
    }
}
