//! The task that a call has become at its server.

use toolfleet_core::call::CallRow;
use toolfleet_executors::PolledTask;

/// The time between two polls where the server names none.
const DEFAULT_POLL_MS: u64 = 5_000;
/// The shortest one: a message's delay has whole seconds.
const SHORTEST_POLL_MS: u64 = 1_000;
/// The longest one: a message's delay is no longer (SQS quota), and a cancellation waits no longer than this.
const LONGEST_POLL_MS: u64 = 900_000;

/// The task of a call.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// The server's name for it.
    pub(super) handle: String,
    /// Whether the answers that it waits for, and this call brings, have still to be given.
    pub(super) input_pending: bool,
}

impl Task {
    /// The task in the call's row.
    pub(super) fn of(row: &CallRow) -> Option<Self> {
        Some(Self { handle: row.task.clone()?, input_pending: row.input_pending })
    }

    /// The same once it has the answers that it asked for.
    pub(super) fn answered(&self) -> Self {
        Self { input_pending: false, ..self.clone() }
    }

    /// The task as an executor polls it.
    pub(super) fn polled(&self) -> PolledTask<'_> {
        PolledTask { handle: &self.handle, input_pending: self.input_pending }
    }
}

/// The time until the next poll of a server that named `asked_ms`, in milliseconds.
pub(super) fn poll_after_ms(asked_ms: Option<u64>) -> u64 {
    asked_ms.unwrap_or(DEFAULT_POLL_MS).clamp(SHORTEST_POLL_MS, LONGEST_POLL_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_polls_is_what_the_server_asks_within_bounds() {
        let rows = [
            (None, 5_000),
            (Some(0), 1_000),
            (Some(999), 1_000),
            (Some(7_000), 7_000),
            (Some(u64::MAX), 900_000),
        ];
        for (asked, expected) in rows {
            assert_eq!(poll_after_ms(asked), expected, "{asked:?}");
        }
    }
}
