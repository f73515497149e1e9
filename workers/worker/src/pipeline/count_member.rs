//! The step `count_member`: a call that has ended is counted in its group, and the group is decided if that is due.
//!
//! It comes after the call's record and before its message is deleted. After a crash anywhere here the next delivery of the message does it
//! again: counting is idempotent, and the decision is one conditional write. The message whose member decided sends the group's notice before
//! it is deleted, so the notice is sent at least once.

use toolfleet_aws::AwsError;
use toolfleet_aws::fleet::groups::Count;
use toolfleet_aws::queue::Outgoing;
use toolfleet_core::group::{Decider, Decision, GroupRow, Occasion, decide};
use toolfleet_core::request::Group;

use super::ended_member::EndedMember;
use super::enter_group::{Entered, Entrant, enter};
use super::inbound::InboundCall;
use super::steps::Step;
use crate::context::WorkerContext;
use crate::telemetry::trace;

pub(super) async fn count_member(
    context: &WorkerContext,
    inbound: &InboundCall,
    member: &EndedMember,
) -> Result<(), AwsError> {
    let EndedMember { key, group, reply, deadline, succeeded } = member;
    if !inbound.has_joined() {
        // It ended before it could join: a refusal, a dead letter, or after the decision.
        let entrant = Entrant { key, group, reply: reply.as_ref(), deadline: *deadline };
        match enter(context, inbound, entrant).await? {
            Entered::Member => {}
            Entered::Decided(row, _) => return notify_decided(context, &row, own(group)).await,
            Entered::Mismatch(text) => {
                tracing::info!(call = %key, code = "group_mismatch", "a call is not counted in its group: {text}");
                return Ok(());
            }
        }
    }
    let count = Count { key: group.key(&key.tenant), index: group.index, succeeded: *succeeded };
    let Some(counted) = context.fleet.count_member(count).await? else {
        // It has expired: nobody waits for it any more.
        return Ok(());
    };
    context.steps.passed(Step::MemberCounted).await;
    if counted.row.decision.is_some() {
        return notify_decided(context, &counted.row, own(group)).await;
    }
    match decide(&counted.row, Occasion::Counted(group.index), context.now()).filter(|_| counted.leads) {
        Some(due) => write_decision(context, &counted.row, due).await,
        None => Ok(()),
    }
}

const fn own(group: &Group) -> Decider {
    Decider::Member(group.index)
}

/// Decides, and sends the notice where this message is the one that decided.
pub(super) async fn write_decision(
    context: &WorkerContext,
    row: &GroupRow,
    due: Decision,
) -> Result<(), AwsError> {
    let Some(row) = context.fleet.decide_group(&row.key, &due).await? else {
        return Ok(());
    };
    context.steps.passed(Step::GroupDecided).await;
    let Some(decision) = row.decision else {
        return Err(AwsError::passing(format!("the decision of group {} was not stored", row.key)));
    };
    if decision == due {
        context.meters.group_decided(decision.result);
    }
    notify_decided(context, &row, due.by).await
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
        Err(error) if error.is_permanent() => {
            tracing::warn!(%error, group = %row.key, code = "group_notice_failed", "the notice of a group could not be sent; its decision is stored");
        }
        Err(error) => return Err(error),
    }
    context.steps.passed(Step::GroupNotified).await;
    context.fleet.note_notice(&row.key).await
}
