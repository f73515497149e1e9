//! Owns what is read after a load: every call's row, every audit record, what is left in the queues, and the times.
//!
//! It reads what an orchestrator and an auditor read, through the client they use.
//!
//! **Invariant:** reads alone; what it found is judged elsewhere.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::bail;
use hdrhistogram::Histogram;
use toolfleet_client::{CallResult, CallStatus, Client};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

use crate::payload::is_answer;
use crate::plan::Planned;
use crate::report::Latency;
use crate::server::Ran;
use crate::stage::{Stage, TENANT};
use crate::timeline::CallTimeline;
use crate::verify::{End, Observed};

/// How many rows are read in one go.
const ROWS: usize = 1_000;

/// What a load has left.
pub(crate) struct Evidence {
    pub(crate) seen: Observed,
    pub(crate) accounts: Vec<CallTimeline>,
    /// When each call ended, and how long it took in milliseconds.
    pub(crate) ends: Vec<(Timestamp, u64)>,
    pub(crate) latency: Latency,
    /// The same less the tools' own time.
    pub(crate) added: Latency,
}

/// Reads all of it; the workers are gone by then, so that nothing moves meanwhile.
///
/// `intended` says when the n-th call was meant to be sent, where that was decided; elsewhere the queue's own
/// time of sending counts.
pub(crate) async fn read(
    stage: &Stage,
    calls: &[Planned],
    requests: &[CallRequest],
    begun_at: Timestamp,
    intended: impl Fn(u32) -> Option<Timestamp>,
) -> anyhow::Result<Evidence> {
    let client = &stage.client;
    let executions = stage.server.executions();
    let mut seen = Observed::default();
    let mut times = Times::new()?;
    let keys: Vec<CallKey> = requests.iter().map(|request| request.key.clone()).collect();
    let mut planned = (0_u32..).zip(calls);
    for keys in keys.chunks(ROWS) {
        for (standing, (n, call)) in client.status_many(keys).await?.into_iter().zip(&mut planned) {
            let CallStatus::Ended(result) = standing else { continue };
            let sent_at = intended(n).unwrap_or(result.enqueued_at);
            times.take(sent_at, result.finished_at, executions.get(&call.id));
            seen.results.insert(call.id.clone(), end(call, &result));
        }
    }
    seen.left = left(client).await?;
    if let Some(dead) = client.queue().dead_letter_queue().await? {
        let depth = dead.depth().await?;
        seen.dead = depth.visible + depth.in_flight + depth.delayed;
    }
    let to = (stage.clock)().plus_ms(millis(Duration::from_secs(1)));
    let accounts = audits(client, begun_at, to, requests.len(), &mut seen).await?;
    seen.executions = executions.into_iter().map(|(id, ran)| (id, ran.times)).collect();
    seen.executions.retain(|_, times| *times > 0);
    let (latency, added) = (Latency::of(&times.whole), Latency::of(&times.added));
    Ok(Evidence { seen, accounts, ends: times.ends, latency, added })
}

/// How many messages the queue of calls holds, whatever their state.
pub(crate) async fn left(client: &Client) -> anyhow::Result<u64> {
    let depth = client.queue().depth().await?;
    Ok(depth.visible + depth.in_flight + depth.delayed)
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

struct Times {
    whole: Histogram<u64>,
    added: Histogram<u64>,
    ends: Vec<(Timestamp, u64)>,
}

impl Times {
    fn new() -> anyhow::Result<Self> {
        let histogram = Histogram::new_with_bounds(1, 86_400_000, 3)?;
        Ok(Self { whole: histogram.clone(), added: histogram, ends: Vec::new() })
    }

    fn take(&mut self, sent_at: Timestamp, ended_at: Timestamp, ran: Option<&Ran>) {
        let whole_ms = ended_at.ms_since(sent_at);
        let tool_ms = ran.map_or(0, |ran| millis(ran.took));
        self.whole.saturating_record(whole_ms.max(1));
        self.added.saturating_record(whole_ms.saturating_sub(tool_ms).max(1));
        self.ends.push((ended_at, whole_ms));
    }
}

fn end(call: &Planned, result: &CallResult) -> End {
    let content = result.outcome.content();
    let own_answer = content.is_some_and(|content| is_answer(call.tool, &call.arguments, content.get()));
    End { kind: result.outcome.kind, own_answer }
}

async fn audits(
    client: &Client,
    from: Timestamp,
    to: Timestamp,
    calls: usize,
    seen: &mut Observed,
) -> anyhow::Result<Vec<CallTimeline>> {
    // More than three for each call are not read: that there are so many is enough to know.
    let most = calls.saturating_mul(3).max(100);
    let records = client.history().by_hours(&Tenant::parse(TENANT)?, from, to, most).await?;
    if records.len() >= most {
        bail!("there are {most} audit records or more of {calls} calls");
    }
    let mut accounts = Vec::new();
    let mut audits = HashMap::<String, Vec<OutcomeKind>>::new();
    for record in records {
        let id = record.call_id.to_string();
        match record.kind {
            AuditKind::Call => {
                audits.entry(id).or_default().push(record.outcome);
                accounts.push(CallTimeline {
                    sent_at: record.enqueued_at,
                    claimed_at: record.started_at,
                    ended_at: record.at,
                    fence: record.fence,
                    worker: record.worker.map(|worker| worker.to_string()),
                    in_doubt: record.outcome == OutcomeKind::OutcomeUnknown,
                });
            }
            kind @ (AuditKind::LateAnswer
            | AuditKind::IdempotencyMismatch
            | AuditKind::Duplicate
            | AuditKind::Undecodable
            | AuditKind::TenantNotAllowed) => seen.other_audits.push((kind, id)),
        }
    }
    seen.audits = audits;
    Ok(accounts)
}
