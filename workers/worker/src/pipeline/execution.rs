//! The state of one execution, and how it ends where something outside the attempts ends it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use toolfleet_core::execution::{self, Stop};
use toolfleet_core::group::{GroupResult, ended_by_decision};
use toolfleet_core::outcome::Outcome;
use toolfleet_core::request::GroupKey;
use toolfleet_core::time::Timestamp;

use super::disposition::RequeueReason;
use super::task::Task;
use super::wait::Wait;

/// What an execution came to.
#[derive(Debug)]
pub(super) enum Executed {
    /// The call has ended.
    Finished(Outcome),
    /// The message goes back to its queue.
    Requeue { after_ms: u64, reason: RequeueReason },
    /// The same, for a reason that its caller can read in the row.
    Held(Wait),
    /// The server works on the call as a task, which is to be polled after that many milliseconds.
    Parked { task: Task, after_ms: u64, poll_failed: bool },
}

/// No request is under way.
const IDLE: u8 = 0;
/// A request is under way.
const UNDER_WAY: u8 = 1;
/// The execution has ended, and no request may begin.
const CLOSED: u8 = 2;

/// What the attempts have done so far. It outlives them, also where they are stopped in the middle.
pub(super) struct ExecutionState {
    /// Attempts made, earlier claims included.
    attempts: AtomicU32,
    /// Whether an attempt may have had an effect.
    pub(super) may_have_executed: AtomicBool,
    /// Whether a request is under way, or may begin.
    request: AtomicU8,
    /// The batch that the call was sent in last.
    batch: Mutex<Option<String>>,
    /// Whether the lease is no longer sure.
    pub(super) lease_lost: AtomicBool,
    /// Whether the task that the claim found has ended or is unknown.
    pub(super) task_over: AtomicBool,
    /// Whether the answer has arrived: it is being packed for its row, or the call's permits pass to the task that it names.
    pub(super) answered: AtomicBool,
    /// Whether the caller has cancelled the call, or its lease is over, while its answer was being stored: then it does not
    /// wait for the bucket.
    pub(super) hurried: AtomicBool,
    /// When the call was claimed first.
    pub(super) started_at: Timestamp,
}

impl ExecutionState {
    pub(super) fn new(attempts: u32, may_have_executed: bool, started_at: Timestamp) -> Self {
        Self {
            attempts: AtomicU32::new(attempts),
            may_have_executed: AtomicBool::new(may_have_executed),
            request: AtomicU8::new(IDLE),
            batch: Mutex::default(),
            lease_lost: AtomicBool::new(false),
            task_over: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            started_at,
        }
    }

    pub(super) fn may_have_run(&self) -> bool {
        self.may_have_executed.load(Ordering::Acquire) || self.is_sending()
    }

    /// A request begins, unless the execution has ended.
    pub(super) fn begin_request(&self) -> bool {
        self.pass(IDLE, UNDER_WAY)
    }

    /// The request under way has ended, if there was one.
    pub(super) fn end_request(&self) -> bool {
        self.pass(UNDER_WAY, IDLE)
    }

