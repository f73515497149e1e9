//! Decides what follows a failed attempt: another try here, a requeue, or the end of the call.
//!
//! **Invariant:** an attempt that may have reached a tool which is not safe to repeat is never followed by another.

use crate::failure::{Failure, RetryClass};
use crate::outcome::{CallError, MayHaveRun, Outcome, OutcomeKind};
use crate::time::Timestamp;

/// A wait up to this long happens in the worker's slot; a longer one gives the call back to the queue.
pub const IN_PLACE_MS: u64 = 2_000;

/// How often a delivery tries in the worker's slot to reach a server before it goes back to the queue.
pub const QUICK_TRIES: u32 = 3;

/// The state of a call after a failed attempt.
#[derive(Debug, Clone, Copy)]
pub struct AttemptState {
    /// Attempts made, the failed one included.
    pub attempts: u32,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// Whether running it twice does no harm.
    pub repeatable: bool,
    /// Whether an earlier attempt may have had an effect.
    pub may_have_executed: bool,
    /// Now.
    pub now: Timestamp,
    /// When the call is worth nothing any more.
    pub deadline: Timestamp,
    /// What the back-off policy proposes to wait after that many attempts, in milliseconds.
    pub backoff_ms: u64,
    /// Tries of this delivery in which nothing was executed, the failed one included. They are no attempts.
    pub tries: u32,
    /// What the back-off policy proposes to wait after all such tries, in milliseconds.
    pub unreachable_backoff_ms: u64,
    /// Whether the failed attempt took so long that the next one does not keep the worker's slot.
    pub slow: bool,
    /// Until when a call waits for a server that executes nothing: its deadline, or earlier for a server that never answered.
    pub wait_until: Timestamp,
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Try again here after this many milliseconds.
    Again {
        /// Milliseconds.
        after_ms: u64,
        /// Whether the failed try counts as an attempt.
        counted: bool,
    },
    /// Requeue the call for this many milliseconds.
    Requeue {
        /// Milliseconds.
        after_ms: u64,
        /// Whether the attempt counts; one that executed nothing does not, nor does a pause that the server asked for.
        counted: bool,
    },
    /// It is over.
    End(Outcome),
}

/// Decides what follows `failure`.
pub fn after(failure: &Failure, at: AttemptState) -> Next {
    let may_have_executed = at.may_have_executed || failure.may_have_run == MayHaveRun::Unknown;
    if failure.may_have_run == MayHaveRun::Unknown && !at.repeatable {
        return Next::End(unknown(failure, at));
    }
    match failure.class {
        RetryClass::Permanent => Next::End(failed(failure, may_have_executed, false)),
        RetryClass::Pause { after_ms } => {
            let after_ms = after_ms.unwrap_or(at.unreachable_backoff_ms).max(1);
            if at.now.plus_ms(after_ms) >= at.deadline {
                return Next::End(with_pause(failed(failure, may_have_executed, true), after_ms));
            }
            Next::Requeue { after_ms, counted: false }
        }
        RetryClass::NotExecuted => {
            if at.now >= at.deadline && may_have_executed {
                return Next::End(timed_out(failure));
            }
            let after_ms = at.unreachable_backoff_ms;
            if at.now >= at.wait_until || at.now.plus_ms(after_ms) >= at.deadline {
                return Next::End(failed(failure, may_have_executed, true));
            }
            // The last try comes at the end of the wait.
            let after_ms = after_ms.min(at.wait_until.ms_since(at.now)).max(1);
            if at.tries <= QUICK_TRIES && after_ms <= IN_PLACE_MS {
                return Next::Again { after_ms, counted: false };
            }
            Next::Requeue { after_ms, counted: false }
        }
        RetryClass::Ambiguous => {
            if at.now >= at.deadline {
                return Next::End(timed_out(failure));
            }
            if at.attempts >= at.max_attempts || at.now.plus_ms(at.backoff_ms) >= at.deadline {
                return Next::End(failed(failure, may_have_executed, true));
            }
            if at.slow || at.backoff_ms > IN_PLACE_MS {
                return Next::Requeue { after_ms: at.backoff_ms, counted: true };
            }
            Next::Again { after_ms: at.backoff_ms, counted: true }
        }
    }
}

