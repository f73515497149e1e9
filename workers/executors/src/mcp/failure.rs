//! Turns the errors of the MCP client into failures that the pipeline understands.

use toolfleet_core::call::HeldReason;
use toolfleet_core::failure::{Evidence, Failure, Reachability, RetryClass};
use toolfleet_mcp::{Fault, NotSentCause};

/// What an error of the MCP client means to the pipeline.
pub fn failure_of(fault: &Fault) -> Failure {
    Failure {
        class: fault.retry_class(),
        blame: fault.blame(),
        may_have_run: fault.may_have_run(),
        code: fault.code(),
        detail: fault.to_string(),
        summary: fault.summary(),
        evidence: evidence(fault),
        reachability: reachability(fault),
        held: held(fault),
        rpc_code: rpc_code(fault),
    }
}

/// The code of the JSON-RPC error that the server answered with; one beyond 32 bits is none that the protocol knows.
fn rpc_code(fault: &Fault) -> Option<i32> {
    match fault {
        Fault::Rpc { code, .. } | Fault::RpcAmbiguous { code, .. } => i32::try_from(*code).ok(),
        Fault::Connect { .. }
        | Fault::NotSent { .. }
        | Fault::RateLimited { .. }
        | Fault::SessionStoreUnavailable { .. }
        | Fault::Unauthorized { .. }
        | Fault::Forbidden { .. }
        | Fault::Credential { .. }
        | Fault::CredentialPending { .. }
        | Fault::SessionLost
        | Fault::VersionUnsupported { .. }
        | Fault::WrongTransport { .. }
        | Fault::NotResumable { .. }
        | Fault::ServerStatus { .. }
        | Fault::ClientStatus { .. }
        | Fault::AnswerLost { .. }
        | Fault::AttemptTimeout { .. }
        | Fault::InvalidAnswer { .. }
        | Fault::AnswerTooLarge { .. }
        | Fault::AddressRefused { .. }
        | Fault::Redirect { .. } => None,
    }
}

/// What counts for the breakers: only what the server itself did wrong, or asked for, counts against it.
const fn evidence(fault: &Fault) -> Evidence {
    match fault {
        Fault::Connect { .. } => Evidence::NotConnected,
        Fault::NotSent { cause: NotSentCause::Answer, .. } => Evidence::AnswerFailed,
        Fault::AttemptTimeout { .. } => Evidence::TimedOut,
        Fault::RateLimited { retry_after_ms } => Evidence::Paused(*retry_after_ms),
        Fault::ServerStatus { status: 429 | 503, retry_after_ms: Some(ms), .. } => {
            Evidence::Paused(Some(*ms))
        }
        Fault::ServerStatus { status: 429, .. } => Evidence::Paused(None),
        Fault::ServerStatus { status: 503 | 504, .. } => Evidence::Overloaded,
        Fault::ServerStatus { status: 500.., .. }
        | Fault::SessionLost
        | Fault::AnswerLost { .. }
        | Fault::InvalidAnswer { .. } => Evidence::AnswerFailed,
        Fault::Unauthorized { .. }
        | Fault::Forbidden { .. }
        | Fault::VersionUnsupported { .. }
        | Fault::WrongTransport { .. }
        | Fault::Rpc { .. }
        // Also -32603: in many SDKs it is the answer of a tool that threw an error, for example because of its arguments.
        | Fault::RpcAmbiguous { .. }
        | Fault::ServerStatus { .. }
        | Fault::ClientStatus { .. }
        | Fault::AnswerTooLarge { .. }
        | Fault::Redirect { .. } => Evidence::Reached,
        Fault::NotSent {
            cause: NotSentCause::Time | NotSentCause::Place | NotSentCause::Command, ..
        }
        | Fault::SessionStoreUnavailable { .. }
        | Fault::Credential { .. }
        | Fault::CredentialPending { .. }
        | Fault::NotResumable { .. }
        | Fault::AddressRefused { .. } => Evidence::Nothing,
    }
}

