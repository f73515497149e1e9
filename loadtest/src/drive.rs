//! Owns a run: endpoints, server and workers up, calls in, ends awaited, figures and verification out.
//!
//! **Invariant:** bounded in calls and time; the workers are gone when it returns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use futures::future::join_all;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::time::Instant;
use toolfleet_aws::{Aws, AwsOptions, Tables};
use toolfleet_client::{CallResult, Client, Now, RequestBuilder, Standing, system_clock};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::message::CallRequest;
use toolfleet_core::time::Timestamp;
use toolfleet_local::{LocalEndpoints, LocalOptions};

use crate::RunArgs;
use crate::plan::{Planned, Tool, plan};
use crate::report::{Latency, Report};
use crate::server::LoadServer;
use crate::verify::{Seen, problems};
use crate::workers::{Start, Workers};

const TENANT: &str = "load";
/// How many rows are read at once when the ends are awaited.
const READERS: usize = 32;
/// Sends of a drain travel in rounds of so many.
const SENDERS: usize = 500;

/// Runs the load; true if every call is as it should be.
pub(crate) async fn run(args: &RunArgs) -> anyhow::Result<bool> {
    let folder = Folder::new()?;
    let server = LoadServer::start().await?;
    let local = LocalEndpoints::start(LocalOptions::default()).await?;
    let mut workers = Workers::new(start(args, &folder.0, &local, &server)?);
    let clock = system_clock();
    let client = client(&local, clock.clone()).await;
    let calls = plan(args.calls, &args.mix, args.seed);
    let requests = calls.iter().map(request).collect::<anyhow::Result<Vec<_>>>()?;

    let idle_kib = idle_memory(args, &mut workers).await?;
    let begun_at = clock();
    let begun = Instant::now();
    let (intended, measured_from, cpu_before) = match args.rate {
        None => {
            for round in requests.chunks(SENDERS) {
                for sent in client.send_many(round).await {
                    sent?;
                }
            }
            start_all(args, &mut workers)?;
            (vec![begun_at; requests.len()], Instant::now(), 0)
        }
        Some(rate) => {
            let cpu = workers.cpu_us();
            (send_at_rate(&client, &requests, rate, &clock).await?, begun, cpu)
        }
    };
    let waiting = Waiting {
        args,
        client: &client,
        requests: &requests,
        deadline: begun + Duration::from_secs(args.give_up_s),
    };
    let results = waiting.for_all(&mut workers).await?;
    let wall = measured_from.elapsed();
    let cpu_us = workers.cpu_us().saturating_sub(cpu_before);

    let left = settle(&client).await?;
    let seen = seen(&client, &results, &server, begun_at, clock(), args).await?;
    let mut wrong = problems(&calls, &seen);
    if left != 0 {
        wrong.push(format!("{left} messages are left in the queue or its dead-letter queue"));
    }
    let report = Report {
        calls: args.calls,
        mode: args.rate.map_or_else(|| "drain".to_owned(), |rate| format!("open loop, {rate} calls/s")),
        workers: args.workers,
        slots: args.slots,
        killed: seen.killed,
        wall_s: wall.as_secs_f64(),
        calls_per_s: f64::from(args.calls) / wall.as_secs_f64().max(0.001),
        worker_cpu_us_per_call: cpu_us as f64 / f64::from(args.calls),
        idle_kib,
        peak_kib: workers.peak_kib(),
        latency: latency(&intended, &requests, &results)?,
        problems: wrong.len(),
        debug_build: cfg!(debug_assertions),
    };
    report.print();
    for problem in wrong.iter().take(20) {
        eprintln!("  {problem}");
    }
    if let Some(file) = &args.report {
        report.write(file)?;
    }
    drop(workers);
    local.shutdown().await;
    Ok(wrong.is_empty())
}

/// What an idle worker takes, seen before the load; a drain starts its workers only afterwards.
async fn idle_memory(args: &RunArgs, workers: &mut Workers) -> anyhow::Result<u64> {
    if args.rate.is_none() {
        return Ok(0);
    }
    start_all(args, workers)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    workers.check()?;
    Ok(workers.resident_kib())
}

