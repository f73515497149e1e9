//! What a call waits for, for how long, and when it can wait no longer.

use std::sync::Arc;

use toolfleet_core::call::{Held, HeldReason};
use toolfleet_core::failure::{Failure, Refusal};
use toolfleet_core::ids::ServerId;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome};
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

use super::disposition::RequeueReason;
use super::inbound::InboundCall;
use super::redaction;
use crate::context::WorkerContext;
use crate::gate::NoSeat;

/// A shorter wait is not stored in the call's row.
const SHORTEST_STORED_WAIT_MS: u64 = 3_000;
/// Over how long retries that wait for the budget are spread, in milliseconds.
const LONGEST_RETRY_SPREAD_MS: u64 = 3_000;
/// The longest wait for a seat: one may be free long before.
const LONGEST_SHARE_WAIT_MS: u64 = 15_000;
/// The same where no other tenant was seen: no call goes back to make room for others, so it is tried again soon.
const LONGEST_WAIT_ALONE_MS: u64 = 3_000;

/// A wait that the call's caller can read.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) after_ms: u64,
    pub(super) held: Box<Held>,
    /// Its server or tool is silent.
    pub(super) silent: bool,
}

impl Wait {
    /// That wait from `now` on.
    fn of(held: Held, now: Timestamp) -> Self {
        Self { after_ms: held.next_try_at.ms_since(now), held: Box::new(held), silent: false }
    }

    fn new(reason: HeldReason, server: &ServerId, now: Timestamp, after_ms: u64) -> Self {
        Self {
            after_ms,
            held: Box::new(Held::new(reason, Some(server.clone()), now, after_ms)),
            silent: false,
        }
    }

    /// A wait for a server after a failure.
    pub(super) fn after_failure(
        context: &WorkerContext,
        server: &ServerId,
        failure: &Failure,
        after_ms: u64,
    ) -> Self {
        Self::new(failure.held, server, context.now(), after_ms).with_fault(failure)
    }

    /// A wait for a server whose gate refuses the call.
    pub(super) fn refused(context: &WorkerContext, server: &ServerId, refusal: Refusal) -> Self {
        let wait = Self::new(refusal.reason, server, context.now(), refusal.retry_after_ms);
        let wait = match refusal.detail {
            Some(detail) => Self { held: Box::new(wait.held.with_detail(&detail)), ..wait },
            None => wait,
        };
        match refusal.last_failure {
            Some(failure) => wait.with_fault(failure),
            None => wait,
        }
    }

    /// The wait of a call whose server or tenant has its share of this worker's slots; `full` says what holds them. It grows with each
    /// time that the call was parked and ends at the deadline at the latest.
    pub(super) fn for_a_seat(
        context: &WorkerContext,
        inbound: &InboundCall,
        server: &ServerId,
        deadline: Timestamp,
        full: &NoSeat,
    ) -> Self {
        let now = context.now();
        let longest_ms = if full.alone { LONGEST_WAIT_ALONE_MS } else { LONGEST_SHARE_WAIT_MS };
        let grown_ms = share_wait_ms(inbound.parks, fastrand::u64(0..250)).min(longest_ms);
        let after_ms = grown_ms.min(deadline.ms_since(now));
        // More workers would run it, so it is work that waits; a call of a silent server is not.
        context.activity.lacks_slot(after_ms);
        let wait = Self::new(HeldReason::Share, server, now, after_ms);
        Self { held: Box::new(wait.held.with_detail(&full.detail)), ..wait }
    }

    /// The wait of a call whose server or tool is silent: as one for a seat that has waited twice before, because an answer is not expected
    /// soon.
    pub(super) fn for_a_silent_server(
        context: &WorkerContext,
        inbound: &InboundCall,
        server: &ServerId,
        deadline: Timestamp,
        silent: &str,
    ) -> Self {
        let now = context.now();
        let after_ms = share_wait_ms(inbound.parks.saturating_add(2), fastrand::u64(0..250));
        let wait = Self::new(HeldReason::Share, server, now, after_ms.min(deadline.ms_since(now)));
        Self { held: Box::new(wait.held.with_detail(silent)), silent: true, ..wait }
    }

