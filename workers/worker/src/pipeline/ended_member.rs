//! A member of a group whose call has ended.

use toolfleet_core::call::CallRow;
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::{Code, OutcomeKind};
use toolfleet_core::request::{CallRequest, Group, Reply};
use toolfleet_core::time::Timestamp;

use super::inbound::InboundCall;
use super::latest::latest_deadline;
use crate::context::WorkerContext;

/// A member of a group whose call has ended and is recorded.
pub(super) struct EndedMember {
    pub(super) key: CallKey,
    pub(super) group: Box<Group>,
    pub(super) reply: Option<Reply>,
    pub(super) deadline: Timestamp,
    pub(super) succeeded: bool,
}

impl EndedMember {
    /// The member that the request is, if it has a group. A call that did not fit its group is none.
    pub(super) fn of(
        context: &WorkerContext,
        inbound: &InboundCall,
        request: &CallRequest,
        outcome: OutcomeKind,
        code: Option<Code>,
    ) -> Option<Self> {
        let group = request.group.clone().filter(|_| code != Some(Code::GroupMismatch))?;
        let group = within_bounds(inbound, *group);
        let deadline = request.deadline(inbound.enqueued_at, context.limits.default_deadline_ms());
        let (key, reply) = (request.key.clone(), request.reply.clone());
        Some(Self { key, group, reply, deadline, succeeded: outcome == OutcomeKind::Succeeded })
    }

    /// The member that a refused message is, beside the first call of its id. It failed, unless the first call has that very place in the group:
    /// then the end of that call counts.
    pub(super) fn beside(
        context: &WorkerContext,
        inbound: &InboundCall,
        request: &CallRequest,
        first: &CallRow,
    ) -> Option<Self> {
        let place = request.group.as_deref()?.membership();
        // Of a row without a caller that is not known.
        let taken = first.caller.as_deref()?.group.as_ref();
        let is_taken = taken.is_some_and(|taken| {
            // A worker of an earlier version wrote no index.
            let index = taken.index.or(place.index);
            (&taken.id, taken.round, index) == (&place.id, place.round, place.index)
        });
        if is_taken { None } else { Self::of(context, inbound, request, OutcomeKind::Refused, None) }
    }

    /// The member of a message that could not be read as a request.
    pub(super) fn unread(
        context: &WorkerContext,
        inbound: &InboundCall,
        key: &CallKey,
        group: Option<Box<Group>>,
        reply: Option<Reply>,
    ) -> Option<Self> {
        let deadline = inbound.enqueued_at.plus_ms(context.limits.default_deadline_ms());
        let group = within_bounds(inbound, *group?);
        Some(Self { key: key.clone(), group, reply, deadline, succeeded: false })
    }
}

/// The group as its row may know it: a deadline too late to be accepted is none. Its call was refused, and may not keep the group open.
fn within_bounds(inbound: &InboundCall, group: Group) -> Box<Group> {
    let (most, _) = latest_deadline(inbound.queue().is_fifo());
    let deadline = group.deadline.filter(|deadline| deadline.ms_since(inbound.enqueued_at) <= most);
    Box::new(Group { deadline, ..group })
}
