//! Stores what belongs to one message and not to its call: its answer under the message's own id, its audit record.

use toolfleet_aws::AwsError;
use toolfleet_core::audit::AuditKind;
use toolfleet_core::call::{Caller, Event};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, CallKey};
use toolfleet_core::outcome::Outcome;
use toolfleet_core::request::CallRequest;

use crate::context::WorkerContext;
use crate::pipeline::apply::apply;
use crate::pipeline::audit;
use crate::pipeline::inbound::InboundCall;
use crate::pipeline::steps::Step;
use toolfleet_core::retention::RETENTION_MS;

/// Stores the answer to a message that cannot be answered under the id it names, where its sender can look: SQS gave it the MessageId.
/// Nothing is stored under a tenant that it may not speak for, or over another call's answer.
pub(in crate::pipeline) async fn answer_message(
    context: &WorkerContext,
    inbound: &InboundCall,
    digest: Digest,
    outcome: &Outcome,
) -> Result<(), AwsError> {
    let delivery =
        inbound.delivery_context_of(context, CallKey::of_message(inbound.first_id()), digest, false);
    let concluded = Event::Conclude { delivery, outcome: outcome.clone(), definition: None };
    apply(&context.calls, None, &concluded).await?;
    context.steps.passed(Step::ResultStored).await;
    Ok(())
}

/// A record of one message of several under an id. Its time is that of the first sending, so that each delivery writes the same.
pub(in crate::pipeline) async fn audit_message(
    context: &WorkerContext,
    inbound: &InboundCall,
    kind: AuditKind,
    request: &CallRequest,
    outcome: &Outcome,
) -> Result<(), AwsError> {
    let (at, caller) = (inbound.enqueued_at, inbound.caller(request));
    let record = audit::of(kind, request.key.clone(), inbound, at, &caller, Some(request));
    let record = audit::described(record, outcome, inbound, Some(request));
    context.history.insert(&record, at.plus_ms(RETENTION_MS)).await.map(drop)
}

/// A record of a message that is no call.
pub(in crate::pipeline) async fn audit_without_call(
    context: &WorkerContext,
    inbound: &InboundCall,
    kind: AuditKind,
    key: CallKey,
    outcome: &Outcome,
) -> Result<(), AwsError> {
    // The message's own time, so that each of its deliveries, and a copy in the dead-letter queue, writes the same record.
    let at = inbound.enqueued_at;
    let caller = Caller::unknown(inbound.sender.as_deref(), inbound.first_message.as_deref());
    let record = audit::of(kind, key, inbound, at, &caller, None);
    let record = audit::described(record, outcome, inbound, None);
    context.history.insert(&record, at.plus_ms(RETENTION_MS)).await.map(drop)
}

/// A message without a call of its own is recorded under the message id that its sender received.
pub(in crate::pipeline) fn message_as_id(inbound: &InboundCall) -> CallId {
    CallId::of_message(inbound.first_id())
}
