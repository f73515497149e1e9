//! The command `parts`: CPU time of three parts of a call, each measured alone in this process, and of the rest of a worker.
//!
//! A profile of a worker does not separate the parts, because they spend most of their time in the same HTTP and runtime code. So each
//! part is repeated alone, with the same crates, in the same runtime, against servers in other processes. The CPU time of a whole worker
//! minus their sum is the time of the pipeline: decoding, admission, the state table, tasks.
//!
//! Only this file of the load test uses crates behind the client, because it measures them.
//!
//! **Invariant:** the servers are separate processes, so their CPU time is not part of the figures.

use std::ffi::OsStr;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;
use toolfleet_aws::calls::Calls;
use toolfleet_aws::history::History;
use toolfleet_aws::queue::Outgoing;
use toolfleet_aws::{Store as _, Swap};
use toolfleet_client::{Aws, Tables, system_clock};
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::call::{CallRow, Claim, Decision, DeliveryContext, Effect, Event, decide};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, CallKey, Nonce, ServerId, Tenant, WorkerId};
use toolfleet_core::outcome::{Outcome, OutcomeKind};
use toolfleet_egress::EgressPolicy;
use toolfleet_mcp::{ClientOptions, Endpoint, EndpointTransport, McpClient, ToolCall};

use crate::bed::aws_options;
use crate::endpoints;
use crate::helper::Helper;
use crate::run::measure;
use crate::run_args::RunArgs;
use crate::usage::Usage;

/// How long a row of this measurement may live, in milliseconds.
const ROW_LIFE_MS: u64 = 60 * 60 * 1000;
/// Messages of a receive, and their visibility timeout in seconds.
const RECEIVE: (u32, u32) = (10, 600);

/// Arguments of `parts`.
#[derive(Debug, Clone, clap::Args)]
pub struct PartsArgs {
    /// How often each part is repeated.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub calls: u32,
    /// How many at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub slots: u32,
    /// The worker's binary. The default is the one in this program's folder.
    #[arg(long, value_name = "FILE")]
    pub worker_bin: Option<PathBuf>,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// CPU time of a call's parts, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// How often each part was repeated.
    pub calls: u32,
    /// How many at once.
    pub slots: u32,
    /// `tools/call` of `echo` on a loopback server.
    pub mcp_us: f64,
    /// The claim, the result and the audit record, batched.
    pub writes_us: f64,
    /// Writes in a request.
    pub writes_per_request: f64,
    /// Receives of ten messages, and deletes, batched.
    pub queue_us: f64,
    /// A whole worker in a drain of `echo`.
    pub worker_us: f64,
    /// The worker without its parts.
    pub rest_us: f64,
    /// Whether this program is a debug build.
    pub debug_build: bool,
}

/// Measures and prints; true if no check of the whole worker's load failed.
///
/// # Errors
/// A part failed.
pub async fn run(args: &PartsArgs) -> anyhow::Result<bool> {
    let mcp_us = mcp(args).await?;
    let (_endpoints, addresses) = endpoints::start(None, [0, 0])?;
    let aws = Aws::connect(aws_options(&addresses)).await;
    let before = aws.batching();
    let writes_us = writes(args, &aws).await?;
    let after = aws.batching();
    let queue_us = queue(args, &aws, &addresses.calls_queue).await?;
    let load = RunArgs {
        calls: args.calls,
        slots: args.slots,
        mix: "echo=1".parse().map_err(anyhow::Error::msg)?,
        worker_bin: args.worker_bin.clone(),
        ..RunArgs::standard()?
    };
    let whole = Box::pin(measure(&load)).await?;
    let worker_us = whole.worker_cpu_us_per_call;
    let parts = Parts {
        calls: args.calls,
        slots: args.slots,
        mcp_us,
        writes_us,
        writes_per_request: (after.statements - before.statements) as f64
            / (after.requests - before.requests).max(1) as f64,
        queue_us,
        worker_us,
        rest_us: worker_us - mcp_us - writes_us - queue_us,
        debug_build: cfg!(debug_assertions),
    };
    print!("{parts}");
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&parts)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(whole.violations == 0)
}

