//! Why a call waits although its message was received: the reason, the server, the next try, the last error. It holds no argument of the
//! call and no credential.

use crate::ids::ServerId;
use crate::outcome::{CallError, Outcome, OutcomeKind};
use crate::redact;
use crate::time::Timestamp;

/// A fault's text is cut to this many characters.
const FAULT_CHARS: usize = 300;
/// What exactly a call waits for is cut to this many characters: a target, who and why fit.
const DETAIL_CHARS: usize = 800;

/// The shortest wait of a call that may go on any moment.
const SHORTEST_CHECK_MS: u64 = 1_000;

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
    /// An attempt may take longer than what is left of the invocation of the Lambda function that received it.
    NoTimeLeft,
}

impl HeldReason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
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
        Self::NoTimeLeft,
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
            Self::NoTimeLeft => "no_time_left",
        }
    }

    /// Whether even a short wait becomes a new message with a delay, because it is no failure and may be long.
    pub const fn parks_at_once(self) -> bool {
        match self {
            Self::Share
            | Self::Paused
            | Self::RateLimit
            | Self::ConcurrencyLimit
            | Self::RetryBudget
            | Self::NotBefore
            | Self::NoTimeLeft => true,
            Self::ServerUnreachable
            | Self::ServerFailing
            | Self::ServerPause
            | Self::Credential
            | Self::AwsError
            | Self::BackOff => false,
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
            Self::NoTimeLeft => "an attempt may take longer than what is left of the invocation",
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
        Self { detail: Some(detail.chars().take(DETAIL_CHARS).collect()), ..self }
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

    /// The wait of a call that may go on any moment, which lasts until the deadline: before it the call looks again, each time after half of
    /// what is left.
    #[must_use]
    pub fn until_deadline(self, deadline: Timestamp, now: Timestamp) -> Self {
        let left_ms = deadline.ms_since(now);
        let after_ms = self.next_try_at.ms_since(now).min((left_ms / 2).max(SHORTEST_CHECK_MS)).min(left_ms);
        Self { next_try_at: now.plus_ms(after_ms), ..self }
    }

    /// The wait, if its call waits until `until`. Where that is before the deadline, the last try comes at its end. Nothing where no time is
    /// left.
    pub fn within(self, until: Timestamp, deadline: Timestamp, now: Timestamp) -> Option<Self> {
        if self.next_try_at < until {
            return Some(self);
        }
        let last = until < deadline && now < until;
        last.then(|| Self { next_try_at: now.plus_ms(until.ms_since(now).max(1)), ..self })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn held(after_ms: u64) -> Held {
        Held::new(HeldReason::ServerUnreachable, None, at(1_000), after_ms)
    }

    #[test]
    fn a_wait_that_ends_in_time_stays_as_it_is() {
        assert_eq!(held(500).within(at(2_000), at(9_000), at(1_000)), Some(held(500)));
    }

    #[test]
    fn the_last_try_comes_at_the_end_of_a_bounded_wait() {
        let last = held(5_000).within(at(2_000), at(9_000), at(1_000)).unwrap();
        assert_eq!(last.next_try_at, at(2_000));
        assert!(held(5_000).within(at(2_000), at(9_000), at(2_000)).is_none(), "the bound has passed");
        assert!(held(9_000).within(at(9_000), at(9_000), at(1_000)).is_none(), "the deadline is the bound");
    }

    #[test]
    fn a_paused_call_waits_until_its_deadline() {
        for (left_ms, after_ms) in [(60_000, 30_000), (20_000, 10_000), (1_500, 1_000), (400, 400)] {
            let kept = held(30_000).until_deadline(at(1_000 + left_ms), at(1_000));
            assert_eq!(kept.next_try_at, at(1_000 + after_ms), "{left_ms}");
        }
    }
}
