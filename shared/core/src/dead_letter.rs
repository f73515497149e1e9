//! What would become of a call if its dead letter were moved back to the calls.

use serde::Serialize;

use crate::call::{CallRow, State};
use crate::request::CallRequest;
use crate::retention::OLDEST_MESSAGE_MS;
use crate::time::Timestamp;

/// From when the time counts that a dead letter is left to operators: its call waited until then in the queue, and nobody could have seen it
/// fail before. `sent_at` is when this message was sent, not the first one of its call.
pub fn waited_until(sent_at: Timestamp, request: Option<&CallRequest>) -> Timestamp {
    request.and_then(|request| request.not_before).map_or(sent_at, |at| at.max(sent_at))
}

/// What is known of a dead letter and its call.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetterFacts<'a> {
    /// Its request; none if the message is no request.
    pub request: Option<&'a CallRequest>,
    /// The row of the call.
    pub row: Option<&'a CallRow>,
    /// When the call's first message was sent.
    pub first_sent: Timestamp,
    /// Whether running it twice does no harm.
    pub repeatable: bool,
    /// Whether a worker may have sent it without a claim, so that no row says that nothing was sent.
    pub may_be_claimless: bool,
    /// Now.
    pub now: Timestamp,
}

/// What a redrive does to the call of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RedriveClass {
    /// Nothing of it was sent to its tool: it runs.
    NotRun,
    /// It may have run, and running it again does no harm, or only its task is polled: it goes on.
    Safe,
    /// It may have run, and is not safe to repeat: its claim ends it as `outcome_unknown`, and nothing is sent.
    MayHaveRun,
    /// It was cancelled: it ends so.
    Cancelled,
    /// Its deadline has passed: it ends as `expired` or `timed_out`.
    Expired,
    /// A worker executes it: its message is left where it is.
    Running,
    /// It has ended, and its end stands.
    Ended,
    /// Its id was used before for another question: it would be refused.
    OtherQuestion,
    /// It was sent longer ago than the fleet remembers calls for: it would be refused.
    TooOld,
    /// The message is no request. A worker of a later version may read it.
    Unreadable,
}

impl RedriveClass {
    /// Every class.
    pub const ALL: [Self; 10] = [
        Self::NotRun,
        Self::Safe,
        Self::MayHaveRun,
        Self::Cancelled,
        Self::Expired,
        Self::Running,
        Self::Ended,
        Self::OtherQuestion,
        Self::TooOld,
        Self::Unreadable,
    ];

    /// The class of a dead letter.
    pub fn of(facts: &DeadLetterFacts<'_>) -> Self {
        let Some(request) = facts.request else {
            return Self::Unreadable;
        };
        let Some(row) = facts.row else {
            let class = of_new(facts, request, facts.first_sent);
            return if class == Self::NotRun && facts.may_be_claimless { Self::Safe } else { class };
        };
        if row.digest.as_ref().is_some_and(|digest| !request.is_of(digest, row.caller.as_deref())) {
            return Self::OtherQuestion;
        }
        let may_have_run = match row.state {
            State::Done => return Self::Ended,
            State::Claimed if row.lease_until.is_some_and(|until| facts.now <= until) => {
                return Self::Running;
            }
            State::Claimed => true,
            State::Pending | State::Released | State::WaitingTask | State::AwaitingApproval => {
                row.may_have_executed
            }
        };
        if row.cancel_requested_at.is_some() {
            return Self::Cancelled;
        }
        if row.deadline.is_some_and(|deadline| facts.now >= deadline) {
            return Self::Expired;
        }
        if !may_have_run {
            return of_new(facts, request, row.enqueued_at);
        }
        if row.task.is_some() || facts.repeatable { Self::Safe } else { Self::MayHaveRun }
    }

    /// The word for tables and filters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRun => "not_run",
            Self::Safe => "safe",
            Self::MayHaveRun => "may_have_run",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Running => "running",
            Self::Ended => "ended",
            Self::OtherQuestion => "other_question",
            Self::TooOld => "too_old",
            Self::Unreadable => "unreadable",
        }
    }

    /// What a redrive does, for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NotRun => {
                "surely not run; it runs when a worker receives it, unless the workers' default deadline has passed"
            }
            Self::Safe => "may have run and is safe to repeat; it goes on",
            Self::MayHaveRun => {
                "may have run and is not safe to repeat; it ends as outcome_unknown, nothing is sent"
            }
            Self::Cancelled => "cancelled; it ends as cancelled",
            Self::Expired => "its deadline has passed; it ends as expired or timed_out",
            Self::Running => "a worker executes it; it is left where it is",
            Self::Ended => "has ended; its end stands, nothing runs again",
            Self::OtherQuestion => "its id was used for another question; it would be refused",
            Self::TooOld => "older than 28 days; it would be refused",
            Self::Unreadable => {
                "cannot be read by this version; a worker of a later version may read it, others refuse or keep it again"
            }
        }
    }

    /// Whether a redrive moves it. One that may have run is moved only if that is asked for.
    pub const fn is_moved(self, with_may_have_run: bool) -> bool {
        match self {
            Self::NotRun | Self::Safe | Self::Cancelled | Self::Expired | Self::Unreadable => true,
            Self::MayHaveRun => with_may_have_run,
            Self::Running | Self::Ended | Self::OtherQuestion | Self::TooOld => false,
        }
    }
}

/// The class of a call of which nothing was sent to its tool.
fn of_new(facts: &DeadLetterFacts<'_>, request: &CallRequest, first_sent: Timestamp) -> RedriveClass {
    // The workers know the deadline of a request that names none.
    let named = request.time_limit.map(|_| request.deadline(first_sent, u64::MAX));
    if facts.now.ms_since(first_sent) > OLDEST_MESSAGE_MS {
        RedriveClass::TooOld
    } else if named.is_some_and(|deadline| facts.now >= deadline) {
        RedriveClass::Expired
    } else {
        RedriveClass::NotRun
    }
}
