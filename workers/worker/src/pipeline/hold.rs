//! Holds a call visibly: its row says what it waits for and when it is tried next.
//!
//! A wait of a moment writes nothing, so that the usual call costs what it costs; a longer one, or one of many, costs one write.
//!
//! **Invariant:** a call that waits longer than [`WORTH_TELLING_MS`] before its claim has a row that says why.

use std::sync::Arc;

use toolfleet_aws::AwsError;
use toolfleet_core::call::{Event, Held, HeldReason, Rejection};
use toolfleet_core::failure::{Failure, Refusal};
use toolfleet_core::ids::ServerId;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome};
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

use super::apply::{Applied, apply};
use super::audit;
use super::disposition::{Disposition, RequeueReason};
use super::inbound::InboundCall;
use super::record;
use crate::backoff;
use crate::context::WorkerContext;

/// A shorter wait is not written down.
pub(super) const WORTH_TELLING_MS: u64 = 3_000;

/// A wait that the call's caller can read.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) after_ms: u64,
    pub(super) held: Box<Held>,
}

impl Wait {
    /// A wait for a server after a failure.
    pub(super) fn after_failure(
        context: &WorkerContext,
        server: &ServerId,
        failure: &Failure,
        after_ms: u64,
    ) -> Self {
        Self::for_server(context, server, failure.held, after_ms).with_fault(failure)
    }

    /// A wait for a server whose breaker is open, or that asked for a pause.
    pub(super) fn refused(context: &WorkerContext, server: &ServerId, refusal: Refusal) -> Self {
        let wait = Self::for_server(context, server, refusal.reason, refusal.retry_after_ms);
        match refusal.last_failure {
            Some(fault) => wait.with_fault(fault),
            None => wait,
        }
    }

    /// A wait for a server.
    pub(super) fn for_server(
        context: &WorkerContext,
        server: &ServerId,
        reason: HeldReason,
        after_ms: u64,
    ) -> Self {
        let held = Held::new(reason, Some(server.clone()), context.now(), after_ms);
        Self { after_ms, held: Box::new(held) }
    }

    /// The same with what was last seen to go wrong.
    pub(super) fn with_fault(self, fault: impl ToString) -> Self {
        Self { held: Box::new(self.held.with_fault(fault)), ..self }
    }

    /// Why the message goes back to its queue.
    pub(super) const fn requeue_reason(&self) -> RequeueReason {
        RequeueReason::Held(self.held.reason)
    }

    /// What the call waits for, as a part of a sentence.
    pub(super) const fn why(&self) -> &'static str {
        self.held.reason.sentence()
    }

    /// Whether somebody may ask before it is over.
    fn is_worth_telling(&self, context: &WorkerContext, inbound: &InboundCall) -> bool {
        self.after_ms >= WORTH_TELLING_MS || context.now().ms_since(inbound.enqueued_at) >= WORTH_TELLING_MS
    }

    /// Names server and next try in the log.
    pub(super) fn log(&self, request: &CallRequest) {
        let Held { reason, server, next_try_at, last_fault, .. } = &*self.held;
        let server = server.as_ref().map(ServerId::as_str);
        let fault = last_fault.as_ref().map(|fault| audit::for_the_log(fault, request));
        tracing::info!(
            call = %request.key, server, reason = reason.as_str(), %next_try_at, fault, code = "held",
            "a call waits: {}", reason.sentence()
        );
    }
}

/// The longest wait for a seat: one may be free long before.
const LONGEST_SHARE_WAIT_MS: u64 = 15_000;

/// The wait of a call whose server or tenant has its share of this worker's slots. At its deadline it comes back.
pub(super) fn share(
    context: &WorkerContext,
    inbound: &InboundCall,
    server: &ServerId,
    deadline: Timestamp,
) -> Wait {
    let grown_ms = backoff::after_tries(inbound.tries()).clamp(1_000, LONGEST_SHARE_WAIT_MS);
    let after_ms = grown_ms.min(deadline.ms_since(context.now()));
    Wait::for_server(context, server, HeldReason::Share, after_ms)
}

