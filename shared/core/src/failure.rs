//! A failed attempt, in words that hold for every kind of target: whether to retry, whose fault it was, whether the tool may have run.
//!
//! Each executor turns the errors of its own protocol into a [`Failure`]. Retry, breaker, reachability and hold reasons read it and
//! know no protocol.

use std::fmt;

use crate::call::HeldReason;
use crate::outcome::{Code, MayHaveRun};

/// What may follow a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClass {
    /// The tool was not executed: any call may try again.
    NotExecuted,
    /// The server asks for a pause: requeue the call for that long. A call that is not safe to repeat goes on only if the failure
    /// says that the tool did not run.
    Pause {
        /// How long, in milliseconds, where the server said.
        after_ms: Option<u64>,
    },
    /// The tool may have run: only a call that is safe to repeat may try again.
    Ambiguous,
    /// Another try will not help.
    Permanent,
}

/// Whose fault a failed attempt was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The server is broken or away.
    Server,
    /// The request is wrong; the server is fine.
    Request,
    /// Our configuration or credentials are wrong; the server is fine.
    Configuration,
}

/// What a failed attempt tells the breakers of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// No connection was made.
    NotConnected,
    /// The server was reached, and its answer to this tenant was a failure of its own.
    AnswerFailed,
    /// The same, and the answer says that the server has too much to do (HTTP 503, or 504 of a proxy that waited for it in vain).
    Overloaded,
    /// The server was reached, and asks this tenant to slow down, for at least so many milliseconds where it says so.
    Paused(Option<u64>),
    /// The answer did not come within the attempt's time.
    TimedOut,
    /// The server was reached; the caller or an operator has to fix the rest.
    Reached,
    /// Nothing.
    Nothing,
}

impl Evidence {
    /// Whether it says that the server has more requests than it can answer. A failure of one request does not, nor does a refusal of it.
    pub const fn is_overload(self) -> bool {
        match self {
            Self::Overloaded | Self::Paused(_) | Self::TimedOut => true,
            Self::NotConnected | Self::AnswerFailed | Self::Reached | Self::Nothing => false,
        }
    }
}

/// What a failed attempt tells about the server's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// Something answered there.
    Answered,
    /// Nothing of use answered there.
    NotReached,
    /// Nothing.
    Unknown,
}

/// What one attempt met instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What may follow.
    pub class: RetryClass,
    /// Whose fault it was.
    pub blame: Blame,
    /// Whether the tool may have run.
    pub may_have_run: MayHaveRun,
    /// The code of a call that ends by it.
    pub code: Code,
    /// What happened, as a sentence without a full stop. It may quote the server.
    pub detail: String,
    /// The same without any word of the server: what other calls, callers and tenants may read.
    pub summary: String,
    /// What the breakers learn from it.
    pub evidence: Evidence,
    /// What is learned about the server's address.
    pub reachability: Reachability,
    /// What a call waits for after it, where the call waits.
    pub held: HeldReason,
    /// The code of the JSON-RPC error that the server answered with, where it did.
    pub rpc_code: Option<i32>,
}

impl Failure {
    /// The same failure with the pause that follows from it, in milliseconds. It stays as it is where it asks for none.
    #[must_use]
    pub fn paused_for(mut self, pause_ms: Option<u64>) -> Self {
        if let (RetryClass::Pause { after_ms }, Some(_)) = (&mut self.class, pause_ms) {
            *after_ms = pause_ms;
        }
        self
    }

    /// Whether the request, or its answer, was larger than somebody takes: then a smaller one may succeed.
    pub fn is_too_large(&self) -> bool {
        matches!(self.code, Code::RequestTooLarge | Code::AnswerTooLarge)
    }

    /// Whether another try will not help.
    pub fn is_permanent(&self) -> bool {
        self.class == RetryClass::Permanent
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// Why a server is not called now, and when it is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: HeldReason,
    /// Milliseconds until the next try.
    pub retry_after_ms: u64,
    /// The summary of the last failure.
    pub last_failure: Option<String>,
    /// What exactly refuses it: which limit, or who paused what and why.
    pub detail: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_replaces_only_the_pause_of_a_failure() {
        let of = |class| Failure {
            class,
            blame: Blame::Server,
            may_have_run: MayHaveRun::No,
            code: Code::RateLimited,
            detail: "the server asks to slow down".to_owned(),
            summary: String::new(),
            evidence: Evidence::Paused(None),
            reachability: Reachability::Answered,
            held: HeldReason::ServerPause,
            rpc_code: None,
        };
        let pause = |after_ms| RetryClass::Pause { after_ms };
        assert_eq!(of(pause(None)).paused_for(Some(7)).class, pause(Some(7)));
        assert_eq!(of(pause(Some(3))).paused_for(None).class, pause(Some(3)));
        assert_eq!(of(RetryClass::Ambiguous).paused_for(Some(7)).class, RetryClass::Ambiguous);
    }
}