/// What is learned about the server's address. Our own session store, a credential, a time-out and a command that does not exist say
/// nothing about it.
fn reachability(fault: &Fault) -> Reachability {
    match fault {
        Fault::NotSent { cause: NotSentCause::Command, .. }
        | Fault::SessionStoreUnavailable { .. }
        | Fault::Credential { .. }
        | Fault::CredentialPending { .. }
        | Fault::AddressRefused { .. }
        | Fault::AnswerLost { .. }
        | Fault::AttemptTimeout { .. } => Reachability::Unknown,
        Fault::Connect { .. }
        | Fault::NotSent { .. }
        | Fault::RateLimited { .. }
        | Fault::Unauthorized { .. }
        | Fault::Forbidden { .. }
        | Fault::SessionLost
        | Fault::VersionUnsupported { .. }
        | Fault::WrongTransport { .. }
        | Fault::NotResumable { .. }
        | Fault::Rpc { .. }
        | Fault::RpcAmbiguous { .. }
        | Fault::ServerStatus { .. }
        | Fault::ClientStatus { .. }
        | Fault::InvalidAnswer { .. }
        | Fault::AnswerTooLarge { .. }
        | Fault::Redirect { .. } => match fault.retry_class() {
            RetryClass::NotExecuted => Reachability::NotReached,
            RetryClass::Pause { .. } | RetryClass::Ambiguous | RetryClass::Permanent => {
                Reachability::Answered
            }
        },
    }
}

/// What a call waits for after it.
const fn held(fault: &Fault) -> HeldReason {
    match (fault, fault.retry_class()) {
        (Fault::Credential { .. } | Fault::CredentialPending { .. }, _) => HeldReason::Credential,
        (Fault::SessionStoreUnavailable { .. }, _) => HeldReason::AwsError,
        // A place for a program may come free at any moment.
        (Fault::NotSent { cause: NotSentCause::Place, .. }, _) => HeldReason::BackOff,
        (_, RetryClass::NotExecuted) => HeldReason::ServerUnreachable,
        (_, RetryClass::Pause { .. }) => HeldReason::ServerPause,
        (_, RetryClass::Ambiguous | RetryClass::Permanent) => HeldReason::BackOff,
    }
}

#[cfg(test)]
mod tests {
    use toolfleet_core::failure::Blame;
    use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
    use toolfleet_core::retry::{AttemptState, Next, after};
    use toolfleet_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_call_that_may_have_run_and_is_unsafe_ends_as_unknown() {
        let faults = [
            Fault::AnswerLost { detail: "reset".into() },
            Fault::InvalidAnswer { detail: String::new() },
            Fault::AnswerTooLarge { limit_bytes: 1 },
            Fault::RpcAmbiguous { code: 42, message: String::new() },
            Fault::ServerStatus { status: 409, detail: String::new(), retry_after_ms: None },
            Fault::ServerStatus { status: 503, detail: String::new(), retry_after_ms: Some(3_000) },
            Fault::Redirect { location: String::new(), may_have_run: MayHaveRun::Unknown },
        ];
        let at = AttemptState {
            attempts: 1,
            max_attempts: 3,
            repeatable: false,
            may_have_executed: false,
            now: Timestamp::from_ms(0),
            deadline: Timestamp::from_ms(100_000),
            backoff_ms: 100,
            tries: 1,
            unreachable_backoff_ms: 200,
            slow: false,
            wait_until: Timestamp::from_ms(100_000),
        };
        for fault in faults {
            let Next::End(outcome) = after(&failure_of(&fault), at) else {
                panic!("{fault} must end the call");
            };
            assert_eq!(outcome.kind, OutcomeKind::OutcomeUnknown, "{fault}");
        }
    }

    #[test]
    fn a_tool_that_threw_an_error_says_nothing_against_its_server() {
        for code in [-32_603, -32_000, 42] {
            let fault = Fault::RpcAmbiguous { code, message: "no such file".into() };
            assert_eq!(failure_of(&fault).evidence, Evidence::Reached);
            assert_eq!(fault.blame(), Blame::Request);
        }
        let failed = Fault::ServerStatus { status: 500, detail: String::new(), retry_after_ms: None };
        assert_eq!((failure_of(&failed).evidence, failed.blame()), (Evidence::AnswerFailed, Blame::Server));
    }

