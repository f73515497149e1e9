//! Reads the evidence of a load: every call's row, every audit record, the messages left in the queues, and the times.
//!
//! It reads through the client that orchestrators and auditors use. `verify` checks what was read.

use std::time::Duration;

use hdrhistogram::Histogram;
use toolfleet_client::{CallResult, CallStatus, Client};
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::{CallRequest, Priority};
use toolfleet_core::time::Timestamp;

use crate::payload::is_answer;
use crate::plan::Planned;
use crate::report::Latency;
use crate::server::Executions;
use crate::testbed::{TENANT, TestBed};
use crate::timeline::Timeline;
use crate::verify::{CallEnd, Observed};

/// How many rows are read in one request of the client.
const ROWS: usize = 1_000;

/// The evidence of a load.
pub(crate) struct Evidence {
    pub(crate) observed: Observed,
    pub(crate) timelines: Vec<Timeline>,
    /// When each call ended, and how long it took in milliseconds.
    pub(crate) ends: Vec<(Timestamp, u64)>,
    pub(crate) latency: Latency,
    /// The latency without the tools' own time.
    pub(crate) added: Latency,
}

/// Reads the evidence. The workers have exited by then, so nothing changes while it reads.
///
/// `intended` returns when the n-th call should have been sent; without such a time, the queue's send time counts.
pub(crate) async fn read(
    testbed: &TestBed,
    calls: &[Planned],
    requests: &[CallRequest],
    started_at: Timestamp,
    intended: impl Fn(u32) -> Option<Timestamp>,
) -> anyhow::Result<Evidence> {
    let client = &testbed.bed.client;
    let executions = testbed.server.executions();
    let mut observed = Observed::default();
    let mut times = Times::new()?;
    let keys: Vec<CallKey> = requests.iter().map(|request| request.key.clone()).collect();
    let mut planned = (0_u32..).zip(calls);
    for keys in keys.chunks(ROWS) {
        for (status, (n, call)) in client.status_many(keys).await?.into_iter().zip(&mut planned) {
            let CallStatus::Ended(result) = status else { continue };
            let sent_at = intended(n).unwrap_or(result.enqueued_at);
            times.record(sent_at, result.finished_at, executions.get(&call.id));
            observed.results.insert(call.id.clone(), end(call, &result));
        }
    }
    observed.messages_left = messages_left(client).await?;
    if let Some(dead) = client.queue().dead_letter_queue().await? {
        let depth = dead.depth().await?;
        observed.dead_letters = depth.visible + depth.in_flight + depth.delayed;
    }
    let to = (testbed.bed.clock)().plus_ms(millis(Duration::from_secs(1)));
    let timelines = audits(client, started_at, to, requests.len(), &mut observed).await?;
    observed.executions = executions.into_iter().map(|(id, execution)| (id, execution.times)).collect();
    observed.executions.retain(|_, times| *times > 0);
    let (latency, added) = (Latency::of(&times.whole), Latency::of(&times.added));
    Ok(Evidence { observed, timelines, ends: times.ends, latency, added })
}

/// How many messages the client's queues of calls hold, visible or not.
pub(crate) async fn messages_left(client: &Client) -> anyhow::Result<u64> {
    let mut left = 0;
    for queue in Priority::ALL.into_iter().filter_map(|priority| client.queue_of(priority)) {
        let depth = queue.depth().await?;
        left += depth.visible + depth.in_flight + depth.delayed;
    }
    Ok(left)
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The times of all calls.
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

    fn record(&mut self, sent_at: Timestamp, ended_at: Timestamp, execution: Option<&Executions>) {
        let whole_ms = ended_at.ms_since(sent_at);
        let tool_ms = execution.map_or(0, |execution| millis(execution.took));
        self.whole.saturating_record(whole_ms.max(1));
        self.added.saturating_record(whole_ms.saturating_sub(tool_ms).max(1));
        self.ends.push((ended_at, whole_ms));
    }
}

fn end(call: &Planned, result: &CallResult) -> CallEnd {
    let content = result.outcome.content();
    let own_answer = content.is_some_and(|content| is_answer(call.tool, &call.arguments, content.get()));
    CallEnd { kind: result.outcome.kind, own_answer }
}

