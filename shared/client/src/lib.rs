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
use toolfleet_aws::calls::{Calls, Swap};
use toolfleet_aws::history::History;
use toolfleet_aws::queue::{MAX_BODY_BYTES, Outgoing, Queue};
use toolfleet_core::call::{CallRow, Caller, Decision, Event, Finding, Finished, decide};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::CallKey;
use toolfleet_core::message::CallRequest;
use toolfleet_core::notes::Notes;
use toolfleet_core::outcome::Outcome;
use toolfleet_core::time::Timestamp;

pub use builder::RequestBuilder;
pub use depths::QueueDepth;
pub use records::RecordsOf;
pub use sessions::{BELIEVED_FOR_S, Session, SessionError, Sessions};
pub use toolfleet_aws::mcp_sessions::McpSession;
pub use toolfleet_aws::{Aws, AwsOptions, Tables, Trouble, TroubleKind};
pub use wait::WaitError;

/// How long a row that holds nothing but a cancellation is kept, in milliseconds: as long as any call's.
const ROW_LIFE_MS: u64 = 60 * 24 * 60 * 60 * 1000;

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
fn sendable(body: String) -> Result<String, Trouble> {
    if body.len() <= MAX_BODY_BYTES {
        return Ok(body);
    }
    Err(Trouble::rejection(format!(
        "the request has {} bytes; accepted are at most {MAX_BODY_BYTES}, because a call that waits carries attributes beside its \
         body. Store large arguments where the tool can read them, and send their address",
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
    pub notes: Option<Box<Notes>>,
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
pub enum Standing {
    /// Nothing is stored of it: not sent, still in the queue, or long gone.
    Unknown,
    /// A worker has met it, and it has not ended.
    Open(Box<CallRow>),
    /// It ended.
    Ended(Box<CallResult>),
}

impl Standing {
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
            now,
        }
    }

    /// Sends a call; `traceparent` (W3C) travels with it. Gives the message's id.
    pub async fn send(&self, request: &CallRequest, traceparent: Option<&str>) -> Result<String, Trouble> {
        let attributes: BTreeMap<_, _> =
            traceparent.map(|t| ("traceparent".to_owned(), t.to_owned())).into_iter().collect();
        let group = Some(request.key.tenant.to_string());
        let body = sendable(request.encode())?;
        self.queue.send(Outgoing { body, group, attributes, ..Outgoing::default() }).await
    }

    /// Sends calls together, ten in a request; each has its own answer, in order.
    pub async fn send_many(&self, requests: &[CallRequest]) -> Vec<Result<String, Trouble>> {
        join_all(requests.iter().map(|request| self.send(request, None))).await
    }

    /// Sends a body as it is, whatever a worker will say to it; one that no worker takes because of its size is not sent.
    pub async fn send_body(&self, body: String, tenant: Option<&str>) -> Result<String, Trouble> {
        let (body, group) = (sendable(body)?, tenant.map(str::to_owned));
        self.queue.send(Outgoing { body, group, ..Outgoing::default() }).await
    }

    /// Where a call stands now.
    pub async fn standing(&self, key: &CallKey) -> Result<Standing, Trouble> {
        Ok(Standing::of(self.calls.read(key).await?))
    }

    /// The row of a call, as it stands now, with all that workers noted in it.
    pub async fn row(&self, key: &CallKey) -> Result<Option<CallRow>, Trouble> {
        self.calls.read(key).await
    }

    /// The row of a call as it stands now, or, where that has not ended, the answer to the message that asked for it: a sender that may not
    /// speak for the tenant finds it there alone.
    pub async fn row_of_sent(&self, key: &CallKey, message_id: &str) -> Result<Option<CallRow>, Trouble> {
        let keys = [key.clone(), CallKey::of_message(message_id)];
        let mut rows = self.calls.read_many(&keys).await?.into_iter();
        let (call, message) = (rows.next().flatten(), rows.next().flatten());
        if call.as_ref().is_some_and(|row| row.finished.is_some()) {
            return Ok(call);
        }
        // What stands there is this message's own, whatever else its sender asked before.
        let own = message.filter(|row| row.finished.is_some());
        Ok(own.map(|row| CallRow { digest: None, caller: None, ..row }).or(call))
    }

    /// Where each of many calls stands now, in order; a hundred rows in a request.
    pub async fn standing_many(&self, keys: &[CallKey]) -> Result<Vec<Standing>, Trouble> {
        Ok(self.calls.read_many(keys).await?.into_iter().map(Standing::of).collect())
    }

    /// Withdraws a call, even one whose message is still on its way.
    pub async fn cancel(&self, key: &CallKey) -> Result<Cancelled, Trouble> {
        let now = (self.now)();
        let event = Event::Cancel { key: key.clone(), now, expires_at: now.plus_ms(ROW_LIFE_MS) };
        let mut seen: Option<Box<CallRow>> = None;
        for _ in 0..16 {
            match decide(seen.as_deref(), &event) {
                Decision::Leave(Finding::AlreadyRecorded) => return Ok(Cancelled::TooLate),
                Decision::Leave(
                    Finding::Nothing
                    | Finding::Lost
                    | Finding::Mismatch
                    | Finding::OfAnother
                    | Finding::AwaitingApproval
                    | Finding::HeldElsewhere { .. },
                ) => return Ok(noted(seen.as_deref())),
                Decision::Write { row, .. } => match self.calls.swap(seen.as_deref(), &row).await? {
                    Swap::Stored => return Ok(noted(seen.as_deref())),
                    Swap::Found(found) => seen = found,
                },
            }
        }
        Err(Trouble::passing("the call's row changed under every attempt to write it; try again"))
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