    /// A tool whose callers send wrong arguments would lose its limit to them.
    #[test]
    fn only_refusals_for_load_and_time_outs_speak_of_load() {
        let text = String::new;
        let not_sent = |cause| Fault::NotSent { detail: text(), cause };
        let status = |status, retry_after_ms| Fault::ServerStatus { status, detail: text(), retry_after_ms };
        let load = [
            Fault::RateLimited { retry_after_ms: None },
            Fault::AttemptTimeout { after_ms: 1, detail: text() },
            status(429, None),
            status(503, None),
            status(503, Some(1_000)),
            status(504, None),
        ];
        let none = [
            Fault::Connect { detail: text() },
            not_sent(NotSentCause::Answer),
            not_sent(NotSentCause::Time),
            not_sent(NotSentCause::Place),
            not_sent(NotSentCause::Command),
            Fault::SessionStoreUnavailable { detail: text() },
            Fault::Unauthorized { detail: text() },
            Fault::Forbidden { scope: None, detail: text() },
            Fault::Credential { detail: text() },
            Fault::CredentialPending { detail: text() },
            Fault::SessionLost,
            Fault::VersionUnsupported { supported: Vec::new() },
            Fault::WrongTransport { detail: text() },
            Fault::NotResumable { version: text() },
            Fault::Rpc { code: -32_602, message: text() },
            Fault::RpcAmbiguous { code: -32_603, message: text() },
            status(409, None),
            status(500, None),
            Fault::ClientStatus { status: 400, detail: text() },
            Fault::AnswerLost { detail: text() },
            Fault::InvalidAnswer { detail: text() },
            Fault::AnswerTooLarge { limit_bytes: 1 },
            Fault::AddressRefused { detail: text() },
            Fault::Redirect { location: text(), may_have_run: MayHaveRun::Unknown },
        ];
        let marked = load.map(|fault| (fault, true)).into_iter().chain(none.map(|fault| (fault, false)));
        for (fault, is_load) in marked {
            assert_eq!(failure_of(&fault).evidence.is_overload(), is_load, "{fault:?}");
        }
    }

    #[test]
    fn each_way_of_not_reaching_a_server_is_told_apart() {
        let not_sent = |cause| Fault::NotSent { detail: String::new(), cause };
        let rows = [
            (
                Fault::Connect { detail: String::new() },
                Reachability::NotReached,
                HeldReason::ServerUnreachable,
            ),
            (not_sent(NotSentCause::Answer), Reachability::NotReached, HeldReason::ServerUnreachable),
            (not_sent(NotSentCause::Time), Reachability::NotReached, HeldReason::ServerUnreachable),
            (not_sent(NotSentCause::Place), Reachability::NotReached, HeldReason::BackOff),
            (not_sent(NotSentCause::Command), Reachability::Unknown, HeldReason::BackOff),
            (Fault::SessionLost, Reachability::NotReached, HeldReason::ServerUnreachable),
            (
                Fault::CredentialPending { detail: String::new() },
                Reachability::Unknown,
                HeldReason::Credential,
            ),
            (
                Fault::SessionStoreUnavailable { detail: String::new() },
                Reachability::Unknown,
                HeldReason::AwsError,
            ),
            (Fault::RateLimited { retry_after_ms: None }, Reachability::Answered, HeldReason::ServerPause),
            (Fault::AnswerLost { detail: String::new() }, Reachability::Unknown, HeldReason::BackOff),
            (Fault::InvalidAnswer { detail: String::new() }, Reachability::Answered, HeldReason::BackOff),
        ];
        for (fault, reachability, held) in rows {
            let failure = failure_of(&fault);
            assert_eq!((failure.reachability, failure.held), (reachability, held), "{fault:?}");
        }
    }
}
