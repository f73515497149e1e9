//! Workers without calls: how many requests do they send to SQS and DynamoDB, and what does that cost?

use std::time::Duration;

use serde_json::json;

use super::args::CommonArgs;
use super::report::{FlowReport, Goal};
use super::rig::{Rig, Setup};
use crate::prices::Bill;
use crate::traffic::{Count, Traffic};

/// The most requests to SQS of an idle worker with one queue in 90 s.
const SQS_GOAL: f64 = 8.0;
const SQS_GOAL_S: f64 = 90.0;
/// Hours of a month of 30 days.
const HOURS_A_MONTH: f64 = 720.0;

/// Arguments of `flow idle`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct IdleArgs {
    /// How many worker processes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// For how long requests are counted, in seconds.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    seconds: u64,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) async fn run(args: &IdleArgs) -> anyhow::Result<bool> {
    let setup = Setup {
        binary: args.common.worker_bin.as_deref(),
        workers: args.workers,
        slots: 64,
        lease_ms: args.common.lease_ms,
        silent: &[],
        counted: true,
        priority_queues: false,
        environment: &[],
    };
    let mut rig = Rig::start(&setup, |server| {
        json!({
            "servers": [{"id": "s", "url": server.url("s")}],
            "tools": [{"id": "s", "server": "s"}],
            "tenants": {"queue": ["*"]},
        })
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    rig.workers.check()?;
    let traffic = rig.bed.counted().unwrap_or_default();
    let load = format!("{} workers without calls, {} s", args.workers, args.seconds);
    let report = report(load, &traffic, args.workers, args.seconds as f64);
    report.publish(args.common.json.as_deref())
}

/// The figures of each worker.
fn report(load: String, traffic: &Traffic, workers: u32, seconds: f64) -> FlowReport {
    let mut report = FlowReport::new("idle", load, true);
    let worker_s = f64::from(workers) * seconds;
    for (operation, count) in &traffic.operations {
        let Count { requests, read_units, write_units, .. } = *count;
        let each = requests as f64 * SQS_GOAL_S / worker_s;
        report.figure(format!("{operation}, a worker in {SQS_GOAL_S} s"), each, "requests");
        for (units, what) in [(read_units, "read units"), (write_units, "write units")] {
            if units > 0.0 {
                report.figure(format!("{operation}, a worker in a second"), units / worker_s, what);
            }
        }
    }
    for (place, units) in &traffic.write_units {
        report.figure(format!("written to {place}, a worker in a second"), units / worker_s, "write units");
    }
    let all = traffic.total();
    let to_sqs = all.billed as f64 * SQS_GOAL_S / worker_s;
    report.rule("SQS, a worker in 90 s", to_sqs, "requests", Goal::AtMost(SQS_GOAL));
    // A million times what a worker uses in a second, as the price list counts.
    let second = Bill {
        write_units: all.write_units / worker_s,
        read_units: all.read_units / worker_s,
        sqs_requests: all.billed as f64 / worker_s,
    };
    let month = second.usd_per_million() * 3_600.0 * HOURS_A_MONTH / 1_000_000.0;
    report.figure("an idle worker in a month of 30 days", month, "USD");
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_polls_too_often_is_found() {
        let mut traffic = Traffic::default();
        let receives = Count { requests: 16, billed: 16, ..Count::default() };
        traffic.operations.insert("ReceiveMessage".into(), receives);
        assert!(report(String::new(), &traffic, 2, 90.0).violations.is_empty());
        let found = report(String::new(), &traffic, 1, 90.0).violations;
        assert_eq!(found, ["SQS, a worker in 90 s: 16 requests, and it must be at most 8"]);
    }

    #[test]
    fn the_month_of_a_worker_has_the_price_of_its_reads() {
        let mut traffic = Traffic::default();
        let reads = Count { requests: 45, read_units: 22.5, ..Count::default() };
        traffic.operations.insert("GetItem".into(), reads);
        let month = report(String::new(), &traffic, 1, 90.0).figures.pop().unwrap();
        // A quarter of a read unit in a second: 648,000 in a month, for 0.125 USD a million.
        assert!((month.value - 0.081).abs() < 1e-9, "{month:?}");
    }
}
