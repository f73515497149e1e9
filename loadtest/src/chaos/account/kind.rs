//! The rules of the accounting, named after what breaks them.

use std::fmt;

/// A rule of the accounting, named after what breaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// A call that a queue accepted has no outcome.
    Lost,
    /// A call that is not safe to repeat was executed more than once.
    UnsafeRepeat,
    /// A call ended as `outcome_unknown`, and was not cut.
    UnknownNotCut,
    /// A call's outcome says that it did not run, and it ran.
    RanAfterAll,
    /// A call has an answer, and did not run.
    NeverRan,
    /// A call has the answer to another call.
    WrongAnswer,
    /// A call that has ended has no audit record.
    MissingAudit,
    /// A call has several audit records of its end.
    ExtraAudit,
    /// A call's audit record has another outcome than its row.
    WrongAudit,
    /// A late answer was recorded for a call that was not cut.
    LateAnswer,
    /// An audit record is of a kind that no call of the run gives a reason for.
    UnexpectedAudit,
    /// A call that has ended has no notice, and its caller asked for one.
    NoticeLost,
    /// A notice has another outcome than the row.
    WrongNotice,
    /// A call was executed or audited that nobody sent.
    Stranger,
    /// A call started before the instant that it named.
    StartedEarly,
    /// A call ended as replaced, and no newer call of its key was sent.
    ReplacedByNone,
    /// A call was claimed long after a newer call of its key had started.
    StaleStart,
    /// A call was given a stored answer of no equal call of its tenant that succeeded.
    ForeignAnswer,
    /// A call was given a stored answer, and ran.
    StoredAndRan,
    /// Calls of several tenants, or with several questions, have one answer.
    SharedAcross,
    /// One request served calls of several tenants, or too many.
    MixedBatch,
    /// A call has ended, and its task goes on and was not cancelled.
    TaskLeft,
    /// A tool that asks before it runs has run for a call without an answer.
    RanUnanswered,
    /// A call ended as `input_required`, and its server asked nothing.
    AskedByNobody,
    /// A call that answers a question was refused, although the call that asked can be resumed.
    AnswerLost,
    /// An answer whose caller did not promise that repeating does no harm was given more than once.
    AnsweredTwice,
    /// A server was given the state or the answer of another question.
    MixedAnswer,
    /// A call had ended, and has another outcome now.
    EndChanged,
    /// A member of a group was sent again that had succeeded, or that ran and is not safe to repeat.
    RedrivenWrongly,
    /// Two redrives of a group sent different members, or were refused.
    RoundDiffers,
    /// A group of which a member was sent is not decided.
    GroupUndecided,
    /// A group's decision changed.
    DecisionChanged,
    /// A group's members do not explain its decision.
    DecisionUnexplained,
    /// A group counts a member as it did not end, or one that it does not have.
    MemberMiscounted,
    /// A member ended long before its group was decided, and is not counted.
    MemberUncounted,
    /// A group was decided by its timer, long after its members had ended.
    DecidedLate,
    /// A group was open long after its deadline, at which it is decided as incomplete.
    IncompleteLate,
    /// A call ended long after its deadline.
    EndedLate,
    /// A call started long after an operator had paused its server or tenant, had struck it, or had set a rule that cancels it.
    StartedWhilePaused,
    /// A call ended as cancelled by an operator, and no rule fits it.
    CancelledByNobody,
    /// A group was cancelled, and decided long after that.
    CancelIgnored,
    /// A member of a group was claimed long after the group was decided.
    StartedAfterDecision,
    /// A call ended because its group was decided, and it was not.
    EndedWithoutDecision,
    /// A decided group has no notice.
    GroupNoticeLost,
    /// A group's notice differs from its decision.
    WrongGroupNotice,
    /// More turns were used in a second than the rate allows.
    OverRateByTurn,
    /// A request was sent under a rate limit without a turn.
    StartWithoutTurn,
    /// After a limit was lowered, more was admitted than it allows, though no more than before.
    OverLowered,
    /// More calls started in a second than the rate allows, although their delays hardly differ.
    OverRate,
    /// More requests were open than the limit allows.
    OverConcurrency,
    /// Messages are left in the queues.
    MessagesLeft,
    /// Messages are left in the dead-letter queue.
    DeadLetters,
    /// A worker that was told to leave exited with another code than 0.
    BadExit,
    /// A worker ended, and nobody had told it to.
    EndedByItself,
    /// A fault of the plan was never injected, or a feature never used, so the run proves nothing about it.
    NotInjected,
}

impl Kind {
    /// Its name on the command line and in a report.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub kind: Kind,
    /// What was found, with the call's id.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.kind.name(), self.detail)
    }
}
