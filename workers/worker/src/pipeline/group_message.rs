//! Handles a message of a group itself: its timer, which decides at the deadline, and its cancellation.
//!
//! Such a message is no call and has no record. It is deleted after the group is decided and, where it has decided, the notice is sent; until
//! then each delivery does the same again. A cancellation that comes before any member is kept for the first one.

use toolfleet_aws::AwsError;
use toolfleet_core::group::{GroupEvent, GroupMessage, LONGEST_HOP_MS, decide};
use toolfleet_core::message_attributes::GROUP;
use toolfleet_core::retention::RETENTION_MS;

use super::decide_group::{notify_decided, write_decision};
use super::disposition::{Disposition, RequeueReason};
use super::inbound::InboundCall;
use super::record::without_call;
use crate::context::WorkerContext;

/// The message, if it is one of a group.
pub(super) fn of(inbound: &InboundCall) -> Option<GroupMessage> {
    // Most messages have no such attribute, and are not parsed here.
    inbound.delivery().attributes.get(GROUP)?;
    GroupMessage::decode(inbound.body())
}

pub(super) async fn handle(
    context: &WorkerContext,
    inbound: &InboundCall,
    message: &GroupMessage,
) -> Result<Disposition, AwsError> {
    let (tenant, now) = (&message.key.tenant, context.now());
    let is_cancel = message.group_event == GroupEvent::Cancel;
    // A timer decides only what is due in any case.
    if is_cancel && !inbound.catalog().may_speak_for(inbound.sender.as_deref(), tenant) {
        let recorded = without_call::group_not_allowed(context, inbound, tenant).await?;
        return Ok(Disposition::completed(recorded));
    }
    inbound.is_of(tenant);
    let left_ms = message.due_in_ms(now);
    let wait = |after_ms: u64| Disposition::Requeued { after_ms, reason: RequeueReason::GroupTimer };
    let mut found = context.fleet.group(&message.key).await?;
    if found.is_none() && is_cancel {
        // The first member finds it. One that makes the row at this moment may have looked too early, so the row is read again.
        context.fleet.cancel_ahead(&message.key, inbound.enqueued_at.plus_ms(RETENTION_MS)).await?;
        found = context.fleet.group(&message.key).await?;
    }
    let Some(row) = found else {
        tracing::info!(group = %message.key, is_cancel, "a message of a group that has no row is deleted");
        return Ok(Disposition::GroupHandled);
    };
    match (row.decision, decide(&row, message.occasion(), now)) {
        (Some(_), _) => notify_decided(context, &row, message.decider()).await?,
        (None, Some(due)) => {
            write_decision(context, &row, due).await?;
        }
        // The row's deadline counts, not the message's.
        (None, None) => {
            let left_ms = left_ms.max(row.terms.deadline.ms_since(now));
            let longest = if inbound.queue().is_fifo() { u64::MAX } else { LONGEST_HOP_MS };
            return Ok(wait(left_ms.clamp(1_000, longest)));
        }
    }
    Ok(Disposition::GroupHandled)
}
