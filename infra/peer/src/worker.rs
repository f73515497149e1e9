//! A plain durable worker on the AWS SDKs and rmcp, to measure the product against: one request to AWS for each step.
//!
//! It receives up to ten messages, and for each: claims the call's row with a condition, calls the tool, stores the result with a condition,
//! inserts the audit record, deletes the message. It writes the rows and records of docs/reference/data.md, so the same client reads them. It has
//! what a small service needs (bounded concurrency, leases, redelivery, a drain) and none of the product's other features.
//!
//! **Invariant:** a tool is called only by the holder of the row's claim. A message is deleted only after its call's row is `done`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::AttributeValue::{self, N, S};
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName as System};
use jiff::Timestamp;
use rmcp::model::JsonObject;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::Generation;
use crate::client::RmcpClient;

const LEASE_S: i32 = 60;
const ROW_TTL_S: i64 = 60 * 86_400;
/// rmcp's client makes no more calls at once on one connection.
const CALLS_A_CLIENT: usize = 16;

/// Where the worker takes its calls from, and how many it runs at once.
#[derive(Debug)]
pub struct Settings {
    queue_url: String,
    server_url: String,
    tables: String,
    worker: String,
    slots: u32,
}

impl Settings {
    /// Reads variables of the product's worker. The only thing read of the catalog is the URL of its first server.
    ///
    /// # Errors
    /// The name of a variable that is missing or wrong.
    pub fn read(variable: &impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let required = |name: &str| variable(name).with_context(|| format!("{name} is not set"));
        let slots = required("TOOLFLEET_SLOTS")?;
        Ok(Self {
            queue_url: required("TOOLFLEET_QUEUE_URL")?,
            server_url: first_server(&required("TOOLFLEET_CATALOG")?)?,
            tables: variable("TOOLFLEET_TABLE_PREFIX").unwrap_or_else(|| "toolfleet".to_owned()),
            worker: variable("TOOLFLEET_WORKER_ID").unwrap_or_else(|| "peer".to_owned()),
            slots: slots.parse().context("TOOLFLEET_SLOTS is not a number")?,
        })
    }
}

fn first_server(catalog: &str) -> anyhow::Result<String> {
    let catalog = std::fs::read_to_string(catalog).context("TOOLFLEET_CATALOG cannot be read")?;
    let catalog: serde_json::Value =
        serde_json::from_str(&catalog).context("TOOLFLEET_CATALOG is not JSON")?;
    let url = catalog.pointer("/servers/0/url").and_then(|url| url.as_str());
    Ok(url.context("TOOLFLEET_CATALOG has no server")?.to_owned())
}

/// The fields of a request that this worker uses.
#[derive(Debug, Deserialize)]
struct Request {
    call_id: String,
    tenant: String,
    tool: String,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    arguments: JsonObject,
}

impl Request {
    fn key(&self) -> AttributeValue {
        S(format!("{}#{}", self.tenant, self.call_id))
    }
}

/// A message and what the steps need of it.
struct Job {
    request: Request,
    receipt: Option<String>,
    sent_ms: String,
    sender: String,
    digest: String,
    begun: Timestamp,
}

impl Job {
    fn read(message: Message) -> anyhow::Result<Self> {
        let request: Request = serde_json::from_str(message.body.as_deref().unwrap_or_default())?;
        let attribute = |name: System| message.attributes.as_ref().and_then(|all| all.get(&name)).cloned();
        Ok(Self {
            sent_ms: attribute(System::SentTimestamp).unwrap_or_default(),
            sender: attribute(System::SenderId).unwrap_or_default(),
            digest: hex::encode(Sha256::digest(serde_json::to_string(&request.arguments)?)),
            begun: Timestamp::now(),
            receipt: message.receipt_handle,
            request,
        })
    }
}

enum Claim {
    Ours,
    Done,
    Elsewhere,
}

