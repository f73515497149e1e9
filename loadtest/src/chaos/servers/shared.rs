//! What the servers of a run share, and what becomes of a connection.

use std::sync::atomic::AtomicU64;

use super::super::ledger::Ledger;
use super::super::plan::Server;
use super::sessions::Sessions;
use super::tasks::Tasks;

/// The header that names the worker, in the catalog of each.
pub(crate) const WORKER_HEADER: &str = "x-load-worker";
/// The flapping server answers for so long, then resets connections for so long, in microseconds.
const UP_US: u64 = 4_000_000;
const DOWN_US: u64 = 1_500_000;

/// What all servers of a run share.
pub(super) struct Shared {
    pub(super) seed: u64,
    pub(super) ledger: Ledger,
    pub(super) sessions: Sessions,
    pub(super) tasks: Tasks,
    /// Answers to requests in sessions that were lost.
    pub(super) lost_answers: AtomicU64,
}

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Keep,
    Close,
    Reset,
}

impl Shared {
    pub(super) fn is_down(&self, server: Server) -> bool {
        server == Server::Flapping && self.ledger.now_us() % (UP_US + DOWN_US) >= UP_US
    }
}
