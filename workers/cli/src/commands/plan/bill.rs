//! What a fleet costs in a month, by item.
//!
//! What a call writes and reads is measured (`docs/reference/performance.md`); the batches of SQS requests are an estimate.

use super::places::fargate;
use super::usage::Usage;

/// Seconds of a month.
const MONTH_S: f64 = 730.0 * 3_600.0;
/// Results above this size, in bytes, go to the bucket, as workers do by default.
const IN_BUCKET: f64 = 9.0 * 1024.0;
/// A row and a record without the result, in bytes.
const ROW_BYTES: f64 = 700.0;
/// How long rows and records are kept, in seconds.
const KEPT_S: f64 = 60.0 * 86_400.0;
/// How often a call that runs renews its claim, in seconds: a third of the lease.
const HEARTBEAT_S: f64 = 10.0;
/// What one partition of a table writes, in units a second, half of what DynamoDB allows: a tenant's hour of history is one for each shard.
const SHARD_UNITS: f64 = 500.0;
/// Messages in flight that one queue allows.
const QUEUE_IN_FLIGHT: f64 = 120_000.0;
/// How often a worker without calls asks a queue, and reports its row, in a second.
const IDLE_POLLS: f64 = 1.0 / 20.0;
const REPORTS: f64 = 1.0 / 5.0;

/// One line of the bill.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) name: &'static str,
    /// What it is made of.
    pub(super) of: String,
    /// USD in a month.
    pub(super) usd: f64,
}

fn units(bytes: f64, of: f64) -> f64 {
    (bytes / of).ceil().max(1.0)
}

/// The bill of a month.
pub(super) fn bill(usage: &Usage) -> Vec<Item> {
    let prices = &usage.prices;
    let calls = usage.rate * MONTH_S / 1e6;
    let workers = f64::from(usage.workers);
    let in_bucket = usage.result_bytes > IN_BUCKET;
    let inline = if in_bucket { 0.0 } else { usage.result_bytes };

    // A worker that keeps up receives what has come within a few milliseconds.
    let batch = (usage.rate / workers * 0.005).clamp(1.0, 10.0);
    let per_call = 2.0_f64.mul_add(1.0 / batch, 1.0) * units(usage.request_bytes, 65_536.0);
    let idle = workers * f64::from(usage.queues) * IDLE_POLLS * MONTH_S / 1e6;
    let sqs = per_call.mul_add(calls, idle);

    let result_units = units(ROW_BYTES + inline, 1024.0);
    let session = if usage.sessions { 1.0 } else { 0.0 };
    let heartbeats = (usage.mean_s / HEARTBEAT_S).floor();
    let writes_of_call = (1.0 - usage.claimless) + heartbeats + result_units + 1.0 + session;
    let writes = writes_of_call.mul_add(calls, 2.0 * workers * REPORTS * MONTH_S / 1e6);
    let reads_of_call = usage.polls * units(ROW_BYTES + inline, 4096.0);
    let reads = reads_of_call.mul_add(calls, workers * 0.5 * MONTH_S / 2.0 / 1e6);
    let kept_gb = usage.rate * KEPT_S * (2.0_f64.mul_add(ROW_BYTES, inline)) / 1e9;

    let mut items = vec![
        Item {
            name: "SQS requests",
            of: format!("{per_call:.2} a call, and {idle:.1} million idle polls"),
            usd: sqs * prices.sqs_million_requests,
        },
        Item {
            name: "DynamoDB writes",
            of: format!("{writes_of_call:.1} units a call"),
            usd: writes * prices.dynamodb_million_write_units,
        },
        Item {
            name: "DynamoDB reads",
            of: format!("{reads_of_call:.1} units a call"),
            usd: reads * prices.dynamodb_million_read_units,
        },
        Item {
            name: "DynamoDB storage",
            of: format!("{kept_gb:.1} GB in 60 days"),
            usd: kept_gb * prices.dynamodb_gb_month,
        },
    ];
    if in_bucket {
        let gb = usage.rate * KEPT_S * usage.result_bytes / 1e9;
        let usd = calls * usage.polls.min(1.0).mul_add(prices.s3_million_gets, prices.s3_million_puts)
            + gb * prices.s3_gb_month;
        items.push(Item { name: "S3", of: format!("each result, {gb:.0} GB in 60 days"), usd });
    }
    items.push(Item {
        name: "Fargate, ARM",
        of: format!("{} workers of {} vCPU and {} GB", usage.workers, usage.vcpu, usage.memory_gb),
        usd: fargate(usage, usage.workers),
    });
    items
}

/// The partitions over which an hour of a tenant's history has to be spread (`TOOLFLEET_HISTORY_SHARDS`), if one tenant sends all calls.
pub(super) fn history_shards(peak: f64) -> f64 {
    // A record is one unit, and is written once.
    (peak / SHARD_UNITS).ceil().max(1.0)
}