fn failed(failure: &Failure, may_have_executed: bool, retryable: bool) -> Outcome {
    let ran = if may_have_executed { MayHaveRun::Unknown } else { failure.may_have_run };
    let advice = match (retryable, ran) {
        (true, _) => "Another try later may succeed.",
        (false, MayHaveRun::No) => "Nothing was executed; sending the same call again will not help.",
        (false, MayHaveRun::Unknown | MayHaveRun::Yes) => "The tool may have run; check its effect first.",
    };
    let mut error = CallError::new(failure.code, format!("{}. {advice}", sentence(failure)), ran);
    error.retryable = retryable;
    error.rpc_code = failure.rpc_code;
    Outcome::failed(error)
}

fn unknown(failure: &Failure, at: AttemptState) -> Outcome {
    if at.now >= at.deadline {
        return timed_out(failure);
    }
    let text = format!(
        "{}. The call was sent and the tool is not safe to repeat, so it was not sent again; check its effect before \
         you send it under a new id.",
        sentence(failure)
    );
    let error = CallError::new(failure.code, text, MayHaveRun::Unknown);
    Outcome::ended(OutcomeKind::OutcomeUnknown, CallError { rpc_code: failure.rpc_code, ..error })
}

fn timed_out(failure: &Failure) -> Outcome {
    let text =
        format!("The deadline passed while the tool ran ({failure}). Whether it had an effect is not known.");
    let error = CallError::new(crate::outcome::Code::DeadlineExceeded, text, MayHaveRun::Unknown);
    Outcome::ended(OutcomeKind::TimedOut, error)
}

fn with_pause(mut outcome: Outcome, after_ms: u64) -> Outcome {
    if let Some(error) = &mut outcome.error {
        error.retry_after_ms = Some(after_ms);
    }
    outcome
}

