//! How soon a worker writes to a limit's row again, where other workers write to it too.
//!
//! Of several workers that have read the same row, one stores its change and the others have lost a write. Whoever lost pauses, so that they do
//! not meet again at once; each later write is for more calls. While others write, the row is read right before it is written: a write on a
//! row that is known from earlier would be lost, and costs more than a read.

use std::time::Duration;

use tokio::time::Instant;

/// By so much a pause grows with a lost write, in percent, and so much more at random: else those that met once meet again.
const GROWTH: u32 = 40;
const SPREAD: u32 = 60;
/// A pause below this is none.
const NO_PAUSE: Duration = Duration::from_millis(1);

/// The pauses of one worker between two writes to one row.
#[derive(Debug)]
pub(super) struct WritePace {
    /// The shortest pause, and the longest. It grows with a write that others were faster than, and else shrinks.
    bounds: (Duration, Duration),
    /// How much a pause grows at least.
    step: Duration,
    /// How much longer than the shortest it is.
    slower: Duration,
    written_at: Option<Instant>,
    others_write: bool,
}

impl WritePace {
    /// Pauses of that length.
    pub(super) const fn new(shortest: Duration, longest: Duration, step: Duration) -> Self {
        Self {
            bounds: (shortest, longest),
            step,
            slower: Duration::ZERO,
            written_at: None,
            others_write: false,
        }
    }

    /// When the next write is due; none where it is due now.
    pub(super) fn due(&self) -> Option<Instant> {
        let pause = self.bounds.0 + self.slower;
        let due = self.written_at? + pause;
        (pause >= NO_PAUSE && due > Instant::now()).then_some(due)
    }

    /// Whether the row is read before it is written.
    pub(super) const fn reads_first(&self) -> bool {
        self.others_write
    }

    /// Learns of a write that began then: whether others were faster, and whether they have written since the last one.
    pub(super) fn written(&mut self, begun: Instant, lost: bool, others_write: bool) {
        self.written_at = Some(begun);
        self.others_write = others_write || lost;
        self.slower = self.after(lost, fastrand::u32(0..SPREAD));
    }

    /// Learns of a write that began then, and failed.
    pub(super) const fn failed(&mut self, begun: Instant) {
        self.written_at = Some(begun);
    }

    fn after(&self, lost: bool, spread: u32) -> Duration {
        if !lost {
            return self.slower * 4 / 5;
        }
        let longer = (self.slower + self.step) * (100 + GROWTH + spread) / 100;
        longer.min(self.bounds.1.saturating_sub(self.bounds.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn writes_that_others_win_become_fewer_and_recover() {
        let mut pace = WritePace::new(100 * MS, 2_000 * MS, 50 * MS);
        for _ in 0..20 {
            pace.slower = pace.after(true, 0);
        }
        assert_eq!(pace.slower, 1_900 * MS);
        for _ in 0..30 {
            pace.slower = pace.after(false, 9);
        }
        assert!(pace.slower < 3 * MS, "{pace:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_others_write_is_read_first_until_they_stop() {
        let mut pace = WritePace::new(Duration::ZERO, 500 * MS, 10 * MS);
        let now = Instant::now();
        assert!(!pace.reads_first() && pace.due().is_none());
        pace.written(now, true, false);
        assert!(pace.reads_first() && pace.due().is_some());
        pace.written(now, false, true);
        assert!(pace.reads_first());
        pace.written(now, false, false);
        assert!(!pace.reads_first());
        for _ in 0..20 {
            pace.written(now, false, false);
        }
        assert_eq!(pace.due(), None, "alone it writes at once");
    }
}
