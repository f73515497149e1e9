//! The clock of a client: the machine's, or the one that a test gives.

use std::sync::Arc;
use std::time::SystemTime;

use toolfleet_core::time::Timestamp;

/// Gives the current time.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's clock.
#[expect(clippy::disallowed_methods, reason = "the one place where an orchestrator reads the time")]
pub fn system_clock() -> Now {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    })
}
