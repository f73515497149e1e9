//! The gate of a target, as executors use it: they ask it before a request of their own, and report how the request ended.

use toolfleet_core::failure::{Failure, Refusal};
use toolfleet_core::ids::{ServerId, Tenant};

/// Why a request brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// The gate let nothing through.
    Refused(Refusal),
    /// The request was sent, or was tried to be sent, and failed.
    Failed(Failure),
}

/// Lets requests to targets through. The worker implements it by its switch, breakers and pauses.
pub trait RequestGate: Send + Sync + 'static {
    /// Runs `request` if the gate is open for this server and tenant, and records how it ended.
    fn request<T: Send>(
        &self,
        server: &ServerId,
        tenant: &Tenant,
        request: impl Future<Output = Result<T, Failure>> + Send,
    ) -> impl Future<Output = Result<T, Stopped>> + Send;
}
