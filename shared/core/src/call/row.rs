//! The row of a call: plain data. The state table decides how it changes.

use super::caller::Caller;
use super::held::Held;
use crate::definition::ShortDefinitionDigest;
use crate::digest::Digest;
use crate::ids::{CallKey, Nonce, WorkerId};
use crate::outcome::Outcome;
use crate::progress::CallProgress;
use crate::time::Timestamp;

/// The state of a stored call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Known, and not claimed: it is held before its first claim, a cancellation came before its message, or it was
    /// approved.
    Pending,
    /// A worker has the right to execute it until the lease ends.
    Claimed,
    /// A worker requeued it with its attempts counted.
    Released,
    /// The server works on it as a task; a delayed message will poll the task.
    WaitingTask,
    /// A person must allow it first.
    AwaitingApproval,
    /// It has ended; the row has its outcome.
    Done,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Claimed, Self::Released, Self::WaitingTask, Self::AwaitingApproval, Self::Done];

    /// The word in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Claimed => "claimed",
            Self::Released => "released",
            Self::WaitingTask => "waiting_task",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Done => "done",
        }
    }

    /// The state of that word.
    pub fn from_stored(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }
}

/// The row of a call, as the table holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRow {
    /// Whose call it is.
    pub key: CallKey,
    /// Its state.
    pub state: State,
    /// Grows with every write; the guard of the next one.
    pub rev: u64,
    /// Grows with every claim; an older one may write nothing.
    pub fence: u64,
    /// The delivery that holds or held the claim.
    pub nonce: Option<Nonce>,
    /// The worker that holds or held the claim.
    pub worker: Option<WorkerId>,
    /// Until when the claim holds.
    pub lease_until: Option<Timestamp>,
    /// Attempts made so far; a claim that was lost counts as one.
    pub attempts: u32,
    /// Whether it may have had an effect so far: by an attempt, or by another delivery that executes it without a claim.
    pub may_have_executed: bool,
    /// What was asked; absent while only a cancellation is known.
    pub digest: Option<Digest>,
    /// Who asked; absent while only a cancellation is known, and in rows of earlier versions.
    pub caller: Option<Box<Caller>>,
    /// When its first message was sent.
    pub enqueued_at: Timestamp,
    /// After which instant the call is worth nothing; absent while only a cancellation is known, and in rows of earlier versions.
    pub deadline: Option<Timestamp>,
    /// When it was first claimed.
    pub started_at: Option<Timestamp>,
    /// When the caller cancelled it.
    pub cancel_requested_at: Option<Timestamp>,
    /// The handle of the server's task; in a call that is over, of one that went on after it and is to be cancelled.
    pub task: Option<String>,
    /// Whether that task asked in an earlier call, and still has to be given the answers that this one brings.
    pub input_pending: bool,
    /// The earliest time of the next poll, so that duplicates of its message poll no more often than the server wants.
    pub poll_at: Option<Timestamp>,
    /// What it waits for, or waited for before the claim that holds it now.
    pub held: Option<Box<Held>>,
    /// The digest of the tool's definition it ran under.
    pub definition: Option<ShortDefinitionDigest>,
    /// The server's reports, where it was asked for them.
    pub notes: Option<Box<CallProgress>>,
    /// How it ended.
    pub finished: Option<Finished>,
    /// When the row may expire, to the second: the table keeps no more, and a row must equal what comes back of it.
    pub expires_at: Timestamp,
}

impl CallRow {
    /// Whether a delivery that wrote this row is known to have sent the call, with a possible effect. A row that may have executed and was
    /// not sent is that of a call which other deliveries may execute without a claim.
    pub const fn was_sent(&self) -> bool {
        self.may_have_executed && (self.attempts > 0 || self.task.is_some())
    }

    /// What the call waits for, unless a worker holds it or it has ended.
    pub fn held(&self) -> Option<&Held> {
        match self.state {
            State::Pending | State::Released | State::WaitingTask => self.held.as_deref(),
            State::Claimed | State::AwaitingApproval | State::Done => None,
        }
    }
}

/// How and when a call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// How.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
}
