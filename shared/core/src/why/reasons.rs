//! For each reason for which a call is held: what goes on by itself, and what a person can do.

use super::explanation::{WaitsFor, WaitsForKind};
use crate::call::{Held, HeldReason};

/// What the call waits for, as its row says it.
pub(super) fn waits_for(held: &Held) -> WaitsFor {
    WaitsFor {
        server: held.server.clone(),
        since: Some(held.since),
        detail: held.detail.clone(),
        last_fault: held.last_fault.clone(),
        ..WaitsFor::new(WaitsForKind::Held, format!("{}: {}", held.reason.as_str(), held.reason.sentence()))
    }
}

/// What happens at the next try.
pub(super) const fn next(reason: HeldReason) -> &'static str {
    match reason {
        HeldReason::ServerUnreachable => "it tries to connect again at",
        HeldReason::ServerFailing => "its server's breaker lets a call through at the earliest at",
        HeldReason::ServerPause => "the server may be asked again at",
        HeldReason::Credential => "the credential is asked for again at",
        HeldReason::AwsError => "AWS is asked again at",
        HeldReason::Share => "it asks for a slot again at",
        HeldReason::BackOff => "its next attempt starts at",
        HeldReason::Paused => "whether the pause is over is looked up at",
        HeldReason::RateLimit => "its turn, or its next try to get one, comes at",
        HeldReason::ConcurrencyLimit => "it asks for a free place again at",
        HeldReason::RetryBudget => "its next attempt is asked for again at",
        HeldReason::NotBefore => "it starts at the earliest at",
        HeldReason::NoTimeLeft => "whether an invocation has the time for it is looked up at",
    }
}

/// What a person can do.
pub(super) fn remedy(held: &Held) -> String {
    let server = held.server.as_ref().map_or_else(|| "the server".to_owned(), |s| format!("server {s}"));
    match held.reason {
        HeldReason::ServerUnreachable => {
            format!(
                "check that {server} runs, and its `url` in the catalog; `toolfleet servers` shows its breaker"
            )
        }
        HeldReason::ServerFailing => {
            format!("look at the last fault and at {server}'s own log; `toolfleet servers` shows its breaker")
        }
        HeldReason::ServerPause => {
            format!("{server} asked for the pause; send it fewer calls, or set a rate limit")
        }
        HeldReason::Credential => {
            format!("check the secret or the token endpoint of {server} (docs/reference/credentials.md)")
        }
        HeldReason::AwsError => {
            "look at the workers' log (`aws_error`): a permission, a throttle, or an outage".into()
        }
        HeldReason::Share => {
            "start more workers, or raise TOOLFLEET_SLOTS; `toolfleet status` shows who has the slots".into()
        }
        HeldReason::BackOff => "look at the last fault; it goes on by itself".into(),
        HeldReason::Paused => "end the pause with `toolfleet resume`, a strike with `toolfleet strike --lift` (`toolfleet switches` lists both)".into(),
        HeldReason::RateLimit | HeldReason::ConcurrencyLimit => {
            "it goes on by itself; `toolfleet limit set` changes the limit".into()
        }
        HeldReason::RetryBudget => {
            format!("{server} fails more often than its retry budget allows; look at the last fault")
        }
        HeldReason::NotBefore => {
            "its caller asked for it; to run it earlier, cancel it and send a new call".into()
        }
        HeldReason::NoTimeLeft => {
            "if it waits again and again: give the function a longer time-out (TimeoutSeconds of lambda.yaml) or the tool a shorter `timeout_ms`, or let a \
             worker that is no function read the queue (docs/guides/deploy-lambda.md)"
                .into()
        }
    }
}
