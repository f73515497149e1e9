//! Cancels calls.

use toolfleet_aws::{Applied, AwsError, apply};
use toolfleet_core::call::{CallRow, Event, Rejection};
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::Code;
use toolfleet_core::retention::RETENTION_MS;

use crate::client::Client;

/// The effect of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// The call has ended by it.
    Ended,
    /// It is stored: the worker that runs the call ends it at its next heartbeat.
    Noted,
    /// The call is unknown: the cancellation is stored for its message, should that still arrive.
    Ahead,
    /// The call had ended before.
    TooLate,
}

impl Client {
    /// Cancels a call, even one whose message was not received yet.
    pub async fn cancel(&self, key: &CallKey) -> Result<Cancelled, AwsError> {
        let now = (self.now)();
        let event = Event::Cancel { key: key.clone(), now, expires_at: now.plus_ms(RETENTION_MS) };
        match apply(&self.calls, None, &event).await? {
            Applied::Stored { row, .. } => Ok(stored(Some(&row))),
            // Also a second cancellation, or one whose answer was lost.
            Applied::Rejected { row: Some(row), rejection: Rejection::AlreadyRecorded }
                if by_caller(&row) =>
            {
                Ok(Cancelled::Ended)
            }
            Applied::Rejected { rejection: Rejection::AlreadyRecorded, .. } => Ok(Cancelled::TooLate),
            Applied::Rejected {
                row,
                rejection:
                    Rejection::Nothing
                    | Rejection::Lost
                    | Rejection::Mismatch
                    | Rejection::OfAnother
                    | Rejection::AwaitingApproval
                    | Rejection::HeldElsewhere { .. },
            } => Ok(stored(row.as_deref())),
        }
    }
}

/// Whether the call has ended by its caller's cancellation.
fn by_caller(row: &CallRow) -> bool {
    let error = row.finished.as_ref().and_then(|finished| finished.outcome.error.as_ref());
    error.is_some_and(|error| error.code == Code::CancelledByCaller)
}

/// The meaning of a stored cancellation. A row without a digest was made by a cancellation alone.
fn stored(row: Option<&CallRow>) -> Cancelled {
    match row {
        Some(CallRow { finished: Some(_), .. }) => Cancelled::Ended,
        Some(CallRow { digest: Some(_), .. }) => Cancelled::Noted,
        Some(_) | None => Cancelled::Ahead,
    }
}
