//! Defects that a test plants into the model of the worker or of AWS. The simulation must find each of them.

use super::scenario::Theme;

/// A planted defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// A worker executes a call although another one holds its claim.
    SkipClaim,
    /// A late worker stores its outcome over whatever is stored.
    ForgetFence,
    /// The message is deleted before the end of the call is stored.
    DeleteBeforeRecord,
    /// A message is deleted before the queue has accepted its replacement.
    DeleteBeforeCopy,
    /// No audit record is inserted.
    SkipAuditRecord,
    /// A failed attempt of a call that is not safe to repeat is followed by another.
    RepeatUnsafe,
    /// A release does not say that an attempt may have run.
    ForgetMayHaveRun,
    /// Leases are compared without the allowance for clock skew.
    ForgetSkew,
    /// A running call stores no heartbeat.
    SkipHeartbeat,
    /// The table stores a row whatever is stored.
    UnconditionalWrite,
    /// The loser of a claim ends the call.
    EndCallOfAnother,
    /// The answer is stored as the outcome `expired` of a call that was not sent.
    DenyRun,
    /// A worker that was frozen begins an attempt without a look at its lease.
    ForgetLease,
    /// Pauses are not looked at.
    IgnorePause,
    /// A pause is looked at once, before the claim.
    PauseBeforeClaimOnly,
    /// A worker that drains no longer reads what operators set.
    ReadNoPauseInDrain,
    /// A paused call ends when it would look again after its deadline.
    GiveUpPaused,
    /// A new worker takes calls before it has read what operators set.
    StartBeforeControl,
    /// A strike stops no call.
    IgnoreStrike,
    /// No rule of an operator cancels calls.
    IgnoreCancelRule,
    /// A rule of an operator cancels no call that is under way.
    CancelAtReceiptOnly,
    /// A paused queue is read.
    IgnoreQueuePause,
    /// A worker that an operator asked to drain goes on.
    IgnoreDrain,
    /// A call under way goes on although its caller has cancelled it.
    IgnoreCancel,
    /// Rate limits are not looked at.
    IgnoreRate,
    /// A request is sent although its turn has passed.
    ForgetLateness,
    /// A turn that a message carries is used although the limit has changed since.
    IgnoreEpoch,
    /// One request more than the limit gets a permit.
    OverAdmit,
    /// A permit counts for a second, however long its request may take.
    ShortPermit,
    /// The permit of a lost worker never ends.
    EndlessPermit,
    /// The permit of a request whose answer was lost is free at once.
    FreePermitEarly,
    /// All attempts of a delivery have one permit.
    PermitPerDelivery,
    /// A permit is used that was taken before a freeze.
    StalePermit,
    /// A turn that a message carries goes back when another delivery of that message has the call.
    GiveBackCarried,
    /// The permit of a request is released before its task has one.
    ReleaseBeforeTask,
    /// The permit of a task is not released with the end of the task.
    KeepTaskPermit,
    /// The permit of a task counts until the deadline before the task is stored.
    TaskPermitBeforePark,
    /// The permit of a task ends as that of a request, though the task is stored.
    TaskPermitNotKept,
    /// The next delivery of a message whose worker was lost leaves the permit of the task as it is.
    TaskPermitForgotten,
    /// A limit's row is stored whatever is stored.
    UnconditionalLimit,
    /// A request is sent without a place within the worker's adaptive limit.
    NoPlace,
    /// The place of a call that lacks a permit is not left.
    ForgetPlace,
    /// Workers that ask at the same time write rows that cannot be told apart.
    ForgetMark,
    /// A call starts although its time has not come.
    IgnoreNotBefore,
    /// A call that is to start later waits for the longest delay of a message each time.
    HopTooFar,
    /// No call is replaced by a newer one.
    IgnoreSupersede,
    /// The call that was received last counts as the newest.
    SupersedeByReceipt,
    /// Retries are sent whatever the budget of their server says.
    IgnoreRetryBudget,
    /// A call that is not safe to repeat is executed without a claim.
    ClaimlessIfUnsafe,
    /// A call that needs no claim is claimed.
    ClaimAlways,
    /// Where a call has no row, it counts as one that did not run.
    ForgetUnclaimed,
    /// The same only at the first receive of a message, although a second message or a duplicate may have been executed.
    TrustFirstReceive,
    /// Every wait hides the message, so that waiting counts as receives.
    WaitByVisibility,
}