fn sentence(failure: &Failure) -> String {
    let text = failure.to_string();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::HeldReason;
    use crate::failure::{Blame, Evidence, Reachability};
    use crate::outcome::Code;

    const DEADLINE: i64 = 100_000;

    fn attempt_state() -> AttemptState {
        AttemptState {
            attempts: 1,
            max_attempts: 3,
            repeatable: false,
            may_have_executed: false,
            now: Timestamp::from_ms(0),
            deadline: Timestamp::from_ms(DEADLINE),
            backoff_ms: 100,
            tries: 1,
            unreachable_backoff_ms: 200,
            slow: false,
            wait_until: Timestamp::from_ms(DEADLINE),
        }
    }

    fn failure(class: RetryClass, may_have_run: MayHaveRun) -> Failure {
        let text = "the answer was lost".to_owned();
        Failure {
            class,
            blame: Blame::Server,
            may_have_run,
            code: Code::AnswerLost,
            detail: text.clone(),
            summary: text,
            evidence: Evidence::Nothing,
            reachability: Reachability::Unknown,
            held: HeldReason::BackOff,
            rpc_code: None,
        }
    }

    fn lost() -> Failure {
        failure(RetryClass::Ambiguous, MayHaveRun::Unknown)
    }

    fn refused_connection() -> Failure {
        failure(RetryClass::NotExecuted, MayHaveRun::No)
    }

    fn end(next: Next) -> Outcome {
        match next {
            Next::End(outcome) => outcome,
            other @ (Next::Again { .. } | Next::Requeue { .. }) => panic!("expected the end, got {other:?}"),
        }
    }

    #[test]
    fn a_lost_answer_is_retried_only_for_a_safe_tool() {
        let outcome = end(after(&lost(), attempt_state()));
        assert_eq!(outcome.kind, OutcomeKind::OutcomeUnknown);
        assert_eq!(outcome.error.unwrap().may_have_run, MayHaveRun::Unknown);
        let safe = AttemptState { repeatable: true, ..attempt_state() };
        assert_eq!(after(&lost(), safe), Next::Again { after_ms: 100, counted: true });
    }

    #[test]
    fn an_attempt_after_a_slow_one_does_not_keep_the_slot() {
        let slow = AttemptState { repeatable: true, slow: true, ..attempt_state() };
        assert_eq!(after(&lost(), slow), Next::Requeue { after_ms: 100, counted: true });
        let worn_out = AttemptState { attempts: 3, ..slow };
        assert!(end(after(&lost(), worn_out)).error.unwrap().retryable);
    }

    #[test]
    fn what_never_reached_the_tool_is_no_attempt() {
        let used_up = AttemptState { attempts: 3, ..attempt_state() };
        assert_eq!(after(&refused_connection(), used_up), Next::Again { after_ms: 200, counted: false });
        let tried = AttemptState { tries: QUICK_TRIES + 1, unreachable_backoff_ms: 1_600, ..used_up };
        assert_eq!(after(&refused_connection(), tried), Next::Requeue { after_ms: 1_600, counted: false });
        let late = AttemptState { now: Timestamp::from_ms(DEADLINE - 100), ..used_up };
        let outcome = end(after(&refused_connection(), late));
        let error = outcome.error.unwrap();
        assert_eq!((outcome.kind, error.may_have_run), (OutcomeKind::Failed, MayHaveRun::No));
        assert!(error.retryable);
    }

    #[test]
    fn a_server_that_never_answered_has_a_bounded_wait() {
        let at = AttemptState { wait_until: Timestamp::from_ms(10_000), ..attempt_state() };
        assert!(matches!(after(&refused_connection(), at), Next::Again { .. }));
        let at = AttemptState { now: Timestamp::from_ms(9_900), ..at };
        assert_eq!(after(&refused_connection(), at), Next::Again { after_ms: 100, counted: false });
        let at = AttemptState { now: Timestamp::from_ms(10_000), ..at };
        assert_eq!(end(after(&refused_connection(), at)).kind, OutcomeKind::Failed);
        // A call that may have run is bounded by its attempts only.
        assert!(matches!(after(&lost(), AttemptState { repeatable: true, ..at }), Next::Again { .. }));
    }

    #[test]
    fn a_named_pause_is_no_attempt_of_a_safe_call() {
        let busy = failure(RetryClass::Pause { after_ms: Some(3_000) }, MayHaveRun::Unknown);
        let at = AttemptState { attempts: 3, repeatable: true, ..attempt_state() };
        assert_eq!(after(&busy, at), Next::Requeue { after_ms: 3_000, counted: false });
        assert_eq!(end(after(&busy, attempt_state())).kind, OutcomeKind::OutcomeUnknown);
    }

    #[test]
    fn no_unsafe_call_that_may_have_run_ends_otherwise_than_unknown() {
        let classes = [
            RetryClass::Ambiguous,
            RetryClass::Permanent,
            RetryClass::NotExecuted,
            RetryClass::Pause { after_ms: None },
            RetryClass::Pause { after_ms: Some(1) },
        ];
        for class in classes {
            let failure = failure(class, MayHaveRun::Unknown);
            assert_eq!(end(after(&failure, attempt_state())).kind, OutcomeKind::OutcomeUnknown, "{class:?}");
        }
    }

    #[test]
    fn an_earlier_exposed_attempt_is_remembered_in_the_final_word() {
        let now = Timestamp::from_ms(DEADLINE - 100);
        let at = AttemptState { now, repeatable: true, may_have_executed: true, ..attempt_state() };
        let error = end(after(&refused_connection(), at)).error.unwrap();
        assert_eq!(error.may_have_run, MayHaveRun::Unknown);
    }

    #[test]
    fn a_long_wait_requeues_and_a_pause_is_no_attempt() {
        let at = AttemptState { backoff_ms: 5_000, repeatable: true, ..attempt_state() };
        assert_eq!(after(&lost(), at), Next::Requeue { after_ms: 5_000, counted: true });
        let pause = failure(RetryClass::Pause { after_ms: Some(7_000) }, MayHaveRun::No);
        assert_eq!(after(&pause, attempt_state()), Next::Requeue { after_ms: 7_000, counted: false });
    }

    #[test]
    fn a_pause_past_the_deadline_ends_the_call_now() {
        let pause = failure(RetryClass::Pause { after_ms: Some(DEADLINE as u64) }, MayHaveRun::No);
        let outcome = end(after(&pause, attempt_state()));
        assert_eq!(outcome.error.unwrap().retry_after_ms, Some(DEADLINE as u64));
    }

    #[test]
    fn at_the_deadline_a_sent_call_is_timed_out_whether_safe_or_not() {
        for repeatable in [false, true] {
            let at = AttemptState { repeatable, now: Timestamp::from_ms(DEADLINE), ..attempt_state() };
            assert_eq!(end(after(&lost(), at)).kind, OutcomeKind::TimedOut);
        }
    }

    #[test]
    fn an_invalid_answer_is_final_and_the_tool_may_have_run() {
        let garbage = failure(RetryClass::Permanent, MayHaveRun::Unknown);
        let outcome = end(after(&garbage, AttemptState { repeatable: true, ..attempt_state() }));
        assert_eq!(outcome.kind, OutcomeKind::Failed);
        assert_eq!(outcome.error.unwrap().may_have_run, MayHaveRun::Unknown);
    }
}