struct Worker {
    settings: Settings,
    sqs: aws_sdk_sqs::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    tools: Vec<RmcpClient>,
    next: AtomicUsize,
}

/// Takes calls until SIGTERM, then finishes those that run.
///
/// # Errors
/// The server or the queue cannot be reached.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let slots = settings.slots as usize;
    let mut tools = Vec::new();
    for _ in 0..slots.div_ceil(CALLS_A_CLIENT) {
        tools.push(RmcpClient::connect(&settings.server_url, Generation::Newest).await?);
    }
    let worker = Arc::new(Worker {
        sqs: aws_sdk_sqs::Client::new(&config),
        dynamodb: aws_sdk_dynamodb::Client::new(&config),
        settings,
        tools,
        next: AtomicUsize::new(0),
    });
    let free = Arc::new(Semaphore::new(slots));
    let mut term = signal(SignalKind::terminate())?;
    loop {
        let first = Arc::clone(&free).acquire_owned().await?;
        let messages = tokio::select! {
            _ = term.recv() => break,
            received = worker.receive(1 + free.available_permits()) => received,
        };
        let messages = match messages {
            Ok(messages) => messages,
            Err(error) => {
                eprintln!("cannot receive: {error:#}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let mut permits = Some(first);
        for message in messages {
            let permit = match permits.take() {
                Some(permit) => permit,
                None => Arc::clone(&free).acquire_owned().await?,
            };
            let worker = Arc::clone(&worker);
            tokio::spawn(async move {
                // A message that failed is received again when its visibility time-out has passed.
                if let Err(error) = worker.process(message).await {
                    eprintln!("a call failed: {error:#}");
                }
                drop(permit);
            });
        }
    }
    let _all = free.acquire_many(worker.settings.slots).await?;
    Ok(())
}

impl Worker {
    async fn receive(&self, free: usize) -> anyhow::Result<Vec<Message>> {
        let most = i32::try_from(free.min(10)).unwrap_or(10);
        let request = self.sqs.receive_message().queue_url(&self.settings.queue_url);
        let request = request.max_number_of_messages(most).wait_time_seconds(20).visibility_timeout(LEASE_S);
        Ok(request.message_system_attribute_names(System::All).send().await?.messages.unwrap_or_default())
    }

    async fn process(&self, message: Message) -> anyhow::Result<()> {
        let job = Job::read(message)?;
        match self.claim(&job).await? {
            Claim::Ours => {}
            Claim::Done => return self.delete(&job).await,
            Claim::Elsewhere => return Ok(()),
        }
        let n = self.next.fetch_add(1, Ordering::Relaxed) % self.tools.len().max(1);
        let client = self.tools.get(n).context("no client")?;
        let result = client.call(&job.request.tool, job.request.arguments.clone()).await?;
        let ended = Timestamp::now();
        self.store(&job, result, ended).await?;
        self.audit(&job, ended).await?;
        self.delete(&job).await
    }

    /// Claims the call if it is new or its lease has expired.
    async fn claim(&self, job: &Job) -> anyhow::Result<Claim> {
        let Job { request, sent_ms, sender, digest, begun, .. } = job;
        let now_ms = begun.as_millisecond();
        let mut put = self.dynamodb.put_item().table_name(format!("{}-calls", self.settings.tables));
        let row = [
            ("pk", request.key()),
            ("state", S("claimed".into())),
            ("rev", N("1".into())),
            ("fence", N("1".into())),
            ("attempts", N("1".into())),
            ("nonce", S(format!("{}-{now_ms}", self.settings.worker))),
            ("worker", S(self.settings.worker.clone())),
            ("lease_until_ms", N((now_ms + i64::from(LEASE_S) * 1_000).to_string())),
            ("digest", S(digest.clone())),
            ("sender", S(sender.clone())),
            ("enqueued_at_ms", N(sent_ms.clone())),
            ("started_at_ms", N(now_ms.to_string())),
            ("expires_at", N((begun.as_second() + ROW_TTL_S).to_string())),
        ];
        for (name, value) in row {
            put = put.item(name, value);
        }
        if let Some(session) = &request.session {
            put = put.item("session", S(session.clone()));
        }
        let put = put
            .condition_expression("attribute_not_exists(pk) OR (#state = :claimed AND lease_until_ms < :now)")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":claimed", S("claimed".into()))
            .expression_attribute_values(":now", N(now_ms.to_string()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match put.send().await.map_err(SdkError::into_service_error) {
            Ok(_) => Ok(Claim::Ours),
            Err(PutItemError::ConditionalCheckFailedException(failed)) => {
                let state =
                    failed.item().and_then(|row| row.get("state")).and_then(|state| state.as_s().ok());
                Ok(if state.is_some_and(|state| state == "done") { Claim::Done } else { Claim::Elsewhere })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stores the result, if the claim is still this worker's.
    async fn store(&self, job: &Job, result: String, now: Timestamp) -> anyhow::Result<()> {
        let update = self.dynamodb.update_item().table_name(format!("{}-calls", self.settings.tables));
        let update = update
            .key("pk", job.request.key())
            .update_expression(
                "SET #state = :done, rev = :two, outcome = :outcome, #result = :result, result_bytes = :bytes, finished_at_ms = :now",
            )
            .condition_expression("#state = :claimed AND #worker = :worker")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#result", "result")
            .expression_attribute_names("#worker", "worker")
            .expression_attribute_values(":done", S("done".into()))
            .expression_attribute_values(":claimed", S("claimed".into()))
            .expression_attribute_values(":worker", S(self.settings.worker.clone()))
            .expression_attribute_values(":two", N("2".into()))
            .expression_attribute_values(":outcome", S("succeeded".into()))
            .expression_attribute_values(":bytes", N(result.len().to_string()))
            .expression_attribute_values(":result", S(result))
            .expression_attribute_values(":now", N(now.as_millisecond().to_string()));
        update.send().await?;
        Ok(())
    }

    async fn audit(&self, job: &Job, ended: Timestamp) -> anyhow::Result<()> {
        let Job { request, sent_ms, sender, digest, begun, .. } = job;
        let at = |ms: i64| Timestamp::from_millisecond(ms).map(|at| format!("{at:.3}"));
        let ended_at = at(ended.as_millisecond())?;
        let hour = ended_at.get(..13).unwrap_or_default();
        let put = self.dynamodb.put_item().table_name(format!("{}-history", self.settings.tables));
        let put = put
            .item("pk", S(format!("{}#{hour}#0", request.tenant)))
            .item("sk", S(format!("{ended_at}#{}#call", request.call_id)))
            .item("kind", S("call".into()))
            .item("tenant", S(request.tenant.clone()))
            .item("call_id", S(request.call_id.clone()))
            .item("at", S(ended_at.clone()))
            .item("outcome", S("succeeded".into()))
            .item("tool", S(request.tool.clone()))
            .item("digest", S(digest.clone()))
            .item("sender", S(sender.clone()))
            .item("attempts", N("1".into()))
            .item("fence", N("1".into()))
            .item("worker", S(self.settings.worker.clone()))
            .item("enqueued_at", S(at(sent_ms.parse()?)?))
            .item("started_at", S(at(begun.as_millisecond())?))
            .item("expires_at", N((ended.as_second() + ROW_TTL_S).to_string()));
        let put = match &request.session {
            Some(session) => put
                .item("session", S(session.clone()))
                .item("session_pk", S(format!("{}#{session}", request.tenant))),
            None => put,
        };
        put.condition_expression("attribute_not_exists(pk)").send().await?;
        Ok(())
    }

    async fn delete(&self, job: &Job) -> anyhow::Result<()> {
        let delete = self.sqs.delete_message().queue_url(&self.settings.queue_url);
        delete.set_receipt_handle(job.receipt.clone()).send().await?;
        Ok(())
    }
}
