//! The limits of the requests of a batcher.

use std::time::Duration;

/// The limits of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// The most items in one request.
    pub(crate) max_items: usize,
    /// The most bytes in one request.
    pub(crate) max_bytes: usize,
    /// How long the first item of a batch waits for others while the runtime lags.
    pub(crate) linger: Duration,
    /// The most requests in flight at once.
    pub(crate) max_in_flight: usize,
    /// So many items that may wait go while no request is in flight.
    pub(crate) idle_items: usize,
}