/// The queues of calls, each with a fleet of its own, for so many messages in flight.
pub(super) fn queues_of_calls(in_flight: f64) -> f64 {
    (in_flight / QUEUE_IN_FLIGHT).ceil().max(1.0)
}

/// The size of a result, in bytes, above which S3 costs less than the row, by whole steps of 256 bytes.
pub(super) fn bucket_pays_above(usage: &Usage) -> f64 {
    let prices = &usage.prices;
    // USD for a million calls.
    let kept_gb = |bytes: f64| bytes / 1e9 * 1e6 * (KEPT_S / MONTH_S);
    let row = |bytes: f64| {
        let (writes, reads) = (units(ROW_BYTES + bytes, 1024.0), units(ROW_BYTES + bytes, 4096.0));
        writes.mul_add(
            prices.dynamodb_million_write_units,
            usage.polls * reads * prices.dynamodb_million_read_units,
        ) + kept_gb(bytes) * prices.dynamodb_gb_month
    };
    let bucket = |bytes: f64| {
        row(0.0)
            + usage.polls.min(1.0).mul_add(prices.s3_million_gets, prices.s3_million_puts)
            + kept_gb(bytes) * prices.s3_gb_month
    };
    let sizes = (1..1_600).map(|step| f64::from(step) * 256.0);
    sizes.clone().find(|bytes| bucket(*bytes) < row(*bytes)).unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::super::prices::Prices;
    use super::*;

    fn usage() -> Usage {
        Usage {
            rate: 1e6 / MONTH_S,
            mean_s: 1.0,
            workers: 1,
            vcpu: 1.0,
            memory_gb: 2.0,
            queues: 1,
            request_bytes: 1_000.0,
            result_bytes: 200.0,
            polls: 1.0,
            sessions: false,
            claimless: 0.0,
            prices: Prices::default(),
        }
    }

    fn item(usage: &Usage, name: &str) -> f64 {
        bill(usage).into_iter().find(|item| item.name == name).map_or(0.0, |item| item.usd)
    }

    #[test]
    fn a_million_calls_a_month_cost_what_the_price_lists_say() {
        // Three requests a call, and 0.13 million idle polls; three units a call, and about 1.05 million of the worker's row.
        assert!((item(&usage(), "SQS requests") - 1.25).abs() < 0.02, "{:?}", bill(&usage()));
        assert!((item(&usage(), "DynamoDB writes") - 2.53).abs() < 0.02, "{:?}", bill(&usage()));
        assert!((item(&usage(), "Fargate, ARM") - 28.83).abs() < 0.02, "{:?}", bill(&usage()));
    }

    #[test]
    fn a_large_result_is_paid_in_the_bucket() {
        let large = Usage { result_bytes: 50_000.0, ..usage() };
        assert!(item(&large, "S3") > 5.0 && item(&usage(), "S3") == 0.0);
        assert!((item(&large, "DynamoDB writes") - item(&usage(), "DynamoDB writes")).abs() < 0.01);
    }

    /// By the bill itself, with the size at which results go to the bucket moved there.
    #[test]
    fn the_bucket_pays_where_the_bill_says_so() {
        for polls in [0.0, 1.0, 3.0] {
            let usage = Usage { polls, ..usage() };
            let pays = bucket_pays_above(&usage);
            assert!((3_000.0..9_000.0).contains(&pays), "{polls}: {pays}");
        }
        let inline = |bytes: f64| {
            bill(&Usage { result_bytes: bytes, ..usage() }).iter().map(|item| item.usd).sum::<f64>()
        };
        assert!(inline(9_216.0) > inline(9_217.0), "above the size that pays, the bucket is cheaper");
    }

    #[test]
    fn shards_and_queues_follow_what_one_of_them_takes() {
        assert_eq!([1.0, 500.0, 501.0, 2_000.0].map(history_shards), [1.0, 1.0, 2.0, 4.0]);
        assert_eq!([10.0, 120_000.0, 120_001.0].map(queues_of_calls), [1.0, 1.0, 2.0]);
    }

    #[test]
    fn a_long_call_renews_its_claim() {
        let long = Usage { mean_s: 40.0, ..usage() };
        let more = item(&long, "DynamoDB writes") - item(&usage(), "DynamoDB writes");
        assert!((more - 4.0 * usage().prices.dynamodb_million_write_units).abs() < 0.01, "{more}");
    }

    #[test]
    fn calls_without_a_claim_and_without_a_session_write_less() {
        let writes = |usage: Usage| item(&usage, "DynamoDB writes");
        assert!(writes(Usage { claimless: 1.0, ..usage() }) < writes(usage()));
        assert!(writes(Usage { sessions: true, ..usage() }) > writes(usage()));
    }
}
