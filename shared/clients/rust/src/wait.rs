//! Owns waiting for the end of a call, or of many: polling that backs off.
//!
//! **Invariant:** ends by its time-out, whatever happens to the calls.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_aws::payloads::PayloadError;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::CallKey;

use crate::{CallResult, CallStatus, Client};

/// The first pause between two looks.
const FIRST: Duration = Duration::from_millis(20);
/// How many looks at a call come to one at its message's own answer.
const MESSAGE_LOOKED_AT_EVERY: u32 = 4;
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
    /// It ended, and the result that was stored for it cannot be had.
    #[error(transparent)]
    Unreadable(Box<PayloadError>),
    /// The table or the bucket did not answer.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

/// The times at which to look: at once, then after growing pauses, and a last time when the time is over.
struct Looks {
    until: Instant,
    pause: Duration,
}

impl Looks {
    fn new(time_out: Duration) -> Self {
        let now = Instant::now();
        // A time-out beyond what the clock can hold is as good as none: a century.
        let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        Self { until: now + time_out.min(century), pause: FIRST }
    }

    /// Waits for the next look; false if the last one was taken.
    async fn next(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.until {
            return false;
        }
        tokio::time::sleep_until((now + self.pause).min(self.until)).await;
        self.pause = (self.pause * 3 / 2).min(LONGEST);
        true
    }

    /// What a look saw, unless the time was over first.
    async fn within<T>(&self, look: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.until, look).await.ok()
    }

    /// What a look that met error means: a throttle passes, what does not pass or comes last is said.
    fn bear(&self, error: AwsError) -> Result<(), AwsError> {
        if error.is_permanent() || Instant::now() >= self.until { Err(error) } else { Ok(()) }
    }
}

const fn has_ended(standing: &CallStatus) -> bool {
    matches!(standing, CallStatus::Ended(_) | CallStatus::Unreadable(_))
}

fn result_of(row: CallRow) -> Result<CallResult, WaitError> {
    match CallStatus::of(Some(row)) {
        CallStatus::Ended(result) => Ok(*result),
        CallStatus::Unknown | CallStatus::Open(_) | CallStatus::Unreadable(_) => {
            Err(AwsError::passing("the call's row has ended without an outcome").into())
        }
    }
}

impl Client {
    /// Waits until the call has ended, looking every 20 ms at first and every second in the end.
    pub async fn wait(&self, key: &CallKey, time_out: Duration) -> Result<CallResult, WaitError> {
        self.watch(key, time_out, |_| {}).await
    }

    /// Waits until a call that was just sent has ended, or its message was refused: [`Client::send`] gives the message's id. A sender that
    /// may not speak for the tenant gets its answer here alone.
    pub async fn wait_for_sent(
        &self,
        key: &CallKey,
        message_id: &str,
        time_out: Duration,
    ) -> Result<CallResult, WaitError> {
        result_of(self.watch_sent(key, message_id, time_out, |_| {}).await?)
    }

    /// The same; shows the call's row at each look while it is open, and gives the whole row that ended.
    pub async fn watch_sent(
        &self,
        key: &CallKey,
        message_id: &str,
        time_out: Duration,
        see: impl FnMut(&CallRow),
    ) -> Result<CallRow, WaitError> {
        self.watch_of(key, Some(message_id), time_out, see).await
    }

    /// Waits until the call has ended, and shows the call's row at each look while it is open: where it stands, and what its server tells
    /// ([`CallRow::notes`]).
    pub async fn watch(
        &self,
        key: &CallKey,
        time_out: Duration,
        see: impl FnMut(&CallRow),
    ) -> Result<CallResult, WaitError> {
        result_of(self.watch_of(key, None, time_out, see).await?)
    }

    async fn watch_of(
        &self,
        key: &CallKey,
        message_id: Option<&str>,
        time_out: Duration,
        mut see: impl FnMut(&CallRow),
    ) -> Result<CallRow, WaitError> {
        let mut looks = Looks::new(time_out);
        let mut taken = 0_u32;
        loop {
            taken = taken.wrapping_add(1);
            // Two rows cost twice as much: few messages are refused.
            let message_id = message_id.filter(|_| taken.is_multiple_of(MESSAGE_LOOKED_AT_EVERY));
            let look = async {
                match message_id {
                    Some(message_id) => self.row_of_sent(key, message_id).await,
                    None => self.row(key).await,
                }
            };
            let Some(row) = looks.within(look).await else {
                return Err(WaitError::TimeOut { waited_ms: time_out.as_millis() });
            };
            match row {
                Ok(Some(row)) if row.finished.is_some() => return Ok(row),
                Ok(Some(row)) => see(&row),
                Ok(None) => {}
                Err(PayloadError::Aws(trouble)) => looks.bear(trouble)?,
                Err(
                    error @ (PayloadError::Missing(_)
                    | PayloadError::Altered { .. }
                    | PayloadError::TooLarge { .. }),
                ) => return Err(WaitError::Unreadable(Box::new(error))),
            }
            if !looks.next().await {
                return Err(WaitError::TimeOut { waited_ms: time_out.as_millis() });
            }
        }
    }

    /// Waits until all of these calls have ended or the time is over, a hundred rows in a request; says in the order of `keys` where
    /// each stands then.
    pub async fn wait_many(&self, keys: &[CallKey], time_out: Duration) -> Result<Vec<CallStatus>, AwsError> {
        let mut looks = Looks::new(time_out);
        let mut standings: Vec<CallStatus> = keys.iter().map(|_| CallStatus::Unknown).collect();
        loop {
            let open = standings.iter_mut().zip(keys).filter(|(s, _)| !has_ended(s));
            let (places, asked): (Vec<_>, Vec<_>) = open.map(|(place, key)| (place, key.clone())).unzip();
            if asked.is_empty() {
                return Ok(standings);
            }
            let Some(now) = looks.within(self.standing_many(&asked)).await else {
                return Ok(standings);
            };
            match now {
                Ok(now) => places.into_iter().zip(now).for_each(|(place, now)| *place = now),
                Err(trouble) => looks.bear(trouble)?,
            }
            let all_ended = standings.iter().all(has_ended);
            if all_ended || !looks.next().await {
                return Ok(standings);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn looks_become_rarer_and_the_last_one_is_taken_when_the_time_is_over() {
        let begun = Instant::now();
        let mut looks = Looks::new(Duration::from_millis(10_500));
        let mut at = vec![Duration::ZERO];
        while looks.next().await {
            at.push(begun.elapsed());
        }
        assert_eq!(at.get(1), Some(&Duration::from_millis(20)));
        assert_eq!(at.last(), Some(&Duration::from_millis(10_500)));
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] <= LONGEST), "{at:?}");
        assert!(at.len() < 25, "{at:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_that_passes_is_borne_until_the_time_is_over() {
        let looks = Looks::new(Duration::from_secs(1));
        assert!(looks.bear(AwsError::passing("throttled")).is_ok());
        assert!(looks.bear(AwsError::configuration("no table")).is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(looks.bear(AwsError::passing("throttled")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_gets_no_answer_ends_with_the_time() {
        let begun = Instant::now();
        let looks = Looks::new(Duration::from_secs(3));
        assert!(looks.within(std::future::pending::<()>()).await.is_none());
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_out_without_end_is_no_overflow() {
        assert!(Looks::new(Duration::MAX).next().await);
    }
}
