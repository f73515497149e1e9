//! Waits for calls by their rows, and tells from a row how far its call is.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use toolfleet_client::{AwsError, CallResult, PayloadError, WaitError};
use toolfleet_core::call::CallRow;

use crate::answer::ended_row;
use crate::gateway::Gateway;
use crate::handle::Handle;
use crate::message::Request;
use crate::progress::ProgressReporter;

/// What is known of a call after waiting for it.
pub(crate) enum Waited {
    Ended(Box<CallResult>),
    /// A worker has received it.
    Open,
    /// No worker has received it, as far as is known.
    NotReceived,
    /// It was cancelled before a worker received it.
    NeverRuns,
}

/// Whether a worker has received the call. A row without a digest was made by a cancellation alone.
pub(crate) fn is_received(row: &CallRow) -> bool {
    row.digest.is_some() || row.finished.is_some()
}

/// Whether the call was cancelled before a worker received it.
pub(crate) fn never_runs(row: &CallRow) -> bool {
    row.cancel_requested_at.is_some() && !is_received(row)
}

impl Gateway {
    /// Waits for a call that a handle leads to. An error that passes does not end the wait.
    pub(crate) async fn wait_for(
        &self,
        request: &Request,
        handle: &Handle,
        within: Duration,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<Waited, WaitError> {
        self.wait_until(request, handle, request.at + within, None, progress).await
    }

    /// The same until a time, or so long after a worker has received the call.
    pub(crate) async fn wait_until(
        &self,
        request: &Request,
        handle: &Handle,
        mut until: Instant,
        mut once_received: Option<Duration>,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<Waited, WaitError> {
        let mut pause = Duration::from_millis(20);
        let mut waited = Waited::NotReceived;
        loop {
            let reading = async {
                match self.row_of(handle, request).await? {
                    Some(row) => self.filled(row).await.map(Some),
                    None => Ok(None),
                }
            };
            let reading = timeout_at(until.max(request.at + self.limits.wait), reading);
            let late = |_| Err(AwsError::passing("no answer within the bound").into());
            let read = reading.await.unwrap_or_else(late);
            let now = Instant::now();
            let is_over = |until| now >= until || self.draining.is_cancelled();
            match read {
                Ok(None) => {}
                Ok(Some(row)) if never_runs(&row) => return Ok(Waited::NeverRuns),
                Ok(Some(row)) => {
                    progress.see(&row);
                    if is_received(&row) {
                        waited = Waited::Open;
                        until = once_received.take().map_or(until, |within| now + within);
                    }
                    if let Some(result) = ended_row(row) {
                        return Ok(Waited::Ended(Box::new(result)));
                    }
                }
                Err(WaitError::Aws(error)) if !error.is_permanent() && !is_over(until) => {}
                Err(error) => return Err(error),
            }
            if is_over(until) {
                return Ok(waited);
            }
            tokio::select! {
                () = tokio::time::sleep_until((now + pause).min(until)) => {}
                () = self.draining.cancelled() => {}
            }
            pause = (pause * 3 / 2).min(Duration::from_secs(1));
        }
    }

    /// The row that holds the state of the call that a handle leads to, without a result that is stored in the bucket.
    pub(crate) async fn row_of(
        &self,
        handle: &Handle,
        request: &Request,
    ) -> Result<Option<CallRow>, AwsError> {
        let own = self.client.row_without_result(&handle.key(&request.caller)).await?;
        if let Some(row) = own.filter(|row| handle.is_of(row)) {
            return Ok(Some(row));
        }
        match handle.message_key() {
            Some(key) => self.client.row_without_result(&key).await,
            None => Ok(None),
        }
    }

    /// The row with its result.
    pub(crate) async fn filled(&self, mut row: CallRow) -> Result<CallRow, WaitError> {
        match self.client.fill_result(&mut row).await {
            Ok(()) => Ok(row),
            Err(PayloadError::Aws(error)) => Err(WaitError::Aws(error)),
            Err(
                error @ (PayloadError::Missing(_)
                | PayloadError::Altered { .. }
                | PayloadError::TooLarge { .. }),
            ) => Err(WaitError::Unreadable(Box::new(error))),
        }
    }
}
