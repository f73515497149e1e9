//! What a call holds of its limits: the turns for its next request, and the permits until its answer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use toolfleet_core::failure::{Evidence, Failure, Reachability};
use toolfleet_core::ids::CallKey;
use toolfleet_core::limits::turn_book::LATE_US;
use toolfleet_core::limits::{ConcurrencyLimit, OnLoss};
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_core::time::Timestamp;

use crate::gate::{AdaptivePermit, HeldTurn, LimitPermit as Permit, Start};
use crate::telemetry::Meters;

/// How much longer than its attempt an entry of a concurrency limit counts, in milliseconds: for what lies between the two.
pub(super) const HOLD_MARGIN_MS: u64 = 2_000;

/// For so long a delivery waits until a change of the permits of a task is written: the task itself must be stored soon, so that no crash
/// forgets it.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3);

/// What a call holds of its limits. Dropped before its request is sent, the turns go back and the permits are released. Dropped while
/// the request is under way, the permits end by their own time: the server may go on working.
#[derive(Debug, Default)]
pub(super) struct Passes {
    /// The turns, all at about one time.
    pub(super) turns: Vec<HeldTurn>,
    /// The time of the first of them: the request may be a little later than each.
    first_due: Option<Instant>,
    /// The time of the last: no request is sent before its turn.
    pub(super) due: Option<Instant>,
    pub(super) adaptive: Option<AdaptivePermit>,
    permits: Vec<(Permit, ConcurrencyLimit)>,
    /// The attempt, as its server's retry budget counts it.
    start: Option<Start>,
}

impl Passes {
    /// The turns of a request that is to be sent at about their time.
    pub(super) fn of_turns(turns: Vec<HeldTurn>, now: Timestamp) -> Self {
        let due = Self::due_at(turns.iter().map(|turn| turn.turn.at_us), now);
        Self { turns, ..due }
    }

    /// The times of turns by the monotonic clock; now, where they have passed.
    fn due_at(at_us: impl Iterator<Item = i64> + Clone, now: Timestamp) -> Self {
        let now_us = now.as_ms().saturating_mul(1_000);
        let due = |at_us: i64| {
            Instant::now() + Duration::from_micros(at_us.saturating_sub(now_us).max(0).unsigned_abs())
        };
        let (first, last) = (at_us.clone().min(), at_us.max());
        Self { first_due: first.map(due), due: last.map(due), ..Self::default() }
    }

    /// Whether the request may still be sent now: it is not too late for the first of its turns.
    pub(super) fn are_in_time(&self) -> bool {
        let late = self.first_due.map(|due| Instant::now().saturating_duration_since(due));
        late.is_none_or(|late| late <= Duration::from_micros(LATE_US.unsigned_abs()))
    }

    /// Polls the request for the first time, which writes it where its connection is open. It also says whether the request is too late for its
    /// turns: the worker was frozen after the last look at the clock.
    async fn begin<T>(&self, mut request: Pin<&mut impl Future<Output = T>>) -> (Poll<T>, bool) {
        poll_fn(|context| Poll::Ready((request.as_mut().poll(context), !self.are_in_time()))).await
    }

    pub(super) fn add_permit(&mut self, permit: Permit, limit: ConcurrencyLimit) {
        self.permits.push((permit, limit));
    }

    /// Whether the permits were taken so lately that they count for a whole attempt that begins now: not before a freeze or a slow claim.
    pub(super) fn are_fresh(&self) -> bool {
        self.permits.iter().all(|(permit, _)| permit.is_fresh(Duration::from_millis(HOLD_MARGIN_MS)))
    }

    /// Releases all permits.
    pub(super) fn release(&mut self) {
        self.permits.clear();
        self.adaptive = None;
    }

    /// Its turns alone, if there are any.
    pub(super) fn take_turns(&mut self) -> Option<Self> {
        let turns = std::mem::take(&mut self.turns);
        (!turns.is_empty()).then(|| Self {
            turns,
            first_due: self.first_due.take(),
            due: self.due.take(),
            ..Self::default()
        })
    }

    /// A request of that call is sent at its turns now.
    pub(super) fn use_turns(&mut self, call: &CallKey) {
        for turn in self.turns.drain(..) {
            // The load test compares these times with those at the server.
            tracing::debug!(call = %call.call_id, limit = %turn.limit(), turn_us = turn.turn.at_us, "a request is sent at its turn");
            let _used = turn.keep();
        }
    }

    /// They are for that attempt.
    pub(super) fn that_start(self, start: Start) -> Self {
        Self { start: Some(start), ..self }
    }

