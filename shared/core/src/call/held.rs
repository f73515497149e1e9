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
    /// An operator has paused the server, the tool or the tenant.
    Paused,
    /// A rate limit has no turn for it yet.
    RateLimit,
    /// A concurrency limit is used up.
    ConcurrencyLimit,
    /// The server's retry budget is used up.
    RetryBudget,
    /// Its own `not_before` has not come.
    NotBefore,
}

impl HeldReason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::ServerUnreachable,
        Self::ServerFailing,
        Self::ServerPause,
        Self::Credential,
        Self::AwsError,
        Self::Share,
        Self::BackOff,
        Self::Paused,
        Self::RateLimit,
        Self::ConcurrencyLimit,
        Self::RetryBudget,
        Self::NotBefore,
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
            Self::RateLimit => "rate_limit",
            Self::ConcurrencyLimit => "concurrency_limit",
            Self::RetryBudget => "retry_budget",
            Self::NotBefore => "not_before",
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
            Self::Paused => "an operator has paused what it needs",
            Self::RateLimit => "a rate limit has no turn for it yet",
            Self::ConcurrencyLimit => "a concurrency limit is used up",
            Self::RetryBudget => "the server's retry budget is used up",
            Self::NotBefore => "its `not_before` has not come",
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
    /// What exactly it waits for: which limit, or who paused what and why.
    pub detail: Option<String>,
}

impl Held {
    /// A wait that begins at `now` and ends `after_ms` later.
    pub const fn new(reason: HeldReason, server: Option<ServerId>, now: Timestamp, after_ms: u64) -> Self {
        let next_try_at = now.plus_ms(after_ms);
        Self { reason, server, since: now, next_try_at, last_fault: None, detail: None }
    }

    /// The same with the last fault's text, shortened.
    #[must_use]
    pub fn with_fault(self, fault: impl ToString) -> Self {
        let text = redact::text(&fault.to_string()).chars().take(FAULT_CHARS).collect();
        Self { last_fault: Some(text), ..self }
    }

    /// The same with what exactly it waits for, shortened.
    #[must_use]
    pub fn with_detail(self, detail: &str) -> Self {
        Self { detail: Some(detail.chars().take(FAULT_CHARS).collect()), ..self }
    }

    /// The end of a call that expired while it waited so, with what it waited for.
    pub(super) fn with_reason_of_wait(&self, outcome: Outcome) -> Outcome {
        if outcome.kind != OutcomeKind::Expired {
            return outcome;
        }
        let server = self.server.as_ref().map_or_else(String::new, |server| format!(" (server `{server}`)"));
        let fault =
            self.last_fault.as_ref().map_or_else(String::new, |fault| format!(" Last fault: {fault}."));
        let detail = self.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
        let waited = format!(" It waited because {}{server}{detail}.{fault}", self.reason.sentence());
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
