//! Ends a dead letter: a message that was received too often, whose call would have no end without this.
//!
//! ```text
//! decode ─▶ is it due? ─▶ fetch ─▶ record ─▶ notify ─▶ acknowledge
//! ```
//!
//! A message that cannot be read is never due: its record is written, and it stays until an operator takes it or the queue's retention
//! ends. The call's row decides the end: a call without a row ends as `dead_lettered`, one that may have reached its tool as
//! `outcome_unknown`; one that ended before keeps its outcome and gets only what is missing of its record.
//!
//! No tool is called; a server that still works on the call as a task is asked to stop. A dead letter is deleted only with the proof of a
//! record.

use std::sync::Arc;

use toolfleet_aws::AwsError;
use toolfleet_aws::queue::Delivery;
use toolfleet_core::dead_letter::waited_until;
use toolfleet_core::group::GroupMessage;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome};
use toolfleet_core::request::CallRequest;
use tracing::Instrument as _;

use super::checks;
use super::complete::{complete, group_handled};
use super::decode::{self, Decoded};
use super::disposition::{CLOCK_OFF_MS, Disposition};
use super::fetch::{self, Fetched};
use super::group_message;
use super::inbound::InboundCall;
use super::record::{unexecuted, without_call};
use super::steps::Step;
use crate::context::{DeadLetters, WorkerContext};
use crate::telemetry::trace;

/// The wait of what is never due.
pub(crate) const NEVER_MS: u64 = u64::MAX;

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// Its record is stored and it is deleted, or it becomes visible again.
    Met,
    /// It is not due yet: an operator may still move it back to the calls. Whoever received it makes it visible again.
    NotDue {
        /// Milliseconds until it is.
        after_ms: u64,
    },
}

/// Ends one dead letter, unless it is not due.
pub async fn reap(context: Arc<WorkerContext>, dead: Arc<DeadLetters>, delivery: Delivery) -> Reaped {
    if context.clock_is_off() {
        return Reaped::NotDue { after_ms: CLOCK_OFF_MS };
    }
    let mut inbound = InboundCall::new(&context, delivery);
    if let Some(message) = group_message::of(&inbound) {
        return reap_group_message(&context, &mut inbound, &message).await;
    }
    let decoded = decode::decode(&inbound);
    context.steps.passed(Step::Decoded).await;
    // What an extended client stored may be readable, unless it was found not to be.
    let unreadable = match &decoded {
        Decoded::Unreadable(malformed) => {
            malformed.pointer.is_none() || context.recorded_messages.has(inbound.message_id())
        }
        Decoded::Request(_) | Decoded::Refused { .. } => false,
    };
    if inbound.kept || unreadable {
        return left_to_operators(&context, &inbound, &decoded).await;
    }
    let after_ms = due_in(&context, &dead, &inbound, &decoded);
    if after_ms > 0 {
        return Reaped::NotDue { after_ms };
    }
    inbound.span = trace::reaping(
        inbound.queue().name(),
        inbound.message_id(),
        &inbound.trace_context(),
        inbound.earlier_span(),
    );
    let span = inbound.span.clone();
    end(&context, &mut inbound, decoded).instrument(span).await
}

/// Ends a dead letter that is due.
async fn end(context: &WorkerContext, inbound: &mut InboundCall, decoded: Decoded) -> Reaped {
    match &decoded {
        Decoded::Request(request) => trace::named(&inbound.span, &request.key),
        Decoded::Refused { key, .. } => trace::named(&inbound.span, key),
        Decoded::Unreadable(_) => {}
    }
    match Box::pin(record_end(context, inbound, decoded)).await {
        Ok(Disposition::Completed(stored)) => {
            if let Err(error) = complete(context, inbound, *stored).await {
                // It is visible again when its visibility time-out ends.
                tracing::error!(%error, message_id = inbound.message_id(), code = "aws_error", "a dead letter waits until AWS answers again");
            }
        }
        Ok(Disposition::Requeued { after_ms, .. } | Disposition::Parked { after_ms, .. }) => {
            requeue_dead_letter(inbound, after_ms).await;
        }
        Ok(Disposition::Unreadable) => return Reaped::NotDue { after_ms: NEVER_MS },
        Ok(Disposition::TakenOver | Disposition::GroupHandled) => {}
        // It is visible again when its visibility time-out ends.
        Err(error) => {
            tracing::error!(%error, message_id = inbound.message_id(), code = "aws_error", "a dead letter waits until AWS answers again");
        }
    }
    Reaped::Met
}

