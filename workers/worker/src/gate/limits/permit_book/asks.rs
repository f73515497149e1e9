//! What calls ask of one limit's permits, and who learns of the answer.

use tokio::sync::oneshot;
use toolfleet_core::limits::holders::Take;
use toolfleet_core::time::Timestamp;

use super::super::permit_wish::PermitWish;
use super::permit::Permit;
use super::rows::PermitRows;

/// A request for an entry, and who learns of the answer.
#[derive(Debug)]
pub(super) struct Ask<S: PermitRows> {
    pub(super) take: Take,
    pub(super) reply: Reply<S>,
}

#[derive(Debug)]
pub(super) enum Reply<S: PermitRows> {
    /// A new entry. A permit that nobody receives is released.
    Permit(PermitWish, oneshot::Sender<Option<Permit<S>>>),
    /// An entry that is kept for longer; whether it is in the row.
    Kept(oneshot::Sender<bool>),
    /// An entry that takes the place of one that is released in the same write. Nobody waits for it after a write that failed.
    Replaces(Option<oneshot::Sender<()>>),
}

impl<S: PermitRows> Ask<S> {
    /// Whether nobody waits for the answer any more.
    pub(super) fn is_over(&self) -> bool {
        match &self.reply {
            Reply::Permit(_, sender) => sender.is_closed(),
            Reply::Kept(_) | Reply::Replaces(_) => false,
        }
    }

    /// Whether it is for a new entry.
    pub(super) const fn is_new(&self) -> bool {
        matches!(self.reply, Reply::Permit(..))
    }

    /// The entry that it asks for now: a new one counts from now on.
    pub(super) fn take_from(&self, now: Timestamp) -> Take {
        let until = match &self.reply {
            Reply::Permit(wish, _) => now.plus_ms(wish.hold_ms),
            Reply::Kept(_) | Reply::Replaces(_) => self.take.until,
        };
        Take { until, ..self.take.clone() }
    }
}
