//! How a delivery leaves the worker, and why a message goes back to its queue.

use toolfleet_core::call::HeldReason;

use super::record::recorded::ResultStored;

/// How a delivery leaves the worker.
pub(super) enum Disposition {
    /// The tables hold the result: the audit record is inserted, the notice sent and the message deleted.
    Completed(Box<ResultStored>),
    /// The message goes back to its queue for `after_ms` milliseconds.
    Requeued { after_ms: u64, reason: RequeueReason },
    /// The server works on the call as a task: a new message, which arrives in `after_ms` milliseconds, polls it. `counted` says that the task has
    /// its permits for sure, where it needs any.
    Parked { after_ms: u64, poll_failed: bool, counted: bool },
    /// Another worker has taken the call over; its own delivery deletes the message.
    TakenOver,
    /// The message is no request. Its record is stored, and it moves to the dead-letter queue for an operator.
    Unreadable,
    /// The message is of a group itself, which is decided: the message is deleted.
    GroupHandled,
}

impl Disposition {
    pub(super) fn completed(stored: impl Into<ResultStored>) -> Self {
        Self::Completed(Box::new(stored.into()))
    }
}

/// How long a message waits that came to a worker whose clock is off: another worker takes it.
pub(super) const CLOCK_OFF_MS: u64 = 5_000;

/// Why a message goes back to its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequeueReason {
    /// The call waits for something that its row names.
    Held(HeldReason),
    /// As many calls as it may have wait for answers of its server or tool, which is silent.
    ServerSilent,
    /// Another delivery holds the call's claim.
    HeldElsewhere,
    /// The row waits for an event that no delivery brings, such as an approval.
    WaitsForOther,
    /// The claim was answered when half of its lease was over.
    ClaimTooSlow,
    /// The lease was lost between two attempts.
    LeaseLost,
    /// The worker drains.
    Draining,
    /// The worker's clock is off.
    ClockOff,
    /// The worker drains, and the bucket has not taken the result of a call that is safe to repeat.
    ResultNotStored,
    /// The server works on the call as a task.
    TaskWorking,
    /// It is the timer of a group, whose deadline has not come.
    GroupTimer,
    /// A table, a queue or a bucket did not do what was asked.
    AwsFailed,
    /// The message is no request, and could not be moved to a dead-letter queue.
    Unreadable,
}

impl RequeueReason {
    /// The value of the metric label `toolfleet.reason`. It never changes.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Held(reason) => reason.as_str(),
            Self::ServerSilent => "server_silent",
            Self::HeldElsewhere => "held_elsewhere",
            Self::WaitsForOther => "waits_for_other",
            Self::ClaimTooSlow => "claim_too_slow",
            Self::LeaseLost => "lease_lost",
            Self::Draining => "draining",
            Self::ClockOff => "clock_off",
            Self::ResultNotStored => "result_not_stored",
            Self::TaskWorking => "task_working",
            Self::GroupTimer => "group_timer",
            Self::AwsFailed => "aws_failed",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether even a short wait becomes a new message with a delay, because it is no failure and may be long.
    pub(crate) const fn parks_at_once(self) -> bool {
        match self {
            Self::Held(reason) => reason.parks_at_once(),
            Self::ServerSilent => HeldReason::Share.parks_at_once(),
            Self::GroupTimer => true,
            Self::HeldElsewhere
            | Self::WaitsForOther
            | Self::ClaimTooSlow
            | Self::LeaseLost
            | Self::Draining
            | Self::ClockOff
            | Self::ResultNotStored
            | Self::TaskWorking
            | Self::AwsFailed
            | Self::Unreadable => false,
        }
    }

    /// Whether the wait says nothing of whether another try helps: an operator, a limit or the caller's own time holds the call.
    pub(crate) const fn is_no_try(self) -> bool {
        matches!(
            self,
            Self::GroupTimer
                | Self::ClockOff
                | Self::Held(
                    HeldReason::Paused
                        | HeldReason::RateLimit
                        | HeldReason::ConcurrencyLimit
                        | HeldReason::RetryBudget
                        | HeldReason::NotBefore
                        | HeldReason::NoTimeLeft
                )
        )
    }