    /// The wait of a retry that is not within its server's budget.
    pub(super) fn for_retry_budget(context: &WorkerContext, server: &ServerId, after_ms: u64) -> Self {
        let after_ms = after_ms.saturating_add(fastrand::u64(0..LONGEST_RETRY_SPREAD_MS));
        let wait = Self::new(HeldReason::RetryBudget, server, context.now(), after_ms);
        Self { held: Box::new(wait.held.with_detail(&format!("retries at server:{server}"))), ..wait }
    }

    /// The wait of a call for an invocation that has the time for it, until its deadline at the latest; `detail` where no invocation has it.
    pub(super) fn for_time(
        context: &WorkerContext,
        server: &ServerId,
        deadline: Timestamp,
        after_ms: u64,
        detail: Option<&str>,
    ) -> Self {
        let now = context.now();
        let held = Held::new(HeldReason::NoTimeLeft, Some(server.clone()), now, after_ms);
        let held = held.until_deadline(deadline, now);
        Self::of(detail.into_iter().fold(held, Held::with_detail), now)
    }

    /// The wait of a call whose turns came while the worker could not send it.
    pub(super) fn after_missed_turns(context: &WorkerContext, server: &ServerId) -> Self {
        let wait = Self::new(HeldReason::RateLimit, server, context.now(), 1_000);
        Self { held: Box::new(wait.held.with_detail("the worker was too slow for its turns")), ..wait }
    }

    /// The same until its message can be received again, at the call's deadline at the latest: then its end is due. In a queue that keeps its
    /// order, that may be later than the call wishes.
    pub(super) fn until_visible(self, inbound: &InboundCall, deadline: Timestamp, now: Timestamp) -> Self {
        let after_ms = inbound.away_ms(self.after_ms.min(deadline.ms_since(now)));
        if after_ms == self.after_ms {
            return self;
        }
        let held = Held { next_try_at: now.plus_ms(after_ms), ..*self.held };
        Self { after_ms, held: Box::new(held), ..self }
    }

    fn with_fault(self, fault: impl ToString) -> Self {
        Self { held: Box::new(self.held.with_fault(fault)), ..self }
    }

    /// Why the message goes back to its queue.
    pub(super) const fn requeue_reason(&self) -> RequeueReason {
        if self.silent { RequeueReason::ServerSilent } else { RequeueReason::Held(self.held.reason) }
    }

    /// Whether the row says what the call waits for: a short wait writes nothing, so that the usual call costs no write more.
    pub(super) const fn is_stored(&self, enqueued_at: Timestamp, now: Timestamp) -> bool {
        self.after_ms >= SHORTEST_STORED_WAIT_MS || now.ms_since(enqueued_at) >= SHORTEST_STORED_WAIT_MS
    }

    /// Logs the server, the reason and the next try.
    pub(super) fn log(&self, request: &CallRequest) {
        let Held { reason, server, next_try_at, last_fault, .. } = &*self.held;
        let server = server.as_ref().map(ServerId::as_str);
        let fault = last_fault.as_ref().map(|fault| redaction::for_the_log(fault, request));
        tracing::info!(
            call = %request.key, server, reason = reason.as_str(), %next_try_at, fault, code = "held",
            "a call waits: {}", reason.sentence()
        );
    }
}

/// The wait for a seat of a call that was parked so often: 1 s, then twice as long each time. `jitter` is at most a quarter of a second in
/// milliseconds, times the doublings.
fn share_wait_ms(parks: u32, jitter: u64) -> u64 {
    (1_000_u64.saturating_add(jitter) << parks.min(5)).min(LONGEST_SHARE_WAIT_MS)
}

/// Until when a call waits for a server after `since`.
pub(super) fn waits_until(
    context: &WorkerContext,
    server: &ServerId,
    reason: HeldReason,
    since: Timestamp,
    deadline: Timestamp,
) -> Timestamp {
    let has_answered = || context.gate.reachable().has_answered(server, context.now());
    if reason != HeldReason::ServerUnreachable || has_answered() {
        return deadline;
    }
    // It cannot be reached and has not answered this worker within the last hour: a misspelt address is not
    // tried for long.
    since.plus_ms(context.limits.unreachable_wait_ms()).min(deadline)
}

