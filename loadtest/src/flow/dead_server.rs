//! One dead server among many: do the others keep their throughput?
//!
//! The rounds alternate between a fleet whose servers all answer and one with a dead server. A round is a drain: the same calls, all in
//! the queue before the workers start on them, and the throughput is that of the other servers' calls until 95 % of them have ended: the last
//! ones do not fill the slots. Calls last long enough for slots, and not the CPU, to limit the throughput.

use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_core::request::Priority;

use super::args::CommonArgs;
use super::calls::FlowCall;
use super::counts::{median, quantile};
use super::report::{FlowReport, Goal};
use super::rig::{Rig, Setup, send_all, violations};
use super::server::FlowServer;

/// The others keep this share of their throughput.
const GOAL: f64 = 0.95;
/// The part of the calls that is measured.
const MEASURED: f64 = 0.95;
/// The name of the server that dies.
const DEAD: &str = "s-0";
const TENANT: &str = "load";

/// How a server is dead. A silent one costs more: its first calls hold slots until a second has passed without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Death {
    /// It accepts connections and answers nothing.
    Silent,
    /// Nothing listens at its port.
    Refused,
}

/// Arguments of `flow dead-server`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DeadServerArgs {
    /// How many worker processes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// How many calls of one tenant to one server each worker runs at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    /// How many servers, the dead one included.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    servers: u32,
    /// How many calls each server gets in a round.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    calls: u32,
    /// How long a call takes, in milliseconds.
    #[arg(long, default_value_t = 250, value_name = "MS")]
    ms: u64,
    /// How the server is dead.
    #[arg(long, value_enum, default_value = "refused")]
    dead: Death,
    /// How long an attempt may take, in milliseconds.
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    timeout_ms: u64,
    /// How often both are measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[command(flatten)]
    common: CommonArgs,
}

struct Round {
    /// Calls a second of the other servers.
    throughput: f64,
    violations: Vec<String>,
}

pub(super) async fn run(args: &DeadServerArgs) -> anyhow::Result<bool> {
    let load = format!(
        "{} servers with {} calls of {} ms each, {} workers with {} slots, attempts of {} ms, dead: {:?}, {} rounds",
        args.servers, args.calls, args.ms, args.workers, args.slots, args.timeout_ms, args.dead, args.rounds
    );
    let mut report = FlowReport::new("dead-server", load, args.common.strict);
    let (mut all_alive, mut one_dead) = (Vec::new(), Vec::new());
    for n in 0..args.rounds {
        for (dead, of) in [(false, &mut all_alive), (true, &mut one_dead)] {
            eprintln!("round {} of {}, dead server: {dead}", n + 1, args.rounds);
            let round = round(args, u64::from(n), dead).await?;
            report.violations.extend(round.violations);
            of.push(round.throughput);
        }
    }
    let ratios: Vec<f64> = one_dead.iter().zip(&all_alive).map(|(dead, alive)| dead / alive).collect();
    report.figure("calls of the others, all servers alive", median(&all_alive), "a second");
    report.figure("calls of the others, one server dead", median(&one_dead), "a second");
    for (n, ratio) in (1..).zip(&ratios) {
        report.figure(format!("throughput kept, round {n}"), *ratio, "of it");
    }
    report.goal("throughput kept, median of the rounds", median(&ratios), "of it", Goal::AtLeast(GOAL));
    report.publish(args.common.json.as_deref())
}

async fn round(args: &DeadServerArgs, n: u64, dead: bool) -> anyhow::Result<Round> {
    let setup = Setup {
        binary: args.common.worker_bin.as_deref(),
        workers: args.workers,
        slots: args.slots,
        lease_ms: args.common.lease_ms.max(10_000),
        silent: if dead && args.dead == Death::Silent { &[DEAD] } else { &[] },
        ..Setup::default()
    };
    let refused = if dead && args.dead == Death::Refused { Some(unused_url().await?) } else { None };
    let mut rig = Rig::start(&setup, |server| catalog(args, server, refused.as_deref())).await?;
    let calls = calls(args, n);
    let others: Vec<FlowCall> = calls.iter().filter(|call| call.tool != DEAD).cloned().collect();
    send_all(&rig.bed.client, &calls).await?;
    // The dead server's calls are held until their deadline; the round ends when those of the others have.
    let ended = until_executed(&mut rig, others.len()).await?;
    let executions: Vec<_> = rig.server.executions().into_iter().filter(|e| e.server != DEAD).collect();
    let first = executions.first().map_or(0, |execution| execution.at_us);
    let ends: Vec<u64> = executions.iter().filter_map(|execution| execution.end_us).collect();
    let seconds = quantile(&ends, MEASURED).saturating_sub(first) as f64 / 1_000_000.0;
    let mut found = Vec::new();
    if ended {
        let outcomes = rig.outcomes(&others).await?;
        found.extend(violations(&others, &outcomes, &executions, false));
    } else {
        found.push(format!(
            "{} of {} calls of the others were executed in time",
            executions.len(),
            others.len()
        ));
    }
    if !found.is_empty() {
        rig.keep_log();
    }
    Ok(Round { throughput: others.len() as f64 * MEASURED / seconds.max(0.001), violations: found })
}

/// The calls of a round, the servers by turns.
fn calls(args: &DeadServerArgs, round: u64) -> Vec<FlowCall> {
    let turn = |n: u32| (0..args.servers).map(move |server| (n, server));
    let call = |(n, server): (u32, u32)| FlowCall {
        id: format!("dead-{round}-{server}-{n}"),
        tenant: TENANT.to_owned(),
        tool: format!("s-{server}"),
        ms: args.ms,
        at: Duration::ZERO,
        priority: Priority::Normal,
    };
    (0..args.calls).flat_map(turn).map(call).collect()
}

/// Waits until that many calls of the others have ended at their servers, and gives the workers time to store their results.
async fn until_executed(rig: &mut Rig, calls: usize) -> anyhow::Result<bool> {
    const MOST: u32 = 6_000;
    for _ in 0..MOST {
        let executions = rig.server.executions();
        if executions.iter().filter(|e| e.server != DEAD && e.end_us.is_some()).count() >= calls {
            tokio::time::sleep(Duration::from_secs(2)).await;
            return Ok(true);
        }
        rig.workers.check()?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(false)
}

/// A URL at which nothing listens.
async fn unused_url() -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    Ok(format!("http://{}/mcp", listener.local_addr()?))
}

fn catalog(args: &DeadServerArgs, server: &FlowServer, dead_url: Option<&str>) -> Value {
    let names: Vec<String> = (0..args.servers).map(|n| format!("s-{n}")).collect();
    let url = |name: &str| match dead_url {
        Some(url) if name == DEAD => url.to_owned(),
        Some(_) | None => server.url(name),
    };
    let servers: Vec<_> = names.iter().map(|name| json!({"id": name, "url": url(name)})).collect();
    let tool = |name: &String| json!({"id": name, "server": name, "idempotent": true, "timeout_ms": args.timeout_ms});
    json!({
        "servers": servers,
        "tools": names.iter().map(tool).collect::<Vec<_>>(),
        "tenants": {"queue": ["*"]},
    })
}
