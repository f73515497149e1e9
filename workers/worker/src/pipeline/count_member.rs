//! The step `count_member`: a call that has ended is counted in its group, and the group is decided if that is due.
//!
//! It comes after the call's record and before its message is deleted. After a crash anywhere here the next delivery of the message does it
//! again: counting is idempotent, and the decision is one conditional write. The message whose member decided sends the group's notice before
//! it is deleted, so the notice is sent at least once.

use toolfleet_aws::AwsError;
use toolfleet_aws::fleet::groups::Count;
use toolfleet_core::group::{Decider, Occasion, decide};
use toolfleet_core::request::Group;

use super::decide_group::{notify_decided, write_decision};
use super::ended_member::EndedMember;
use super::enter_group::{Entered, Entrant, enter};
use super::inbound::InboundCall;
use super::steps::Step;
use crate::context::WorkerContext;

pub(super) async fn count_member(
    context: &WorkerContext,
    inbound: &InboundCall,
    member: &EndedMember,
) -> Result<(), AwsError> {
    let EndedMember { key, group, reply, deadline, succeeded } = member;
    if !inbound.has_joined() {
        // It ended before it could join: a refusal, a dead letter, or after the decision.
        let entrant = Entrant { key, group, reply: reply.as_ref(), deadline: *deadline, has_ended: true };
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
    let now = context.now();
    // The timer may come long after the deadline.
    let due = [Occasion::Counted(group.index), Occasion::Timer];
    let Some(due) = due.into_iter().find_map(|occasion| decide(&counted.row, occasion, now)) else {
        return Ok(());
    };
    // Members that shared the count have one decision to write. The others wait until it is: the message of the one that writes it may be
    // gone already, deleted by another delivery, so that only they can do it if that one stops.
    let mut is_decided = counted.is_decided.lock().await;
    if !*is_decided {
        write_decision(context, &counted.row, due).await?;
        *is_decided = true;
    }
    Ok(())
}

const fn own(group: &Group) -> Decider {
    Decider::Member(group.index)
}
