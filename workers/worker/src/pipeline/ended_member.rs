//! A member of a group whose call has ended.

use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::{Code, OutcomeKind};
use toolfleet_core::request::{CallRequest, Group, Reply};
use toolfleet_core::time::Timestamp;

use super::inbound::InboundCall;
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
        let deadline = request.deadline(inbound.enqueued_at, context.limits.default_deadline_ms());
        let (key, reply) = (request.key.clone(), request.reply.clone());
        Some(Self { key, group, reply, deadline, succeeded: outcome == OutcomeKind::Succeeded })
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
        Some(Self { key: key.clone(), group: group?, reply, deadline, succeeded: false })
    }
}
