//! The heartbeat of a claimed call: it extends the claim's lease and the message's visibility time-out, sees a cancellation, and stores
//! the progress that the server has reported. New progress may cause an early heartbeat that writes only the row.
//!
//! It ends only when the lease is no longer sure or the caller has cancelled the call.

use futures::future::OptionFuture;
use tokio::time::{Instant, sleep_until, timeout_at};
use toolfleet_core::call::{CallRow, Claim, Effect, Event};
use toolfleet_core::group::GroupResult;
use toolfleet_core::progress::CallProgress;
use toolfleet_core::request::GroupKey;
use toolfleet_core::time::Timestamp;

use super::apply::{Applied, apply};
use super::claim;
use super::decide_group::decide_at_deadline;
use super::inbound::InboundCall;
use super::lease::Lease;
use super::prepare::ReadyCall;
use super::progress_buffer::ProgressBuffer;
use super::visibility::extend_visibility;
pub(super) use super::visibility::keep_invisible;
use crate::context::WorkerContext;

/// Why the heartbeat stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Another worker has the call, or it has ended: nothing more may be sent.
    LeaseLost,
    /// The lease could not be extended in time, so another worker may hold the call: nothing more may be sent.
    LeaseOver,
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
    pub(super) ready: &'a ReadyCall,
    pub(super) lease: &'a Lease,
}

/// Beats until something ends it. `row` is always the row as last seen. The first heartbeat of a call without a claim claims it.
pub(super) async fn keep(
    context: &WorkerContext,
    beating: Beating<'_>,
    claim: &mut Option<Claim>,
    row: &mut CallRow,
    progress_buffer: &ProgressBuffer,
) -> Stopped {
    let Beating { inbound, ready, lease } = beating;
    let key = &ready.call.request.key;
    let mut next_beat = Instant::now() + context.limits.heartbeat();
    let (mut next_news, mut written) = (Instant::now() + context.limits.notes_pace(), 0);
    let mut claimed = row.lease_until.map(|until| Claimed { at: lease.asked(), until });
    loop {
        let in_time = tokio::select! {
            biased;
            () = sleep_until(next_beat) => true,
            // In this order, because most calls report no progress and then need no timer.
            () = async { progress_buffer.changed(written).await; sleep_until(next_news).await } => false,
        };
        let control = context.gate.control().current();
        let rule = control
            .as_ref()
            .and_then(|control| control.cancelled_by(&ready.call.facts(inbound.enqueued_at), context.now()));
        if let Some(rule) = rule {
            return Stopped::CancelledByOperator(rule.detail());
        }
        if in_time && let Some((group, result)) = group_decision(context, ready).await {
            return Stopped::GroupDecided(group, result);
        }
        let asked = Instant::now();
        next_news = asked + context.limits.notes_pace();
        let (notes, version) = progress_buffer.since(written).unzip();
        let event = event(context, inbound, ready, (claim.as_ref(), claimed, asked), notes);
        let seen = claim.is_some().then_some(&*row);
        // Boxed: most calls end before their first heartbeat.
        let beat = timeout_at(lease.sure_until(), Box::pin(apply(&context.calls, seen, &event)));
        // An early heartbeat, to store progress, does not extend the visibility time-out.
        let stay = OptionFuture::from(in_time.then(|| Box::pin(extend_visibility(context, inbound))));
        let (beat, _) = tokio::join!(beat, stay);
        let Ok(beat) = beat else {
            tracing::warn!(call = %key, code = "lease_lost", "the lease ran out while it was being extended");
            return Stopped::LeaseOver;
        };
        match beat {
            Ok(Applied::Stored { row: seen, then }) => {
                *row = *seen;
                match then {
                    // The reports are stored by the next heartbeat.
                    Effect::Execute(new) => *claim = Some(new),
                    Effect::Extended { cancel: true } | Effect::Ended => return Stopped::Cancelled,
                    Effect::Extended { cancel: false } | Effect::Waits | Effect::Noted => {
                        written = version.unwrap_or(written);
                    }
                }
                claimed = claimed.or_else(|| row.lease_until.map(|until| Claimed { at: asked, until }));
                lease.renew(asked);
                if in_time {
                    next_beat = asked + context.limits.heartbeat();
                }
            }
            Ok(Applied::Rejected { .. }) => return Stopped::LeaseLost,
            Err(error) if lease.is_over() => {
                tracing::warn!(%error, call = %key, code = "lease_lost", "the lease ran out before it could be extended");
                return Stopped::LeaseOver;
            }
            Err(_) if in_time => next_beat = Instant::now() + context.limits.heartbeat() / 4,
            Err(_) => {}
        }
    }
}

/// The decision of the call's group, which is made here once its deadline has passed. One that cannot be read now is read at the next
/// heartbeat.
async fn group_decision(context: &WorkerContext, ready: &ReadyCall) -> Option<(GroupKey, GroupResult)> {
    let request = &ready.call.request;
    let key = request.group.as_deref()?.key(&request.key.tenant);
    let patience = context.limits.heartbeat() / 4;
    let read = Box::pin(context.fleet.group(&key));
    let row = tokio::time::timeout(patience, read).await.ok()?.ok()??;
    let decision = match row.decision {
        Some(decision) => decision,
        None => {
            let decided = Box::pin(decide_at_deadline(context, &row));
            tokio::time::timeout(patience, decided).await.ok()?.ok()??
        }
    };
    Some((key, decision.result))
}

/// When the call was claimed by the clock that never jumps, and until when that claim held.
#[derive(Clone, Copy)]
struct Claimed {
    at: Instant,
    until: Timestamp,
}

/// Until when the claim holds from now on. Other workers compare it with their own clocks. The worker's is DynamoDB's where the machine's is known to
/// be wrong; one that was set back since the last answers of DynamoDB is not known to be, so the lease is never shorter than the time since the
/// claim says. One that was set ahead meanwhile makes it longer until the next heartbeat.
fn lease_until(context: &WorkerContext, claimed: Option<Claimed>, asked: Instant) -> Timestamp {
    let until = context.now().plus_ms(context.limits.lease_ms());
    let passed = |claimed: Claimed| {
        let passed = asked.saturating_duration_since(claimed.at).as_millis();
        claimed.until.plus_ms(u64::try_from(passed).unwrap_or(u64::MAX))
    };
    match claimed {
        Some(claimed) if !context.clock_is_off() => until.max(passed(claimed)),
        Some(_) | None => until,
    }
}

/// What a heartbeat stores: a longer lease, or the claim of a call that is executed without one.
fn event(
    context: &WorkerContext,
    inbound: &InboundCall,
    ready: &ReadyCall,
    (claim, claimed, asked): (Option<&Claim>, Option<Claimed>, Instant),
    notes: Option<Box<CallProgress>>,
) -> Event {
    match claim {
        Some(claim) => {
            let lease_until = lease_until(context, claimed, asked);
            Event::Heartbeat { claim: claim.clone(), lease_until, notes }
        }
        None => claim::late(context, inbound, ready),
    }
}
