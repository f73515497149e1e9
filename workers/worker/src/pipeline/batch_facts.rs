//! What switches and cancellation rules see of a call in a batch, kept where the batch is sent from: its delivery may be elsewhere by then.

use toolfleet_core::control::{CallFacts, Subject, ToolNames};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{ServerId, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use super::admit::AdmittedCall;
use crate::gate::ControlHandle;

pub(super) struct BatchFacts {
    server: ServerId,
    tenant: Tenant,
    /// The registered id of the tool, if it has one, and its name on its server.
    tool: Option<(Option<String>, String)>,
    session: Option<SessionId>,
    digest: Digest,
    enqueued_at: Timestamp,
}

impl BatchFacts {
    pub(super) fn of(call: &AdmittedCall, enqueued_at: Timestamp) -> Self {
        let tool = call.subject().tool;
        let request = &call.request;
        Self {
            server: call.server.id.clone(),
            tenant: request.key.tenant.clone(),
            tool: tool.map(|names| (names.registered.map(str::to_owned), names.name.to_owned())),
            session: request.session.clone(),
            digest: request.digest.clone(),
            enqueued_at,
        }
    }

    /// Whether nothing that operators have set stops or cancels the call, by what the worker knows now.
    pub(super) fn may_start(&self, control: &ControlHandle, now: Timestamp) -> bool {
        let Some(control) = control.current() else { return true };
        control.stop_of(self.subject(), now).is_none() && control.cancelled_by(&self.facts(), now).is_none()
    }

    fn tool(&self) -> Option<ToolNames<'_>> {
        let (registered, name) = self.tool.as_ref()?;
        Some(ToolNames { registered: registered.as_deref(), server: self.server.as_str(), name })
    }

    fn subject(&self) -> Subject<'_> {
        let Self { server, tenant, digest, .. } = self;
        Subject { server, tenant, tool: self.tool(), digest: Some(digest) }
    }

    fn facts(&self) -> CallFacts<'_> {
        let Self { tenant, session, enqueued_at, .. } = self;
        CallFacts { tenant, tool: self.tool(), session: session.as_ref(), enqueued_at: *enqueued_at }
    }
}
