//! Owns a run: workers up, calls in, ends awaited, figures and verification out.
//!
//! **Invariant:** bounded in calls and time; the workers are gone when it returns, and when it is dropped.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use toolfleet_client::RequestBuilder;
use toolfleet_core::request::CallRequest;

use crate::evidence::{self, Evidence, millis};
use crate::plan::{Planned, plan};
use crate::prices::Bill;
use crate::report::{Held, Report};
use crate::run_args::RunArgs;
use crate::stage::{Stage, TENANT};
use crate::usage::Usage;
use crate::verify::problems;
use crate::watch::{Begun, IDLE, Run, RunState, offset};
use crate::worker::Workers;
use crate::{plot, series};

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
    let report = measure(args).await?;
    print!("{report}");
    if let Some(file) = &args.json {
        report.write(file)?;
    }
    if let Some(file) = &args.plot {
        plot::draw(&report, file)?;
    }
    Ok(report.problems == 0)
}

/// Runs the load and says on stderr what is not as it should be.
pub(crate) async fn measure(args: &RunArgs) -> anyhow::Result<Report> {
    let mut stage = Stage::set(args).await?;
    let mut workers = Workers::new(stage.worker(args)?);
    let done = Box::pin(load(args, &stage, &mut workers)).await;
    drop(workers);
    let (report, wrong) = done.inspect_err(|_| eprintln!("{}", stage.folder.keep()))?;
    if !wrong.is_empty() {
        eprintln!("{} deviations, the first {}:", wrong.len(), wrong.len().min(LISTED));
        for problem in wrong.iter().take(LISTED) {
            eprintln!("  {problem}");
        }
        eprintln!("{}", stage.folder.keep());
    }
    Ok(report)
}

async fn load(args: &RunArgs, stage: &Stage, workers: &mut Workers) -> anyhow::Result<(Report, Vec<String>)> {
    let calls = plan(args.calls, &args.mix, args.seed, &args.shape());
    let requests = (0..).zip(&calls).map(|(n, call)| request(args, n, call));
    let requests = requests.collect::<anyhow::Result<Vec<_>>>()?;
    let idle = idle(args, stage).await?;
    let bar = progress(args.calls);
    let run = Run { args, stage, requests: &requests, bar: &bar, begun: OnceLock::new() };
    let begun_at = (stage.clock)();
    let mut state = RunState::default();
    let in_time = match tokio::time::timeout(args.give_up_after, run.calls(workers, idle, &mut state)).await {
        Ok(moved) => moved.map(|()| true)?,
        Err(_) => false,
    };
    bar.finish_and_clear();
    if !in_time {
        state.usage = workers.usage();
    }
    workers.stop();
    let traffic = stage.counted();
    let begun = run.begun.get().copied().unwrap_or(Begun { at: begun_at, cpu_us: 0 });

    let intended = |n| args.rate.map(|rate| begun.at.plus_ms(millis(offset(n, rate))));
    let read = evidence::read(stage, &calls, &requests, begun_at, intended);
    let read = tokio::time::timeout(READING, read).await;
    let Evidence { mut seen, accounts, ends, latency, added } =
        read.context("rows and records could not be read in time")??;
    seen.allowed = args.faults.allowed();
    seen.incidents = std::mem::take(&mut state.incidents);
    let mut wrong = problems(&calls, &seen);
    let ended = u32::try_from(seen.results.len()).unwrap_or(args.calls);
    if !in_time {
        let seconds = args.give_up_after.as_secs();
        wrong.insert(0, format!("given up after {seconds} s: {ended} of {} calls have ended", args.calls));
    }
    let mut outcomes = BTreeMap::<String, u32>::new();
    for end in seen.results.values() {
        *outcomes.entry(end.kind.to_string()).or_default() += 1;
    }
    let last_end = ends.iter().map(|(at, _)| *at).max();
    let wall_s = last_end.map_or(0.0, |end| Duration::from_millis(end.ms_since(begun.at)).as_secs_f64());
    let cost = |injected: &crate::faults::InjectedFault| {
        injected.cost(begun.at, u64::from(args.lease_ms), &accounts, args.rate.is_some())
    };
    let report = Report {
        calls: args.calls,
        mode: args.mode(),
        mix: args.mix.to_string(),
        payload: args.payload(),
        seed: args.seed,
        workers: args.workers,
        slots: args.slots,
        lease_ms: args.lease_ms,
        faults: state.injected.iter().map(cost).collect(),
        late_answers: seen.other_audits.len(),
        wall_s,
        calls_per_s: f64::from(ended) / wall_s.max(0.001),
        worker_cpu_us_per_call: state.usage.cpu_us.saturating_sub(begun.cpu_us) as f64
            / f64::from(ended.max(1)),
        worker_start_cpu_us: idle.cpu_us,
        idle_kib: idle.resident_kib,
        peak_kib: state.usage.peak_kib,
        held: state.held.map(|(in_flight, usage)| Held { in_flight, resident_kib: usage.resident_kib }),
        latency,
        added,
        outcomes,
        executions: seen.executions.values().map(|n| u64::from(*n)).sum(),
        bill: traffic.as_ref().map(|traffic| Bill::of(traffic, args.calls)),
        traffic,
        series: series::of(begun.at, &ends),
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

fn progress(calls: u32) -> ProgressBar {
    // Drawn on stderr, and only if that is a terminal.
    let bar = ProgressBar::new(u64::from(calls));
    let style = "{bar:40} {pos}/{len} calls ended, {per_sec}, {elapsed}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn request(args: &RunArgs, n: u32, call: &Planned) -> anyhow::Result<CallRequest> {
    let mut request =
        RequestBuilder::tool(TENANT, call.tool.name()).call_id(&call.id).arguments(call.arguments.clone());
    if let Some(session) = n.checked_div(args.session_calls) {
        request = request.set("session", format!("load-{}-{session}", args.seed));
    }
    request.build().map_err(|e| anyhow::anyhow!("{e}"))
}