    /// The attempt begins now.
    pub(super) fn sent(&mut self, now: Timestamp) {
        if let Some(start) = &mut self.start {
            start.made(now);
        }
        for (permit, _) in &mut self.permits {
            permit.sent();
        }
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.sent(now);
        }
    }

    /// Runs the request, and keeps its permits until the answer.
    ///
    /// A future that is an argument has room twice in its caller's: as the argument, and where it is polled. So the caller pins it.
    pub(super) async fn until_answered<T>(
        &self,
        mut request: Pin<&mut impl Future<Output = T>>,
        outlasts_attempt: bool,
        meters: &Meters,
    ) -> T {
        let (first, is_late) = self.begin(request.as_mut()).await;
        if is_late {
            meters.sent_late();
        }
        if let Poll::Ready(answer) = first {
            return answer;
        }
        tokio::select! {
            answer = request => answer,
            never = self.keep(outlasts_attempt) => match never {},
        }
    }

    /// Keeps the permits of a request under way: where it may outlast its attempt's time, and where a permit is free soon after its worker is
    /// lost.
    async fn keep(&self, outlasts_attempt: bool) -> Infallible {
        let renewed =
            |(_, limit): &&(Permit, ConcurrencyLimit)| outlasts_attempt || limit.on_loss == OnLoss::Free;
        let shortest_ms = self.permits.iter().filter(renewed).map(|(permit, _)| permit.hold_ms()).min();
        let Some(shortest_ms) = shortest_ms else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(Duration::from_millis(shortest_ms / 3)).await;
            for (permit, _) in self.permits.iter().filter(renewed) {
                permit.renew().await;
            }
        }
    }

    /// Learns how the request ended, and whether it was cut short: by its caller's deadline, or for want of a turn. Permits are released if the
    /// server is done with it.
    pub(super) fn record<T>(&mut self, ended: &Result<T, Failure>, cut_short: bool, now: Timestamp) {
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.record(ended, cut_short, now);
        }
        let done = ended.as_ref().err().is_none_or(is_done);
        if done {
            for (permit, _) in &mut self.permits {
                permit.answered();
            }
        }
    }

    /// The call has become a task of its server: in limits that count tasks, its permits pass to an entry of that name, so that another worker can
    /// keep or release them. They count for that lease, or as long as that of the request: where the worker is lost before it has stored the task,
    /// nobody knows of the task.
    pub(super) async fn becomes_task(self, name: &str, lease_ms: u64) {
        let counted = self.permits.into_iter().filter(|(_, limit)| limit.count_tasks);
        let _in_time = written(counted.map(|(permit, _)| permit.becomes(name.to_owned(), lease_ms))).await;
    }
}

/// Waits until these changes of permits are written. Whether they are: they go on being written.
pub(super) async fn written(changes: impl Iterator<Item = oneshot::Receiver<()>>) -> bool {
    timeout(WRITTEN_WITHIN, futures::future::join_all(changes)).await.is_ok()
}

/// Whether the server certainly does no more work for a request that failed so.
fn is_done(failure: &Failure) -> bool {
    let answered =
        failure.reachability == Reachability::Answered && !matches!(failure.evidence, Evidence::Nothing);
    answered || failure.may_have_run == MayHaveRun::No
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_with_several_turns_is_late_by_the_first_of_them() {
        let now = Timestamp::from_ms(1_000);
        let passes = Passes::due_at([1_012_000, 1_005_000].into_iter(), now);
        let begun = Instant::now();
        assert_eq!(passes.due, Some(begun + Duration::from_millis(12)), "it is sent at the last of them");
        tokio::time::advance(Duration::from_millis(25)).await;
        assert!(passes.are_in_time());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!passes.are_in_time(), "14 ms after the last turn, and 21 ms after the first");
        assert!(Passes::default().are_in_time(), "without turns there is no time");
    }

    /// The process stands still within the first poll: the clock goes on, and no other code runs.
    #[tokio::test]
    async fn a_request_that_a_freeze_makes_late_is_told() {
        let of_turn = |at_us| Passes::due_at([at_us].into_iter(), Timestamp::from_ms(1_000));
        let answered = pin!(std::future::ready(7));
        assert_eq!(of_turn(60_000_000).begin(answered).await, (Poll::Ready(7), false));
        let passes = of_turn(1_000_000);
        let frozen = async {
            while passes.are_in_time() {
                std::hint::spin_loop();
            }
            std::future::pending::<()>().await;
        };
        assert_eq!(passes.begin(pin!(frozen)).await, (Poll::Pending, true));
        assert!(!Passes::default().begin(pin!(async {})).await.1, "without turns nothing is late");
    }
}
