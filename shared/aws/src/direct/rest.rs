//! How long no request is sent without the SDK after one failed. Pure.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The failures since the last success, and until when no request is sent.
#[derive(Debug, Default)]
pub(super) struct Rest(Option<(Duration, Instant)>);

impl Rest {
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.0.is_some_and(|(_, until)| now < until)
    }

    /// A success within a rest is that of a request that was sent before, and ends nothing.
    pub(super) fn succeeded(&mut self, now: Instant) {
        if !self.rests(now) {
            self.0 = None;
        }
    }

    /// Each failure after a rest doubles it. Those within one are of requests that were sent before. The rest lasts beyond the pause before the
    /// request is repeated.
    pub(super) fn failed(&mut self, now: Instant, pause: Duration) {
        let length = match self.0 {
            None => FIRST,
            Some((_, until)) if now < until => return,
            Some((length, _)) => length.saturating_mul(2).min(LONGEST),
        };
        self.0 = Some((length, now + pause + length));
    }

    /// Answers cannot be read: nothing says that the next ones can.
    pub(super) fn unreadable(&mut self, now: Instant) {
        self.0 = Some((LONGEST, now + LONGEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_a_minute_and_end_with_a_success() {
        let (mut rest, start) = (Rest::default(), Instant::now());
        assert!(!rest.rests(start));
        let mut now = start;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = Duration::from_millis(700);
            rest.failed(now, pause);
            // Requests that were under way when the first one failed.
            rest.failed(now, Duration::ZERO);
            let end = now + pause + Duration::from_secs(seconds);
            assert!(rest.rests(end.checked_sub(Duration::from_millis(1)).unwrap()) && !rest.rests(end));
            now = end;
        }
        rest.succeeded(now);
        rest.failed(now, Duration::ZERO);
        rest.succeeded(now);
        assert!(rest.rests(now) && !rest.rests(now + FIRST), "a success within a rest does not end it");
    }
}
