//! Records what has no call of its own: a message that cannot be read, or whose sender may not speak for the tenant that it names.
//!
//! Nothing is stored under a tenant that the message's sender may not speak for.

use toolfleet_aws::AwsError;
use toolfleet_core::audit::AuditKind;
use toolfleet_core::call::{CallRow, Event};
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::outcome::{Code, Outcome, OutcomeKind};
use toolfleet_core::request::{CallRequest, Malformed};

use super::message_alone::{answer_message, audit_without_call, message_as_id};
use super::notices::{notice, reply_queue};
use super::recorded::Recorded;
use crate::context::WorkerContext;
use crate::pipeline::apply::{Applied, apply};
use crate::pipeline::ended_member::EndedMember;
use crate::pipeline::inbound::InboundCall;
use crate::pipeline::steps::Step;

/// A sender spoke for a tenant it may not speak for: nothing is written under that tenant.
pub(in crate::pipeline) async fn tenant_not_allowed(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
) -> Result<Recorded, AwsError> {
    let sender = inbound.sender.as_deref().unwrap_or("unknown");
    let text = format!("Sender `{sender}` may not speak for tenant `{}`.", request.key.tenant);
    tracing::warn!(message_id = inbound.message_id(), sender, tenant = %request.key.tenant, code = "tenant_not_allowed", "a sender spoke for a tenant it may not speak for");
    let key = CallKey { tenant: Tenant::tenant_not_allowed(), call_id: message_as_id(inbound) };
    let outcome = Outcome::refused(Code::TenantNotAllowed, text);
    answer_message(context, inbound, request.digest, &outcome).await?;
    audit_without_call(context, inbound, AuditKind::TenantNotAllowed, key, &outcome).await?;
    Ok(Recorded::new(None, None))
}

/// A message that is not a request, and names a call that its sender may speak for: the refusal is stored there.
pub(in crate::pipeline) async fn malformed(
    context: &WorkerContext,
    inbound: &InboundCall,
    malformed: Malformed,
    key: CallKey,
) -> Result<Recorded, AwsError> {
    let outcome = undecodable(inbound, &malformed);
    let delivery = inbound.delivery_context_of(context, key.clone(), malformed.digest.clone(), false);
    // Whatever is found there stays: the message's own accounts follow in any case.
    let concluded = Event::Conclude { delivery, outcome: outcome.clone(), definition: None };
    let is_its_end = match apply(&context.calls, None, &concluded).await? {
        Applied::Stored { .. } => {
            context.steps.passed(Step::ResultStored).await;
            true
        }
        Applied::Rejected { row, .. } => {
            answer_message(context, inbound, malformed.digest.clone(), &outcome).await?;
            row.is_some_and(|row| ended_as_undecodable(&row))
        }
    };
    let group = malformed.group.filter(|_| is_its_end);
    let member = EndedMember::unread(context, inbound, &key, group, malformed.reply.clone());
    let of_message = CallKey { tenant: Tenant::undecodable(), call_id: message_as_id(inbound) };
    for key in [key.clone(), of_message] {
        audit_without_call(context, inbound, AuditKind::Undecodable, key, &outcome).await?;
    }
    let notice = reply_queue(inbound, &key.tenant, malformed.reply).map(|queue| {
        (notice(&key, OutcomeKind::Refused, Some(Code::Undecodable), inbound.enqueued_at), queue)
    });
    Ok(Recorded::new(notice, None).of_member(member))
}

/// Whether the call of the row has ended because its message could not be read.
fn ended_as_undecodable(row: &CallRow) -> bool {
    let error = row.finished.as_ref().and_then(|finished| finished.outcome.error.as_ref());
    error.is_some_and(|error| error.code == Code::Undecodable)
}

/// A sender cancelled a group of a tenant it may not speak for: the group goes on.
pub(in crate::pipeline) async fn group_not_allowed(
    context: &WorkerContext,
    inbound: &InboundCall,
    tenant: &Tenant,
) -> Result<Recorded, AwsError> {
    let sender = inbound.sender.as_deref().unwrap_or("unknown");
    let text = format!("Sender `{sender}` may not cancel groups of tenant `{tenant}`.");
    tracing::warn!(message_id = inbound.message_id(), sender, %tenant, code = "tenant_not_allowed", "a sender spoke for a tenant it may not speak for");
    let key = CallKey { tenant: Tenant::tenant_not_allowed(), call_id: message_as_id(inbound) };
    let outcome = Outcome::refused(Code::TenantNotAllowed, text);
    audit_without_call(context, inbound, AuditKind::TenantNotAllowed, key, &outcome).await?;
    Ok(Recorded::new(None, None))
}

/// A message that is not a request, and names no call that its sender may speak for. Its body is not recorded by this: it has to
/// be kept.
pub(in crate::pipeline) async fn unreadable(
    context: &WorkerContext,
    inbound: &InboundCall,
    malformed: &Malformed,
) -> Result<(), AwsError> {
    let outcome = undecodable(inbound, malformed);
    answer_message(context, inbound, malformed.digest.clone(), &outcome).await?;
    let key = CallKey { tenant: Tenant::undecodable(), call_id: message_as_id(inbound) };
    audit_without_call(context, inbound, AuditKind::Undecodable, key, &outcome).await
}

fn undecodable(inbound: &InboundCall, malformed: &Malformed) -> Outcome {
    tracing::info!(
        message_id = inbound.message_id(),
        field = malformed.error.field,
        code = "undecodable",
        "a message is not a request"
    );
    let text = format!(
        "The message is not a valid request: {}. Correct it and send it under a new id.",
        malformed.error
    );
    Outcome::refused(Code::Undecodable, text)
}
