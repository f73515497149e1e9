//! How soon a worker writes to a limit's row again, where other workers write to it too.
//!
//! Of several workers that have read the same row, one stores its change and the others have lost a write. A worker that lost writes more
//! rarely, and each of its writes is for more calls. While others write, it reads the row first: a write on a row that is known from
//! earlier would be lost, and costs more than a read.

use std::time::Duration;

use tokio::time::Instant;

/// So many rounds one write has. After that its calls wait for the next.
pub(super) const ROUNDS: u32 = 4;
/// By how much the time to the next write differs at random, in percent: else those that met once meet again.
const SPREAD: u32 = 25;
/// A pause below this is none.
const NO_PAUSE: Duration = Duration::from_millis(1);

/// The pauses of one worker between two writes to one row.
#[derive(Debug)]
pub(super) struct WritePace {
    /// The shortest pause, and the longest. It doubles with a write that others were faster than, and else shrinks.
    bounds: (Duration, Duration),
    /// How much a pause grows at least, before it doubles.
    step: Duration,
    /// How much longer than the shortest it is.
    slower: Duration,
    written_at: Option<Instant>,
    others_write: bool,
}

impl WritePace {
    /// Pauses of that length.
    pub(super) const fn new(shortest: Duration, longest: Duration, step: Duration) -> Self {
        Self { bounds: (shortest, longest), step, slower: Duration::ZERO, written_at: None, others_write: false }
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

    /// Learns of a write that began then: how many of its rounds others won, and whether they have written since the last one.
    pub(super) fn written(&mut self, begun: Instant, lost: u32, others_write: bool) {
        self.written_at = Some(begun);
        self.others_write = others_write || lost > 0;
        self.slower = self.after(lost, fastrand::u32(0..SPREAD));
    }

    /// Learns of a write that began then, and failed.
    pub(super) const fn failed(&mut self, begun: Instant) {
        self.written_at = Some(begun);
    }

    fn after(&self, lost: u32, spread: u32) -> Duration {
        if lost == 0 {
            return self.slower * 4 / 5;
        }
        let longer = (self.slower + self.step) * (100 + lost * SPREAD + spread) / 100;
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
            pace.slower = pace.after(4, 0);
        }
        assert_eq!(pace.slower, 1_900 * MS);
        for _ in 0..30 {
            pace.slower = pace.after(0, 9);
        }
        assert!(pace.slower < 3 * MS, "{pace:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_others_write_is_read_first_until_they_stop() {
        let mut pace = WritePace::new(Duration::ZERO, 500 * MS, 10 * MS);
        let now = Instant::now();
        assert!(!pace.reads_first() && pace.due().is_none());
        pace.written(now, 1, false);
        assert!(pace.reads_first() && pace.due().is_some());
        pace.written(now, 0, true);
        assert!(pace.reads_first());
        pace.written(now, 0, false);
        assert!(!pace.reads_first());
        for _ in 0..20 {
            pace.written(now, 0, false);
        }
        assert_eq!(pace.due(), None, "alone it writes at once");
    }
}
