//! Owns a run: workers up, calls in, ends awaited, figures and verification out.
//!
//! **Invariant:** bounded in calls and time; the workers are gone when it returns, and when it is dropped.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::Instant;
use toolfleet_client::RequestBuilder;
use toolfleet_core::message::CallRequest;
use toolfleet_core::time::Timestamp;

use crate::cli::RunArgs;
use crate::evidence::{self, Evidence, left, millis};
use crate::plan::{Planned, plan};
use crate::prices::Bill;
use crate::report::Report;
use crate::stage::{Stage, TENANT};
use crate::verify::problems;
use crate::worker::{Usage, Workers};

/// Sends of a drain travel in rounds of so many.
const SENDERS: usize = 500;
/// How often the queue is asked how many calls have not ended: seldom enough not to be the load itself.
const LOOK: Duration = Duration::from_millis(50);
/// How long a worker without calls is watched before its figures count as idle.
const IDLE: Duration = Duration::from_secs(1);
/// How long reading rows and records may take after the load.
const READING: Duration = Duration::from_secs(120);
/// So many deviations are listed.
const LISTED: usize = 20;

/// Runs the load and prints its report; true if every call is as it should be.
///
/// # Errors
/// What keeps the load from being run, a worker that ends by itself included.
pub async fn run(args: &RunArgs) -> anyhow::Result<bool> {
    if let Err(problem) = args.check() {
        bail!(problem);
    }
    let mut stage = Stage::set(args).await?;
    let mut workers = Workers::new(stage.worker(args)?);
    let done = Box::pin(load(args, &stage, &mut workers)).await;
    drop(workers);
    let (report, wrong) = done.inspect_err(|_| eprintln!("{}", stage.folder.keep()))?;
    print!("{report}");
    if let Some(file) = &args.json {
        report.write(file)?;
    }
    if !wrong.is_empty() {
        eprintln!("{} deviations, the first {}:", wrong.len(), wrong.len().min(LISTED));
        for problem in wrong.iter().take(LISTED) {
            eprintln!("  {problem}");
        }
        eprintln!("{}", stage.folder.keep());
    }
    Ok(wrong.is_empty())
}

async fn load(args: &RunArgs, stage: &Stage, workers: &mut Workers) -> anyhow::Result<(Report, Vec<String>)> {
    let calls = plan(args.calls, &args.mix, args.seed);
    let requests = calls.iter().map(request).collect::<anyhow::Result<Vec<_>>>()?;
    let idle = idle(args, stage).await?;
    let bar = progress(args.calls);
    let run = Run { args, stage, requests: &requests, bar: &bar, begun: OnceLock::new() };
    let begun_at = (stage.clock)();
    let in_time = match tokio::time::timeout(args.give_up_after, run.calls(workers, idle)).await {
        Ok(moved) => moved.map(|()| true)?,
        Err(_) => false,
    };
    bar.finish_and_clear();
    let usage = workers.usage();
    workers.stop();
    let traffic = stage.counted();
    let begun = run.begun.get().copied().unwrap_or(Begun { at: begun_at, cpu_us: 0 });

    let intended = |n| args.rate.map(|rate| begun.at.plus_ms(millis(offset(n, rate))));
    let read = evidence::read(stage, &calls, &requests, begun_at, intended);
    let read = tokio::time::timeout(READING, read).await;
    let Evidence { mut seen, latency, last_end } =
        read.context("rows and records could not be read in time")??;
    seen.killed = args.kill_after.is_some();
    let mut wrong = problems(&calls, &seen);
    if !in_time {
        let ended = seen.results.len();
        let seconds = args.give_up_after.as_secs();
        wrong.insert(0, format!("given up after {seconds} s: {ended} of {} calls have ended", args.calls));
    }
    let mut outcomes = BTreeMap::<String, u32>::new();
    for end in seen.results.values() {
        *outcomes.entry(end.kind.to_string()).or_default() += 1;
    }
    let ended = u32::try_from(seen.results.len()).unwrap_or(args.calls);
    let wall_s = last_end.map_or(0.0, |end| Duration::from_millis(end.ms_since(begun.at)).as_secs_f64());
    let report = Report {
        calls: args.calls,
        mode: args.rate.map_or_else(|| "drain".to_owned(), |rate| format!("open loop, {rate} calls/s")),
        mix: args.mix.to_string(),
        seed: args.seed,
        workers: args.workers,
        slots: args.slots,
        killed: args.kill_after.is_some(),
        wall_s,
        calls_per_s: f64::from(ended) / wall_s.max(0.001),
        worker_cpu_us_per_call: usage.cpu_us.saturating_sub(begun.cpu_us) as f64 / f64::from(ended.max(1)),
        worker_start_cpu_us: idle.cpu_us,
        idle_kib: idle.resident_kib,
        peak_kib: usage.peak_kib,
        latency,
        outcomes,
        executions: seen.executions.values().map(|n| u64::from(*n)).sum(),
        bill: traffic.as_ref().map(|traffic| Bill::of(traffic, args.calls)),
        traffic,
        problems: wrong.len(),
        deviations: wrong.iter().take(LISTED).cloned().collect(),
        debug_build: cfg!(debug_assertions),
    };
    Ok((report, wrong))
}