/// Decides a group whose timer or cancellation was received too often. A timer waits here until it is due.
async fn reap_group_message(
    context: &WorkerContext,
    inbound: &mut InboundCall,
    message: &GroupMessage,
) -> Reaped {
    let after_ms = message.due_in_ms(context.now());
    if after_ms > 0 {
        return Reaped::NotDue { after_ms };
    }
    match Box::pin(group_message::handle(context, inbound, message)).await {
        Ok(Disposition::GroupHandled) => group_handled(inbound).await,
        Ok(Disposition::Completed(stored)) => {
            // It is no call: its record is stored, and it has no group to count in.
            let _counted = complete(context, inbound, *stored).await;
        }
        Ok(Disposition::Requeued { after_ms, .. } | Disposition::Parked { after_ms, .. }) => {
            requeue_dead_letter(inbound, after_ms).await;
        }
        Ok(Disposition::TakenOver | Disposition::Unreadable) => {}
        Err(error) => {
            tracing::error!(%error, message_id = inbound.message_id(), code = "aws_error", "a dead letter waits until AWS answers again");
        }
    }
    Reaped::Met
}

/// A dead letter is due when its call's deadline has passed: its caller waits no longer than that. Before it, operators have
/// `reap_after` to move it back. That counts from the latest message of the call, because a call can wait for long before it is tried.
fn due_in(context: &WorkerContext, dead: &DeadLetters, inbound: &InboundCall, decoded: &Decoded) -> u64 {
    let by_age = |request| waited_until(inbound.sent_at(), request).plus_ms(dead.reap_after_ms());
    let due = match decoded {
        Decoded::Request(request) => by_age(Some(request))
            .min(request.deadline(inbound.enqueued_at, context.limits.default_deadline_ms())),
        Decoded::Refused { .. } | Decoded::Unreadable(_) => by_age(None),
    };
    due.ms_since(context.now())
}

/// A message that cannot be read, or could not when a worker moved it here. A worker that moved it has written its record before; of one
/// that SQS moved, each worker writes it once, and it is stored once.
async fn left_to_operators(context: &WorkerContext, inbound: &InboundCall, decoded: &Decoded) -> Reaped {
    if let Decoded::Unreadable(malformed) = decoded
        && !inbound.kept
        && !context.recorded_messages.has(inbound.message_id())
    {
        match without_call::unreadable(context, inbound, malformed).await {
            Ok(()) => context.recorded_messages.add(inbound.message_id()),
            Err(error) => {
                tracing::error!(%error, message_id = inbound.message_id(), code = "aws_error", "the record of a dead letter waits until AWS answers again");
            }
        }
    }
    Reaped::NotDue { after_ms: NEVER_MS }
}

/// Records the end of the call, or of the message where it names none.
async fn record_end(
    context: &WorkerContext,
    inbound: &InboundCall,
    decoded: Decoded,
) -> Result<Disposition, AwsError> {
    let request = match fetch::fetch(context, inbound, decoded).await? {
        Fetched::Request(request) => request,
        Fetched::Malformed { malformed, key } => {
            return Ok(Disposition::completed(
                without_call::malformed(context, inbound, *malformed, key).await?,
            ));
        }
        Fetched::Unreadable(malformed) => {
            left_to_operators(context, inbound, &Decoded::Unreadable(malformed)).await;
            return Ok(Disposition::Unreadable);
        }
        Fetched::Refused { request, outcome } => {
            return Box::pin(unexecuted::record_unexecuted(context, inbound, *request, outcome)).await;
        }
        Fetched::TenantNotAllowed { request } => {
            return Ok(Disposition::completed(
                without_call::tenant_not_allowed(context, inbound, *request).await?,
            ));
        }
    };
    if !inbound.catalog().may_speak_for(inbound.sender.as_deref(), &request.key.tenant) {
        return Ok(Disposition::completed(
            without_call::tenant_not_allowed(context, inbound, *request).await?,
        ));
    }
    // The row of an older message may have expired, so that its effect is unknown.
    let outcome = checks::check_age(inbound.enqueued_at, context.now())
        .err()
        .unwrap_or_else(|| dead_lettered(&request));
    tracing::warn!(call = %request.key, message_id = inbound.message_id(), code = "dead_lettered", "a call is ended whose message was received too often");
    unexecuted::record_unexecuted(context, inbound, *request, outcome).await
}

fn dead_lettered(request: &CallRequest) -> Outcome {
    let text = format!(
        "The message of call `{}` was received too often without an end: workers stopped or stood still while they held it. \
         It will not be tried again. Send a new call under a new id; if `may_have_run` is not `no`, check the tool's effect first.",
        request.key.call_id
    );
    Outcome::failed(CallError::new(Code::DeadLettered, text, MayHaveRun::No).retryable(None))
}

async fn requeue_dead_letter(inbound: &InboundCall, after_ms: u64) {
    let seconds = u32::try_from(after_ms.div_ceil(1000)).unwrap_or(u32::MAX);
    if let Err(error) = inbound.queue().change_visibility(inbound.receipt(), seconds).await {
        tracing::warn!(%error, message_id = inbound.message_id(), code = "requeue_failed", "cannot requeue a dead letter early");
    }
}