impl Planted {
    /// Every planted defect.
    pub(crate) const ALL: [Self; 53] = [
        Self::SkipClaim,
        Self::ForgetFence,
        Self::DeleteBeforeRecord,
        Self::DeleteBeforeCopy,
        Self::SkipAuditRecord,
        Self::RepeatUnsafe,
        Self::ForgetMayHaveRun,
        Self::ForgetSkew,
        Self::SkipHeartbeat,
        Self::UnconditionalWrite,
        Self::EndCallOfAnother,
        Self::DenyRun,
        Self::ForgetLease,
        Self::IgnorePause,
        Self::PauseBeforeClaimOnly,
        Self::ReadNoPauseInDrain,
        Self::GiveUpPaused,
        Self::StartBeforeControl,
        Self::IgnoreStrike,
        Self::IgnoreCancelRule,
        Self::CancelAtReceiptOnly,
        Self::IgnoreQueuePause,
        Self::IgnoreDrain,
        Self::IgnoreCancel,
        Self::IgnoreRate,
        Self::ForgetLateness,
        Self::IgnoreEpoch,
        Self::OverAdmit,
        Self::ShortPermit,
        Self::EndlessPermit,
        Self::FreePermitEarly,
        Self::PermitPerDelivery,
        Self::StalePermit,
        Self::GiveBackCarried,
        Self::ReleaseBeforeTask,
        Self::KeepTaskPermit,
        Self::TaskPermitBeforePark,
        Self::TaskPermitNotKept,
        Self::TaskPermitForgotten,
        Self::UnconditionalLimit,
        Self::NoPlace,
        Self::ForgetPlace,
        Self::ForgetMark,
        Self::IgnoreNotBefore,
        Self::HopTooFar,
        Self::IgnoreSupersede,
        Self::SupersedeByReceipt,
        Self::IgnoreRetryBudget,
        Self::ClaimlessIfUnsafe,
        Self::ClaimAlways,
        Self::ForgetUnclaimed,
        Self::TrustFirstReceive,
        Self::WaitByVisibility,
    ];

    /// The theme whose schedules find it.
    pub(crate) const fn theme(self) -> Theme {
        match self {
            Self::SkipClaim
            | Self::DeleteBeforeRecord
            | Self::DeleteBeforeCopy
            | Self::SkipAuditRecord
            | Self::UnconditionalWrite
            | Self::EndCallOfAnother
            | Self::IgnoreRetryBudget => Theme::Faults,
            Self::IgnoreCancel | Self::SkipHeartbeat | Self::RepeatUnsafe | Self::WaitByVisibility => {
                Theme::Calm
            }
            Self::DenyRun => Theme::Tasks,
            Self::ForgetFence | Self::ForgetMayHaveRun | Self::ForgetSkew | Self::ForgetLease => {
                Theme::Freezes
            }
            Self::IgnorePause
            | Self::PauseBeforeClaimOnly
            | Self::ReadNoPauseInDrain
            | Self::GiveUpPaused
            | Self::StartBeforeControl
            | Self::IgnoreStrike
            | Self::IgnoreCancelRule
            | Self::CancelAtReceiptOnly
            | Self::IgnoreQueuePause
            | Self::IgnoreDrain => Theme::Switches,
            Self::IgnoreRate
            | Self::ForgetLateness
            | Self::IgnoreEpoch
            | Self::OverAdmit
            | Self::ShortPermit
            | Self::EndlessPermit
            | Self::FreePermitEarly
            | Self::PermitPerDelivery
            | Self::StalePermit
            | Self::GiveBackCarried
            | Self::ReleaseBeforeTask
            | Self::KeepTaskPermit
            | Self::TaskPermitBeforePark
            | Self::TaskPermitNotKept
            | Self::TaskPermitForgotten
            | Self::UnconditionalLimit
            | Self::ForgetMark => Theme::Limits,
            Self::ClaimlessIfUnsafe | Self::ClaimAlways | Self::ForgetUnclaimed | Self::TrustFirstReceive => {
                Theme::Claimless
            }
            Self::NoPlace | Self::ForgetPlace => Theme::Adaptive,
            Self::IgnoreNotBefore | Self::HopTooFar => Theme::Schedule,
            Self::IgnoreSupersede | Self::SupersedeByReceipt => Theme::Supersede,
        }
    }
}
