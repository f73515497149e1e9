//! The rig of a chaos run: endpoints in a process of their own, faulty proxies before them, scripted servers, worker processes.
//!
//! **Invariant:** senders, auditors and readers reach the endpoints directly; only workers go through the proxies.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use toolfleet_aws::fleet::Fleet;
use toolfleet_client::{Aws, AwsOptions, Client, Tables};

use super::behaviour::ATTEMPT_MS;
use super::fault_proxy::FaultProxy;
use super::plan::{Limits, MOST_IN_BATCH, Repeats, Server, TENANTS, tool};
use super::servers::{Servers, WORKER_HEADER};
use super::writes::{Loss, Thaw, Writes};
use crate::bed::{Bed, WorkerSettings, aws_options};
use crate::flow::turns;
use crate::worker::{NAME, Workers};

/// How long after its sending a dead letter is left to operators, unless its deadline comes before: longer than eight receives take.
const REAP_AFTER_MS: u64 = 120_000;
/// How long a call waits for a server that never answered.
const UNREACHABLE_WAIT_MS: u64 = 5_000;
/// How long an answer is stored for equal calls.
const STORED_MS: u64 = 6_000;
/// How often a worker looks for a changed catalog.
const REFRESH_MS: u64 = 1_000;
/// What of the log says that a worker has taken a changed catalog.
const RELOADS: &str = "toolfleet_worker::services::catalog_reload=info";
/// How long a call waits for others that are sent with it.
const BATCH_WAIT_MS: u64 = 300;

/// What a run starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) binary: Option<&'a Path>,
    pub(crate) seed: u64,
    pub(crate) workers: u32,
    pub(crate) slots: u32,
    pub(crate) lease_ms: u32,
    /// The limits of the catalog.
    pub(crate) limits: Limits,
    /// What the workers log beside what the run needs.
    pub(crate) log: Option<&'a str>,
}

/// The faulty proxies before the endpoints.
pub(crate) struct Proxies {
    pub(crate) sqs: FaultProxy,
    pub(crate) dynamodb: FaultProxy,
    pub(crate) s3: FaultProxy,
}

/// Everything that runs. Dropping it kills the workers.
pub(crate) struct Rig {
    pub(crate) bed: Bed,
    pub(crate) client: Client,
    /// The rows of groups.
    pub(crate) fleet: Fleet,
    pub(crate) servers: Servers,
    pub(crate) proxies: Proxies,
    pub(crate) writes: Arc<Writes>,
    pub(crate) workers: Workers,
    pub(crate) losses: Vec<Loss>,
    pub(crate) thaws: Vec<Thaw>,
    /// The workers that were started, and how often their catalogs were changed.
    started: Vec<String>,
    changes: u64,
    limits: [(Server, Value); 3],
}

impl Rig {
    pub(crate) async fn start(setup: Setup<'_>) -> anyhow::Result<Self> {
        let servers = Servers::start(setup.seed).await?;
        let bed = Bed::create(true, None).await?;
        let (client, fleet) = client(&bed).await;
        let writes = Arc::new(Writes::new(Duration::from_millis(u64::from(setup.lease_ms))));
        let start = servers.ledger().start_of_clock();
        let proxy = |url: &str, n: u64| {
            let (url, writes) = (url.to_owned(), writes.clone());
            async move { FaultProxy::start(&url, setup.seed ^ n, writes, start).await }
        };
        let proxies = Proxies {
            sqs: proxy(&bed.addresses.sqs, 1).await?,
            dynamodb: proxy(&bed.addresses.dynamodb, 2).await?,
            s3: proxy(&bed.addresses.sqs, 3).await?,
        };
        let settings = WorkerSettings { binary: setup.binary, slots: setup.slots, lease_ms: setup.lease_ms };
        let mut command = bed.worker(settings)?;
        command.environment.extend(environment(&bed, &proxies));
        let log = setup.log.map_or_else(String::new, |log| format!(",{log}"));
        command
            .environment
            .push(("TOOLFLEET_LOG".to_owned(), format!("{},{RELOADS}{log}", turns::LOG_FILTER)));
        let limits = [
            (Server::Rated, json!({"rate": format!("{}/s", setup.limits.rate)})),
            (Server::Narrow, json!({"concurrency": setup.limits.concurrency})),
            (Server::Limiting, json!({"adaptive": true})),
        ];
        let workers = Workers::new(command);
        let (losses, thaws) = (Vec::new(), Vec::new());
        let mut rig = Self {
            bed,
            client,
            fleet,
            servers,
            proxies,
            writes,
            workers,
            losses,
            thaws,
            started: Vec::new(),
            changes: 0,
            limits,
        };
        (0..setup.workers).try_for_each(|_| rig.start_worker())?;
        Ok(rig)
    }

    /// Starts a worker. Its catalog gives its requests a header with its name.
    pub(crate) fn start_worker(&mut self) -> anyhow::Result<()> {
        let name = self.workers.next_name();
        self.write_catalog(&name)?;
        self.started.push(name);
        self.workers.start_one()
    }

    /// Gives every worker a catalog with other definitions, and with another time for which answers are stored. What is executed without a
    /// claim stays so: an operator drains before that is changed.
    pub(crate) fn change_catalog(&mut self) -> anyhow::Result<()> {
        self.changes += 1;
        self.started.iter().try_for_each(|name| self.write_catalog(name))
    }

