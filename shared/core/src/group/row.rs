//! The row of a group: its terms, which members have ended, and its decision.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::CallId;
use crate::request::{GroupKey, Policy};
use crate::time::Timestamp;

/// The latest deadline of a group after its first member was sent: 14 days, as long as a call can wait.
pub const LATEST_DEADLINE_MS: u64 = 14 * 24 * 60 * 60 * 1_000;

/// What the first member that came has said of its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// How many members it has.
    pub size: u32,
    /// When it is decided.
    pub policy: Policy,
    /// When it is decided in any case.
    pub deadline: Timestamp,
    /// The SQS queue that its notice goes to.
    pub reply: Option<String>,
}

/// The row of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    /// Which group.
    pub key: GroupKey,
    /// Its terms.
    pub terms: Terms,
    /// The call that made the row. Its message is not deleted before the timer is sent.
    pub made_by: CallId,
    /// Whether the timer message was sent.
    pub timer_sent: bool,
    /// The members that succeeded.
    pub ok: BTreeSet<u32>,
    /// The members that ended otherwise.
    pub failed: BTreeSet<u32>,
    /// How it was decided.
    pub decision: Option<Decision>,
    /// Whether the notice of the decision was sent.
    pub notified: bool,
    /// When the row may expire, to the second.
    pub expires_at: Timestamp,
}

/// How a group was decided. It never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Its result.
    pub result: GroupResult,
    /// Who decided it, and therefore sends the notice, again at each redelivery.
    pub by: Decider,
    /// When.
    pub at: Timestamp,
    /// How many members had succeeded then.
    pub succeeded: u32,
    /// How many had ended otherwise.
    pub failed: u32,
}

/// The result of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupResult {
    /// As its policy says.
    Succeeded,
    /// As its policy says.
    Failed,
    /// Its deadline came first.
    Incomplete,
    /// Its caller cancelled it.
    Cancelled,
}

impl GroupResult {
    /// Every result.
    pub const ALL: [Self; 4] = [Self::Succeeded, Self::Failed, Self::Incomplete, Self::Cancelled];

    /// The word in rows, notices and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Incomplete => "incomplete",
            Self::Cancelled => "cancelled",
        }
    }

    /// The result of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|result| result.as_str() == word)
    }
}

impl fmt::Display for GroupResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose message decided a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider {
    /// The member of that index.
    Member(u32),
    /// The timer.
    Timer,
    /// The message of a cancellation.
    Cancel,
}

impl Decider {
    /// The decider of that text.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "timer" => Some(Self::Timer),
            "cancel" => Some(Self::Cancel),
            other => other.strip_prefix("member:")?.parse().ok().map(Self::Member),
        }
    }
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(index) => write!(f, "member:{index}"),
            Self::Timer => f.write_str("timer"),
            Self::Cancel => f.write_str("cancel"),
        }
    }
}

impl GroupRow {
    /// How many members have not ended.
    pub fn open(&self) -> u32 {
        let ended = u32::try_from(self.ok.union(&self.failed).count()).unwrap_or(u32::MAX);
        self.terms.size.saturating_sub(ended)
    }

    /// Whether that message has to send the notice: the one that decided, again until the row says that it was sent. The timer does it too:
    /// of two deliveries of one message, one can delete it while the other dies before it sends.
    pub fn owes_notice(&self, own: Decider) -> bool {
        let decided = |decision: Decision| decision.by == own || own == Decider::Timer;
        !self.notified && self.terms.reply.is_some() && self.decision.is_some_and(decided)
    }

    /// Whether a cancellation may wait for the group that came before any of its members: its row is new, for its timer is not noted yet. The
    /// message of such a cancellation is gone, so whoever finds it decides, and sends the notice too.
    pub fn may_be_cancelled_ahead(&self) -> bool {
        !self.timer_sent && (self.decision.is_none() || self.owes_notice(Decider::Cancel))
    }

    /// Whether that call's message must send the timer before it is deleted. A decided group needs it too, until its notice was sent.
    pub fn needs_timer_of(&self, call: &CallId) -> bool {
        !self.timer_sent && !self.notified && self.made_by == *call
    }
}
