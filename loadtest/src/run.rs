//! One run: starts the workers, drives the load, verifies every call and reports the figures.
//!
//! **Invariant:** a run is bounded in calls and time. Its workers have ended when it returns or is dropped.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use toolfleet_client::RequestBuilder;
use toolfleet_core::request::CallRequest;

use crate::driver::{Driver, IDLE, RunState, Start, offset};
use crate::evidence::{self, Evidence, millis};
use crate::faults::InjectedFault;
use crate::plan::{Planned, plan};
use crate::prices::Bill;
use crate::report::{Held, Report};
use crate::run_args::RunArgs;
use crate::testbed::{TENANT, TestBed};
use crate::traffic::Traffic;
use crate::usage::Usage;
use crate::verify::{Violation, violations};
use crate::worker::Workers;
use crate::{plot, time_series};

/// How long reading rows and records may take after the load.
const READING: Duration = Duration::from_secs(120);
/// How many violations are listed.
const LISTED: usize = 20;

/// Runs the load and prints its report; true if no check failed.
///
/// # Errors
/// The load cannot be run, or a worker ended by itself.
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
    Ok(report.violations == 0)
}

/// Runs the load and prints violations on stderr.
pub(crate) async fn measure(args: &RunArgs) -> anyhow::Result<Report> {
    let mut testbed = TestBed::create(args).await?;
    let mut workers = Workers::new(testbed.worker(args)?);
    let done = Box::pin(load(args, &testbed, &mut workers)).await;
    drop(workers);
    let (report, found) = done.inspect_err(|_| eprintln!("{}", testbed.bed.folder.keep()))?;
    if !found.is_empty() {
        eprintln!("{} violations, the first {}:", found.len(), found.len().min(LISTED));
        for violation in found.iter().take(LISTED) {
            eprintln!("  {violation}");
        }
        eprintln!("{}", testbed.bed.folder.keep());
    }
    Ok(report)
}

/// The measurements of a load that has ended.
struct Ended {
    start: Start,
    idle: Usage,
    state: RunState,
    traffic: Option<Traffic>,
}

async fn load(
    args: &RunArgs,
    testbed: &TestBed,
    workers: &mut Workers,
) -> anyhow::Result<(Report, Vec<Violation>)> {
    let calls = plan(args.calls, &args.mix, args.seed, &args.shape());
    let requests = (0..).zip(&calls).map(|(n, call)| request(args, n, call));
    let requests = requests.collect::<anyhow::Result<Vec<_>>>()?;
    let idle = idle(args, testbed).await?;
    let bar = progress(args.calls);
    let driver = Driver { args, testbed, requests: &requests, bar: &bar, start: OnceLock::new() };
    let started_at = (testbed.bed.clock)();
    let mut state = RunState::default();
    let driven = tokio::time::timeout(args.give_up_after, driver.run(workers, idle, &mut state)).await;
    let in_time = match driven {
        Ok(driven) => driven.map(|()| true)?,
        Err(_) => false,
    };
    bar.finish_and_clear();
    if !in_time {
        state.usage = workers.usage();
    }
    workers.kill_all();
    let traffic = testbed.bed.counted();
    let start = driver.start.get().copied().unwrap_or(Start { at: started_at, cpu_us: 0 });

    let intended = |n| args.rate.map(|rate| start.at.plus_ms(millis(offset(n, rate))));
    let read = evidence::read(testbed, &calls, &requests, started_at, intended);
    let read = tokio::time::timeout(READING, read).await;
    let mut evidence = read.context("rows and records could not be read in time")??;
    evidence.observed.allowed = args.faults.allowed_anomalies();
    evidence.observed.during_load = std::mem::take(&mut state.violations);
    let mut found = violations(&calls, &evidence.observed);
    if !in_time {
        let ended = ended(args, &evidence);
        found.insert(0, Violation::not_in_time(args.give_up_after.as_secs(), ended, args.calls));
    }
    let report = report(args, Ended { start, idle, state, traffic }, evidence, &found);
    Ok((report, found))
}

fn ended(args: &RunArgs, evidence: &Evidence) -> u32 {
    u32::try_from(evidence.observed.results.len()).unwrap_or(args.calls)
}

fn report(args: &RunArgs, load: Ended, evidence: Evidence, violations: &[Violation]) -> Report {
    let ended = ended(args, &evidence);
    let Ended { start, idle, state, traffic } = load;
    let Evidence { observed, timelines, ends, latency, added } = evidence;
    let mut outcomes = BTreeMap::<String, u32>::new();
    for end in observed.results.values() {
        *outcomes.entry(end.kind.to_string()).or_default() += 1;
    }
    let last_end = ends.iter().map(|(at, _)| *at).max();
    let wall_s = last_end.map_or(0.0, |end| Duration::from_millis(end.ms_since(start.at)).as_secs_f64());
    let cost = |fault: &InjectedFault| {
        fault.cost(start.at, u64::from(args.lease_ms), &timelines, args.rate.is_some())
    };
    let cpu_us = state.usage.cpu_us.saturating_sub(start.cpu_us);
    Report {
        calls: args.calls,
        mode: args.mode(),
        mix: args.mix.to_string(),
        payload: args.payload(),
        seed: args.seed,
        workers: args.workers,
        slots: args.slots,
        lease_ms: args.lease_ms,
        faults: state.faults.iter().map(cost).collect(),
        late_answers: observed.other_audits.len(),
        wall_s,
        calls_per_s: f64::from(ended) / wall_s.max(0.001),
        worker_cpu_us_per_call: cpu_us as f64 / f64::from(ended.max(1)),
        worker_start_cpu_us: idle.cpu_us,
        idle_kib: idle.resident_kib,
        peak_kib: state.usage.peak_kib,
        held: state.held.map(|(in_flight, usage)| Held { in_flight, resident_kib: usage.resident_kib }),
        latency,
        added,
        outcomes,
        executions: observed.executions.values().map(|n| u64::from(*n)).sum(),
        bill: traffic.as_ref().map(|traffic| Bill::of(traffic, args.calls)),
        traffic,
        series: time_series::of(start.at, &ends),
        violations: violations.len(),
        first_violations: violations.iter().take(LISTED).map(Violation::to_string).collect(),
        debug_build: cfg!(debug_assertions),
    }
}

/// The usage of an idle worker, its start included, measured on a queue that stays empty.
async fn idle(args: &RunArgs, testbed: &TestBed) -> anyhow::Result<Usage> {
    let mut alone = Workers::new(testbed.idle_worker(args)?);
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
