//! One tenant sends 90 % of the calls, each ten times longer than those of the others: how long do the others wait?
//!
//! The rounds alternate between the other tenants alone and together with the noisy one, so that both see the same machine.

use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_core::request::Priority;

use super::args::CommonArgs;
use super::calls::{FlowCall, Stream, together};
use super::counts::{median, quantile};
use super::report::{FlowReport, Goal};
use super::rig::{Rig, Setup, waits};
use super::server::FlowServer;

/// The server, its tool, and the noisy tenant.
const SERVER: &str = "shared";
const NOISY: &str = "noisy";
/// The noisy tenant sends nine times as much as the others together, and its calls take ten times longer.
const NOISY_TIMES_RATE: f64 = 9.0;
const NOISY_TIMES_MS: u64 = 10;
/// The noisy tenant begins so long after the others: a part of the slots is kept free only for tenants that have been seen.
const BEFORE_NOISE: Duration = Duration::from_secs(2);
/// The p99 wait of the others may be this times what it is alone.
const GOAL: f64 = 2.0;

/// Arguments of `flow noisy-tenant`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NoisyTenantArgs {
    /// How many worker processes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// How many calls of one tenant to one server each worker runs at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    /// How many tenants, the noisy one included.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    tenants: u32,
    /// Calls a second of all other tenants together; the noisy one sends nine times as many.
    #[arg(long, default_value_t = 10.0, value_name = "RATE")]
    rate: f64,
    /// How long a call of the other tenants takes, in milliseconds; those of the noisy one take ten times as long.
    #[arg(long, default_value_t = 50, value_name = "MS")]
    ms: u64,
    /// How long calls are sent in each round, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    seconds: u64,
    /// How often both are measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How much longer than at the embedded endpoints a worker's request to SQS takes to arrive, and its answer, in milliseconds. The embedded
    /// endpoints answer in less than a millisecond, which makes the wait alone shorter than SQS allows, and so the ratio larger.
    #[arg(long, default_value_t = 10, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=1_000))]
    sqs_one_way_ms: u64,
    #[command(flatten)]
    common: CommonArgs,
}

/// The waits of the other tenants in one round, in microseconds.
struct Round {
    waits: Vec<u64>,
    violations: Vec<String>,
}

pub(super) async fn run(args: &NoisyTenantArgs) -> anyhow::Result<bool> {
    let load = format!(
        "{} tenants, {} workers with {} slots; others {}/s of {} ms, noisy {}/s of {} ms, {} rounds of {} s; SQS {} ms away",
        args.tenants,
        args.workers,
        args.slots,
        args.rate,
        args.ms,
        args.rate * NOISY_TIMES_RATE,
        args.ms * NOISY_TIMES_MS,
        args.rounds,
        args.seconds,
        args.sqs_one_way_ms
    );
    let mut report = FlowReport::new("noisy-tenant", load, args.common.strict);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for n in 0..args.rounds {
        for (with_noise, of) in [(false, &mut alone), (true, &mut beside)] {
            eprintln!("round {} of {}, noisy tenant: {with_noise}", n + 1, args.rounds);
            let round = Box::pin(round(args, args.common.seed + u64::from(n), with_noise)).await?;
            report.violations.extend(round.violations);
            of.push(round.waits);
        }
    }
    let p = |rounds: &[Vec<u64>], q| -> Vec<f64> {
        rounds.iter().map(|waits| quantile(waits, q) as f64 / 1_000.0).collect()
    };
    for (name, rounds) in [("alone", &alone), ("beside the noisy tenant", &beside)] {
        report.figure(
            format!("calls of others, {name}"),
            rounds.iter().map(Vec::len).sum::<usize>() as f64,
            "",
        );
        for (label, q) in [("p50", 0.50), ("p99", 0.99), ("longest", 1.0)] {
            report.figure(format!("wait of others, {label}, {name}"), median(&p(rounds, q)), "ms");
        }
    }
    let ratios: Vec<f64> = p(&beside, 0.99)
        .iter()
        .zip(p(&alone, 0.99))
        .map(|(beside, alone)| beside / alone.max(0.001))
        .collect();
    for (n, ratio) in (1..).zip(&ratios) {
        report.figure(format!("p99 beside / alone, round {n}"), *ratio, "times");
    }
    report.goal("p99 beside / alone, median of the rounds", median(&ratios), "times", Goal::AtMost(GOAL));
    report.publish(args.common.json.as_deref())
}

async fn round(args: &NoisyTenantArgs, seed: u64, with_noise: bool) -> anyhow::Result<Round> {
    let setup = Setup {
        binary: args.common.worker_bin.as_deref(),
        workers: args.workers,
        slots: args.slots,
        lease_ms: args.common.lease_ms.max(10_000),
        sqs_one_way: Duration::from_millis(args.sqs_one_way_ms),
        ..Setup::default()
    };
    let mut rig = Rig::start(&setup, catalog).await?;
    let quiet_tenants: Vec<String> = (1..args.tenants).map(|n| format!("quiet-{n}")).collect();
    let (noisy_tenants, tools) = ([NOISY.to_owned()], [SERVER.to_owned()]);
    let length = Duration::from_secs(args.seconds);
    let quiet = Stream {
        name: "quiet",
        tenants: &quiet_tenants,
        tools: &tools,
        rate: args.rate,
        ms: args.ms,
        length: BEFORE_NOISE + length,
        priority: Priority::Normal,
    };
    let noisy = Stream {
        name: NOISY,
        tenants: &noisy_tenants,
        rate: args.rate * NOISY_TIMES_RATE,
        ms: args.ms * NOISY_TIMES_MS,
        length,
        ..quiet.clone()
    };
    let quiet = quiet.calls(seed);
    let later = |call: FlowCall| FlowCall { at: call.at + BEFORE_NOISE, ..call };
    let noise: Vec<FlowCall> =
        if with_noise { noisy.calls(seed).into_iter().map(later).collect() } else { Vec::new() };
    let all = together([quiet.clone(), noise]);
    let start_us = rig.send(&all).await?;
    // What the noisy tenant has sent beyond what the fleet can execute comes last.
    let most = Duration::from_secs(args.seconds * 4 + 60);
    let mut violations = Vec::new();
    if !rig.until_empty(most).await? {
        violations.push(format!("calls were left {} s after the last was sent", most.as_secs()));
    }
    violations.extend(rig.verify(&all, false).await?);
    if !violations.is_empty() {
        rig.keep_log();
    }
    let beside: Vec<FlowCall> = quiet.into_iter().filter(|call| call.at >= BEFORE_NOISE).collect();
    Ok(Round { waits: waits(&beside, start_us, &rig.server.executions()), violations })
}

fn catalog(server: &FlowServer) -> Value {
    json!({
        "servers": [{"id": SERVER, "url": server.url(SERVER)}],
        "tools": [{"id": SERVER, "server": SERVER, "idempotent": true}],
        "tenants": {"queue": ["*"]},
    })
}
