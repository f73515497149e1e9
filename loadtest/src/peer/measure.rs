//! One round of one worker: starts it on fresh endpoints and measures it under each load.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use toolfleet_client::AwsError;

use super::args::PeerArgs;
use super::load::{Load, TENANT, TOOL, calls, request};
use crate::flow::calls::FlowCall;
use crate::flow::rig::{Rig, Setup};
use crate::stored::StoredTimes;
use crate::traffic::Traffic;

/// Calls that open connections and fill caches before anything is measured.
const WARM_UP: u32 = 50;
/// How long the calls of a load may take beyond their sending.
const END_WITHIN: Duration = Duration::from_secs(60);
/// The lease of the product's claims: no call of a load takes as long.
const LEASE_MS: u32 = 60_000;
/// How many messages are sent at once before a drain.
const SENDERS: usize = 500;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Contender {
    /// The plain worker.
    Plain,
    /// The product's worker.
    Ours,
    /// The product's worker, with the tool registered as `claimless`.
    Claimless,
}

impl Contender {
    /// All, the one that others are compared with first.
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Ours, Self::Claimless];

    /// Its name in tables.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Ours => "ours",
            Self::Claimless => "claimless",
        }
    }

    fn binary(self, args: &PeerArgs) -> anyhow::Result<PathBuf> {
        let (given, name) = match self {
            Self::Plain => (&args.peer_bin, "toolfleet-peer-worker"),
            Self::Ours | Self::Claimless => (&args.worker_bin, "toolfleet-worker"),
        };
        match given {
            Some(binary) => Ok(binary.clone()),
            None => Ok(std::env::current_exe()
                .context("the path of this program is unknown")?
                .with_file_name(name)),
        }
    }
}

/// What one worker did under one load.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) load: Load,
    pub(super) calls: u32,
    pub(super) cpu_us: f64,
    /// From the send's answer to the answer of the write that stores the result, in microseconds.
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    /// Calls a second from the first to the last result.
    pub(super) per_s: f64,
    pub(super) traffic: Traffic,
    pub(super) peak_kib: u64,
}

/// One worker under all loads.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) contender: Contender,
    pub(super) measured: Vec<Measured>,
    pub(super) violations: Vec<String>,
}

/// Runs one round. `rates` gives the loads after the drain, from the calls a second of the drain.
pub(super) async fn round(
    args: &PeerArgs,
    contender: Contender,
    n: u32,
    rates: impl FnOnce(f64) -> Vec<Load>,
) -> anyhow::Result<Round> {
    let binary = contender.binary(args)?;
    let stored = StoredTimes::of(TENANT);
    let setup = Setup {
        binary: Some(&binary),
        workers: 1,
        slots: args.slots,
        lease_ms: LEASE_MS,
        counted: true,
        stored: Some(stored.clone()),
        ..Setup::default()
    };
    let claimless = contender == Contender::Claimless;
    let mut rig = Rig::start(&setup, |server| {
        json!({
            "servers": [{"id": TOOL, "url": server.url(TOOL)}],
            "tools": [{"id": TOOL, "server": TOOL, "idempotent": claimless, "claimless": claimless}],
            "tenants": {"queue": ["*"]},
        })
    })
    .await?;
    let done = Box::pin(loads(args, contender, n, &mut rig, &stored, rates)).await;
    done.inspect_err(|_| rig.keep_log())
}

async fn loads(
    args: &PeerArgs,
    contender: Contender,
    n: u32,
    rig: &mut Rig,
    stored: &StoredTimes,
    rates: impl FnOnce(f64) -> Vec<Load>,
) -> anyhow::Result<Round> {
    let name = |load: &str| format!("{}-{n}-{load}", contender.name());
    let warm = calls(&name("warm"), Load::Drain, WARM_UP, 0);
    send_all(rig, &warm, args.session).await?;
    ended(rig).await?;
    let mut all = warm;
    let mut measured = Vec::new();
    let drain = calls(&name("drain"), Load::Drain, args.drain_calls, args.seconds);
    measured.push(measure(args, rig, stored, Load::Drain, &drain).await?);
    all.extend(drain);
    let per_s = measured.first().map_or(0.0, |drain| drain.per_s);
    for (position, load) in rates(per_s).into_iter().enumerate() {
        let calls = calls(&name(&position.to_string()), load, args.drain_calls, args.seconds);
        measured.push(measure(args, rig, stored, load, &calls).await?);
        all.extend(calls);
    }
    let violations = rig.verify(&all, false).await?;
    Ok(Round { contender, measured, violations })
}

