//! The callers of a chaos run: send the calls at their times, send some twice, answer questions, cancel some calls and groups, and read the
//! notices.
//!
//! **Invariant:** a caller repeats a send until its queue has accepted it, as an orchestrator does.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use toolfleet_client::{AwsError, CallStatus, Client, RequestBuilder};
use toolfleet_core::group::GroupNotice;
use toolfleet_core::ids::{CallId, CallKey, Tenant};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

use super::decisions::Decisions;
use super::evidence::RedriveSeen;
use super::plan::{ChaosCall, Plan, Round, Server, tool};
use super::servers::responses_of;
use super::trace::traceparent;
use crate::evidence::millis;

/// The pause before a request to AWS is repeated.
const AGAIN: Duration = Duration::from_millis(200);
/// How much longer than a call's own time its end is waited for: a dead letter is left for a while.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many messages of the reply queue are received at once, and for how long they are hidden.
const NOTICES: u32 = 10;
const NOTICES_HIDDEN_S: u32 = 30;

/// What the callers know of the run.
#[derive(Clone)]
pub(crate) struct Callers {
    pub(crate) client: Client,
    pub(crate) plan: Arc<Plan>,
    pub(crate) seed: u64,
    /// The queue of notices.
    pub(crate) replies: String,
    /// The start of the run, on both clocks.
    pub(crate) start: Instant,
    pub(crate) started_at: Timestamp,
}

impl Callers {
    /// The instant that long after the start.
    pub(crate) fn instant(&self, after: Duration) -> Timestamp {
        self.started_at.plus_ms(millis(after))
    }

    /// The request of a call.
    pub(crate) fn request(&self, call: &ChaosCall) -> anyhow::Result<CallRequest> {
        let mut request = RequestBuilder::tool(call.tenant, &tool(call.server, call.repeats))
            .call_id(&call.id)
            .arguments(match &call.question {
                Some(question) => json!({"question": question}),
                // A call that answers asks the same as the one whose question it answers.
                None if call.server == Server::Asking => {
                    json!({"call": call.resumes.as_ref().unwrap_or(&call.id)})
                }
                None if call.server == Server::Batching => json!({"call": call.id}),
                None => json!({"call": call.id, "bytes": call.bytes}),
            })
            .priority(call.priority)
            .set("timeout_ms", call.timeout_ms);
        if let Some(session) = &call.session {
            request = request.set("session", session.as_str());
        }
        if call.notice {
            request = request.set("reply", self.reply());
        }
        if call.cache {
            request = request.cache();
        }
        if let Some(asked) = &call.resumes {
            request = request.resume(asked, responses_of(&call.id));
        }
        if call.promised {
            request = request.set("idempotent", true);
        }
        if call.not_before.is_some() {
            request = request.not_before(self.instant(call.due()));
        }
        if let Some(key) = &call.supersede {
            request = request.supersede(key);
        }
        if let Some((place, group)) = self.plan.group_of(call) {
            let group = json!({"id": group.id, "index": place.index, "size": group.size, "policy": group.policy,
                "deadline": self.instant(group.deadline), "reply": self.reply()});
            request = request.set("group", group);
        }
        request.build().map_err(|error| anyhow::anyhow!("{error}"))
    }

    fn reply(&self) -> Value {
        json!({"sqs_queue_url": self.replies})
    }

    /// The key of a call.
    pub(crate) fn key(call: &ChaosCall) -> anyhow::Result<CallKey> {
        Ok(CallKey { tenant: Tenant::parse(call.tenant)?, call_id: CallId::parse(call.id.as_str())? })
    }

    /// Sends each call, answers questions and cancels groups, at their times.
    pub(crate) async fn send_all(&self, decisions: &Decisions) -> anyhow::Result<Sent> {
        for group in &self.plan.groups {
            decisions.follow(group.key()?, self.start + group.first_at);
        }
        let calls = async {
            let (mut sending, mut sent) = (JoinSet::new(), Sent::default());
            for call in &self.plan.calls {
                let sender = Sender {
                    client: self.client.clone(),
                    request: self.request(call)?,
                    traceparent: traceparent(self.seed, call.n),
                    copies: call.copies,
                    cancelled_after: call.cancelled_after,
                };
                tokio::time::sleep_until(self.start + call.at).await;
                match self.asked(call)? {
                    Some(asked) => sending.spawn(sender.answer(asked)),
                    None => sending.spawn(sender.send()),
                };
                while let Some(done) = sending.try_join_next() {
                    sent.note(done??);
                }
            }
            while let Some(done) = sending.join_next().await {
                sent.note(done??);
            }
            Ok(sent)
        };
        let (sent, ()) = tokio::try_join!(calls, self.cancel_groups())?;
        Ok(sent)
    }