/// The wait, if the call can continue after it; the end of the call otherwise.
pub(super) fn within(
    context: &WorkerContext,
    server: &ServerId,
    wait: Wait,
    since: Timestamp,
    deadline: Timestamp,
    ran: MayHaveRun,
) -> Result<Wait, Outcome> {
    // What an operator, a limit or a time set by the caller holds is held until the deadline: it may go on any moment.
    if wait.requeue_reason().parks_at_once() && context.now() < deadline {
        return Ok(Wait::of(wait.held.until_deadline(deadline, context.now()), context.now()));
    }
    let until = waits_until(context, server, wait.held.reason, since, deadline);
    if let Some(held) = wait.held.clone().within(until, deadline, context.now()) {
        return Ok(Wait::of(held, context.now()));
    }
    let last_failure = || context.gate.reachable().last_failure(server);
    let last = wait.held.last_fault.as_deref().map(Arc::from).or_else(last_failure);
    Err(unavailable(server, &wait, last.as_deref(), ran))
}

/// The end of a call that can wait no longer.
fn unavailable(server: &ServerId, wait: &Wait, last: Option<&str>, ran: MayHaveRun) -> Outcome {
    let last = last.map_or_else(String::new, |last| format!(" The last try met: {last}."));
    let text = format!(
        "Server `{server}` is not available, and the call cannot wait any longer: {}.{last}{}",
        wait.held.reason.sentence(),
        if ran == MayHaveRun::No { " Nothing was sent to the tool." } else { "" }
    );
    Outcome::failed(CallError::new(code_of(wait.held.reason), text, ran).retryable(Some(wait.after_ms)))
}

/// The code of a call that can wait no longer.
const fn code_of(reason: HeldReason) -> Code {
    match reason {
        HeldReason::ServerUnreachable | HeldReason::Share => Code::ServerUnreachable,
        HeldReason::ServerFailing | HeldReason::BackOff => Code::ServerError,
        HeldReason::ServerPause
        | HeldReason::RateLimit
        | HeldReason::ConcurrencyLimit
        | HeldReason::RetryBudget => Code::RateLimited,
        HeldReason::NotBefore | HeldReason::NoTimeLeft => Code::DeadlineExceeded,
        HeldReason::Credential => Code::CredentialUnavailable,
        HeldReason::AwsError => Code::InternalError,
        HeldReason::Paused => Code::Paused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn wait(after_ms: u64) -> Wait {
        Wait::new(HeldReason::ServerUnreachable, &ServerId::parse("crm").unwrap(), at(1_000), after_ms)
    }

    #[test]
    fn the_wait_for_a_seat_doubles_up_to_15_s() {
        let waits: Vec<_> = (0..6).map(|parks| share_wait_ms(parks, 0)).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        assert_eq!((share_wait_ms(1, 250), share_wait_ms(u32::MAX, 250)), (2_500, 15_000));
    }

    #[test]
    fn only_a_long_wait_or_one_of_many_is_stored() {
        let rows = [(2_999, 1_000, false), (3_000, 1_000, true), (10, 3_999, false), (10, 4_000, true)];
        for (after_ms, now, stored) in rows {
            assert_eq!(wait(after_ms).is_stored(at(1_000), at(now)), stored, "{after_ms} ms at {now}");
        }
    }

    #[test]
    fn a_call_that_cannot_wait_ends_with_reason_and_last_failure() {
        let server = ServerId::parse("crm").unwrap();
        let error = unavailable(&server, &wait(500), Some("refused"), MayHaveRun::No).error.unwrap();
        assert_eq!((error.code, error.retry_after_ms), (Code::ServerUnreachable, Some(500)));
        assert!(error.retryable && error.message.contains("The last try met: refused. Nothing was sent"));
        let error = unavailable(&server, &wait(500), None, MayHaveRun::Unknown).error.unwrap();
        assert!(!error.message.contains("Nothing was sent"), "{}", error.message);
        for reason in HeldReason::ALL {
            assert!(!code_of(reason).as_str().is_empty());
        }
    }
}