/// The CPU time of this process for one repetition, with `slots` at once, in microseconds.
async fn cpu<W>(args: &PartsArgs, work: impl Fn(u32) -> W) -> anyhow::Result<f64>
where
    W: Future<Output = anyhow::Result<()>>,
{
    let at_once = usize::try_from(args.slots).unwrap_or(1);
    // The first repetitions open connections and fill caches, so they are not measured.
    let first = args.calls / 10;
    let some = |from, to| stream::iter(from..to).map(&work).buffer_unordered(at_once).try_collect::<()>();
    some(0, first).await?;
    let before = Usage::of(std::process::id()).cpu_us;
    some(first, first + args.calls).await?;
    let took = Usage::of(std::process::id()).cpu_us.saturating_sub(before);
    Ok(took as f64 / f64::from(args.calls))
}

async fn mcp(args: &PartsArgs) -> anyhow::Result<f64> {
    let (_server, url): (_, String) = Helper::start(&[OsStr::new("server")])?;
    let client =
        McpClient::new(ClientOptions { reach: EgressPolicy::with_loopback(), ..ClientOptions::default() })?;
    let server = ServerId::parse("load")?;
    let endpoint = &Endpoint {
        server,
        url: url.parse()?,
        headers: http::HeaderMap::new(),
        auth: None,
        tenant: None,
        transport: EndpointTransport::Http,
    };
    let client = &client;
    cpu(args, move |n| async move {
        let arguments = arguments(n)?;
        let call = ToolCall::new(endpoint, "echo", &arguments, Instant::now() + Duration::from_secs(30));
        let answer = client.call_tool(call).await?;
        check_answer(n, answer.result.get())
    })
    .await
}

/// Checks that an answer has the text of its own call.
fn check_answer(n: u32, answer: &str) -> anyhow::Result<()> {
    let own = answer.contains(&format!("parts-{n} "));
    anyhow::ensure!(own, "the answer to call {n} belongs to another call");
    Ok(())
}

fn arguments(n: u32) -> anyhow::Result<Box<RawValue>> {
    let text = format!("parts-{n} {}", "lorem ipsum ".repeat(10));
    Ok(to_raw_value(&json!({"call": format!("parts-{n}"), "text": text}))?)
}

async fn writes(args: &PartsArgs, aws: &Aws) -> anyhow::Result<f64> {
    let tables = Tables::with_prefix("toolfleet");
    let (calls, history) = (&aws.calls(&tables), &aws.history(&tables));
    cpu(args, move |n| three_writes(n, calls, history)).await
}

/// Stores what a call stores: the claim, the result, the audit record.
async fn three_writes(n: u32, calls: &Calls, history: &History) -> anyhow::Result<()> {
    let now = system_clock()();
    let key = CallKey { tenant: Tenant::parse("load")?, call_id: CallId::parse(format!("parts-{n}"))? };
    let delivery = DeliveryContext {
        key: key.clone(),
        digest: Digest::of_text("parts"),
        earlier_digest: None,
        caller: Box::default(),
        nonce: Nonce::from_random(u128::from(n)),
        worker: WorkerId::parse("parts")?,
        enqueued_at: now,
        deadline: Some(now.plus_ms(3_600_000)),
        now,
        skew_ms: 0,
        may_be_claimless: false,
        repeatable: true,
        expires_at: now.plus_ms(ROW_LIFE_MS),
    };
    let (claimed, then) =
        store(calls, None, &Event::Claim { delivery, lease_ms: 30_000, definition: None, answers: None })
            .await?;
    let claim = check_claimed(then)?;
    let content =
        to_raw_value(&json!({"content": [{"type": "text", "text": arguments(n)?}], "isError": false}))?;
    let finish = Event::Finish {
        claim,
        outcome: Outcome::succeeded(content),
        attempts: 1,
        task: None,
        now,
        notes: None,
    };
    let (ended, _) = store(calls, Some(&claimed), &finish).await?;
    history.insert(&record(key, &ended), ended.expires_at).await?;
    Ok(())
}

async fn store(
    calls: &Calls,
    seen: Option<&CallRow>,
    event: &Event,
) -> anyhow::Result<(Box<CallRow>, Effect)> {
    let Decision::Write { row, then } = decide(seen, event) else { anyhow::bail!("nothing is to be stored") };
    check_stored(&calls.swap(seen, &row).await?)?;
    Ok((row, then))
}

