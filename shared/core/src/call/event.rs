//! The events of the state table, its effects and rejections, and the claim, which only the table makes.

use super::caller::Caller;
use super::held::Held;
use super::row::{CallRow, State};
use crate::definition::ShortDefinitionDigest;
use crate::digest::Digest;
use crate::ids::{CallKey, Nonce, WorkerId};
use crate::outcome::Outcome;
use crate::progress::CallProgress;
use crate::state_table;
use crate::time::Timestamp;

/// The delivery of a message that an event comes from.
#[derive(Debug, Clone)]
pub struct DeliveryContext {
    /// Which call.
    pub key: CallKey,
    /// The digest of its question.
    pub digest: Digest,
    /// The digest of earlier versions, where it differs.
    pub earlier_digest: Option<Digest>,
    /// Who asks.
    pub caller: Box<Caller>,
    /// The mark of this delivery.
    pub nonce: Nonce,
    /// The worker that holds the delivery.
    pub worker: WorkerId,
    /// When its first message was sent.
    pub enqueued_at: Timestamp,
    /// After which instant the call is worth nothing, where the message says it.
    pub deadline: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
    /// Allowed difference between two workers' clocks, in milliseconds, before a lease counts as expired.
    pub skew_ms: u64,
    /// Whether running it twice does no harm.
    pub repeatable: bool,
    /// Whether deliveries of the call may execute it without a claim. Then neither the absence of a row nor a first receive means that
    /// nothing was sent: SQS may deliver a message twice at the same time, and its sender may send it twice.
    pub may_be_claimless: bool,
    /// When the row may vanish.
    pub expires_at: Timestamp,
}

/// The right to execute one call and to write its row. Only the table makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    key: CallKey,
    fence: u64,
    nonce: Nonce,
}

impl Claim {
    pub(super) fn of(row: &CallRow, nonce: Nonce) -> Self {
        Self { key: row.key.clone(), fence: row.fence, nonce }
    }

    /// Its call.
    pub const fn key(&self) -> &CallKey {
        &self.key
    }

    /// Its number among the claims of this call.
    pub const fn fence(&self) -> u64 {
        self.fence
    }

    pub(super) fn holds(&self, row: &CallRow) -> bool {
        row.state == State::Claimed && row.fence == self.fence && row.nonce.as_ref() == Some(&self.nonce)
    }
}

/// A delivery that executed the call without a claim, and what it came to.
#[derive(Debug, Clone)]
pub struct Unclaimed {
    /// The delivery.
    pub delivery: DeliveryContext,
    /// Attempts made.
    pub attempts: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// The digest of the tool's definition.
    pub definition: Option<ShortDefinitionDigest>,
    /// The server's handle of the call, if it has made it a task.
    pub task: Option<String>,
    /// The server's reports.
    pub notes: Option<Box<CallProgress>>,
}

/// What happens to a call.
#[derive(Debug, Clone)]
pub enum Event {
    /// A delivery claims it.
    Claim {
        /// The delivery.
        delivery: DeliveryContext,
        /// How long the claim shall hold, in milliseconds.
        lease_ms: u64,
        /// The digest of the tool's definition.
        definition: Option<ShortDefinitionDigest>,
        /// The task that asked in an earlier call, where this one brings it the answers.
        answers: Option<String>,
    },
    /// A delivery ends it without executing: a refusal, a passed deadline, a dead letter.
    Conclude {
        /// The delivery.
        delivery: DeliveryContext,
        /// How it shall end if nothing was sent.
        outcome: Outcome,
        /// The digest of the tool's definition, where the tool is known.
        definition: Option<ShortDefinitionDigest>,
    },
    /// A delivery cannot execute it yet, and says why.
    Hold {
        /// The delivery.
        delivery: DeliveryContext,
        /// What it waits for.
        held: Held,
    },
    /// The holder is alive.
    Heartbeat {
        /// Its claim.
        claim: Claim,
        /// The new end of the lease.
        lease_until: Timestamp,
        /// The server's reports so far; `None` keeps those of the row.
        notes: Option<Box<CallProgress>>,
    },
    /// The holder requeues it.
    Release {
        /// Its claim.
        claim: Claim,
        /// Attempts made so far.
        attempts: u32,
        /// Whether one of them may have had an effect.
        may_have_executed: bool,
        /// What it waits for, where that is worth telling.
        held: Option<Box<Held>>,
        /// Now.
        now: Timestamp,
    },
    /// The holder leaves it with the server as a task.
    Park {
        /// Its claim.
        claim: Claim,
        /// The server's handle.
        task: String,
        /// Whether the task still has to be given the answers that the call brings.
        input_pending: bool,
        /// Whether anything may have had an effect so far; true once the server has made the call a task, or taken an answer.
        may_have_executed: bool,
        /// Attempts made so far; questions after a task are none.
        attempts: u32,
        /// Before which the server does not want to be asked.
        poll_at: Timestamp,
        /// The server's reports since the claim; `None` keeps those of the row.
        notes: Option<Box<CallProgress>>,
        /// Now.
        now: Timestamp,
    },
    /// The holder has the outcome.
    Finish {
        /// Its claim.
        claim: Claim,
        /// How it ended.
        outcome: Outcome,
        /// Attempts made.
        attempts: u32,
        /// The handle of a task that continues at the server although the call has ended.
        task: Option<String>,
        /// Now.
        now: Timestamp,
        /// The server's reports; `None` keeps those of the row.
        notes: Option<Box<CallProgress>>,
    },
    /// A delivery that executed it without a claim has the outcome.
    FinishUnclaimed {
        /// The delivery and its execution.
        execution: Box<Unclaimed>,
        /// How it ended.
        outcome: Outcome,
    },
    /// A delivery that executed it without a claim leaves it with the server as a task.
    ParkUnclaimed {
        /// The delivery and its execution, with the task.
        execution: Box<Unclaimed>,
        /// Before which the server does not want to be asked.
        poll_at: Timestamp,
    },
    /// A delivery finds that a person must allow it first.
    AwaitApproval {
        /// The delivery.
        delivery: DeliveryContext,
    },
    /// A person allowed it.
    Approve,
    /// The caller cancels it.
    Cancel {
        /// Which call.
        key: CallKey,
        /// Now.
        now: Timestamp,
        /// When a row that holds only this cancellation may expire.
        expires_at: Timestamp,
    },
}

/// What follows: a row to store, or the reason why nothing is stored.
pub type Decision = state_table::Decision<CallRow, Effect, Rejection>;

/// What a stored row means for the event's sender.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Execute it, with this right.
    Execute(Claim),
    /// It has ended; the row has its outcome.
    Ended,
    /// The lease is longer; `cancel` if the caller has cancelled the call.
    Extended {
        /// Whether to stop.
        cancel: bool,
    },
    /// It waits: released, parked or for a person.
    Waits,
    /// It is stored; the next event of the call acts on it.
    Noted,
}

/// Why nothing is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It had ended before; the row has its outcome.
    AlreadyRecorded,
    /// Another delivery holds it for about this long.
    HeldElsewhere {
        /// Milliseconds until the claim may be taken over.
        retry_after_ms: u64,
    },
    /// The same id was used for another question.
    Mismatch,
    /// Another caller asked the same question before, and this delivery may not end that call.
    OfAnother,
    /// A person must allow it first.
    AwaitingApproval,
    /// The claim is lost: the event comes too late.
    Lost,
    /// There is nothing to act on.
    Nothing,
}
