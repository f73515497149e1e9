//! The compare-and-swap loop for the rows of calls.

pub(super) use toolfleet_aws::apply;
use toolfleet_core::call::CallTable;

/// What an event led to.
pub(super) type Applied = toolfleet_aws::Applied<CallTable>;