/// Until when a call waits for a server: its deadline. One that cannot be reached, and has not answered this worker within the last
/// hour, is waited for until `TOOLFLEET_UNREACHABLE_WAIT_MS` after `since`, because nobody gains from a misspelt address that is tried
/// for long.
pub(super) fn waits_until(
    context: &WorkerContext,
    server: &ServerId,
    reason: HeldReason,
    since: Timestamp,
    deadline: Timestamp,
) -> Timestamp {
    if reason != HeldReason::ServerUnreachable || context.reachable.has_answered(server, context.now()) {
        return deadline;
    }
    since.plus_ms(context.limits.unreachable_wait_ms()).min(deadline)
}

/// The wait, if the call can go on after it; the end of the call otherwise. The last try comes at the end of a wait that is bounded.
pub(super) fn within(
    context: &WorkerContext,
    server: &ServerId,
    wait: Wait,
    since: Timestamp,
    deadline: Timestamp,
    ran: MayHaveRun,
) -> Result<Wait, Outcome> {
    let now = context.now();
    let until = waits_until(context, server, wait.held.reason, since, deadline);
    if wait.held.next_try_at < until {
        return Ok(wait);
    }
    if until < deadline && now < until {
        let after_ms = until.ms_since(now).max(1);
        let held = Box::new(Held { next_try_at: now.plus_ms(after_ms), ..*wait.held });
        return Ok(Wait { after_ms, held });
    }
    Err(unavailable(context, server, ran, &wait))
}

/// The end of a call that can wait no longer.
fn unavailable(context: &WorkerContext, server: &ServerId, ran: MayHaveRun, wait: &Wait) -> Outcome {
    let last =
        wait.held.last_fault.as_deref().map(Arc::from).or_else(|| context.reachable.last_failure(server));
    let last = last.map_or_else(String::new, |last| format!(" The last try met: {last}."));
    let text = format!(
        "Server `{server}` is not available, and the call cannot wait any longer: {}.{last}{}",
        wait.why(),
        if ran == MayHaveRun::No { " Nothing was sent to the tool." } else { "" }
    );
    Outcome::failed(CallError::new(code_of(wait.held.reason), text, ran).retryable(Some(wait.after_ms)))
}

/// The code of a call that can wait no longer.
const fn code_of(reason: HeldReason) -> Code {
    match reason {
        HeldReason::ServerUnreachable | HeldReason::Share => Code::ServerUnreachable,
        HeldReason::ServerFailing | HeldReason::BackOff => Code::ServerError,
        HeldReason::ServerPause => Code::RateLimited,
        HeldReason::Credential => Code::CredentialUnavailable,
        HeldReason::AwsError => Code::InternalError,
    }
}

/// Writes down, before the call's claim, what it waits for.
pub(super) async fn hold(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    wait: Wait,
) -> Result<Disposition, AwsError> {
    let (after_ms, reason) = (wait.after_ms, wait.requeue_reason());
    if !wait.is_worth_telling(context, inbound) {
        return Ok(Disposition::Requeued { after_ms, reason });
    }
    wait.log(&request);
    let event = Event::Hold { visit: inbound.visit(context, &request, false), held: *wait.held };
    match apply(&context.calls, None, &event).await? {
        Applied::Stored { row, .. } if row.finished.is_some() => {
            record::stored(context, inbound, &row).await;
            let recorded = record::record_finished(context, inbound, request, *row).await?;
            Ok(Disposition::completed(recorded))
        }
        Applied::Rejected { row: Some(row), rejection: Rejection::AlreadyRecorded } => {
            let recorded = record::record_finished(context, inbound, request, *row).await?;
            Ok(Disposition::completed(recorded))
        }
        Applied::Rejected { rejection: Rejection::Mismatch, .. } => {
            Ok(Disposition::completed(record::mismatch(context, inbound, request).await?))
        }
        Applied::Rejected { rejection: Rejection::HeldElsewhere { retry_after_ms }, .. } => {
            let after_ms = inbound.wait_for_holder_ms(retry_after_ms);
            Ok(Disposition::Requeued { after_ms, reason: RequeueReason::HeldElsewhere })
        }
        Applied::Stored { .. }
        | Applied::Rejected {
            rejection:
                Rejection::AlreadyRecorded
                | Rejection::OfAnother
                | Rejection::AwaitingApproval
                | Rejection::Lost
                | Rejection::Nothing,
            ..
        } => Ok(Disposition::Requeued { after_ms, reason }),
    }
}
