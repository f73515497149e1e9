//! Workers without calls: how many requests do they send to SQS and DynamoDB, and what does that cost?
//!
//! Counted at the endpoints: the polls, the control table every two seconds, the workers' rows, and the summary of the one that aggregates. Each kind
//! of request has a most, so that a service that asks more often is found. Rollups are written only of
//! minutes with calls.

use std::path::Path;
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
/// What workers without calls ask of DynamoDB in a second: each of them, and the one that aggregates beside it. A worker reads the version of the
/// control table every 2 s and the summary every 5 s, writes its row every 5 s, and reads the whole control table every 30 s. The one that aggregates
/// renews its lease, reads the 16 shards of rows and writes the summary every 5 s.
const BACKGROUND: [(&str, f64, f64); 4] =
    [("GetItem", 0.7, 0.0), ("PutItem", 0.2, 0.0), ("Query", 0.1, 3.2), ("UpdateItem", 0.0, 0.4)];
/// A count may be this part larger, and so many requests, since a beat does not begin with the measurement.
const LARGER: f64 = 1.1;
const REQUESTS_MORE: f64 = 4.0;
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
    let CommonArgs { worker_bin, json, .. } = &args.common;
    let report = measure(worker_bin.as_deref(), args.workers, args.seconds).await?;
    report.publish(json.as_deref())
}

/// The report of that many workers without calls.
pub(crate) async fn measure(binary: Option<&Path>, workers: u32, seconds: u64) -> anyhow::Result<FlowReport> {
    let setup = Setup { binary, workers, slots: 64, lease_ms: 30_000, counted: true, ..Setup::default() };
    let mut rig = Rig::start(&setup, |server| {
        json!({
            "servers": [{"id": "s", "url": server.url("s")}],
            "tools": [{"id": "s", "server": "s"}],
            "tenants": {"queue": ["*"]},
        })
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    rig.workers.check()?;
    let traffic = rig.bed.counted().unwrap_or_default();
    let load = format!("{workers} workers without calls, {seconds} s");
    Ok(report(load, &traffic, workers, seconds as f64))
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
    for (operation, of_each, of_fleet) in BACKGROUND {
        let requests = traffic.operations.get(operation).map_or(0, |count| count.requests);
        let expected = f64::from(workers).mul_add(of_each, of_fleet) * seconds;
        let name = format!("{operation}, all workers");
        report.rule(
            name,
            requests as f64,
            "requests",
            Goal::AtMost(expected.mul_add(LARGER, REQUESTS_MORE).floor()),
        );
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
    fn a_service_that_asks_dynamodb_more_often_is_found() {
        let traffic = |reads, puts, queries, updates| {
            let counts = [("GetItem", reads), ("PutItem", puts), ("Query", queries), ("UpdateItem", updates)];
            let count = |requests| Count { requests, ..Count::default() };
            let operations = counts.map(|(name, requests)| (name.to_owned(), count(requests))).into();
            Traffic { operations, ..Traffic::default() }
        };
        // Ten workers in 30 s: control 15 each, the summary 6, a row 6; 16 shards, a lease and a summary six times.
        let found = |traffic| report(String::new(), &traffic, 10, 30.0).violations;
        assert!(found(traffic(210, 60, 96 + 10, 12)).is_empty());
        for more in
            [traffic(420, 0, 0, 0), traffic(0, 120, 0, 0), traffic(0, 0, 240, 0), traffic(0, 0, 0, 24)]
        {
            assert_eq!(found(more).len(), 1);
        }
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
