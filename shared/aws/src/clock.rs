//! The wall clock of workers, clients and commands. It stamps instants that leave the process; durations are measured with
//! `tokio::time`.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use toolfleet_core::time::Timestamp;

/// The machine's clock, or another one.
#[derive(Clone)]
pub enum Clock {
    /// The machine's.
    System,
    /// Another one: the machine's as a worker corrects it, or that of tests.
    Of(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

impl Clock {
    /// Now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Self::Of(now) => now(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Of(_) => "Of",
        })
    }
}
