//! High priority under a flood of low: how long do calls of high priority take, and how much does low priority keep?
//!
//! The rounds alternate between calls of high priority alone and beside a backlog of low ones that is never empty. At the end all three
//! queues have a backlog: then low priority must keep its part of the slots.

use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_core::request::Priority;

use super::args::CommonArgs;
use super::calls::{FlowCall, Stream, backlog};
use super::counts::{busy_between, median, quantile};
use super::report::{FlowReport, Goal};
use super::rig::{Rig, Setup, latencies, send_all, waits};
use super::server::{Execution, FlowServer};

const SERVER: &str = "shared";
const TENANT: &str = "load";
/// A call of high priority takes at most this times what it takes alone.
const GOAL: f64 = 1.5;
/// The share of the slot time that low priority keeps beside full queues of high and normal priority.
const LOW_KEEPS: f64 = 0.05;
/// The flood has filled the slots after this time, and the workers have seen calls of high priority. What was sent before is not counted: slots are
/// kept free only for priorities that have been seen.
const FILL: Duration = Duration::from_secs(2);
/// A backlog is this times what all slots can execute in its time.
const BACKLOG: f64 = 1.5;
/// What each queue gets of the slots while all three have a backlog.
const SHARES: [(Priority, f64); 3] =
    [(Priority::High, 12.0 / 17.0), (Priority::Normal, 4.0 / 17.0), (Priority::Low, 1.0 / 17.0)];

/// Arguments of `flow priority`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PriorityArgs {
    /// How many worker processes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// How many calls each worker runs at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    /// Calls of high priority a second.
    #[arg(long, default_value_t = 10.0, value_name = "RATE")]
    rate: f64,
    /// How long a call of high priority takes, in milliseconds.
    #[arg(long, default_value_t = 100, value_name = "MS")]
    ms: u64,
    /// How long a call of the flood takes, in milliseconds.
    #[arg(long, default_value_t = 500, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    flood_ms: u64,
    /// How long calls of high priority are sent in each round, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=3_600))]
    seconds: u64,
    /// How often both are measured.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[command(flatten)]
    common: CommonArgs,
}

/// What calls of high priority took in one round, in microseconds.
struct Round {
    latencies: Vec<u64>,
    waits: Vec<u64>,
}

pub(super) async fn run(args: &PriorityArgs) -> anyhow::Result<bool> {
    let load = format!(
        "{} workers with {} slots; high {}/s of {} ms, a backlog of low calls of {} ms, {} rounds of {} s",
        args.workers, args.slots, args.rate, args.ms, args.flood_ms, args.rounds, args.seconds
    );
    let mut report = FlowReport::new("priority", load, args.common.strict);
    let (mut alone, mut flooded) = (Vec::new(), Vec::new());
    for n in 0..args.rounds {
        for (flood, of) in [(false, &mut alone), (true, &mut flooded)] {
            eprintln!("round {} of {}, flood: {flood}", n + 1, args.rounds);
            of.push(round(args, &mut report, u64::from(n), flood).await?);
        }
    }
    compare(&mut report, &alone, &flooded);
    eprintln!("all queues full");
    shares(args, &mut report).await?;
    report.publish(args.common.json.as_deref())
}

/// The figures of calls of high priority, alone and beside the flood.
fn compare(report: &mut FlowReport, alone: &[Round], flooded: &[Round]) {
    let p = |rounds: &[Round], q, of: fn(&Round) -> &Vec<u64>| {
        median(&rounds.iter().map(|round| quantile(of(round), q) as f64 / 1_000.0).collect::<Vec<_>>())
    };
    for (label, q) in [("p50", 0.5), ("p99", 0.99)] {
        for (what, of) in
            [("wait", (|round| &round.waits) as fn(&Round) -> &Vec<u64>), ("time", |round| &round.latencies)]
        {
            let (alone, flooded) = (p(alone, q, of), p(flooded, q, of));
            report.figure(format!("{what} of high priority, {label}, alone"), alone, "ms");
            report.figure(format!("{what} of high priority, {label}, under the flood"), flooded, "ms");
            let (name, ratio) =
                (format!("{what} of high priority, {label}, ratio"), flooded / alone.max(0.001));
            match what {
                "time" => report.goal(name, ratio, "times", Goal::AtMost(GOAL)),
                _ => report.figure(name, ratio, "times"),
            }
        }
    }
}

