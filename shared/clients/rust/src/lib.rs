//! What a Rust orchestrator depends on: send a call, wait for its end, cancel it, read its account. Knows no MCP.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use toolfleet_client::{Client, RequestBuilder, Tables};
//!
//! let queue = "https://sqs.us-east-1.amazonaws.com/123456789012/toolfleet-calls";
//! let client = Client::connect(queue, &Tables::with_prefix("toolfleet")).await;
//! let call = RequestBuilder::tool("acme", "echo").arguments(serde_json::json!({"text": "hello"})).call_id("c-1").build()?;
//! let message_id = client.send(&call, None).await?;
//! let end = client.wait_for_sent(&call.key, &message_id, std::time::Duration::from_secs(30)).await?;
//! # Ok(()) }
//! ```
//!
//! **Invariant:** what is sent has passed the same decoder that a worker uses.

mod builder;
mod depths;
mod records;
mod sessions;
mod wait;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use toolfleet_aws::calls::Calls;
use toolfleet_aws::history::History;
use toolfleet_aws::payloads::{Payloads, THRESHOLD_BYTES};
use toolfleet_aws::queue::{MAX_BODY_BYTES, Outgoing, Queue};
use toolfleet_aws::{Applied, apply};
use toolfleet_core::call::{CallRow, Caller, Event, Finished, Rejection};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::CallKey;
use toolfleet_core::message::CallRequest;
use toolfleet_core::outcome::Outcome;
use toolfleet_core::payload::MAX_PAYLOAD_BYTES;
use toolfleet_core::progress::CallProgress;
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::Timestamp;

pub use builder::RequestBuilder;
pub use depths::QueueDepth;
pub use records::RecordsOf;
pub use sessions::{BELIEVED_FOR_S, Session, SessionError, Sessions};
pub use toolfleet_aws::payloads::PayloadError;
pub use toolfleet_aws::{Aws, AwsError, AwsErrorKind, AwsOptions, Tables};
pub use toolfleet_core::mcp_session::McpSession;
pub use wait::WaitError;

/// So many results are read from the bucket at once.
const RESULTS_AT_ONCE: usize = 8;

/// Says what time it is.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's clock.
#[expect(clippy::disallowed_methods, reason = "the one place where an orchestrator's time enters")]
pub fn system_clock() -> Now {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    })
}

/// The body, unless it is so large that a worker would refuse it.
fn sendable(body: String) -> Result<String, AwsError> {
    if body.len() <= MAX_BODY_BYTES {
        return Ok(body);
    }
    Err(AwsError::rejection(format!(
        "the request has {} bytes; accepted are at most {MAX_BODY_BYTES}, because a call that waits carries attributes beside its \
         body. Name the fleet's bucket (TOOLFLEET_PAYLOAD_BUCKET, Client::with_payload_bucket), and its arguments are sent by reference",
        body.len()
    )))
}

/// What a cancellation that is noted means where that row stood before.
fn noted(seen: Option<&CallRow>) -> Cancelled {
    match seen {
        // A row without a question was made by an earlier cancellation.
        Some(CallRow { digest: Some(_), .. }) => Cancelled::Noted,
        Some(_) | None => Cancelled::Ahead,
    }
}