    /// An attempt in that batch begins, unless the execution has ended.
    pub(super) fn begin_in_batch(&self, id: &str) -> bool {
        let may_begin = !self.lease_lost.load(Ordering::Acquire) && self.begin_request();
        if may_begin {
            self.count_attempt();
            *self.batch.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.to_owned());
        }
        may_begin
    }

    /// The batch that the call was sent in last.
    pub(super) fn take_batch(&self) -> Option<String> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Counts an attempt, and gives its number.
    pub(super) fn count_attempt(&self) -> u32 {
        self.attempts.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    /// The last attempt does not count.
    pub(super) fn uncount_attempt(&self) {
        self.attempts.fetch_sub(1, Ordering::AcqRel);
    }

    /// No request begins any more: a batch that the call waits in goes without it, or the call is in it.
    fn close(&self) {
        self.pass(IDLE, CLOSED);
    }

    fn is_sending(&self) -> bool {
        self.request.load(Ordering::Acquire) == UNDER_WAY
    }

    fn pass(&self, from: u8, to: u8) -> bool {
        self.request.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub(super) fn has_answer(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Acquire)
    }

    /// The call may have had an effect from now on.
    pub(super) fn mark_executed(&self) {
        self.may_have_executed.store(true, Ordering::Release);
    }

    /// A request that is given up while it is under way may have had an effect.
    fn give_up_request(&self) {
        if self.is_sending() {
            self.mark_executed();
        }
    }

    /// The end of a call that its caller has cancelled.
    pub(super) fn cancelled(&self) -> Outcome {
        self.close();
        execution::cancelled(self.may_have_run())
    }

    /// The end of a call that an operator's rule has cancelled.
    pub(super) fn cancelled_by_operator(&self, rule: &str) -> Outcome {
        self.close();
        execution::cancelled_by_operator(rule, self.may_have_run())
    }

    /// The end of a call whose group was decided.
    pub(super) fn ended_by_group(&self, group: &GroupKey, result: GroupResult) -> Outcome {
        self.close();
        ended_by_decision(group, result, self.may_have_run())
    }

    /// The end of a call whose deadline has passed.
    pub(super) fn out_of_time(&self) -> Outcome {
        self.close();
        execution::out_of_time(self.may_have_run())
    }

    /// The end of a call whose attempts are used up.
    pub(super) fn worn_out(&self, max_attempts: u32) -> Outcome {
        execution::worn_out(max_attempts, self.may_have_run())
    }

    /// What happens to a call whose worker must stop.
    pub(super) fn stopped_with_worker(&self, repeatable: bool, task: Option<&Task>) -> Executed {
        self.close();
        let task = task.filter(|_| !self.task_over.load(Ordering::Acquire));
        let stop = execution::stopped_with_worker(repeatable, task.is_some(), self.may_have_run());
        match (stop, task) {
            (Stop::LeaveTask, Some(task)) => {
                self.give_up_request();
                Executed::Parked { task: task.clone(), after_ms: 0, poll_failed: false }
            }
            (Stop::LeaveTask, None) | (Stop::Requeue, _) => {
                self.give_up_request();
                Executed::Requeue { after_ms: 0, reason: RequeueReason::Draining }
            }
            (Stop::End(outcome), _) => Executed::Finished(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_core::ids::{GroupId, Tenant};
    use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};

    use super::*;

    fn state(may_have_executed: bool, sending: bool) -> ExecutionState {
        let state = ExecutionState::new(1, may_have_executed, Timestamp::from_ms(0));
        assert!(!sending || state.begin_request());
        state
    }

    #[test]
    fn a_worker_that_stops_requeues_what_is_safe_and_ends_the_rest() {
        let stop = |repeatable, sending| state(false, sending).stopped_with_worker(repeatable, None);
        for (repeatable, sending) in [(true, true), (true, false), (false, false)] {
            let executed = stop(repeatable, sending);
            assert!(
                matches!(executed, Executed::Requeue { after_ms: 0, reason: RequeueReason::Draining }),
                "{executed:?}"
            );
        }
        let Executed::Finished(outcome) = stop(false, true) else { panic!("it may have run") };
        assert_eq!(outcome.kind, OutcomeKind::OutcomeUnknown);
    }

    #[test]
    fn a_worker_that_stops_leaves_a_task_to_the_next_poll() {
        let task = Task { handle: "t".to_owned(), input_pending: true };
        let state = state(false, true);
        let executed = state.stopped_with_worker(false, Some(&task));
        assert!(matches!(executed, Executed::Parked { after_ms: 0, poll_failed: false, .. }), "{executed:?}");
        assert!(state.may_have_run(), "the answers that were under way may have been accepted");
        state.task_over.store(true, Ordering::Release);
        assert!(matches!(state.stopped_with_worker(false, Some(&task)), Executed::Finished(_)));
    }

    fn group() -> GroupKey {
        GroupKey { tenant: Tenant::parse("acme").unwrap(), id: GroupId::parse("g").unwrap(), round: 1 }
    }

    /// Every outcome by which something outside the attempts ends an execution.
    const ENDS: [fn(&ExecutionState) -> Outcome; 4] = [
        ExecutionState::cancelled,
        |state| state.cancelled_by_operator("a rule"),
        |state| state.ended_by_group(&group(), GroupResult::Cancelled),
        ExecutionState::out_of_time,
    ];

    #[test]
    fn a_call_that_has_ended_is_not_sent_in_a_batch() {
        for end in ENDS {
            let ended = state(false, false);
            assert!(end(&ended).error.is_some_and(|why| why.may_have_run == MayHaveRun::No));
            assert!(!ended.begin_in_batch("c1#1"));
            assert_eq!((ended.attempts(), ended.take_batch()), (1, None));
            let sent = state(false, false);
            assert!(sent.begin_in_batch("c1#1"));
            assert!(end(&sent).error.is_some_and(|why| why.may_have_run == MayHaveRun::Unknown));
            assert_eq!((sent.attempts(), sent.take_batch().as_deref()), (2, Some("c1#1")));
        }
    }
}
