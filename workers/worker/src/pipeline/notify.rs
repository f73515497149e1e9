//! Sends the notice that a call has ended to its reply queue. A notice that cannot be sent changes nothing: the record is what counts.

use toolfleet_aws::queue::Outgoing;

use tracing::Instrument as _;

use super::inbound::InboundCall;
use super::record::recorded::Recorded;
use crate::context::WorkerContext;
use crate::telemetry::trace;

pub(super) async fn notify(context: &WorkerContext, inbound: &InboundCall, recorded: &Recorded) {
    let Some((notice, queue)) = recorded.notice() else {
        return;
    };
    let Ok(body) = serde_json::to_string(notice) else {
        return;
    };
    let group = Some(notice.tenant.to_string());
    let span = trace::notice(queue);
    let attributes = trace::onward(&span).or(inbound.trace_context()).attributes();
    let message = Outgoing { body, group, attributes, ..Outgoing::default() };
    if let Err(error) = context.reply_queue(queue).send(message).instrument(span).await {
        tracing::warn!(%error, call_id = %notice.call_id, code = "notice_failed", "a notice could not be sent; the result is stored");
    }
}
