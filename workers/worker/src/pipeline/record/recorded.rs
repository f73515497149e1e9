//! The proofs that the result of a delivery is stored, and that its audit record is too. Only the record step makes them.

use toolfleet_aws::AwsError;
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::{CallKey, SessionId};
use toolfleet_core::notice::Notice;
use toolfleet_core::request::{CallRequest, Target};
use toolfleet_core::time::Timestamp;

use crate::context::WorkerContext;
use crate::pipeline::ended_member::EndedMember;
use crate::pipeline::inbound::InboundCall;

/// The proof that the result of a delivery is stored, with the audit record that is still to be inserted.
pub(in crate::pipeline) struct ResultStored {
    /// The record, and when it expires.
    record: Option<(Box<AuditRecord>, Timestamp)>,
    recorded: Recorded,
    uncounted: Option<Uncounted>,
}

/// A call whose end no worker has counted.
pub(in crate::pipeline::record) struct Uncounted {
    target: Target,
    asked: bool,
    row: Box<CallRow>,
}

impl Uncounted {
    pub(in crate::pipeline::record) fn new(request: &CallRequest, row: CallRow) -> Self {
        Self { target: request.target.clone(), asked: request.cache, row: Box::new(row) }
    }

    /// Counts it.
    pub(in crate::pipeline::record) fn count(&self, context: &WorkerContext, inbound: &InboundCall) {
        let Self { target, asked, row } = self;
        context.activity.ended(inbound.catalog(), target, (row, *asked), context.now());
        if let Some(finished) = &row.finished {
            let outcome = &finished.outcome;
            context.meters.ended(outcome.kind, outcome.error.as_ref().map(|why| why.code));
        }
    }
}

impl ResultStored {
    pub(in crate::pipeline::record) fn new(
        record: AuditRecord,
        expires_at: Timestamp,
        recorded: Recorded,
    ) -> Self {
        Self { record: Some((Box::new(record), expires_at)), recorded, uncounted: None }
    }

    /// The same; where the record is new, that call is counted.
    pub(in crate::pipeline::record) fn counting(self, uncounted: Option<Uncounted>) -> Self {
        Self { uncounted, ..self }
    }

    /// Inserts the audit record. One that nobody waits for shares its request with others; the next message of a FIFO queue waits for it.
    pub(in crate::pipeline) async fn audited(
        self,
        context: &WorkerContext,
        inbound: &InboundCall,
    ) -> Result<Recorded, AwsError> {
        let Self { record, recorded, uncounted } = self;
        if let Some((record, expires_at)) = record {
            let is_new = if recorded.is_waited_for() || inbound.queue().is_fifo() {
                context.history.insert(&record, expires_at).await?
            } else {
                context.history.insert_soon(&record, expires_at).await?
            };
            if let Some(uncounted) = uncounted.filter(|_| is_new) {
                uncounted.count(context, inbound);
            }
        }
        Ok(recorded)
    }
}

impl From<Recorded> for ResultStored {
    fn from(recorded: Recorded) -> Self {
        Self { record: None, recorded, uncounted: None }
    }
}

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

    /// Whether something follows the record that a caller or a server waits for.
    const fn is_waited_for(&self) -> bool {
        self.notice.is_some() || self.open_task.is_some() || self.member.is_some()
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
    pub(in crate::pipeline) call: CallKey,
    pub(in crate::pipeline) target: Target,
    pub(in crate::pipeline) session: Option<SessionId>,
    pub(in crate::pipeline) handle: String,
}