    /// The same as a part of a sentence, for logs.
    pub(super) const fn sentence(self) -> &'static str {
        match self {
            Self::Held(reason) => reason.sentence(),
            Self::ServerSilent => "its server or tool is silent",
            Self::HeldElsewhere => "another worker holds the call",
            Self::WaitsForOther => "the call waits for something else",
            Self::ClaimTooSlow => "the claim took longer than half its lease",
            Self::LeaseLost => "the lease was lost between two attempts",
            Self::Draining => "the worker is stopping",
            Self::ClockOff => "the worker's clock is off",
            Self::ResultNotStored => "the worker stops, and the bucket did not take the result",
            Self::TaskWorking => "the server works on it as a task",
            Self::GroupTimer => "it is the timer of a group, whose deadline has not come",
            Self::AwsFailed => "an AWS request failed",
            Self::Unreadable => "it cannot be read",
        }
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_core::why::Place;

    use super::*;

    const OWN: [RequeueReason; 12] = [
        RequeueReason::ServerSilent,
        RequeueReason::HeldElsewhere,
        RequeueReason::WaitsForOther,
        RequeueReason::ClaimTooSlow,
        RequeueReason::LeaseLost,
        RequeueReason::Draining,
        RequeueReason::ClockOff,
        RequeueReason::ResultNotStored,
        RequeueReason::TaskWorking,
        RequeueReason::GroupTimer,
        RequeueReason::AwsFailed,
        RequeueReason::Unreadable,
    ];

    /// The places that `toolfleet why` has for a call whose message went back for that reason.
    const fn places(reason: RequeueReason) -> &'static [Place] {
        match reason {
            // What the row names, core's tests of `why` have for each reason.
            RequeueReason::Held(_) | RequeueReason::ServerSilent => &[Place::Held],
            RequeueReason::HeldElsewhere => &[Place::Running],
            RequeueReason::WaitsForOther => &[Place::AwaitingApproval],
            RequeueReason::ClaimTooSlow | RequeueReason::LeaseLost => &[Place::WorkerLost, Place::InQueue],
            RequeueReason::Draining | RequeueReason::ClockOff | RequeueReason::ResultNotStored => {
                &[Place::InQueue, Place::NotReceived]
            }
            RequeueReason::TaskWorking => &[Place::AtServer],
            RequeueReason::AwsFailed => &[Place::NotReceived, Place::WorkerLost],
            RequeueReason::Unreadable => &[Place::DeadLetterQueue],
            // It is a message of no call.
            RequeueReason::GroupTimer => &[],
        }
    }

    /// The words in backticks.
    fn words(text: &str) -> Vec<&str> {
        text.split('`').skip(1).step_by(2).collect()
    }

    #[test]
    fn the_guide_has_the_place_of_each_reason() {
        let guide = include_str!("../../../../docs/guides/not-running.md");
        let table = guide.split("| reason | `place` |\n|---|---|\n").nth(1).unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let rows: Vec<_> = rows.map(|line| line.trim_matches('|').split_once(" | ").unwrap()).collect();
        let reasons = OWN.into_iter().chain(HeldReason::ALL.map(RequeueReason::Held));
        for reason in reasons.clone() {
            let row = rows.iter().find(|(labels, _)| words(labels).contains(&reason.label()));
            let (_, text) = row.unwrap_or_else(|| panic!("{reason:?} is not in the table"));
            for place in places(reason) {
                let place = serde_json::to_value(place).unwrap();
                assert!(words(text).contains(&place.as_str().unwrap()), "{reason:?} {place}: {text}");
            }
            assert_eq!(places(reason).is_empty(), text.starts_with("none"), "{reason:?}: {text}");
        }
        let labels: usize = rows.iter().map(|(labels, _)| words(labels).len()).sum();
        assert_eq!(labels, reasons.count(), "the table names a reason that there is not");
    }

    #[test]
    fn labels_are_stable_distinct_words_and_sentences_are_for_people() {
        let reasons = OWN.into_iter().chain(HeldReason::ALL.map(RequeueReason::Held));
        let labels: Vec<_> = reasons.clone().map(RequeueReason::label).collect();
        let expected = "server_silent held_elsewhere waits_for_other claim_too_slow lease_lost draining clock_off result_not_stored task_working group_timer aws_failed \
                        unreadable server_unreachable server_failing server_pause credential aws_error share back_off paused rate_limit \
                        concurrency_limit retry_budget not_before no_time_left";
        assert_eq!(labels.join(" "), expected);
        for reason in reasons {
            assert!(reason.label().chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{reason:?}");
            assert!(reason.sentence().contains(' '), "{reason:?}");
        }
    }
}
