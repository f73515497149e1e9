//! Puts a message back into its queue.
//!
//! A wait for an operator, a limit or a time set by the caller is a new message with a delay at once: a hidden message counts as in flight,
//! which moves it towards the dead-letter queue and makes its tenant look busy. Otherwise, for a wait of seconds the message stays hidden (visibility time-out). For a longer wait, or after many, a new message with a delay
//! replaces it and carries when and by whom the first one was sent: so it does not count as in flight, and its receive count starts
//! again. So does a message that takes a turn on, whatever it waits for: a hidden one would lose it. The old message is deleted only after the queue has accepted the new one; a worker that dies in between leaves a duplicate,
//! which the claim absorbs.

use std::collections::BTreeMap;

use toolfleet_aws::AwsError;
use toolfleet_aws::queue::Outgoing;
use toolfleet_core::message_attributes::GROUP;
use toolfleet_core::requeue::{LONGEST_DELAY_S, SHORT_S, stays};

use super::disposition::RequeueReason;
use super::inbound::{Carried, FIRST_MESSAGE, FIRST_SENDER, FIRST_SENT, InboundCall, PARKS, SPAN, TURN};
use super::steps::Step;
use crate::backoff;
use crate::context::WorkerContext;
use crate::telemetry::trace::{self, TRACEPARENT, TRACESTATE};

/// The attributes of a message that the new message keeps.
const CARRIED: [&str; 3] = [TRACEPARENT, TRACESTATE, GROUP];
/// A longer attribute is not carried, so that there is room for all beside the largest body.
const LONGEST_CARRIED: usize = 1_024;
/// The longest time for which a message that cannot be read is hidden, in seconds.
const LONGEST_UNREADABLE_S: u64 = 3_600;

/// Puts the message back into its queue for `after_ms` milliseconds.
pub(super) async fn requeue(
    context: &WorkerContext,
    inbound: &InboundCall,
    after_ms: u64,
    reason: RequeueReason,
) {
    let wait_s = after_ms.div_ceil(1000);
    context.meters.requeued(reason.label());
    context.activity.requeued(reason.label());
    tracing::debug!(
        message_id = inbound.message_id(),
        wait_s,
        reason = reason.label(),
        "a call goes back to its queue: {}",
        reason.sentence()
    );
    let requeued = if inbound.queue().is_fifo() {
        stay(inbound, inbound.away_ms(after_ms) / 1_000).await
    } else if !inbound.takes_a_turn_on() && stays(reason.parks_at_once(), inbound.receive_count(), wait_s) {
        let wait_s = u32::try_from(wait_s).unwrap_or(u32::MAX);
        inbound.queue().change_visibility(inbound.receipt(), wait_s).await
    } else {
        // A wait for an operator, a limit or a time that the caller named is no try: it makes no back-off grow.
        let tries = u32::from(!reason.is_no_try());
        park(context, inbound, wait_s, inbound.parks.saturating_add(tries)).await
    };
    if let Err(error) = requeued {
        // It becomes visible again when its visibility time-out ends.
        tracing::warn!(%error, message_id = inbound.message_id(), code = "requeue_failed", "cannot requeue a message early");
    }
}

/// Lets a new message poll the call's task in `after_ms` milliseconds, so that no message is received often. Only polls that failed
/// make the back-off grow. Where it does not say that it polls, who receives it sees to the task's permits.
pub(super) async fn until_poll(
    context: &WorkerContext,
    inbound: &InboundCall,
    after_ms: u64,
    poll_failed: bool,
    counted: bool,
) {
    context.meters.requeued(RequeueReason::TaskWorking.label());
    if counted {
        inbound.carry(Carried::Poll);
    }
    let parks = if poll_failed { inbound.parks.saturating_add(1) } else { 0 };
    if let Err(error) = park(context, inbound, after_ms.div_ceil(1000), parks).await {
        // It becomes visible again when its visibility time-out ends.
        tracing::warn!(%error, message_id = inbound.message_id(), code = "requeue_failed", "cannot requeue a message early");
    }
}