/// A connection to a fleet.
#[derive(Clone)]
pub struct Client {
    queue: Queue,
    calls: Calls,
    history: History,
    sessions: Sessions,
    payloads: Payloads,
    aws: Aws,
    now: Now,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct CallResult {
    /// How, and with what.
    pub outcome: Outcome,
    /// Attempts made.
    pub attempts: u32,
    /// When its message was sent.
    pub enqueued_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What the server told while it ran, where it was asked to.
    pub notes: Option<Box<CallProgress>>,
    /// The digest of the question it answers.
    pub digest: Option<Digest>,
    /// Who asked it first.
    pub caller: Option<Box<Caller>>,
}

impl CallResult {
    /// Whether this is the answer to that request, and not to another one that used the same id before: for another question, or in
    /// another conversation, for another user or by another agent. Such a request's own answer is its notice and its audit record.
    pub fn answers(&self, request: &CallRequest) -> bool {
        self.digest.as_ref().is_none_or(|digest| request.is_of(digest, self.caller.as_deref()))
            && self.caller.as_ref().is_none_or(|caller| caller.could_ask(request))
    }
}

/// Where a call stands.
#[derive(Debug, Clone, PartialEq)]
pub enum CallStatus {
    /// Nothing is stored of it: not sent, still in the queue, or long gone.
    Unknown,
    /// A worker has met it, and it has not ended.
    Open(Box<CallRow>),
    /// It ended.
    Ended(Box<CallResult>),
    /// It ended, and the result that was stored for it cannot be had: the object is gone, or is another one.
    Unreadable(Box<PayloadError>),
}

impl CallStatus {
    fn of(row: Option<CallRow>) -> Self {
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
}

/// What became of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It is noted: a worker will end the call when it meets it.
    Noted,
    /// Nothing is known of the call: it is noted for the case that its message is still on its way.
    Ahead,
    /// The call had ended before.
    TooLate,
}

impl Client {
    /// A client of the fleet behind that queue and those tables; region, credentials and endpoints are what the AWS SDK finds.
    pub async fn connect(queue_url: impl Into<String>, tables: &Tables) -> Self {
        Self::new(&Aws::connect(AwsOptions::default()).await, queue_url, tables, system_clock())
    }

    /// A client of the fleet behind that queue and those tables.
    pub fn new(aws: &Aws, queue_url: impl Into<String>, tables: &Tables, now: Now) -> Self {
        let sessions = Sessions { table: aws.sessions(tables), now: now.clone() };
        Self {
            queue: aws.queue(queue_url),
            calls: aws.calls(tables),
            history: aws.history(tables),
            sessions,
            payloads: aws.payloads(None, THRESHOLD_BYTES),
            aws: aws.clone(),
            now,
        }
    }

    /// The same; arguments that are too large for a message are stored in that bucket. Results are read from wherever they are without it.
    #[must_use]
    pub fn with_payload_bucket(self, bucket: impl Into<String>) -> Self {
        Self { payloads: self.aws.payloads(Some(bucket.into()), THRESHOLD_BYTES), ..self }
    }

    /// Sends a call; `traceparent` (W3C) travels with it. Gives the message's id.
    pub async fn send(&self, request: &CallRequest, traceparent: Option<&str>) -> Result<String, AwsError> {
        let attributes: BTreeMap<_, _> =
            traceparent.map(|t| ("traceparent".to_owned(), t.to_owned())).into_iter().collect();
        let group = Some(request.key.tenant.to_string());
        let body = self.fitting(request, request.encode()).await?;
        self.queue.send(Outgoing { body, group, attributes, ..Outgoing::default() }).await
    }

    /// Sends a request as `body` spells it; by reference, where it is too large for a message.
    pub async fn send_as(&self, request: &CallRequest, body: String) -> Result<String, AwsError> {
        let (body, group) = (self.fitting(request, body).await?, Some(request.key.tenant.to_string()));
        self.queue.send(Outgoing { body, group, ..Outgoing::default() }).await
    }

    /// The body; with its arguments in the bucket, where it is too large for a message and there is a bucket.
    async fn fitting(&self, request: &CallRequest, body: String) -> Result<String, AwsError> {
        if body.len() <= MAX_BODY_BYTES || self.payloads.bucket().is_none() || request.arguments_ref.is_some()
        {
            return sendable(body);
        }
        let size = request.arguments.get().len() as u64;
        if size > MAX_PAYLOAD_BYTES {
            return Err(AwsError::rejection(format!(
                "the arguments have {size} bytes; accepted are at most {MAX_PAYLOAD_BYTES}, by reference too"
            )));
        }
        let now = (self.now)();
        let reference = self.payloads.store_arguments(&request.arguments, &request.key.tenant, now).await?;
        sendable(request.encode_by_reference(&reference))
    }