/// What a worker takes that has nothing to do, and what its start took: seen on a queue of its own, which stays empty.
async fn idle(args: &RunArgs, stage: &Stage) -> anyhow::Result<Usage> {
    let mut alone = Workers::new(stage.idle_worker(args)?);
    alone.start_one()?;
    tokio::time::sleep(IDLE).await;
    alone.check()?;
    Ok(alone.usage())
}

/// The begin of the measured phase.
#[derive(Debug, Clone, Copy)]
struct Begun {
    at: Timestamp,
    /// What the workers' start took or will take, which is no call's.
    cpu_us: u64,
}

struct Run<'a> {
    args: &'a RunArgs,
    stage: &'a Stage,
    requests: &'a [CallRequest],
    bar: &'a ProgressBar,
    begun: OnceLock<Begun>,
}

#[derive(Default)]
struct Progress {
    sent: AtomicU32,
    all_sent: AtomicBool,
}

impl Run<'_> {
    /// Sends every call and waits until the queue is empty.
    async fn calls(&self, workers: &mut Workers, idle: Usage) -> anyhow::Result<()> {
        let progress = Progress::default();
        let Some(rate) = self.args.rate else {
            for round in self.requests.chunks(SENDERS) {
                for sent in self.stage.client.send_many(round).await {
                    sent?;
                }
            }
            progress.sent.store(self.args.calls, Ordering::Release);
            progress.all_sent.store(true, Ordering::Release);
            self.begin(idle.cpu_us * u64::from(self.args.workers));
            self.start_all(workers)?;
            return self.watch(workers, &progress).await;
        };
        self.start_all(workers)?;
        tokio::time::sleep(IDLE).await;
        workers.check()?;
        self.begin(workers.usage().cpu_us);
        tokio::try_join!(self.send_at_rate(rate, &progress), self.watch(workers, &progress))?;
        Ok(())
    }

    fn begin(&self, cpu_us: u64) {
        self.stage.begin_counting();
        // It begins once.
        let _begun = self.begun.set(Begun { at: (self.stage.clock)(), cpu_us });
    }

    fn start_all(&self, workers: &mut Workers) -> anyhow::Result<()> {
        (0..self.args.workers).try_for_each(|_| workers.start_one())
    }

    /// Sends each call at its time, whether or not the ones before it have ended.
    async fn send_at_rate(&self, rate: u32, progress: &Progress) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut sends = JoinSet::new();
        for (n, request) in (0_u32..).zip(self.requests) {
            tokio::time::sleep_until(begun + offset(n, rate)).await;
            let (client, request) = (self.stage.client.clone(), request.clone());
            sends.spawn(async move { client.send(&request, None).await });
            while let Some(sent) = sends.try_join_next() {
                sent??;
                progress.sent.fetch_add(1, Ordering::AcqRel);
            }
        }
        while let Some(sent) = sends.join_next().await {
            sent??;
            progress.sent.fetch_add(1, Ordering::AcqRel);
        }
        progress.all_sent.store(true, Ordering::Release);
        Ok(())
    }

    /// Until all calls were sent and the queue is empty; kills the worker that is to be killed.
    async fn watch(&self, workers: &mut Workers, progress: &Progress) -> anyhow::Result<()> {
        let mut to_kill = self.args.kill_after;
        loop {
            workers.check()?;
            // Asked in this order, so that no call counts as ended before it was sent.
            let all_sent = progress.all_sent.load(Ordering::Acquire);
            let sent = progress.sent.load(Ordering::Acquire);
            let left = left(&self.stage.client).await?;
            let ended = u64::from(sent).saturating_sub(left);
            self.bar.set_position(ended);
            if let Some(after) = to_kill
                && ended >= u64::from(after)
            {
                if all_sent && left == 0 {
                    bail!("all calls had ended when one worker was to be killed; give more calls");
                }
                to_kill = None;
                workers.replace_one()?;
            }
            if all_sent && left == 0 {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// When the n-th call is sent, from the first one on.
fn offset(n: u32, rate: u32) -> Duration {
    Duration::from_micros(u64::from(n) * 1_000_000 / u64::from(rate.max(1)))
}

fn progress(calls: u32) -> ProgressBar {
    // Drawn on stderr, and only if that is a terminal.
    let bar = ProgressBar::new(u64::from(calls));
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} calls ended {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn request(call: &Planned) -> anyhow::Result<CallRequest> {
    let built = RequestBuilder::tool(TENANT, call.tool.name())
        .call_id(&call.id)
        .arguments(call.arguments.clone())
        .build();
    built.map_err(|e| anyhow::anyhow!("{e}"))
}
