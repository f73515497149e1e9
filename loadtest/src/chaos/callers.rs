//! The callers of a chaos run: send the calls at their times, send some twice, cancel some, and read the notices.
//!
//! **Invariant:** a caller repeats a send until its queue has accepted it, as an orchestrator does.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use toolfleet_client::{AwsError, Client, RequestBuilder};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::CallRequest;

use super::plan::{ChaosCall, tool};

/// The pause before a request to AWS is repeated.
const AGAIN: Duration = Duration::from_millis(200);
/// How many messages of the reply queue are received at once, and for how long they are hidden.
const NOTICES: u32 = 10;
const NOTICES_HIDDEN_S: u32 = 30;

/// The request of a call.
pub(crate) fn request(call: &ChaosCall, replies: &str) -> anyhow::Result<CallRequest> {
    let mut request = RequestBuilder::tool(call.tenant, &tool(call.server, call.repeats))
        .call_id(&call.id)
        .arguments(json!({"call": call.id, "bytes": call.bytes}))
        .priority(call.priority)
        .set("timeout_ms", call.timeout_ms);
    if let Some(session) = &call.session {
        request = request.set("session", session.as_str());
    }
    if call.notice {
        request = request.set("reply", json!({"sqs_queue_url": replies}));
    }
    request.build().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Sends each call at its time after `start`. Returns the ids of the calls that a queue accepted.
pub(crate) async fn send_all(
    client: Client,
    calls: Arc<Vec<ChaosCall>>,
    replies: String,
    start: Instant,
) -> anyhow::Result<HashSet<String>> {
    let mut sending = JoinSet::new();
    let mut sent = HashSet::new();
    for call in calls.iter() {
        let request = request(call, &replies)?;
        tokio::time::sleep_until(start + call.at).await;
        sending.spawn(send_one(client.clone(), request, call.copies, call.cancelled_after));
        while let Some(done) = sending.try_join_next() {
            sent.insert(done??);
        }
    }
    while let Some(done) = sending.join_next().await {
        sent.insert(done??);
    }
    Ok(sent)
}

async fn send_one(
    client: Client,
    request: CallRequest,
    copies: u32,
    cancelled_after: Option<Duration>,
) -> Result<String, AwsError> {
    for _ in 0..copies {
        until_accepted(|| client.send(&request, None)).await?;
    }
    if let Some(after) = cancelled_after {
        tokio::time::sleep(after).await;
        until_accepted(|| client.cancel(&request.key)).await?;
    }
    Ok(request.key.call_id.to_string())
}

/// Repeats a request until it succeeds. Endpoints that are restarted answer again.
async fn until_accepted<T, F: Future<Output = Result<T, AwsError>>>(
    ask: impl Fn() -> F,
) -> Result<T, AwsError> {
    loop {
        match ask().await {
            Err(error) if !error.is_permanent() => tokio::time::sleep(AGAIN).await,
            done => return done,
        }
    }
}

/// The outcomes in the notices of each call. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notices(Arc<Mutex<HashMap<String, Vec<OutcomeKind>>>>);

#[derive(Deserialize)]
struct Notice {
    call_id: String,
    outcome: OutcomeKind,
}

impl Notices {
    /// Reads the reply queue until it is dropped.
    pub(crate) async fn read(self, client: Client, queue: &'static str) {
        loop {
            // Endpoints that are restarted answer again.
            if self.read_some(&client, queue, 1).await.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Reads the reply queue until it is empty.
    pub(crate) async fn read_rest(&self, client: &Client, queue: &str) -> Result<(), AwsError> {
        while self.read_some(client, queue, 0).await? > 0 {}
        Ok(())
    }

    /// All notices so far.
    pub(crate) fn all(&self) -> HashMap<String, Vec<OutcomeKind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn read_some(&self, client: &Client, queue: &str, wait_s: u32) -> Result<usize, AwsError> {
        let queue = client.queue().sibling(queue).await?;
        let received = queue.receive(NOTICES, wait_s, NOTICES_HIDDEN_S).await?;
        for delivery in &received {
            if let Ok(Notice { call_id, outcome }) = serde_json::from_str(&delivery.body) {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                all.entry(call_id).or_default().push(outcome);
            }
        }
        // A notice that is not deleted is read again, which does no harm.
        let _deleted = join_all(received.iter().map(|delivery| queue.delete(&delivery.receipt))).await;
        Ok(received.len())
    }
}