    /// Sends calls together, ten in a request; each has its own answer, in order.
    pub async fn send_many(&self, requests: &[CallRequest]) -> Vec<Result<String, AwsError>> {
        join_all(requests.iter().map(|request| self.send(request, None))).await
    }

    /// Sends a body as it is, whatever a worker will say to it; one that no worker takes because of its size is not sent.
    pub async fn send_body(&self, body: String, tenant: Option<&str>) -> Result<String, AwsError> {
        let (body, group) = (sendable(body)?, tenant.map(str::to_owned));
        self.queue.send(Outgoing { body, group, ..Outgoing::default() }).await
    }

    /// Where a call stands now; its result is read from the bucket where it is stored there.
    pub async fn standing(&self, key: &CallKey) -> Result<CallStatus, AwsError> {
        let row = self.calls.read(key).await?;
        self.read_result(row).await
    }

    /// The row of a call, as it stands now, with all that workers noted in it and its result, wherever that is stored.
    pub async fn row(&self, key: &CallKey) -> Result<Option<CallRow>, PayloadError> {
        let mut row = self.calls.read(key).await?;
        if let Some(row) = &mut row {
            self.payloads.fill(row).await?;
        }
        Ok(row)
    }

    /// The row of a call as it stands now, or, where that has not ended, the answer to the message that asked for it: a sender that may not
    /// speak for the tenant finds it there alone.
    pub async fn row_of_sent(
        &self,
        key: &CallKey,
        message_id: &str,
    ) -> Result<Option<CallRow>, PayloadError> {
        let keys = [key.clone(), CallKey::of_message(message_id)];
        let mut rows = self.calls.read_many(&keys).await?.into_iter();
        let (call, message) = (rows.next().flatten(), rows.next().flatten());
        if let Some(mut row) = call.clone().filter(|row| row.finished.is_some()) {
            self.payloads.fill(&mut row).await?;
            return Ok(Some(row));
        }
        // What stands there is this message's own, whatever else its sender asked before.
        let own = message.filter(|row| row.finished.is_some());
        Ok(own.map(|row| CallRow { digest: None, caller: None, ..row }).or(call))
    }

    /// Where each of many calls stands now, in order; a hundred rows in a request.
    pub async fn standing_many(&self, keys: &[CallKey]) -> Result<Vec<CallStatus>, AwsError> {
        let rows = self.calls.read_many(keys).await?;
        let standings = stream::iter(rows.into_iter().map(|row| self.read_result(row)));
        standings.buffered(RESULTS_AT_ONCE).try_collect().await
    }

    async fn read_result(&self, mut row: Option<CallRow>) -> Result<CallStatus, AwsError> {
        let filled = match &mut row {
            Some(row) => self.payloads.fill(row).await,
            None => Ok(()),
        };
        match filled {
            Ok(()) => Ok(CallStatus::of(row)),
            Err(PayloadError::Aws(trouble)) => Err(trouble),
            Err(
                error @ (PayloadError::Missing(_)
                | PayloadError::Altered { .. }
                | PayloadError::TooLarge { .. }),
            ) => Ok(CallStatus::Unreadable(Box::new(error))),
        }
    }

    /// Withdraws a call, even one whose message is still on its way.
    pub async fn cancel(&self, key: &CallKey) -> Result<Cancelled, AwsError> {
        let now = (self.now)();
        let event = Event::Cancel { key: key.clone(), now, expires_at: now.plus_ms(RETENTION_MS) };
        match apply(&self.calls, None, &event).await? {
            Applied::Stored { row, .. } => Ok(noted(Some(&row))),
            Applied::Rejected { rejection: Rejection::AlreadyRecorded, .. } => Ok(Cancelled::TooLate),
            Applied::Rejected {
                row,
                rejection:
                    Rejection::Nothing
                    | Rejection::Lost
                    | Rejection::Mismatch
                    | Rejection::OfAnother
                    | Rejection::AwaitingApproval
                    | Rejection::HeldElsewhere { .. },
            } => Ok(noted(row.as_deref())),
        }
    }

    /// The conversations.
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The audit records.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// The queue of calls.
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }
}
