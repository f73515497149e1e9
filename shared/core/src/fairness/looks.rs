//! How often a worker that is full of one tenant's calls looks for calls of others.
//!
//! A queue with a backlog of one tenant hands out that tenant's messages when no other waits. So the only way to find a call of another
//! tenant is to receive, and each receive that finds none brings a call that has to go back. The budget allows half as many of those as
//! calls start. Receives that fill the place of a call that has ended cost nothing of it. The looks come when no receive has come for a
//! while, because that finds others' calls soonest. The budget may be in debt for a while: calls start at random times, and a look that waits
//! for the next start may come late.

/// The longest time between two looks, in milliseconds: where calls last very long, it is what the budget allows at least.
pub const LONGEST_LOOK_GAP_MS: u64 = 500;
/// A look comes when nothing was received for this part of the mean time between two starts, while the budget is not in debt. That spreads
/// receives for all starts, and for a third as many calls that go back, evenly; the rest of the budget is for times without starts. In debt
/// the time grows to the mean itself.
const GAP: f64 = 0.75;
/// The weight of a new start in the mean time between starts.
const NEW: f64 = 0.05;
/// For how long after a call found no slot the worker counts as full, in milliseconds.
const FULL_MS: u64 = 1_500;

/// The budget of looks of a worker. Times are milliseconds of a clock that does not go back.
#[derive(Debug)]
pub struct LookBudget {
    /// In halves of a look; below zero in debt.
    halves: i64,
    /// The most that it saves, and the most that it owes.
    most_halves: i64,
    mean_gap_ms: f64,
    last_start_ms: Option<u64>,
    last_receive_ms: u64,
    full_at_ms: Option<u64>,
    /// The last look found a call that started at once.
    found: bool,
}

/// Room for calls of the tenant that fills a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Seats that they could have at once.
    pub seats: usize,
    /// Calls that may wait for one.
    pub in_line: usize,
}

impl LookBudget {
    /// An empty budget that saves, or owes, up to `most` looks.
    pub fn new(most: u32) -> Self {
        Self {
            halves: 0,
            most_halves: i64::from(most.max(1)) * 2,
            mean_gap_ms: 0.0,
            last_start_ms: None,
            last_receive_ms: 0,
            full_at_ms: None,
            found: false,
        }
    }

    /// A call has started. `at_once` says that it found its slot free.
    pub fn started(&mut self, at_once: bool, now_ms: u64) {
        self.halves = self.halves.saturating_add(1).min(self.most_halves);
        if let Some(last_ms) = self.last_start_ms {
            #[expect(clippy::cast_precision_loss, reason = "a time between two starts is small")]
            let gap_ms = now_ms.saturating_sub(last_ms).min(60_000) as f64;
            self.mean_gap_ms += (gap_ms - self.mean_gap_ms) * NEW;
        }
        self.last_start_ms = Some(now_ms);
        self.found |= at_once;
    }

    /// A call found no slot, because its tenant has its share.
    pub const fn full(&mut self, now_ms: u64) {
        self.full_at_ms = Some(now_ms);
        self.found = false;
    }

    /// A call goes back to its queue for that reason.
    pub const fn went_back(&mut self) {
        self.halves = self.halves.saturating_sub(2);
    }

    /// A receive has returned that many messages.
    pub const fn received(&mut self, count: usize) {
        if count == 0 {
            // The queue has no backlog, so the next message is handed out as soon as it comes.
            self.full_at_ms = None;
        }
    }

