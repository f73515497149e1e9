//! Completes a delivery whose result is stored: inserts the audit record, counts the call in its group, sends the notice, cancels an open task at
//! the server, and deletes the message. The call has no slot any more.

use std::time::Duration;

use toolfleet_aws::AwsError;

use super::count_member::count_member;
use super::inbound::InboundCall;
use super::record::recorded::ResultStored;
use super::steps::Step;
use super::{acknowledge, cancel_task, notify};
use crate::context::WorkerContext;

/// How long sending a notice may take.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(5);

/// Inserts the audit record, counts the call in its group, sends the notice, cancels the call's task where one is open, then deletes the
/// message from the queue that it came from.
///
/// # Errors
/// The record could not be inserted, or the call not counted in its group. What follows was not done, and the message is still there.
pub(super) async fn complete(
    context: &WorkerContext,
    inbound: &mut InboundCall,
    stored: ResultStored,
) -> Result<(), AwsError> {
    let recorded = stored.audited(context, inbound).await?;
    context.steps.passed(Step::Recorded).await;
    if let Some(member) = recorded.member() {
        Box::pin(count_member(context, inbound, member)).await?;
    }
    // From here on the message is deleted, or left as it is.
    inbound.forget_body();
    let recorded = &recorded;
    // The notice goes before the delete: after a crash in between, the next delivery sends it again.
    let noticed = tokio::time::timeout(NOTICE_TIMEOUT, notify::notify(context, inbound, recorded)).await;
    let noticed = noticed.unwrap_or_else(|_| {
        tracing::warn!(
            message_id = inbound.message_id(),
            code = "notice_failed",
            "a notice took too long; the result is stored"
        );
        false
    });
    context.steps.passed(Step::Notified).await;
    cancel_task::cancel_task(context, inbound, recorded).await;
    if !noticed {
        // The record is stored: the next delivery of the message finds it and sends the notice.
        return Ok(());
    }
    if let Err(error) = acknowledge::acknowledge(inbound, recorded).await {
        // The record is stored: the next delivery of the message finds it and deletes the message.
        tracing::warn!(%error, message_id = inbound.message_id(), code = "acknowledge_failed", "cannot delete a message");
        return Ok(());
    }
    context.steps.passed(Step::Acknowledged).await;
    Ok(())
}

/// Deletes a message of a group, whose decision is stored.
pub(super) async fn group_handled(inbound: &InboundCall) {
    if let Err(error) = inbound.delete().await {
        // The next delivery finds the decision and deletes the message.
        tracing::warn!(%error, message_id = inbound.message_id(), code = "acknowledge_failed", "cannot delete a message");
    }
}
