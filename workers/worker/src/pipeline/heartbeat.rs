//! The heartbeat of a claimed call: it extends the claim's lease and the message's visibility time-out, sees a cancellation, and stores
//! the progress that the server has reported. New progress may cause an early heartbeat that writes only the row.
//!
//! It ends only when the lease is no longer sure or the caller has cancelled the call.

use futures::future::OptionFuture;
use tokio::time::{Instant, sleep_until, timeout_at};
use toolfleet_core::call::{CallRow, Claim, Effect, Event};
use toolfleet_core::group::GroupResult;
use toolfleet_core::request::GroupKey;

use super::admit::AdmittedCall;
use super::apply::{Applied, apply};
use super::inbound::InboundCall;
use super::lease::Lease;
use super::progress_buffer::ProgressBuffer;
use crate::context::WorkerContext;

/// Why the heartbeat stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Another worker may hold the call now: nothing more may be sent.
    LeaseLost,
    /// The caller has cancelled the call.
    Cancelled,
    /// An operator's rule has cancelled it: which rule.
    CancelledByOperator(String),
    /// Its group is decided.
    GroupDecided(GroupKey, GroupResult),
}

/// The call whose heartbeat it is.
#[derive(Clone, Copy)]
pub(super) struct Beating<'a> {
    pub(super) inbound: &'a InboundCall,
    pub(super) call: &'a AdmittedCall,
    pub(super) claim: &'a Claim,
    pub(super) lease: &'a Lease,
}

/// Beats until something ends it. `row` is always the row as last seen.
pub(super) async fn keep(
    context: &WorkerContext,
    beating: Beating<'_>,
    row: &mut CallRow,
    progress_buffer: &ProgressBuffer,
) -> Stopped {
    let Beating { inbound, call, claim, lease } = beating;
    let mut next_beat = Instant::now() + context.limits.heartbeat();
    let (mut next_news, mut written) = (Instant::now() + context.limits.notes_pace(), 0);
    loop {
        let in_time = tokio::select! {
            biased;
            () = sleep_until(next_beat) => true,
            () = async { sleep_until(next_news).await; progress_buffer.changed(written).await } => false,
        };
        let control = context.gate.control().current();
        let rule = control
            .as_ref()
            .and_then(|control| control.cancelled_by(&call.facts(inbound.enqueued_at), context.now()));
        if let Some(rule) = rule {
            return Stopped::CancelledByOperator(rule.detail());
        }
        if in_time && let Some((group, result)) = group_decision(context, call).await {
            return Stopped::GroupDecided(group, result);
        }
        let asked = Instant::now();
        next_news = asked + context.limits.notes_pace();
        let (notes, version) = progress_buffer.since(written).unzip();
        let lease_until = context.now().plus_ms(context.limits.lease_ms());
        let event = Event::Heartbeat { claim: claim.clone(), lease_until, notes };
        let beat = timeout_at(lease.sure_until(), apply(&context.calls, Some(row), &event));
        // An early heartbeat, to store progress, does not extend the visibility time-out.
        let stay = OptionFuture::from(in_time.then(|| extend_visibility(context, inbound)));
        let (beat, _) = tokio::join!(beat, stay);
        let Ok(beat) = beat else {
            tracing::warn!(call = %claim.key(), code = "lease_lost", "the lease ran out while it was being extended");
            return Stopped::LeaseLost;
        };
        match beat {
            Ok(Applied::Stored { row: seen, then }) => {
                *row = *seen;
                if then == (Effect::Extended { cancel: true }) {
                    return Stopped::Cancelled;
                }
                lease.renew(asked);
                written = version.unwrap_or(written);
                if in_time {
                    next_beat = asked + context.limits.heartbeat();
                }
            }
            Ok(Applied::Rejected { .. }) => return Stopped::LeaseLost,
            Err(error) if lease.is_over() => {
                tracing::warn!(%error, call = %claim.key(), code = "lease_lost", "the lease ran out before it could be extended");
                return Stopped::LeaseLost;
            }
            Err(_) if in_time => next_beat = Instant::now() + context.limits.heartbeat() / 4,
            Err(_) => {}
        }
    }
}

/// The decision of the call's group. One that cannot be read now is read at the next heartbeat.
async fn group_decision(context: &WorkerContext, call: &AdmittedCall) -> Option<(GroupKey, GroupResult)> {
    let key = call.request.group.as_deref()?.key(&call.request.key.tenant);
    let read = Box::pin(context.fleet.group(&key));
    let row = tokio::time::timeout(context.limits.heartbeat() / 4, read).await.ok()?.ok()??;
    row.decision.map(|decision| (key, decision.result))
}

/// Extends the message's visibility time-out. Without it the claim protects the call all the same: another delivery finds it held.
async fn extend_visibility(context: &WorkerContext, inbound: &InboundCall) {
    // A call that runs for longer than SQS hides its message is protected by its claim alone.
    let seconds = context.limits.visibility_s().min(inbound.hideable_s());
    if seconds == 0 {
        return;
    }
    let change = inbound.queue().change_visibility(inbound.receipt(), seconds);
    match tokio::time::timeout(context.limits.heartbeat() / 2, change).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, message_id = inbound.message_id(), code = "heartbeat_failed", "cannot extend a message's visibility time-out");
        }
        Err(_) => {
            tracing::warn!(
                message_id = inbound.message_id(),
                code = "heartbeat_failed",
                "extending a message's visibility time-out takes too long"
            );
        }
    }
}