    /// Whether the worker was lately found full of one tenant's calls.
    pub fn is_full(&self, now_ms: u64) -> bool {
        self.full_at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < FULL_MS)
    }

    /// How many messages to receive now, of `wanted`, when so many calls of the tenant that fills the worker could have a seat at once, and
    /// so many more could wait for one. An error is the time at which to ask again.
    ///
    /// # Errors
    /// No receive is due before that time. A call that ends may allow one earlier.
    pub fn receive(&mut self, wanted: usize, room: Room, now_ms: u64) -> Result<usize, u64> {
        if !self.is_full(now_ms) {
            self.last_receive_ms = now_ms;
            return Ok(wanted);
        }
        let affordable = self.halves >= 2 - self.most_halves;
        let due_ms = self.last_receive_ms.saturating_add(self.gap_ms());
        let latest_ms = self.last_receive_ms.saturating_add(LONGEST_LOOK_GAP_MS);
        let may_look = affordable || room.in_line > 0;
        let looks = (may_look && now_ms >= due_ms) || (affordable && self.found) || now_ms >= latest_ms;
        let count = room.seats.saturating_add(usize::from(looks)).min(wanted);
        if count == 0 {
            return Err(if may_look { due_ms.min(latest_ms) } else { latest_ms });
        }
        self.last_receive_ms = now_ms;
        self.found = false;
        Ok(count)
    }

    /// The mean number of starts in a span of milliseconds.
    pub fn starts_within(&self, span_ms: f64) -> f64 {
        if self.mean_gap_ms > 0.0 { span_ms / self.mean_gap_ms } else { 0.0 }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a gap is positive and at most a minute, and a budget is small"
    )]
    fn gap_ms(&self) -> u64 {
        let debt = (self.halves.min(0) as f64 / self.most_halves as f64).abs().min(1.0);
        let part = (1.0 - GAP).mul_add(debt, GAP);
        ((part * self.mean_gap_ms).ceil() as u64).clamp(1, LONGEST_LOOK_GAP_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(seats: usize) -> Room {
        Room { seats, in_line: 0 }
    }

    #[test]
    fn a_worker_that_is_not_full_receives_without_a_pause() {
        let mut looks = LookBudget::new(8);
        for now_ms in 0..10 {
            assert_eq!(looks.receive(10, room(0), now_ms), Ok(10));
        }
        looks.full(10);
        assert_eq!(looks.receive(10, room(0), 11), Ok(1), "a look");
        looks.full(11);
        (0..8).for_each(|_| looks.went_back());
        assert!(looks.receive(10, room(0), 12).is_err());
        looks.received(0);
        assert_eq!(looks.receive(10, room(0), 13), Ok(10), "an empty queue has no backlog");
        looks.full(13);
        assert_eq!(looks.receive(10, room(0), 13 + FULL_MS), Ok(10));
    }

    #[test]
    fn at_most_half_as_many_calls_go_back_as_start() {
        let mut looks = LookBudget::new(32);
        let (mut starts, mut back) = (0, 0);
        // A call ends and another starts every 10 ms; every look finds a call that has to go back.
        for now_ms in 0..20_000 {
            looks.full(now_ms);
            if now_ms % 10 == 0 {
                assert!(
                    looks.receive(10, room(1), now_ms).is_ok_and(|count| count >= 1),
                    "a free place is filled at once"
                );
                looks.started(false, now_ms);
                starts += 1;
            }
            if let Ok(count) = looks.receive(10, room(0), now_ms) {
                back += count;
                (0..count).for_each(|_| looks.went_back());
            }
        }
        assert!(back * 2 <= starts + 2 * 32 + 4, "{back} of {starts}");
    }

    #[test]
    fn a_call_that_may_wait_in_line_costs_nothing_of_the_budget() {
        let mut looks = LookBudget::new(1);
        looks.went_back();
        looks.full(100);
        assert_eq!(looks.receive(10, room(0), 101), Err(LONGEST_LOOK_GAP_MS), "it owes all that it may");
        assert_eq!(looks.receive(10, Room { seats: 0, in_line: 1 }, 101), Ok(1));
    }

    #[test]
    fn where_calls_last_very_long_a_look_comes_twice_a_second() {
        let mut looks = LookBudget::new(8);
        let mut at = Vec::new();
        for now_ms in 0..5_000 {
            looks.full(now_ms);
            if looks.receive(10, room(0), now_ms) == Ok(1) {
                looks.went_back();
                at.push(now_ms);
            }
        }
        // The budget of eight is spent at once.
        let late = &at[8..];
        assert!(
            late.len() >= 9 && late.windows(2).all(|two| two[1] - two[0] == LONGEST_LOOK_GAP_MS),
            "{at:?}"
        );
    }

    #[test]
    fn a_look_that_finds_a_call_is_followed_by_another_at_once() {
        let mut looks = LookBudget::new(8);
        for now_ms in 0..20 {
            looks.started(false, now_ms * 100);
        }
        looks.full(2_000);
        assert_eq!(looks.receive(10, room(0), 2_150), Ok(1));
        assert!(looks.receive(10, room(0), 2_151).is_err(), "nothing is known of that look yet");
        looks.started(true, 2_152);
        assert_eq!(looks.receive(10, room(0), 2_152), Ok(1));
        looks.full(2_153);
        looks.went_back();
        assert!(looks.receive(10, room(0), 2_154).is_err(), "that one found none");
    }
}