    /// The call whose question that one answers, and until when its end is waited for.
    fn asked(&self, call: &ChaosCall) -> anyhow::Result<Option<Asked>> {
        let Some(id) = &call.resumes else { return Ok(None) };
        let tenant = Tenant::parse(call.tenant)?;
        let key = CallKey { tenant, call_id: CallId::parse(id.as_str())? };
        let until = self.start + call.at + Duration::from_millis(call.timeout_ms) + PATIENCE;
        Ok(Some(Asked { key, until }))
    }

    async fn cancel_groups(&self) -> anyhow::Result<()> {
        let mut groups: Vec<_> =
            self.plan.groups.iter().filter(|group| group.cancelled_at.is_some()).collect();
        groups.sort_by_key(|group| group.cancelled_at);
        for group in groups {
            let key = group.key()?;
            tokio::time::sleep_until(self.start + group.cancelled_at.unwrap_or_default()).await;
            until_accepted(|| self.client.cancel_group(&key)).await?;
        }
        Ok(())
    }
}

/// What the callers did.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The calls that a queue accepted.
    pub(crate) ids: HashSet<String>,
    /// How calls had ended when their callers looked.
    pub(crate) ends: HashMap<String, OutcomeKind>,
    /// What two callers got who sent a group again.
    pub(crate) redrives: Vec<RedriveSeen>,
    /// The rounds that this made.
    pub(crate) rounds: Vec<Round>,
}

impl Sent {
    fn note(&mut self, done: Done) {
        self.ids.extend(done.sent);
        self.ends.extend(done.read);
    }
}

/// What became of one call of the plan: its id if a queue accepted it, and the end of the call whose question it answers.
#[derive(Debug, Default)]
struct Done {
    sent: Option<String>,
    read: Option<(String, OutcomeKind)>,
}

/// A call whose question is answered.
struct Asked {
    key: CallKey,
    until: Instant,
}

/// What sends one call.
struct Sender {
    client: Client,
    request: CallRequest,
    traceparent: String,
    copies: u32,
    cancelled_after: Option<Duration>,
}

impl Sender {
    async fn send(self) -> Result<Done, AwsError> {
        let Self { client, request, traceparent, .. } = &self;
        for _ in 0..self.copies {
            until_accepted(|| client.send(request, Some(traceparent))).await?;
        }
        if let Some(after) = self.cancelled_after {
            tokio::time::sleep(after).await;
            until_accepted(|| client.cancel(&request.key)).await?;
        }
        Ok(Done { sent: Some(request.key.call_id.to_string()), read: None })
    }

    /// Sends the answer when the other call has ended with a question; not at all if it ended otherwise, or in no time.
    async fn answer(self, asked: Asked) -> Result<Done, AwsError> {
        let id = asked.key.call_id.to_string();
        while Instant::now() < asked.until {
            if let CallStatus::Ended(result) = until_accepted(|| self.client.status(&asked.key)).await? {
                let kind = result.outcome.kind;
                let done =
                    if kind == OutcomeKind::InputRequired { self.send().await? } else { Done::default() };
                return Ok(Done { read: Some((id, kind)), ..done });
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(Done::default())
    }
}

/// Repeats a request until it succeeds. Endpoints that are restarted, or slow under the load, answer again.
pub(crate) async fn until_accepted<T, F: Future<Output = Result<T, AwsError>>>(
    ask: impl Fn() -> F,
) -> Result<T, AwsError> {
    loop {
        match ask().await {
            Err(error) if !error.is_permanent() => tokio::time::sleep(AGAIN).await,
            done => return done,
        }
    }
}

/// The notices so far. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notices(Arc<Mutex<Told>>);

/// The outcomes in the notices of each call, and the notices of groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) calls: HashMap<String, Vec<OutcomeKind>>,
    pub(crate) groups: Vec<GroupNotice>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Notice {
    Group(GroupNotice),
    Call { call_id: String, outcome: OutcomeKind },
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
    pub(crate) fn all(&self) -> Told {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn read_some(&self, client: &Client, queue: &str, wait_s: u32) -> Result<usize, AwsError> {
        let queue = client.queue().sibling(queue).await?;
        let received = queue.receive(NOTICES, wait_s, NOTICES_HIDDEN_S).await?;
        for delivery in &received {
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match serde_json::from_str(&delivery.body) {
                Ok(Notice::Call { call_id, outcome }) => told.calls.entry(call_id).or_default().push(outcome),
                Ok(Notice::Group(notice)) => told.groups.push(notice),
                Err(_) => {}
            }
        }
        // A notice that is not deleted is read again, which does no harm.
        let _deleted = join_all(received.iter().map(|delivery| queue.delete(&delivery.receipt))).await;
        Ok(received.len())
    }
}