/// Checks that the claim of a new call succeeded.
fn check_claimed(effect: Effect) -> anyhow::Result<Claim> {
    match effect {
        Effect::Execute(claim) => Ok(claim),
        Effect::Ended | Effect::Extended { .. } | Effect::Waits | Effect::Noted => {
            anyhow::bail!("the claim of a new call failed")
        }
    }
}

/// Checks that no other process has changed the row.
fn check_stored(swap: &Swap<CallRow>) -> anyhow::Result<()> {
    match swap {
        Swap::Stored => Ok(()),
        Swap::Found(_) => anyhow::bail!("another process changed a row of this measurement"),
    }
}

fn record(key: CallKey, row: &CallRow) -> AuditRecord {
    AuditRecord {
        kind: AuditKind::Call,
        tenant: key.tenant,
        call_id: key.call_id,
        at: row.finished.as_ref().map_or(row.enqueued_at, |finished| finished.at),
        outcome: OutcomeKind::Succeeded,
        code: None,
        message: None,
        may_have_run: None,
        tool: Some("echo".into()),
        operation: None,
        resumes: None,
        definition: None,
        session: None,
        user: None,
        agent: None,
        group: None,
        sender: None,
        message_id: None,
        arguments: None,
        digest: Digest::of_text("parts").to_string(),
        attempts: row.attempts,
        fence: row.fence,
        worker: row.worker.clone(),
        cached_from: None,
        batch: None,
        trace_id: None,
        enqueued_at: row.enqueued_at,
        started_at: row.started_at,
    }
}

async fn queue(args: &PartsArgs, aws: &Aws, url: &str) -> anyhow::Result<f64> {
    let queue = &aws.queue(url);
    // A tenth more is received before the measurement.
    let messages = (args.calls + args.calls / 10).next_multiple_of(RECEIVE.0);
    let body = arguments(0)?.get().to_owned();
    let send = |_| queue.send(Outgoing { body: body.clone(), ..Outgoing::default() });
    stream::iter(0..messages).map(send).buffer_unordered(500).try_for_each(|_| async { Ok(()) }).await?;
    let tens =
        PartsArgs { calls: args.calls / RECEIVE.0, slots: args.slots.div_ceil(RECEIVE.0), ..args.clone() };
    let ten_us = cpu(&tens, |_| async {
        let deliveries = queue.receive(RECEIVE.0, 0, RECEIVE.1).await?;
        let deletes = deliveries.iter().map(|delivery| queue.delete(&delivery.receipt));
        futures::future::try_join_all(deletes).await?;
        Ok(())
    })
    .await?;
    Ok(ten_us / f64::from(RECEIVE.0))
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = if self.debug_build { " (debug build)" } else { "" };
        writeln!(f, "CPU us of a call{build}, {} calls, {} at once", self.calls, self.slots)?;
        let writes = format!("three writes, {:.1} per request", self.writes_per_request);
        let lines = [
            ("MCP call of echo", self.mcp_us),
            (writes.as_str(), self.writes_us),
            ("receive ten, delete", self.queue_us),
            ("the rest of the worker", self.rest_us),
            ("a whole worker", self.worker_us),
        ];
        lines.into_iter().try_for_each(|(name, us)| writeln!(f, "{name:<40}{us:>8.0}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_claim_and_a_changed_row_are_errors() {
        assert!(check_stored(&Swap::Stored).is_ok());
        assert!(check_stored(&Swap::Found(None)).unwrap_err().to_string().contains("another process"));
        for effect in [Effect::Ended, Effect::Extended { cancel: false }, Effect::Waits, Effect::Noted] {
            assert!(check_claimed(effect).unwrap_err().to_string().contains("claim of a new call"));
        }
    }

    #[test]
    fn an_answer_to_another_call_is_an_error() {
        assert!(check_answer(1, "parts-1 lorem").is_ok());
        for other in ["parts-11 lorem", "parts-2 lorem", ""] {
            assert!(check_answer(1, other).unwrap_err().to_string().contains("belongs to another call"));
        }
    }
}
