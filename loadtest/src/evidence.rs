//! Owns what is read after a load: every call's row, every audit record, what is left in the queues, and the latencies.
//!
//! **Invariant:** reads alone; what it found is judged elsewhere.

use std::time::Duration;

use anyhow::bail;
use futures::StreamExt as _;
use hdrhistogram::Histogram;
use toolfleet_client::{CallResult, Client, Standing};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::ids::Tenant;
use toolfleet_core::message::CallRequest;
use toolfleet_core::time::Timestamp;

use crate::payload::is_answer;
use crate::plan::Planned;
use crate::report::Latency;
use crate::stage::{Stage, TENANT};
use crate::verify::{End, Seen};

/// How many rows are read at once.
const READERS: usize = 32;

/// What a load has left.
pub(crate) struct Evidence {
    pub(crate) seen: Seen,
    pub(crate) latency: Latency,
    /// When the last call ended.
    pub(crate) last_end: Option<Timestamp>,
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
    let mut seen = Seen::default();
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 86_400_000, 3)?;
    let mut last_end = None;
    let mut rows = futures::stream::iter((0_u32..).zip(calls.iter().zip(requests)))
        .map(|(n, (call, request))| async move { (n, call, client.standing(&request.key).await) })
        .buffered(READERS);
    while let Some((n, call, standing)) = rows.next().await {
        let Standing::Ended(result) = standing? else { continue };
        let sent_at = intended(n).unwrap_or(result.enqueued_at);
        histogram.saturating_record(result.finished_at.ms_since(sent_at).max(1));
        last_end = last_end.max(Some(result.finished_at));
        seen.results.insert(call.id.clone(), end(call, &result));
    }
    seen.left = left(client).await?;
    if let Some(dead) = client.queue().dead_letter_queue().await? {
        let depth = dead.depth().await?;
        seen.dead = depth.visible + depth.in_flight + depth.delayed;
    }
    let to = (stage.clock)().plus_ms(millis(Duration::from_secs(1)));
    audits(client, begun_at, to, requests.len(), &mut seen).await?;
    seen.executions = stage.server.executions();
    Ok(Evidence { seen, latency: Latency::of(&histogram), last_end })
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

fn end(call: &Planned, result: &CallResult) -> End {
    let content = result.outcome.content.as_ref();
    let own_answer = content.is_some_and(|content| is_answer(call.tool, &call.arguments, content.get()));
    End { kind: result.outcome.kind, own_answer }
}

async fn audits(
    client: &Client,
    from: Timestamp,
    to: Timestamp,
    calls: usize,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    // More than three for each call are not read: that there are so many is enough to know.
    let most = calls.saturating_mul(3).max(100);
    let records = client.history().by_hours(&Tenant::parse(TENANT)?, from, to, most).await?;
    if records.len() >= most {
        bail!("there are {most} audit records or more of {calls} calls");
    }
    for record in records {
        let id = record.call_id.to_string();
        match record.kind {
            AuditKind::Call => seen.audits.entry(id).or_default().push(record.outcome),
            kind @ (AuditKind::LateAnswer
            | AuditKind::IdempotencyMismatch
            | AuditKind::Undecodable
            | AuditKind::Unauthorised) => seen.other_audits.push((kind, id)),
        }
    }
    Ok(())
}