fn start_all(args: &RunArgs, workers: &mut Workers) -> anyhow::Result<()> {
    (0..args.workers).try_for_each(|_| workers.start_one())
}

/// Sends each call at its time, whether or not the ones before it have ended; gives the times that were intended.
async fn send_at_rate(
    client: &Client,
    requests: &[CallRequest],
    rate: u32,
    clock: &Now,
) -> anyhow::Result<Vec<Timestamp>> {
    let begun = Instant::now();
    let begun_at = clock();
    let mut intended = Vec::with_capacity(requests.len());
    let mut sends = Vec::with_capacity(requests.len());
    for (n, request) in (0_u64..).zip(requests) {
        let offset = Duration::from_micros(n * 1_000_000 / u64::from(rate));
        tokio::time::sleep_until(begun + offset).await;
        intended.push(begun_at.plus_ms(u64::try_from(offset.as_millis()).unwrap_or(u64::MAX)));
        let (client, request) = (client.clone(), request.clone());
        sends.push(tokio::spawn(async move { client.send(&request, None).await }));
    }
    for sent in join_all(sends).await {
        sent??;
    }
    Ok(intended)
}

struct Waiting<'a> {
    args: &'a RunArgs,
    client: &'a Client,
    requests: &'a [CallRequest],
    deadline: Instant,
}

impl Waiting<'_> {
    /// Reads the rows until every call has ended.
    async fn for_all(&self, workers: &mut Workers) -> anyhow::Result<HashMap<CallKey, CallResult>> {
        let bar = progress(self.requests.len());
        let mut ended = HashMap::new();
        let mut open: Vec<&CallKey> = self.requests.iter().map(|r| &r.key).collect();
        let mut to_kill = self.args.kill_after;
        while !open.is_empty() {
            workers.check()?;
            if Instant::now() >= self.deadline {
                bail!(
                    "{} of {} calls have not ended within {} s",
                    open.len(),
                    self.requests.len(),
                    self.args.give_up_s
                );
            }
            // Enough to see that things move, little enough not to be the load itself.
            let (look, rest) = open.split_at(open.len().min(READERS * 8));
            let standings: Vec<_> = futures::stream::iter(look.iter().copied())
                .map(|key| async move { (key, self.client.standing(key).await) })
                .buffered(READERS)
                .collect()
                .await;
            let mut still = Vec::new();
            for (key, standing) in standings {
                match standing? {
                    Standing::Ended(result) => drop(ended.insert(key.clone(), *result)),
                    Standing::Unknown | Standing::Open(_) => still.push(key),
                }
            }
            let waits = still.len() > look.len() / 2;
            open = rest.iter().copied().chain(still).collect();
            bar.set_position(u64::try_from(ended.len()).unwrap_or(u64::MAX));
            if to_kill.is_some_and(|after| ended.len() >= after as usize) {
                to_kill = None;
                workers.replace_one()?;
            }
            if waits {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        bar.finish_and_clear();
        Ok(ended)
    }
}

fn progress(calls: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(calls).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} calls ended {elapsed}") {
        bar.set_style(style);
    }
    bar
}