/// Puts a message back into its queue after a failed AWS request, with a back-off.
pub(super) async fn after_aws_error(context: &WorkerContext, inbound: &InboundCall, error: &AwsError) {
    let tries = inbound.tries();
    tracing::error!(%error, message_id = inbound.message_id(), tries, code = "aws_error", "a call waits until AWS answers again");
    requeue(context, inbound, backoff::after_tries(tries), RequeueReason::AwsFailed).await;
}

/// Hides an unreadable message, for longer at each receive: an hour at most, so that SQS moves it to the dead-letter queue
/// where there is one.
pub(super) async fn unreadable(context: &WorkerContext, inbound: &InboundCall) {
    context.meters.requeued(RequeueReason::Unreadable.label());
    let wait_s = unreadable_s(inbound.receive_count());
    if let Err(error) = stay(inbound, wait_s).await {
        // It becomes visible again when its visibility time-out ends.
        tracing::warn!(%error, message_id = inbound.message_id(), code = "requeue_failed", "cannot hide a message for longer");
    }
}

/// How long a message that cannot be read is hidden at this receive, in seconds.
fn unreadable_s(receive_count: u32) -> u64 {
    let doublings = receive_count.saturating_sub(1).min(7);
    (SHORT_S << doublings).min(LONGEST_UNREADABLE_S)
}

/// Hides the message for that many seconds, or for as long as SQS still allows.
async fn stay(inbound: &InboundCall, wait_s: u64) -> Result<(), AwsError> {
    let wait_s = u32::try_from(wait_s).unwrap_or(u32::MAX).min(inbound.hideable_s());
    inbound.queue().change_visibility(inbound.receipt(), wait_s).await
}

async fn park(
    context: &WorkerContext,
    inbound: &InboundCall,
    wait_s: u64,
    parks: u32,
) -> Result<(), AwsError> {
    if inbound.queue().is_fifo() {
        return stay(inbound, inbound.away_ms(wait_s.saturating_mul(1_000)) / 1_000).await;
    }
    let wait_s = wait_s.clamp(1, LONGEST_DELAY_S);
    // SQS takes ten attributes; what is not the fleet's or the trace's own stays behind.
    let fits = |name: &str, value: &str| CARRIED.contains(&name) && value.len() <= LONGEST_CARRIED;
    let carried = inbound.delivery().attributes.iter().filter(|(name, value)| fits(name, value));
    let mut attributes: BTreeMap<_, _> = carried.map(|(name, value)| (name.clone(), value.clone())).collect();
    attributes.insert(FIRST_SENT.into(), inbound.enqueued_at.as_ms().to_string());
    attributes.insert(PARKS.into(), parks.to_string());
    attributes.extend(trace::onward(&inbound.span).traceparent.map(|span| (SPAN.to_owned(), span)));
    attributes.extend(inbound.carries_on().map(|turn| (TURN.to_owned(), turn)));
    if let Some(sender) = &inbound.sender {
        attributes.insert(FIRST_SENDER.into(), sender.clone());
    }
    if let Some(message_id) = &inbound.first_message {
        attributes.insert(FIRST_MESSAGE.into(), message_id.clone());
    }
    let parked = Outgoing {
        body: inbound.body().to_owned(),
        delay_s: u32::try_from(wait_s).unwrap_or(u32::MAX),
        group: inbound.group(),
        attributes,
        deduplication: None,
    };
    if let Err(error) = inbound.queue().send(parked).await {
        // It waits in flight then.
        tracing::warn!(%error, message_id = inbound.message_id(), code = "requeue_failed", "cannot park a message");
        return stay(inbound, wait_s).await;
    }
    context.steps.passed(Step::Reposted).await;
    inbound.delete().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_message_is_hidden_for_an_hour_at_most() {
        let waits: Vec<_> = [1, 2, 3, 7, 8, 100].map(unreadable_s).into();
        assert_eq!(waits, [30, 60, 120, 1_920, 3_600, 3_600]);
    }
}