/// Runs one load and measures the worker meanwhile.
async fn measure(
    args: &PeerArgs,
    rig: &mut Rig,
    stored: &StoredTimes,
    load: Load,
    calls: &[FlowCall],
) -> anyhow::Result<Measured> {
    stored.take();
    rig.bed.start_counting();
    let before = rig.workers.usage();
    let sent = match load {
        Load::Drain => {
            let worker = rig.workers.stop_one()?;
            send_all(rig, calls, args.session).await?;
            rig.workers.continue_one(&worker)?;
            let now = Instant::now();
            calls.iter().map(|call| (call.id.clone(), now)).collect()
        }
        Load::ShareOfDrain(_) | Load::Rate(_) => send_at_rate(rig, calls, args.session).await?,
    };
    ended(rig).await?;
    let usage = rig.workers.usage();
    let stored = stored.take();
    let (p50_us, p99_us) = latency(&sent, &stored)?;
    let count = u32::try_from(calls.len()).unwrap_or(u32::MAX);
    Ok(Measured {
        load,
        calls: count,
        cpu_us: usage.cpu_us.saturating_sub(before.cpu_us) as f64 / f64::from(count.max(1)),
        p50_us,
        p99_us,
        per_s: per_second(&sent, &stored),
        traffic: rig.bed.counted().unwrap_or_default(),
        peak_kib: usage.peak_kib,
    })
}

async fn ended(rig: &mut Rig) -> anyhow::Result<()> {
    if !rig.until_empty(END_WITHIN).await? {
        bail!("the calls did not end within {} s", END_WITHIN.as_secs());
    }
    Ok(())
}

async fn send_all(rig: &Rig, calls: &[FlowCall], session: bool) -> anyhow::Result<()> {
    let requests = calls.iter().map(|call| request(call, session)).collect::<anyhow::Result<Vec<_>>>()?;
    for round in requests.chunks(SENDERS) {
        rig.bed.client.send_many(round).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    Ok(())
}

/// Sends each call at its time; returns when each was in the queue.
async fn send_at_rate(
    rig: &Rig,
    calls: &[FlowCall],
    session: bool,
) -> anyhow::Result<HashMap<String, Instant>> {
    let start = Instant::now();
    let mut sends: JoinSet<Result<(String, Instant), AwsError>> = JoinSet::new();
    for call in calls {
        let (client, id, request) = (rig.bed.client.clone(), call.id.clone(), request(call, session)?);
        tokio::time::sleep_until(start + call.at).await;
        sends.spawn(async move {
            client.send(&request, None).await?;
            Ok((id, Instant::now()))
        });
    }
    let mut sent = HashMap::new();
    while let Some(done) = sends.join_next().await {
        sent.extend([done??]);
    }
    Ok(sent)
}

/// The median and the 99th percentile of the times from queue to stored result, in microseconds.
fn latency(sent: &HashMap<String, Instant>, stored: &HashMap<String, Instant>) -> anyhow::Result<(u64, u64)> {
    let mut times = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3)?;
    for (id, at) in sent {
        let stored = stored.get(id).with_context(|| format!("`{id}` has no stored result"))?;
        let took = stored.saturating_duration_since(*at);
        times.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
    }
    Ok((times.value_at_quantile(0.5), times.value_at_quantile(0.99)))
}

fn per_second(sent: &HashMap<String, Instant>, stored: &HashMap<String, Instant>) -> f64 {
    let (Some(first), Some(last)) = (sent.values().min(), stored.values().max()) else { return 0.0 };
    sent.len() as f64 / last.saturating_duration_since(*first).as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_a_stored_result_is_an_error() {
        let now = Instant::now();
        let sent = HashMap::from([("a".to_owned(), now), ("b".to_owned(), now)]);
        let mut stored = HashMap::from([("a".to_owned(), now + Duration::from_millis(2))]);
        let error = latency(&sent, &stored).unwrap_err().to_string();
        assert_eq!(error, "`b` has no stored result");
        stored.insert("b".to_owned(), now + Duration::from_millis(4));
        let (p50, p99) = latency(&sent, &stored).unwrap();
        assert!((1_990..=2_010).contains(&p50) && (3_990..=4_010).contains(&p99), "{p50} {p99}");
        assert!((499.0..501.0).contains(&per_second(&sent, &stored)));
    }
}
