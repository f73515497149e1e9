//! How an execution ends where something outside its attempts ends it: a cancellation, the deadline, used-up attempts, a lost task, or the
//! worker's stop.

use crate::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};

/// What an end says besides where another delivery may have executed the call.
const OF_ANOTHER_DELIVERY: &str = "Whether another delivery of its message has executed it is not known.";

/// What becomes of a call whose worker must stop while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// Another worker polls its task.
    LeaveTask,
    /// It is requeued.
    Requeue,
    /// It ends now.
    End(Outcome),
}

const fn unless_run(may_have_run: bool) -> MayHaveRun {
    if may_have_run { MayHaveRun::Unknown } else { MayHaveRun::No }
}

/// The end of a call that its caller has cancelled.
pub fn cancelled(may_have_run: bool) -> Outcome {
    let text = if may_have_run {
        "The caller cancelled this call while it ran; whether the tool had an effect is not known."
    } else {
        "The caller cancelled this call before the tool was executed."
    };
    let why = CallError::new(Code::CancelledByCaller, text, unless_run(may_have_run));
    Outcome::ended(OutcomeKind::Cancelled, why)
}

/// The end of a call that an operator's rule has cancelled.
pub fn cancelled_by_operator(rule: &str, may_have_run: bool) -> Outcome {
    let when = if may_have_run {
        "while it ran; whether the tool had an effect is not known"
    } else {
        "before the tool was executed"
    };
    let text = format!("An operator cancelled this call {when} ({rule}).");
    let why = CallError::new(Code::CancelledByOperator, text, unless_run(may_have_run));
    Outcome::ended(OutcomeKind::Cancelled, why)
}

/// The end of a call whose deadline has passed.
pub fn out_of_time(may_have_run: bool) -> Outcome {
    if may_have_run {
        let text = "The deadline passed while the tool ran. Whether it had an effect is not known; check before you send it again.";
        let why = CallError::new(Code::DeadlineExceeded, text, MayHaveRun::Unknown);
        return Outcome::ended(OutcomeKind::TimedOut, why);
    }
    let text = "The deadline passed before the tool could be executed.";
    let why = CallError::new(Code::DeadlineExceeded, text, MayHaveRun::No).retryable(None);
    Outcome::ended(OutcomeKind::Expired, why)
}

/// The same end for a call that may have been executed by another delivery: it does not say that the call did not run.
#[must_use]
pub fn never_denied(outcome: Outcome) -> Outcome {
    let denies = |why: &CallError| why.may_have_run == MayHaveRun::No;
    let Some(why) = outcome.error.clone().filter(denies) else {
        return outcome;
    };
    let kind = if outcome.kind == OutcomeKind::Expired { OutcomeKind::TimedOut } else { outcome.kind };
    let message = format!("{} {OF_ANOTHER_DELIVERY}", why.message);
    let error = Some(CallError { message, may_have_run: MayHaveRun::Unknown, ..why });
    Outcome { kind, error, ..outcome }
}

/// The end of a call whose attempts are used up.
pub fn worn_out(max_attempts: u32, may_have_run: bool) -> Outcome {
    let text = format!("All {max_attempts} attempts are used up; workers were lost while they ran the call.");
    Outcome::failed(CallError::new(Code::WorkerLost, text, unless_run(may_have_run)).retryable(None))
}

/// What happens to a call whose worker must stop: a task is polled by another worker, a call that is safe to repeat is requeued, and any
/// other ends now, so that its caller need not wait for the lease to learn that its effect is unknown.
pub fn stopped_with_worker(repeatable: bool, has_task: bool, may_have_run: bool) -> Stop {
    if has_task {
        return Stop::LeaveTask;
    }
    if repeatable || !may_have_run {
        return Stop::Requeue;
    }
    let text = "The worker had to stop while the tool ran, and the tool is not safe to repeat. Check its effect before you send the call again under a new id.";
    let why = CallError::new(Code::WorkerLost, text, MayHaveRun::Unknown);
    Stop::End(Outcome::ended(OutcomeKind::OutcomeUnknown, why))
}

/// Whether a call is sent again whose task the server does not know any more.
pub const fn repeats_lost_task(
    repeatable: bool,
    answers_a_task: bool,
    attempts: u32,
    max_attempts: u32,
) -> bool {
    repeatable && !answers_a_task && attempts < max_attempts
}

/// The end of a call whose task is gone, and that is not safe to repeat or may not be sent again. `message` is what the server says.
pub fn task_lost(message: &str) -> Outcome {
    let text = format!(
        "The server no longer knows the task it made of the call ({message}); it may have been restarted. Check the tool's \
         effect before you send the call again under a new id."
    );
    Outcome::ended(OutcomeKind::OutcomeUnknown, CallError::new(Code::TaskLost, text, MayHaveRun::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_from_outside_says_whether_the_tool_may_have_run() {
        for ran in [false, true] {
            let expected = if ran { MayHaveRun::Unknown } else { MayHaveRun::No };
            let late = if ran { OutcomeKind::TimedOut } else { OutcomeKind::Expired };
            for (outcome, kind) in [
                (cancelled(ran), OutcomeKind::Cancelled),
                (cancelled_by_operator("rule r1", ran), OutcomeKind::Cancelled),
                (out_of_time(ran), late),
                (worn_out(3, ran), OutcomeKind::Failed),
            ] {
                assert_eq!((outcome.kind, outcome.error.unwrap().may_have_run), (kind, expected));
            }
        }
    }

    #[test]
    fn a_worker_that_stops_requeues_what_is_safe_and_ends_the_rest() {
        for (repeatable, ran) in [(true, true), (true, false), (false, false)] {
            assert_eq!(stopped_with_worker(repeatable, false, ran), Stop::Requeue);
        }
        assert!(matches!(stopped_with_worker(false, false, true), Stop::End(_)));
        assert_eq!(stopped_with_worker(false, true, true), Stop::LeaveTask);
    }

    #[test]
    fn a_lost_task_is_sent_again_only_where_that_is_safe() {
        assert!(repeats_lost_task(true, false, 1, 2));
        assert!(!repeats_lost_task(false, false, 1, 2));
        assert!(!repeats_lost_task(true, true, 1, 2), "answers may be accepted once");
        assert!(!repeats_lost_task(true, false, 2, 2));
    }
}
