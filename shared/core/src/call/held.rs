//! Why a call waits although its message was received: the reason, the server, the next try, the last error. It holds no argument of the
//! call and no credential.

use crate::ids::ServerId;
use crate::outcome::{CallError, Outcome, OutcomeKind};
use crate::redact;
use crate::time::Timestamp;

/// A fault's text is cut to this many characters.
const FAULT_CHARS: usize = 300;

/// Why a call waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeldReason {
    /// No connection to the server can be made.
    ServerUnreachable,
    /// The server's answers to this tenant failed too often.
    ServerFailing,
    /// The server asked this tenant to slow down.
    ServerPause,
    /// A secret or token cannot be had at the moment.
    Credential,
    /// An AWS request fails.
    AwsError,
    /// One server or one tenant has its share of the worker's slots.
    Share,
    /// An attempt failed, and the next one is not due.
    BackOff,
    /// An operator has paused the server.
    Paused,
}

impl HeldReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::ServerUnreachable,
        Self::ServerFailing,
        Self::ServerPause,
        Self::Credential,
        Self::AwsError,
        Self::Share,
        Self::BackOff,
        Self::Paused,
    ];

    /// The word in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServerUnreachable => "server_unreachable",
            Self::ServerFailing => "server_failing",
            Self::ServerPause => "server_pause",
            Self::Credential => "credential",
            Self::AwsError => "aws_error",
            Self::Share => "share",
            Self::BackOff => "back_off",
            Self::Paused => "paused",
        }
    }

    /// The reason of that word.
    pub fn from_stored(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// The reason as a part of a sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ServerUnreachable => "the server cannot be reached",
            Self::ServerFailing => "the server's answers to this tenant failed too often",
            Self::ServerPause => "the server asks this tenant to slow down",
            Self::Credential => "the server's credential cannot be had at the moment",
            Self::AwsError => "an AWS request fails",
            Self::Share => "the server or the tenant has its share of the worker's slots",
            Self::BackOff => "an attempt failed and the next one is not due",
            Self::Paused => "an operator has paused the server for this tenant",
        }
    }
}

/// What a call waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Why.
    pub reason: HeldReason,
    /// The server it waits for, where it waits for one.
    pub server: Option<ServerId>,
    /// Since when it has waited for this reason and this server without a break.
    pub since: Timestamp,
    /// When it is tried next.
    pub next_try_at: Timestamp,
    /// The last fault, shortened.
    pub last_fault: Option<String>,
}

impl Held {
    /// A wait that begins at `now` and ends `after_ms` later.
    pub const fn new(reason: HeldReason, server: Option<ServerId>, now: Timestamp, after_ms: u64) -> Self {
        Self { reason, server, since: now, next_try_at: now.plus_ms(after_ms), last_fault: None }
    }

    /// The same with the last fault's text, shortened.
    #[must_use]
    pub fn with_fault(self, fault: impl ToString) -> Self {
        let text = redact::text(&fault.to_string()).chars().take(FAULT_CHARS).collect();
        Self { last_fault: Some(text), ..self }
    }

    /// The end of a call that expired while it waited so, with what it waited for.
    pub(super) fn with_reason_of_wait(&self, outcome: Outcome) -> Outcome {
        if outcome.kind != OutcomeKind::Expired {
            return outcome;
        }
        let server = self.server.as_ref().map_or_else(String::new, |server| format!(" (server `{server}`)"));
        let fault =
            self.last_fault.as_ref().map_or_else(String::new, |fault| format!(" Last fault: {fault}."));
        let waited = format!(" It waited because {}{server}.{fault}", self.reason.sentence());
        let explained = |why: CallError| CallError { message: format!("{}{waited}", why.message), ..why };
        Outcome { error: outcome.error.map(explained), ..outcome }
    }

    /// The same, as the continuation of an earlier wait where it is one.
    pub(super) fn after(self, earlier: Option<&Self>) -> Self {
        match earlier {
            Some(earlier) if earlier.reason == self.reason && earlier.server == self.server => Self {
                since: earlier.since,
                last_fault: self.last_fault.or_else(|| earlier.last_fault.clone()),
                ..self
            },
            Some(_) | None => self,
        }
    }
}
