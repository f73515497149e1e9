//! Writes the decision of a group, and sends its notice.
//!
//! The timer of a group may wait in its queue for longer than until the deadline, so whoever reads the row of an open group after its deadline decides
//! it as the timer would.

use toolfleet_aws::AwsError;
use toolfleet_aws::queue::Outgoing;
use toolfleet_core::group::{Decider, Decision, GroupRow, Occasion, decide};

use super::steps::Step;
use crate::context::WorkerContext;
use crate::telemetry::trace;

/// Decides the group in the timer's place if its deadline has passed, and sends the notice. The decision that holds then; none if it is not due.
///
/// After a crash before the notice is sent, the timer's message sends it.
pub(super) async fn decide_at_deadline(
    context: &WorkerContext,
    row: &GroupRow,
) -> Result<Option<Decision>, AwsError> {
    match decide(row, Occasion::Timer, context.now()) {
        Some(due) => write_decision(context, row, due).await,
        None => Ok(None),
    }
}

/// Decides, and sends the notice where this message is the one that decided. The decision that holds; none if the group's row has expired.
pub(super) async fn write_decision(
    context: &WorkerContext,
    row: &GroupRow,
    due: Decision,
) -> Result<Option<Decision>, AwsError> {
    let Some(row) = context.fleet.decide_group(&row.key, &due).await? else {
        return Ok(None);
    };
    context.steps.passed(Step::GroupDecided).await;
    let Some(decision) = row.decision else {
        return Err(AwsError::passing(format!("the decision of group {} was not stored", row.key)));
    };
    if decision == due {
        context.meters.group_decided(decision.result);
    }
    notify_decided(context, &row, due.by).await?;
    Ok(Some(decision))
}

/// Sends the notice of a decision, if that is for `own` to do. One that cannot be sent for now keeps its message in the queue.
pub(super) async fn notify_decided(
    context: &WorkerContext,
    row: &GroupRow,
    own: Decider,
) -> Result<(), AwsError> {
    if !row.owes_notice(own) {
        return Ok(());
    }
    let Some((notice, queue)) = row.notice() else { return Ok(()) };
    if !context.catalog.current().allows_reply_queue(&row.key.tenant, queue) {
        tracing::warn!(group = %row.key, code = "group_notice_failed", "the reply queue of a group is no longer on its tenant's list; its decision is stored");
        return Ok(());
    }
    let Ok(body) = serde_json::to_string(&notice) else { return Ok(()) };
    let group = Some(row.key.tenant.to_string());
    let attributes = trace::onward(&tracing::Span::current()).attributes();
    let message = Outgoing { body, group, attributes, ..Outgoing::default() };
    match context.reply_queue(queue).send(message).await {
        Ok(_) => {}
        Err(error) if error.is_refused_by_resource() => {
            tracing::warn!(%error, group = %row.key, code = "group_notice_failed", "the notice of a group could not be sent; its decision is stored");
        }
        Err(error) => return Err(error),
    }
    context.steps.passed(Step::GroupNotified).await;
    context.fleet.note_notice(&row.key).await
}
