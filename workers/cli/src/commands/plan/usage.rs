//! What a fleet uses.

use super::prices::Prices;

/// The most workers that are considered.
pub(super) const MOST_WORKERS: u32 = 10_000;

/// What is paid for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Calls a second, on average over the month.
    pub(super) rate: f64,
    /// How long a call holds its slot, in seconds.
    pub(super) mean_s: f64,
    pub(super) workers: u32,
    /// vCPU and GB of a worker.
    pub(super) vcpu: f64,
    pub(super) memory_gb: f64,
    pub(super) queues: u32,
    pub(super) request_bytes: f64,
    pub(super) result_bytes: f64,
    /// How often a caller reads the row of a call.
    pub(super) polls: f64,
    /// Whether calls are in sessions.
    pub(super) sessions: bool,
    /// Which part of the calls is executed without a claim.
    pub(super) claimless: f64,
    pub(super) prices: Prices,
}
