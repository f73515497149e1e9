//! Reads the status and the result of calls.

use futures::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};
use toolfleet_aws::AwsError;
use toolfleet_aws::payloads::PayloadError;
use toolfleet_core::call::{CallRow, Caller, Finished};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::Outcome;
use toolfleet_core::progress::CallProgress;
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

use crate::client::Client;

/// Results that are read from the bucket at once.
const RESULTS_IN_FLIGHT: usize = 8;

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct CallResult {
    /// The outcome, with the result or the error.
    pub outcome: Outcome,
    /// Attempts made.
    pub attempts: u32,
    /// When its message was sent.
    pub enqueued_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The progress and the log that the server sent while it ran, where that was requested.
    pub notes: Option<Box<CallProgress>>,
    /// The digest of the question it answers.
    pub digest: Option<Digest>,
    /// The caller whose message was first.
    pub caller: Option<Box<Caller>>,
}

impl CallResult {
    /// Whether this is the result of that request, and not of an earlier one with the same id: another question, or another session,
    /// user or agent. The own result of such a request is its notice and its audit record.
    ///
    /// A request whose arguments are a reference is taken for the same question: its digest needs the arguments.
    pub fn answers(&self, request: &CallRequest) -> bool {
        is_of(self.digest.as_ref(), self.caller.as_deref(), request)
    }
}

/// Whether a row with that digest and caller is the row of `request`. A row without a digest is one that only a cancellation wrote.
pub(crate) fn is_of(digest: Option<&Digest>, caller: Option<&Caller>, request: &CallRequest) -> bool {
    digest.is_none_or(|digest| request.is_of(digest, caller))
        && caller.is_none_or(|caller| caller.could_ask(request))
}

/// The status of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum CallStatus {
    /// Nothing is stored of it: not sent, still in the queue, or expired.
    Unknown,
    /// A worker has received it, and it has not ended.
    Open(Box<CallRow>),
    /// It ended.
    Ended(Box<CallResult>),
    /// It ended, and its stored result cannot be read: the object is gone or altered, or the bucket does not answer.
    Unreadable(Box<PayloadError>),
}

impl CallStatus {
    pub(crate) fn of(row: Option<CallRow>) -> Self {
        match row {
            None => Self::Unknown,
            Some(CallRow {
                finished: Some(finished), attempts, enqueued_at, digest, caller, notes, ..
            }) => {
                let Finished { outcome, at } = finished;
                let result =
                    CallResult { outcome, attempts, enqueued_at, finished_at: at, notes, digest, caller };
                Self::Ended(Box::new(result))
            }
            Some(row) => Self::Open(Box::new(row)),
        }
    }

    /// Whether waiting longer changes nothing: it ended, and its result is here or cannot be read unless somebody acts.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Ended(_) => true,
            Self::Unreadable(error) => match &**error {
                PayloadError::Aws(error) => error.is_permanent(),
                PayloadError::Missing(_) | PayloadError::Altered { .. } | PayloadError::TooLarge { .. } => {
                    true
                }
            },
            Self::Unknown | Self::Open(_) => false,
        }
    }
}

impl Client {
    /// The status of a call now; its result is read from the bucket where it is stored there.
    ///
    /// # Errors
    /// The table or the bucket failed.
    pub async fn status(&self, key: &CallKey) -> Result<CallStatus, AwsError> {
        let row = self.calls.read(key).await?;
        match self.read_result(row).await {
            CallStatus::Unreadable(error) => match *error {
                PayloadError::Aws(error) => Err(error),
                error @ (PayloadError::Missing(_)
                | PayloadError::Altered { .. }
                | PayloadError::TooLarge { .. }) => Ok(CallStatus::Unreadable(Box::new(error))),
            },
            status @ (CallStatus::Unknown | CallStatus::Open(_) | CallStatus::Ended(_)) => Ok(status),
        }
    }

    /// The status of each of many calls now, in order; 100 rows in a request. A result that cannot be read is the status of its call
    /// alone.
    ///
    /// # Errors
    /// The table failed.
    pub async fn status_many(&self, keys: &[CallKey]) -> Result<Vec<CallStatus>, AwsError> {
        let rows = self.calls.read_many(keys).await?;
        Ok(self.read_results(rows, None).await)
    }

    /// The statuses of rows, with their results as far as they can be read before `until`.
    pub(crate) async fn read_results(
        &self,
        rows: Vec<Option<CallRow>>,
        until: Option<Instant>,
    ) -> Vec<CallStatus> {
        let read = |row: Option<CallRow>| async move {
            let status = self.read_result(row);
            match until {
                Some(until) => timeout_at(until, status).await.unwrap_or_else(|_| too_late()),
                None => status.await,
            }
        };
        stream::iter(rows.into_iter().map(read)).buffered(RESULTS_IN_FLIGHT).collect().await
    }

    /// The row of a call now, with its result wherever that is stored.
    pub async fn row(&self, key: &CallKey) -> Result<Option<CallRow>, PayloadError> {
        let mut row = self.calls.read(key).await?;
        if let Some(row) = &mut row {
            self.payloads.fill(row).await?;
        }
        Ok(row)
    }

    /// The same without a result that is stored in the bucket: [`Client::fill_result`] reads that.
    ///
    /// # Errors
    /// The table failed.
    pub async fn row_without_result(&self, key: &CallKey) -> Result<Option<CallRow>, AwsError> {
        self.calls.read(key).await
    }

    /// Reads the result of that row from the bucket, where it is stored there.
    ///
    /// # Errors
    /// The object is gone, altered or too large, or the bucket failed.
    pub async fn fill_result(&self, row: &mut CallRow) -> Result<(), PayloadError> {
        self.payloads.fill(row).await
    }

    async fn read_result(&self, mut row: Option<CallRow>) -> CallStatus {
        if let Some(row) = &mut row
            && let Err(error) = self.payloads.fill(row).await
        {
            return CallStatus::Unreadable(Box::new(error));
        }
        CallStatus::of(row)
    }
}

fn too_late() -> CallStatus {
    let error = AwsError::passing("the bucket of the call's result did not answer in time");
    CallStatus::Unreadable(Box::new(PayloadError::Aws(error)))
}
