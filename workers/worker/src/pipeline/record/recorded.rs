//! The proof that the result and the audit record of a delivery are stored in the tables; only the record step makes it.

use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::notice::Notice;
use toolfleet_core::request::Target;

use crate::pipeline::ended_member::EndedMember;

/// The proof that the result and the audit record of a delivery are stored in the tables.
pub(in crate::pipeline) struct Recorded {
    notice: Option<(Notice, String)>,
    open_task: Option<OpenTask>,
    member: Option<Box<EndedMember>>,
}

impl Recorded {
    pub(in crate::pipeline::record) const fn new(
        notice: Option<(Notice, String)>,
        open_task: Option<OpenTask>,
    ) -> Self {
        Self { notice, open_task, member: None }
    }

    /// The same for a call that is a member of a group.
    pub(in crate::pipeline::record) fn of_member(self, member: Option<EndedMember>) -> Self {
        Self { member: member.map(Box::new), ..self }
    }

    /// The member of a group that has ended.
    pub(in crate::pipeline) fn member(&self) -> Option<&EndedMember> {
        self.member.as_deref()
    }

    /// The notice to send, and the queue it goes to.
    pub(in crate::pipeline) const fn notice(&self) -> Option<&(Notice, String)> {
        self.notice.as_ref()
    }

    /// The task that the server still works on although the call has ended.
    pub(in crate::pipeline) const fn open_task(&self) -> Option<&OpenTask> {
        self.open_task.as_ref()
    }
}

/// A task at a server whose call has ended.
pub(in crate::pipeline) struct OpenTask {
    pub(in crate::pipeline) tenant: Tenant,
    pub(in crate::pipeline) target: Target,
    pub(in crate::pipeline) session: Option<SessionId>,
    pub(in crate::pipeline) handle: String,
}
