//! Waits for the end of calls by polling their rows, with a growing pause. Every wait ends by its time-out.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_aws::payloads::PayloadError;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::CallKey;
use toolfleet_core::request::CallRequest;

use crate::client::Client;
use crate::status::{CallResult, CallStatus, is_of};

/// The first pause between two polls.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Every so many polls the message's own row is read too: it doubles the cost, and few messages are refused.
const MESSAGE_POLL_INTERVAL: u32 = 4;

/// Why waiting ended without the call's result.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The time is over; the call goes on.
    #[error("the call has not ended within {waited_ms} ms; it goes on, look again later")]
    TimeOut {
        /// How long was waited.
        waited_ms: u128,
    },
    /// It ended, and its stored result cannot be read.
    #[error(transparent)]
    Unreadable(Box<PayloadError>),
    /// The table or the bucket failed.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

/// The times of the polls: at once, then after growing pauses, and a last one when the time is over.
pub(crate) struct Polls {
    until: Instant,
    pause: Duration,
}

impl Polls {
    pub(crate) fn new(time_out: Duration) -> Self {
        let now = Instant::now();
        // A century stands for a time-out that the clock cannot hold.
        let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        Self { until: now + time_out.min(century), pause: FIRST_PAUSE }
    }

    /// Waits for the next poll; false after the last one.
    pub(crate) async fn next(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.until {
            return false;
        }
        tokio::time::sleep_until((now + self.pause).min(self.until)).await;
        self.pause = (self.pause * 3 / 2).min(LONGEST_PAUSE);
        true
    }

    /// The result of a poll, unless the time was over first.
    pub(crate) async fn within<T>(&self, poll: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.until, poll).await.ok()
    }

    /// Ignores an error that passes by itself, unless it comes with the last poll.
    pub(crate) fn tolerate(&self, error: AwsError) -> Result<(), AwsError> {
        if error.is_permanent() || Instant::now() >= self.until { Err(error) } else { Ok(()) }
    }
}

/// The message whose result is waited for.
#[derive(Clone, Copy)]
struct Sent<'a> {
    message_id: &'a str,
    /// Its request, to tell its result from the result of an earlier one with the same id.
    request: Option<&'a CallRequest>,
}

/// The result of one poll.
struct Polled {
    /// The row of the call, or of the message where that ended by itself.
    row: Option<CallRow>,
    /// Whether the id belongs to an earlier request.
    is_taken: bool,
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
    /// Waits until the call has ended; polls every 20 ms at first and every second in the end.
    pub async fn wait(&self, key: &CallKey, time_out: Duration) -> Result<CallResult, WaitError> {
        self.watch(key, time_out, |_| {}).await
    }

    /// Waits for the result of a request that was just sent; [`Client::send`] gives the message's id.
    ///
    /// Where the message ended by itself, the result is the message's own: its sender may not send for the tenant, or its id was used
    /// before for another question or by another caller. The result of that earlier call is never returned here.
    pub async fn wait_for_sent(
        &self,
        request: &CallRequest,
        message_id: &str,
        time_out: Duration,
    ) -> Result<CallResult, WaitError> {
        let sent = Sent { message_id, request: Some(request) };
        result_of(self.poll(&request.key, Some(sent), time_out, |_| {}).await?)
    }

    /// Waits for the result of a request: of the message that was sent for it, or of its row where [`Client::send_once`] sent none.
    /// `see` is called with the row at each poll while the call is open.
    pub async fn watch_request(
        &self,
        request: &CallRequest,
        message_id: Option<&str>,
        time_out: Duration,
        see: impl FnMut(&CallRow),
    ) -> Result<CallResult, WaitError> {
        let sent = message_id.map(|message_id| Sent { message_id, request: Some(request) });
        result_of(self.poll(&request.key, sent, time_out, see).await?)
    }

    /// Waits until the call of that key has ended or the message was refused, and returns the whole row; `see` is called with the row at
    /// each poll while the call is open. The row may be that of an earlier request with the same id.
    pub async fn watch_sent(
        &self,
        key: &CallKey,
        message_id: &str,
        time_out: Duration,
        see: impl FnMut(&CallRow),
    ) -> Result<CallRow, WaitError> {
        self.poll(key, Some(Sent { message_id, request: None }), time_out, see).await
    }

    /// Waits until the call has ended; `see` is called with the row at each poll while the call is open, with its state and its progress
    /// ([`CallRow::notes`]).
    pub async fn watch(
        &self,
        key: &CallKey,
        time_out: Duration,
        see: impl FnMut(&CallRow),
    ) -> Result<CallResult, WaitError> {
        result_of(self.poll(key, None, time_out, see).await?)
    }

    /// The row of a call now, or, where that has not ended, the row of the message that was sent for it, if the message ended by itself.
    pub async fn row_of_sent(
        &self,
        key: &CallKey,
        message_id: &str,
    ) -> Result<Option<CallRow>, PayloadError> {
        let sent = Sent { message_id, request: None };
        Ok(self.poll_once(key, Some(sent), true).await?.row)
    }

