//! The step `join_group`: the call takes its index in its group, unless it does not fit there or the group is decided.
//!
//! A call without a group reads and writes nothing here.

use toolfleet_aws::AwsError;
use toolfleet_core::group::ended_by_decision;
use toolfleet_core::outcome::{Code, Outcome};

use super::admit::AdmittedCall;
use super::disposition::Disposition;
use super::enter_group::{Entered, Entrant, enter};
use super::inbound::InboundCall;
use super::record::unexecuted::record_unexecuted;
use crate::context::WorkerContext;

/// The call, if it is an open group's member or has no group; else how its delivery leaves the worker.
pub(super) enum Joined {
    GoesOn(Box<AdmittedCall>),
    Over(Disposition),
}

pub(super) async fn join_group(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: Box<AdmittedCall>,
) -> Result<Joined, AwsError> {
    let request = &call.request;
    let Some(group) = request.group.as_deref() else {
        return Ok(Joined::GoesOn(call));
    };
    let entrant = Entrant {
        key: &request.key,
        group,
        reply: request.reply.as_ref(),
        deadline: call.deadline,
        has_ended: false,
    };
    let outcome = match Box::pin(enter(context, inbound, entrant)).await? {
        Entered::Member => return Ok(Joined::GoesOn(call)),
        Entered::Decided(row, decision) => ended_by_decision(&row.key, decision.result, false),
        Entered::Mismatch(text) => {
            let text =
                format!("{text} Nothing was sent to the tool, and the group does not count this call.");
            Outcome::refused(Code::GroupMismatch, text)
        }
    };
    Ok(Joined::Over(record_unexecuted(context, inbound, *call.request, outcome).await?))
}