async fn start(args: &PriorityArgs) -> anyhow::Result<Rig> {
    let setup = Setup {
        binary: args.common.worker_bin.as_deref(),
        workers: args.workers,
        slots: args.slots,
        lease_ms: args.common.lease_ms.max(10_000),
        priority_queues: true,
        ..Setup::default()
    };
    Rig::start(&setup, catalog).await
}

async fn round(
    args: &PriorityArgs,
    report: &mut FlowReport,
    seed: u64,
    flood: bool,
) -> anyhow::Result<Round> {
    let mut rig = start(args).await?;
    let (tenants, tools) = ([TENANT.to_owned()], [SERVER.to_owned()]);
    let high = Stream {
        name: "high",
        tenants: &tenants,
        tools: &tools,
        rate: args.rate,
        ms: args.ms,
        length: FILL + Duration::from_secs(args.seconds),
        priority: Priority::High,
    };
    let high = high.calls(args.common.seed + seed);
    let mut all = Vec::new();
    if flood {
        let seconds = args.seconds as f64 + FILL.as_secs_f64();
        all = backlog("low", possible(args, seconds), &flood_call(args, Priority::Low));
        send_all(&rig.bed.client, &all).await?;
    }
    let from_us = rig.send(&high).await?;
    let executions = rig.server.executions();
    if flood {
        let left = all.len().saturating_sub(executions.iter().filter(|e| e.call.starts_with("low")).count());
        report.rule(
            "low calls not started when the last high one was sent",
            left as f64,
            "",
            Goal::AtLeast(1.0),
        );
    }
    all.extend(high.iter().cloned());
    until_ended(&mut rig, report, &all, args.seconds).await?;
    let executions = rig.server.executions();
    let (first, counted): (Vec<_>, Vec<_>) = high.into_iter().partition(|call| call.at < FILL);
    if flood {
        let longest = quantile(&waits(&first, from_us, &executions), 1.0) as f64 / 1_000.0;
        report.figure("longest wait of high priority while the flood begins", longest, "ms");
    }
    let (latencies, waits) =
        (latencies(&counted, from_us, &executions), waits(&counted, from_us, &executions));
    Ok(Round { latencies, waits })
}

/// Waits for the calls and adds what was wrong with them.
async fn until_ended(
    rig: &mut Rig,
    report: &mut FlowReport,
    calls: &[FlowCall],
    seconds: u64,
) -> anyhow::Result<()> {
    let most = Duration::from_secs(seconds * 4 + 60);
    let before = report.violations.len();
    if !rig.until_empty(most).await? {
        report.violations.push(format!("calls were left {} s after the last was sent", most.as_secs()));
    }
    report.violations.extend(rig.verify(calls, false).await?);
    if report.violations.len() > before {
        rig.keep_log();
    }
    Ok(())
}

/// All three queues have a backlog: the share of the slot time that each gets.
async fn shares(args: &PriorityArgs, report: &mut FlowReport) -> anyhow::Result<()> {
    let mut rig = start(args).await?;
    let mut all = Vec::new();
    for (priority, share) in SHARES {
        let n = f64::from(possible(args, args.seconds as f64)) * share;
        // Low and normal priority keep a backlog until the last call of high priority.
        let n = if priority == Priority::High { n } else { n * BACKLOG };
        all.extend(backlog(priority.as_str(), whole(n), &flood_call(args, priority)));
    }
    send_all(&rig.bed.client, &all).await?;
    until_ended(&mut rig, report, &all, args.seconds).await?;
    for (priority, share, planned) in shares_of(&rig.server.executions()) {
        let name = format!("slot time of priority {priority}, all queues full");
        if priority == Priority::Low {
            report.goal(name, share, "of all", Goal::AtLeast(LOW_KEEPS));
            report.rule(
                "calls of low priority started beside full queues",
                share,
                "of all",
                Goal::AtLeast(0.001),
            );
        } else {
            report.figure(format!("{name} (by weight {planned:.3})"), share, "of all");
        }
    }
    Ok(())
}

