//! Owns waiting for a call's end: polling that backs off.
//!
//! **Invariant:** ends by its time-out, whatever happens to the call.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::Trouble;
use toolfleet_core::ids::CallKey;

use crate::{CallResult, Client, Standing};

/// The first pause between two looks.
const FIRST: Duration = Duration::from_millis(20);
/// The longest.
const LONGEST: Duration = Duration::from_secs(1);

/// Why waiting ended without an end of the call.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The time is over; the call goes on.
    #[error("the call has not ended within {waited_ms} ms; it goes on, look again later")]
    TimeOut {
        /// How long was waited.
        waited_ms: u128,
    },
    /// The table did not answer.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

impl Client {
    /// Waits until the call has ended, looking every 20 ms at first and every second in the end.
    pub async fn wait(&self, key: &CallKey, time_out: Duration) -> Result<CallResult, WaitError> {
        let until = Instant::now() + time_out;
        let mut pause = FIRST;
        loop {
            let Ok(standing) = tokio::time::timeout_at(until, self.standing(key)).await else {
                return Err(WaitError::TimeOut { waited_ms: time_out.as_millis() });
            };
            match standing {
                Ok(Standing::Ended(result)) => return Ok(*result),
                Ok(Standing::Unknown | Standing::Open(_)) => {}
                // A throttle passes; what does not pass is said at once.
                Err(trouble) if trouble.is_permanent() || Instant::now() >= until => {
                    return Err(trouble.into());
                }
                Err(_) => {}
            }
            if Instant::now() >= until {
                return Err(WaitError::TimeOut { waited_ms: time_out.as_millis() });
            }
            tokio::time::sleep_until((Instant::now() + pause).min(until)).await;
            pause = (pause * 3 / 2).min(LONGEST);
        }
    }
}