async fn audits(
    client: &Client,
    from: Timestamp,
    to: Timestamp,
    calls: usize,
    observed: &mut Observed,
) -> anyhow::Result<Vec<Timeline>> {
    let limit = records_limit(calls);
    let records = client.history().by_hours(&Tenant::parse(TENANT)?, from, to, limit).await?;
    check_count(records.len(), calls)?;
    Ok(sort_records(records, observed))
}

/// Three records of each call are read at most: more are a failure, however many there are.
fn records_limit(calls: usize) -> usize {
    calls.saturating_mul(3).max(100)
}

fn check_count(records: usize, calls: usize) -> anyhow::Result<()> {
    let limit = records_limit(calls);
    anyhow::ensure!(records < limit, "there are {limit} audit records or more of {calls} calls");
    Ok(())
}

/// Puts the outcomes of the records into `observed`, and returns the timelines of the calls.
fn sort_records(records: Vec<AuditRecord>, observed: &mut Observed) -> Vec<Timeline> {
    let mut timelines = Vec::new();
    for record in records {
        let id = record.call_id.to_string();
        match record.kind {
            AuditKind::Call => {
                observed.audits.entry(id).or_default().push(record.outcome);
                timelines.push(Timeline {
                    sent_at: record.enqueued_at,
                    claimed_at: record.started_at,
                    ended_at: record.at,
                    fence: record.fence,
                    worker: record.worker.map(|worker| worker.to_string()),
                    outcome_unknown: record.outcome == OutcomeKind::OutcomeUnknown,
                });
            }
            kind @ (AuditKind::LateAnswer
            | AuditKind::IdempotencyMismatch
            | AuditKind::Duplicate
            | AuditKind::Undecodable
            | AuditKind::TenantNotAllowed
            | AuditKind::Switch) => observed.other_audits.push((kind, id)),
        }
    }
    timelines
}

#[cfg(test)]
mod tests {
    use toolfleet_core::digest::Digest;
    use toolfleet_core::ids::CallId;

    use super::*;

    fn record(kind: AuditKind, id: &str, outcome: OutcomeKind) -> AuditRecord {
        AuditRecord {
            kind,
            tenant: Tenant::parse(TENANT).unwrap(),
            call_id: CallId::parse(id).unwrap(),
            at: Timestamp::from_ms(3),
            outcome,
            code: None,
            message: None,
            may_have_run: None,
            tool: None,
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
            digest: Digest::of_text("x").to_string(),
            attempts: 1,
            fence: 2,
            worker: None,
            cached_from: None,
            batch: None,
            trace_id: None,
            enqueued_at: Timestamp::from_ms(1),
            started_at: Some(Timestamp::from_ms(2)),
        }
    }

    #[test]
    fn too_many_audit_records_are_an_error() {
        assert!(check_count(2_999, 1_000).is_ok());
        let error = check_count(3_000, 1_000).unwrap_err().to_string();
        assert_eq!(error, "there are 3000 audit records or more of 1000 calls");
    }

    #[test]
    fn every_audit_record_is_seen_by_the_verification() {
        let other = [
            AuditKind::LateAnswer,
            AuditKind::IdempotencyMismatch,
            AuditKind::Duplicate,
            AuditKind::Undecodable,
            AuditKind::TenantNotAllowed,
            AuditKind::Switch,
        ];
        let mut records: Vec<_> =
            other.iter().map(|kind| record(*kind, "b", OutcomeKind::Succeeded)).collect();
        records.push(record(AuditKind::Call, "a", OutcomeKind::OutcomeUnknown));
        records.push(record(AuditKind::Call, "a", OutcomeKind::Succeeded));
        let mut observed = Observed::default();
        let timelines = sort_records(records, &mut observed);
        assert_eq!(observed.other_audits, other.map(|kind| (kind, "b".to_owned())));
        assert_eq!(observed.audits["a"], [OutcomeKind::OutcomeUnknown, OutcomeKind::Succeeded]);
        assert_eq!(timelines.iter().map(|t| t.outcome_unknown).collect::<Vec<_>>(), [true, false]);
        assert_eq!((timelines[0].fence, timelines[0].claimed_at), (2, Some(Timestamp::from_ms(2))));
    }
}
