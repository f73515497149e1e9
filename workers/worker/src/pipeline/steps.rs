//! Test hooks of the pipeline: a test sees each call pass its steps, and may hold it there or let its worker die.

use std::sync::Arc;

use futures::future::BoxFuture;

/// The steps of a call after which a crash would leave something half done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The message was read.
    Decoded,
    /// It may run.
    Admitted,
    /// All it needs is available.
    Prepared,
    /// The claim is stored; nothing was sent yet.
    Claimed,
    /// A large result is in the bucket; nothing refers to it.
    PayloadStored,
    /// The outcome is known; nothing is stored of it.
    Executed,
    /// The result is stored, the audit record is not.
    ResultStored,
    /// Both are stored.
    Recorded,
    /// The notice is sent.
    Notified,
    /// The message is gone.
    Acknowledged,
    /// The task's handle is stored; its permits still count like those of a request.
    TaskStored,
    /// The same, and its permits are kept; the message that will ask after it is not sent.
    Parked,
    /// That message is sent; the one before it is not deleted.
    Reposted,
    /// The row of the call's group is made; its timer is not sent.
    GroupMade,
    /// The call has its index in its group.
    MemberBound,
    /// The timer of the group is sent; its row does not say so yet.
    TimerSent,
    /// The call is counted in its group.
    MemberCounted,
    /// The group is decided; its notice is not sent.
    GroupDecided,
    /// The notice of the group is sent.
    GroupNotified,
}

impl Step {
    /// The steps of the calls of a group beyond those of any call, in order.
    pub const OF_GROUPS: [Self; 6] = [
        Self::GroupMade,
        Self::MemberBound,
        Self::TimerSent,
        Self::MemberCounted,
        Self::GroupDecided,
        Self::GroupNotified,
    ];

    /// Every step of a call that its server answers at once, in order.
    pub const ALL: [Self; 9] = [
        Self::Decoded,
        Self::Admitted,
        Self::Prepared,
        Self::Claimed,
        Self::Executed,
        Self::ResultStored,
        Self::Recorded,
        Self::Notified,
        Self::Acknowledged,
    ];
}

/// Sees a call pass its steps, and may hold it there.
pub trait Watch: Send + Sync {
    /// A call has passed `step`.
    fn passed(&self, step: Step) -> BoxFuture<'_, ()>;
}

/// The hooks of a worker; none outside tests.
#[derive(Clone)]
pub(crate) struct Steps(Option<Arc<dyn Watch>>);

impl Steps {
    pub(crate) const fn new(watch: Option<Arc<dyn Watch>>) -> Self {
        Self(watch)
    }

    /// A call has passed `step`.
    pub(crate) async fn passed(&self, step: Step) {
        if let Some(watch) = &self.0 {
            watch.passed(step).await;
        }
    }
}