    /// Writes a worker's catalog in the place of the one before, whole.
    fn write_catalog(&self, worker: &str) -> anyhow::Result<()> {
        let file = self.bed.folder.catalog_of(worker);
        let next = file.with_extension("next");
        std::fs::write(&next, self.catalog(worker).to_string())
            .and_then(|()| std::fs::rename(&next, &file))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Notes that a worker was killed or frozen now.
    pub(crate) fn lost(&mut self, worker: String) {
        let at_us = self.servers.ledger().now_us();
        self.losses.push(Loss { worker, at_us });
    }

    /// What changes of the definition of a server's tools. A tool that asks keeps its definition: an answer to a question of another one is
    /// refused.
    fn definition(&self, server: Server) -> Value {
        let change = if server == Server::Asking { 0 } else { self.changes };
        json!({"type": "object", "$comment": format!("as of change {change}")})
    }

    fn catalog(&self, worker: &str) -> Value {
        let server = |server: &Server| {
            let (id, url, headers) =
                (server.name(), self.servers.url(*server), json!({WORKER_HEADER: worker}));
            match self.limits.iter().find(|(of, _)| of == server) {
                Some((_, limits)) => json!({"id": id, "url": url, "headers": headers, "limits": limits}),
                None => json!({"id": id, "url": url, "headers": headers}),
            }
        };
        let of_server = |server: &Server| {
            let server = *server;
            server.repeats().iter().map(move |repeats| {
                let repeats = *repeats;
                let mut tool = json!({
                    "id": tool(server, repeats),
                    "server": server.name(),
                    "name": repeats.name(),
                    "input_schema": self.definition(server),
                    "idempotent": repeats != Repeats::Once,
                    "claimless": repeats == Repeats::Claimless,
                    "timeout_ms": ATTEMPT_MS,
                });
                let shared = match server {
                    Server::Caching => {
                        Some(("cache", json!({"ttl_ms": STORED_MS + self.changes % 2 * 1_000})))
                    }
                    Server::Batching => {
                        let batch =
                            json!({"argument": "call", "max": MOST_IN_BATCH, "wait_ms": BATCH_WAIT_MS});
                        Some(("batch", batch))
                    }
                    Server::Steady
                    | Server::Slow
                    | Server::Dead
                    | Server::Flapping
                    | Server::Lying
                    | Server::Limiting
                    | Server::Resetting
                    | Server::Forgetful
                    | Server::Rated
                    | Server::Narrow
                    | Server::Tasking
                    | Server::Asking => None,
                };
                if let (Some((name, value)), Some(tool)) = (shared, tool.as_object_mut()) {
                    tool.insert(name.to_owned(), value);
                }
                tool
            })
        };
        json!({
            "servers": Server::ALL.iter().map(server).collect::<Vec<_>>(),
            "tools": Server::ALL.iter().flat_map(of_server).collect::<Vec<_>>(),
            "tenants": {"queue": TENANTS},
            "reply_queues": [self.bed.addresses.idle_queue],
        })
    }
}

/// The client of senders and auditors, with all queues and the bucket, and the table of groups.
async fn client(bed: &Bed) -> (Client, Fleet) {
    let addresses = &bed.addresses;
    let options = AwsOptions { s3_endpoint: Some(addresses.sqs.clone()), ..aws_options(addresses) };
    let aws = Aws::connect(options).await;
    let tables = Tables::with_prefix("toolfleet");
    let client = Client::new(&aws, &addresses.calls_queue, &tables, bed.clock.clone())
        .with_priority_queues(Some(&addresses.high_queue), Some(&addresses.low_queue))
        .with_payload_bucket(&addresses.bucket);
    (client, aws.fleet(&tables))
}

/// The variables of the workers beside those of every load.
fn environment(bed: &Bed, proxies: &Proxies) -> Vec<(String, String)> {
    let addresses = &bed.addresses;
    let variables = [
        ("AWS_ENDPOINT_URL_SQS", proxies.sqs.url.clone()),
        ("AWS_ENDPOINT_URL_DYNAMODB", proxies.dynamodb.url.clone()),
        ("AWS_ENDPOINT_URL_S3", proxies.s3.url.clone()),
        ("TOOLFLEET_CATALOG", bed.folder.catalog_of(NAME).display().to_string()),
        ("TOOLFLEET_CATALOG_REFRESH_MS", REFRESH_MS.to_string()),
        ("TOOLFLEET_QUEUE_URL_HIGH", addresses.high_queue.clone()),
        ("TOOLFLEET_QUEUE_URL_LOW", addresses.low_queue.clone()),
        ("TOOLFLEET_DEAD_LETTER_QUEUE_URL", addresses.dead_queue.clone()),
        ("TOOLFLEET_REAP_AFTER_MS", REAP_AFTER_MS.to_string()),
        ("TOOLFLEET_UNREACHABLE_WAIT_MS", UNREACHABLE_WAIT_MS.to_string()),
        ("TOOLFLEET_PAYLOAD_BUCKET", addresses.bucket.clone()),
        ("TOOLFLEET_LOG_FORMAT", "json".to_owned()),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