/// Acknowledging follows the result: waits a moment for the queue to come to rest, then says how many messages are left.
async fn settle(client: &Client) -> anyhow::Result<u64> {
    let dead = client.queue().dead_letter_queue().await?;
    let mut left = 0;
    for _ in 0..100 {
        let depth = client.queue().depth().await?;
        left = depth.visible + depth.in_flight + depth.delayed;
        if let Some(dead) = &dead {
            left += dead.depth().await?.visible;
        }
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(left)
}

async fn seen(
    client: &Client,
    results: &HashMap<CallKey, CallResult>,
    server: &LoadServer,
    from: Timestamp,
    to: Timestamp,
    args: &RunArgs,
) -> anyhow::Result<Seen> {
    let most = args.calls as usize * 3;
    let mut audits: HashMap<String, Vec<_>> = HashMap::new();
    for record in client.history().by_hours(&Tenant::parse(TENANT)?, from, to, most).await? {
        if record.kind == AuditKind::Call {
            audits.entry(record.call_id.to_string()).or_default().push(record.outcome);
        }
    }
    Ok(Seen {
        results: results.iter().map(|(key, result)| (key.call_id.to_string(), result.outcome.kind)).collect(),
        audits,
        executions: server.executions(),
        killed: args.kill_after.is_some(),
    })
}

/// From the time a call was meant to be sent until its result was stored.
fn latency(
    intended: &[Timestamp],
    requests: &[CallRequest],
    results: &HashMap<CallKey, CallResult>,
) -> anyhow::Result<Latency> {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000, 3)?;
    for (intended, request) in intended.iter().zip(requests) {
        if let Some(result) = results.get(&request.key) {
            histogram.saturating_record(result.finished_at.ms_since(*intended).max(1));
        }
    }
    Ok(Latency {
        p50_ms: histogram.value_at_quantile(0.50),
        p95_ms: histogram.value_at_quantile(0.95),
        p99_ms: histogram.value_at_quantile(0.99),
        max_ms: histogram.max(),
    })
}

fn request(call: &Planned) -> anyhow::Result<CallRequest> {
    let built = RequestBuilder::tool(TENANT, call.tool.name())
        .call_id(&call.id)
        .arguments(call.arguments.clone())
        .build();
    built.map_err(|e| anyhow::anyhow!("{e}"))
}

async fn client(local: &LocalEndpoints, clock: Now) -> Client {
    let aws = Aws::connect(AwsOptions {
        region: Some("us-east-1".into()),
        sqs_endpoint: Some(local.sqs_url().into()),
        dynamodb_endpoint: Some(local.dynamodb_url().into()),
        secrets_endpoint: Some(local.secretsmanager_url().into()),
        static_credentials: Some(("loadtest".into(), "loadtest".into())),
    })
    .await;
    Client::new(&aws, local.queue_url("toolfleet-calls"), &Tables::with_prefix("toolfleet"), clock)
}

fn start(
    args: &RunArgs,
    folder: &Path,
    local: &LocalEndpoints,
    server: &LoadServer,
) -> anyhow::Result<Start> {
    let tools: Vec<_> = Tool::ALL
        .iter()
        .map(|t| json!({"id": t.name(), "server": "load", "idempotent": t.is_safe()}))
        .collect();
    let catalog = json!({
        "servers": [{"id": "load", "url": server.url}],
        "tools": tools,
        "tenants": {"queue": [TENANT]},
    });
    let file = folder.join("catalog.json");
    std::fs::write(&file, catalog.to_string())?;
    let variables = [
        ("TOOLFLEET_QUEUE_URL", local.queue_url("toolfleet-calls")),
        ("TOOLFLEET_CATALOG", file.display().to_string()),
        ("TOOLFLEET_SLOTS", args.slots.to_string()),
        ("TOOLFLEET_LEASE_MS", args.lease_ms.to_string()),
        ("TOOLFLEET_CLOCK_SKEW_MS", "500".to_owned()),
        ("TOOLFLEET_LOG", "warn".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "loadtest".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "loadtest".to_owned()),
        ("AWS_ENDPOINT_URL_SQS", local.sqs_url().to_owned()),
        ("AWS_ENDPOINT_URL_DYNAMODB", local.dynamodb_url().to_owned()),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", local.secretsmanager_url().to_owned()),
    ];
    Ok(Start {
        binary: args.worker_bin.clone().map_or_else(beside_us, Ok)?,
        environment: variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        log: folder.join("workers.log"),
    })
}

fn beside_us() -> anyhow::Result<PathBuf> {
    let ours = std::env::current_exe().context("this program does not know where it is; use --worker-bin")?;
    Ok(ours.with_file_name("toolfleet-worker"))
}

/// A folder of this run, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("toolfleet-loadtest-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind harms nobody.
        let _stays = std::fs::remove_dir_all(&self.0);
    }
}
