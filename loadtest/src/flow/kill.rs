//! Kill -9 of a worker: how long until other workers execute its calls again?
//!
//! A killed worker's claims hold until their lease and the clock skew have passed; SQS hides its messages for as long.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_core::request::Priority;

use super::args::CommonArgs;
use super::calls::FlowCall;
use super::counts::quantile;
use super::freed_permits;
use super::report::{FlowReport, Goal};
use super::rig::{Rig, Setup, send_all};
use super::server::{Execution, FlowServer};

const SERVER: &str = "shared";
const TENANT: &str = "load";
/// Beyond the lease, from a kill to the redelivered call.
const BEYOND_LEASE_MS: f64 = 5_000.0;

/// Arguments of `flow kill`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct KillArgs {
    /// How many worker processes; half of them are killed.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=64))]
    workers: u32,
    /// How many calls each worker runs at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    /// How long a call takes, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    ms: u64,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) async fn run(args: &KillArgs) -> anyhow::Result<bool> {
    let kills = args.workers / 2;
    let load = format!(
        "{} workers with {} slots, {kills} of them killed with all slots busy, calls of {} ms, leases of {} ms",
        args.workers, args.slots, args.ms, args.common.lease_ms
    );
    let mut report = FlowReport::new("kill", load, args.common.strict);
    redelivery(args, &mut report).await?;
    freed_permits::measure(&args.common, args.slots, &mut report).await?;
    report.publish(args.common.json.as_deref())
}

/// Kills half of the workers while all slots are busy, and measures when the calls are executed again.
async fn redelivery(args: &KillArgs, report: &mut FlowReport) -> anyhow::Result<()> {
    let setup = Setup {
        binary: args.common.worker_bin.as_deref(),
        workers: args.workers,
        slots: args.slots,
        lease_ms: args.common.lease_ms,
        ..Setup::default()
    };
    let mut rig = Rig::start(&setup, catalog).await?;
    let calls: Vec<_> = (0..args.workers * args.slots)
        .map(|n| FlowCall {
            id: format!("kill-{n}"),
            tenant: TENANT.to_owned(),
            tool: SERVER.to_owned(),
            ms: args.ms,
            at: Duration::ZERO,
            priority: Priority::Normal,
        })
        .collect();
    send_all(&rig.bed.client, &calls).await?;
    rig.until_open(calls.len() / 2).await?;
    let killed_at_us = rig.server.now_us();
    for _ in 0..args.workers / 2 {
        rig.kill(0)?;
    }
    let most = Duration::from_millis(u64::from(args.common.lease_ms) * 4) + Duration::from_secs(60);
    if !rig.until_empty(most).await? {
        report.violations.push("calls were left after the kill".to_owned());
    }
    report.violations.extend(rig.verify(&calls, true).await?);
    let executions = rig.server.executions();
    let abandoned = executions.iter().filter(|e| e.abandoned).count();
    let again = again_after(&executions, killed_at_us);
    report.figure("calls that the killed workers had at the server", abandoned as f64, "");
    report.figure("of them executed again", again.len() as f64, "");
    for (label, q) in [("p50", 0.5), ("last", 1.0)] {
        let ms = quantile(&again, q) as f64 / 1_000.0;
        let name = format!("from kill -9 to the redelivered call, {label}");
        let lease_ms = f64::from(args.common.lease_ms);
        report.goal(name, ms, "ms", Goal::AtMost(lease_ms + BEYOND_LEASE_MS));
    }
    if again.is_empty() {
        report.violations.push("no call was under way when the workers were killed".to_owned());
    }
    if !report.violations.is_empty() {
        rig.keep_log();
    }
    Ok(())
}

/// For each call that was abandoned: how long after `killed_at_us` it was executed again, in microseconds.
fn again_after(executions: &[Execution], killed_at_us: u64) -> Vec<u64> {
    let abandoned: HashSet<&str> =
        executions.iter().filter(|e| e.abandoned).map(|e| e.call.as_str()).collect();
    let mut first_after: HashMap<&str, u64> = HashMap::new();
    let later = executions.iter().filter(|e| e.at_us > killed_at_us && abandoned.contains(e.call.as_str()));
    for execution in later {
        first_after.entry(&execution.call).or_insert(execution.at_us - killed_at_us);
    }
    first_after.into_values().collect()
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

    #[test]
    fn only_calls_whose_caller_hung_up_are_redelivered_ones() {
        let execution = |call: &str, at_us, abandoned| Execution {
            call: call.into(),
            server: SERVER.into(),
            at_us,
            end_us: Some(at_us + 1),
            abandoned,
        };
        let executions = [
            execution("of the killed", 10, true),
            execution("of another", 11, false),
            execution("of another", 90, false),
            execution("of the killed", 100, false),
            execution("of the killed", 200, false),
        ];
        assert_eq!(again_after(&executions, 50), [50]);
    }
}