    async fn poll(
        &self,
        key: &CallKey,
        sent: Option<Sent<'_>>,
        time_out: Duration,
        mut see: impl FnMut(&CallRow),
    ) -> Result<CallRow, WaitError> {
        let mut polls = Polls::new(time_out);
        let (mut count, mut is_taken) = (0_u32, false);
        loop {
            count = count.wrapping_add(1);
            let with_message = is_taken || count.is_multiple_of(MESSAGE_POLL_INTERVAL);
            let Some(polled) = polls.within(self.poll_once(key, sent, with_message)).await else {
                return Err(WaitError::TimeOut { waited_ms: time_out.as_millis() });
            };
            match polled {
                Ok(Polled { row: Some(row), .. }) if row.finished.is_some() => return Ok(row),
                Ok(polled) => {
                    polled.row.iter().for_each(&mut see);
                    is_taken = polled.is_taken;
                }
                Err(PayloadError::Aws(error)) => polls.tolerate(error)?,
                Err(
                    error @ (PayloadError::Missing(_)
                    | PayloadError::Altered { .. }
                    | PayloadError::TooLarge { .. }),
                ) => return Err(WaitError::Unreadable(Box::new(error))),
            }
            if !polls.next().await {
                return Err(WaitError::TimeOut { waited_ms: time_out.as_millis() });
            }
        }
    }

    async fn poll_once(
        &self,
        key: &CallKey,
        sent: Option<Sent<'_>>,
        with_message: bool,
    ) -> Result<Polled, PayloadError> {
        let (call, message) = match sent.filter(|_| with_message) {
            Some(Sent { message_id, .. }) => {
                let keys = [key.clone(), CallKey::of_message(message_id)];
                let mut rows = self.calls.read_many(&keys).await?.into_iter();
                (rows.next().flatten(), rows.next().flatten())
            }
            None => (self.calls.read(key).await?, None),
        };
        let request = sent.and_then(|sent| sent.request);
        let is_other = |row: &CallRow| {
            request.is_some_and(|request| !is_of(row.digest.as_ref(), row.caller.as_deref(), request))
        };
        let is_taken = call.as_ref().is_some_and(is_other);
        let mut call = call.filter(|_| !is_taken);
        if let Some(row) = call.as_mut().filter(|row| row.finished.is_some()) {
            self.payloads.fill(row).await?;
            return Ok(Polled { row: call, is_taken });
        }
        // The row of the message is its own result, whatever digest and caller it holds.
        let own = message.filter(|row| row.finished.is_some());
        let row = own.map(|row| CallRow { digest: None, caller: None, ..row }).or(call);
        Ok(Polled { row, is_taken })
    }

    /// Waits until all of these calls have ended or the time is over, 100 rows in a request; the status of each, in the order of `keys`.
    ///
    /// A result that cannot be read because its bucket fails for the moment is read again until the time is over.
    ///
    /// # Errors
    /// The table failed.
    pub async fn wait_many(&self, keys: &[CallKey], time_out: Duration) -> Result<Vec<CallStatus>, AwsError> {
        let mut polls = Polls::new(time_out);
        let mut statuses: Vec<CallStatus> = keys.iter().map(|_| CallStatus::Unknown).collect();
        loop {
            let open = statuses.iter_mut().zip(keys).filter(|(status, _)| !status.is_final());
            let (places, open): (Vec<_>, Vec<_>) = open.map(|(place, key)| (place, key.clone())).unzip();
            if open.is_empty() {
                return Ok(statuses);
            }
            let Some(rows) = polls.within(self.calls.read_many(&open)).await else {
                return Ok(statuses);
            };
            match rows {
                Ok(rows) => {
                    let now = self.read_results(rows, Some(polls.until)).await;
                    places.into_iter().zip(now).for_each(|(place, now)| *place = now);
                }
                Err(error) => polls.tolerate(error)?,
            }
            if statuses.iter().all(CallStatus::is_final) || !polls.next().await {
                return Ok(statuses);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn polls_become_rarer_and_the_last_one_is_at_the_time_out() {
        let start = Instant::now();
        let mut polls = Polls::new(Duration::from_millis(10_500));
        let mut at = vec![Duration::ZERO];
        while polls.next().await {
            at.push(start.elapsed());
        }
        assert_eq!(at.get(1), Some(&Duration::from_millis(20)));
        assert_eq!(at.last(), Some(&Duration::from_millis(10_500)));
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] <= LONGEST_PAUSE), "{at:?}");
        assert!(at.len() < 25, "{at:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_error_is_tolerated_until_the_time_is_over() {
        let polls = Polls::new(Duration::from_secs(1));
        assert!(polls.tolerate(AwsError::passing("throttled")).is_ok());
        assert!(polls.tolerate(AwsError::configuration("no table")).is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(polls.tolerate(AwsError::passing("throttled")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_without_reply_ends_with_the_time() {
        let start = Instant::now();
        let polls = Polls::new(Duration::from_secs(3));
        assert!(polls.within(std::future::pending::<()>()).await.is_none());
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_time_out_does_not_overflow() {
        assert!(Polls::new(Duration::MAX).next().await);
    }
}
