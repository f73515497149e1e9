//! The state of one execution, and how it ends where something outside the attempts ends it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
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

/// What the attempts have done so far. It outlives them, also where they are stopped in the middle.
pub(super) struct ExecutionState {
    /// Attempts made, earlier claims included.
    pub(super) attempts: AtomicU32,
    /// Whether an attempt may have had an effect.
    pub(super) may_have_executed: AtomicBool,
    /// Whether a request is under way.
    pub(super) sending: AtomicBool,
    /// Whether the lease is no longer sure.
    pub(super) lease_lost: AtomicBool,
    /// Whether the task that the claim found has ended or is unknown.
    pub(super) task_over: AtomicBool,
    /// Whether the answer has arrived and is being packed for its row.
    pub(super) answered: AtomicBool,
    /// Whether the caller has cancelled the call, or its lease is over, while its answer was being stored: then it does not
    /// wait for the bucket.
    pub(super) hurried: AtomicBool,
    /// When the call was claimed first.
    pub(super) started_at: Timestamp,
}

impl ExecutionState {
    pub(super) const fn new(attempts: u32, may_have_executed: bool, started_at: Timestamp) -> Self {
        Self {
            attempts: AtomicU32::new(attempts),
            may_have_executed: AtomicBool::new(may_have_executed),
            sending: AtomicBool::new(false),
            lease_lost: AtomicBool::new(false),
            task_over: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            started_at,
        }
    }

    pub(super) fn may_have_run(&self) -> bool {
        self.may_have_executed.load(Ordering::Acquire) || self.sending.load(Ordering::Acquire)
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
        if self.sending.load(Ordering::Acquire) {
            self.mark_executed();
        }
    }

    /// The end of a call that its caller has cancelled.
    pub(super) fn cancelled(&self) -> Outcome {
        let (ran, text) = if self.may_have_run() {
            (
                MayHaveRun::Unknown,
                "The caller cancelled this call while it ran; whether the tool had an effect is not known.",
            )
        } else {
            (MayHaveRun::No, "The caller cancelled this call before the tool was executed.")
        };
        Outcome::ended(OutcomeKind::Cancelled, CallError::new(Code::CancelledByCaller, text, ran))
    }

    /// The end of a call that an operator's rule has cancelled.
    pub(super) fn cancelled_by_operator(&self, rule: &str) -> Outcome {
        let (ran, text) = if self.may_have_run() {
            (MayHaveRun::Unknown, "while it ran; whether the tool had an effect is not known")
        } else {
            (MayHaveRun::No, "before the tool was executed")
        };
        by_operator(rule, text, ran)
    }

    /// The end of a call whose deadline has passed.
    pub(super) fn out_of_time(&self) -> Outcome {
        if self.may_have_run() {
            let text = "The deadline passed while the tool ran. Whether it had an effect is not known; check before you send it again.";
            let error = CallError::new(Code::DeadlineExceeded, text, MayHaveRun::Unknown);
            return Outcome::ended(OutcomeKind::TimedOut, error);
        }
        let text = "The deadline passed before the tool could be executed.";
        let error = CallError::new(Code::DeadlineExceeded, text, MayHaveRun::No).retryable(None);
        Outcome::ended(OutcomeKind::Expired, error)
    }

    /// The end of a call whose attempts are used up.
    pub(super) fn worn_out(&self, max_attempts: u32) -> Outcome {
        let ran = if self.may_have_run() { MayHaveRun::Unknown } else { MayHaveRun::No };
        let text =
            format!("All {max_attempts} attempts are used up; workers were lost while they ran the call.");
        Outcome::failed(CallError::new(Code::WorkerLost, text, ran).retryable(None))
    }

    /// What happens to a call whose worker must stop: a task is polled by another worker, a call that is safe to repeat is requeued, and
    /// any other ends now, so that its caller need not wait for the lease to learn that its effect is unknown.
    pub(super) fn stopped_with_worker(&self, repeatable: bool, task: Option<&Task>) -> Executed {
        if let Some(task) = task.filter(|_| !self.task_over.load(Ordering::Acquire)) {
            self.give_up_request();
            return Executed::Parked { task: task.clone(), after_ms: 0, poll_failed: false };
        }
        if repeatable || !self.may_have_run() {
            self.give_up_request();
            return Executed::Requeue { after_ms: 0, reason: RequeueReason::Draining };
        }
        let text = "The worker had to stop while the tool ran, and the tool is not safe to repeat. Check its effect before you send the call again under a new id.";
        let error = CallError::new(Code::WorkerLost, text, MayHaveRun::Unknown);
        Executed::Finished(Outcome::ended(OutcomeKind::OutcomeUnknown, error))
    }
}

/// The end of a call that an operator's rule has cancelled; `when` says what is known of its execution.
pub(super) fn by_operator(rule: &str, when: &str, ran: MayHaveRun) -> Outcome {
    let text = format!("An operator cancelled this call {when} ({rule}).");
    Outcome::ended(OutcomeKind::Cancelled, CallError::new(Code::CancelledByOperator, text, ran))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(may_have_executed: bool, sending: bool) -> ExecutionState {
        let state = ExecutionState::new(1, may_have_executed, Timestamp::from_ms(0));
        state.sending.store(sending, Ordering::Release);
        state
    }

    #[test]
    fn an_end_from_outside_says_whether_the_tool_may_have_run() {
        for (executed, sending) in [(false, false), (true, false), (false, true)] {
            let (state, ran) = (state(executed, sending), executed || sending);
            let expected = if ran { MayHaveRun::Unknown } else { MayHaveRun::No };
            let late = if ran { OutcomeKind::TimedOut } else { OutcomeKind::Expired };
            for (outcome, kind) in [
                (state.cancelled(), OutcomeKind::Cancelled),
                (state.out_of_time(), late),
                (state.worn_out(3), OutcomeKind::Failed),
            ] {
                assert_eq!((outcome.kind, outcome.error.unwrap().may_have_run), (kind, expected));
            }
        }
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
}
