//! The notice that tells a reply queue how a call ended.

use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::notice::Notice;
use toolfleet_core::outcome::{Code, OutcomeKind};
use toolfleet_core::request::{CallRequest, Reply};
use toolfleet_core::time::Timestamp;

use crate::pipeline::inbound::InboundCall;

/// The notice to the sender of this message, if it asked for one; call id and queue are those of the message.
pub(in crate::pipeline) fn notice_of(
    inbound: &InboundCall,
    request: CallRequest,
    outcome: OutcomeKind,
    code: Option<Code>,
    finished_at: Timestamp,
) -> Option<(Notice, String)> {
    let reply = request.reply.filter(|_| code != Some(Code::ReplyNotAllowed));
    let queue = reply_queue(inbound, &request.key.tenant, reply)?;
    let (session, group) = (request.session, request.group.map(|group| group.id));
    Some((Notice { session, group, ..notice(&request.key, outcome, code, finished_at) }, queue))
}

pub(in crate::pipeline) fn notice(
    key: &CallKey,
    outcome: OutcomeKind,
    code: Option<Code>,
    finished_at: Timestamp,
) -> Notice {
    Notice {
        v: 1,
        event: "call_ended".into(),
        tenant: key.tenant.clone(),
        call_id: key.call_id.clone(),
        outcome,
        code,
        session: None,
        group: None,
        finished_at,
    }
}

pub(in crate::pipeline) fn reply_queue(
    inbound: &InboundCall,
    tenant: &Tenant,
    reply: Option<Reply>,
) -> Option<String> {
    match reply? {
        Reply::SqsQueueUrl(url) => Some(url).filter(|url| inbound.catalog().allows_reply_queue(tenant, url)),
        Reply::SnsTopicArn(_) | Reply::EventBridgeBus(_) | Reply::WebhookId(_) => None,
    }
}