/// The share of the slot time of each priority while all three had a backlog: from the first second to the last start of high priority.
fn shares_of(executions: &[Execution]) -> Vec<(Priority, f64, f64)> {
    let of = |priority: Priority| {
        let name = priority.as_str();
        executions.iter().filter(move |e| e.call.split('-').next() == Some(name))
    };
    let from = executions.iter().map(|e| e.at_us).min().unwrap_or(0) + 1_000_000;
    let to =
        SHARES.iter().filter_map(|(priority, _)| of(*priority).map(|e| e.at_us).max()).min().unwrap_or(0);
    let busy = |priority| {
        let spans: Vec<_> = of(priority).map(|e| e.span(to)).collect();
        busy_between(&spans, from, to) as f64
    };
    let all: f64 = SHARES.iter().map(|(priority, _)| busy(*priority)).sum();
    SHARES.iter().map(|(priority, planned)| (*priority, busy(*priority) / all.max(1.0), *planned)).collect()
}

/// How many calls of the flood all slots can execute in that time, and half as many more.
fn possible(args: &PriorityArgs, seconds: f64) -> u32 {
    let slots = f64::from(args.workers) * f64::from(args.slots);
    whole(slots * seconds * 1_000.0 / args.flood_ms as f64 * BACKLOG)
}

/// A number of calls, one at least.
fn whole(calls: f64) -> u32 {
    Duration::try_from_secs_f64(calls).ok().and_then(|n| u32::try_from(n.as_secs()).ok()).unwrap_or(1).max(1)
}

fn flood_call(args: &PriorityArgs, priority: Priority) -> FlowCall {
    FlowCall {
        id: String::new(),
        tenant: TENANT.to_owned(),
        tool: SERVER.to_owned(),
        ms: args.flood_ms,
        at: Duration::ZERO,
        priority,
    }
}

fn catalog(server: &FlowServer) -> Value {
    json!({
        "servers": [{"id": SERVER, "url": server.url(SERVER)}],
        "tools": [{"id": SERVER, "server": SERVER, "idempotent": true}],
        "tenants": {"queue": ["*"]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(call: &str, at_ms: u64, ms: u64) -> Execution {
        let (at_us, end_us) = (at_ms * 1_000, Some((at_ms + ms) * 1_000));
        Execution { call: call.into(), server: SERVER.into(), at_us, end_us, abandoned: false }
    }

    #[test]
    fn shares_are_counted_while_every_queue_has_a_backlog() {
        let mut executions = vec![execution("normal-0", 0, 1)];
        executions.extend((0..10).map(|n| execution(&format!("high-{n}"), 1_000 + n * 100, 90)));
        executions.extend((0..10).map(|n| execution(&format!("low-{n}"), 1_000 + n * 100, 10)));
        executions.push(execution("normal-1", 1_900, 1));
        // High priority has no backlog any more: this is not counted.
        executions.push(execution("low-99", 1_900, 5_000));
        let shares = shares_of(&executions);
        let share = |n: usize| (shares[n].1 * 1_000.0).round();
        assert_eq!([share(0), share(1), share(2)], [900.0, 0.0, 100.0]);
    }

    #[test]
    fn a_slow_high_call_misses_the_goal_by_its_time_and_not_by_its_wait() {
        let round = |wait, time| Round { waits: vec![wait], latencies: vec![time] };
        let mut report = FlowReport::new("priority", String::new(), true);
        compare(&mut report, &[round(10_000, 110_000)], &[round(30_000, 130_000)]);
        assert!(report.violations.is_empty(), "{:?}", report.violations);
        compare(&mut report, &[round(10_000, 110_000)], &[round(100_000, 200_000)]);
        assert_eq!(report.violations.len(), 2, "p50 and p99: {:?}", report.violations);
    }
}
