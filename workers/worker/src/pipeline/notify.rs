//! Sends the notice that a call has ended to its reply queue. A notice that its queue refuses for good is given up: the record is what counts.

use toolfleet_aws::queue::Outgoing;

use tracing::Instrument as _;

use super::inbound::InboundCall;
use super::record::recorded::Recorded;
use crate::context::WorkerContext;
use crate::telemetry::trace;

/// False if the notice is to be sent again: SQS could not be reached or failed, or the worker's own credentials were refused.
pub(super) async fn notify(context: &WorkerContext, inbound: &InboundCall, recorded: &Recorded) -> bool {
    let Some((notice, queue)) = recorded.notice() else {
        return true;
    };
    let Ok(body) = serde_json::to_string(notice) else {
        return true;
    };
    let group = Some(notice.tenant.to_string());
    let span = trace::notice(queue);
    let attributes = trace::onward(&span).or(inbound.trace_context()).attributes();
    let message = Outgoing { body, group, attributes, ..Outgoing::default() };
    match context.reply_queue(queue).send(message).instrument(span).await {
        Ok(_message_id) => true,
        Err(error) => {
            tracing::warn!(%error, call_id = %notice.call_id, code = "notice_failed", "a notice could not be sent; the result is stored");
            error.is_refused_by_resource()
        }
    }
}
