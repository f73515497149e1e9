//! The clock of a client: the machine's, or the one that a test gives.

use std::sync::Arc;

use toolfleet_aws::Clock;
use toolfleet_core::time::Timestamp;

/// Gives the current time.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's clock.
pub fn system_clock() -> Now {
    Arc::new(|| Clock::System.now())
}
