//! What a fleet costs in a month, by item.
//!
//! Prices: on demand, us-east-1, from the public price lists of AWS as of November 2026, without free tiers, data transfer, logs and metrics.
//! What a call writes and reads is measured (`docs/reference/performance.md`); the batches of SQS requests are an estimate.

/// Seconds of a month.
const MONTH_S: f64 = 730.0 * 3_600.0;
/// USD for a million requests to SQS, of 64 KiB at most each.
const SQS: f64 = 0.40;
/// USD for a million write request units, and read request units.
const WRITES: f64 = 0.625;
const READS: f64 = 0.125;
/// USD for a GB of a table, and of a bucket, in a month.
const TABLE_GB: f64 = 0.25;
const BUCKET_GB: f64 = 0.023;
/// USD for a million objects stored, and read.
const PUTS: f64 = 5.0;
const GETS: f64 = 0.40;
/// USD for an hour of a vCPU and of a GB on Fargate, ARM.
const VCPU_HOUR: f64 = 0.032_38;
const GB_HOUR: f64 = 0.003_56;
/// USD for a GB-second of Lambda, ARM, and for a million invocations.
const LAMBDA_GB_S: f64 = 0.000_013_333_4;
const LAMBDA_REQUESTS: f64 = 0.20;
/// Results above this size, in bytes, go to the bucket, as workers do by default.
const IN_BUCKET: f64 = 9.0 * 1024.0;
/// A row and a record without the result, in bytes.
const ROW_BYTES: f64 = 700.0;
/// How long rows and records are kept, in seconds.
const KEPT_S: f64 = 60.0 * 86_400.0;
/// How often a call that runs renews its claim, in seconds: a third of the lease.
const HEARTBEAT_S: f64 = 10.0;
/// How often a worker without calls asks a queue, and reports its row, in a second.
const IDLE_POLLS: f64 = 1.0 / 20.0;
const REPORTS: f64 = 1.0 / 5.0;

/// What is paid for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Calls a second, on average over the month.
    pub(super) rate: f64,
    /// How long a call holds its slot, in seconds.
    pub(super) mean_s: f64,
    pub(super) workers: u32,
    /// vCPU and GB of a worker.
    pub(super) vcpu: f64,
    pub(super) memory_gb: f64,
    pub(super) queues: u32,
    pub(super) request_bytes: f64,
    pub(super) result_bytes: f64,
    /// How often a caller reads the row of a call.
    pub(super) polls: f64,
    /// Whether calls are in sessions.
    pub(super) sessions: bool,
    /// Which part of the calls is executed without a claim.
    pub(super) claimless: f64,
}

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
            usd: sqs * SQS,
        },
        Item {
            name: "DynamoDB writes",
            of: format!("{writes_of_call:.1} units a call"),
            usd: writes * WRITES,
        },
        Item { name: "DynamoDB reads", of: format!("{reads_of_call:.1} units a call"), usd: reads * READS },
        Item { name: "DynamoDB storage", of: format!("{kept_gb:.1} GB in 60 days"), usd: kept_gb * TABLE_GB },
    ];
    if in_bucket {
        let gb = usage.rate * KEPT_S * usage.result_bytes / 1e9;
        let usd = calls * usage.polls.min(1.0).mul_add(GETS, PUTS) + gb * BUCKET_GB;
        items.push(Item { name: "S3", of: format!("each result, {gb:.0} GB in 60 days"), usd });
    }
    let hour = usage.vcpu.mul_add(VCPU_HOUR, usage.memory_gb * GB_HOUR);
    items.push(Item {
        name: "Fargate, ARM",
        of: format!("{} workers of {} vCPU and {} GB", usage.workers, usage.vcpu, usage.memory_gb),
        usd: workers * hour * 730.0,
    });
    items
}

/// The rate of calls below which a Lambda function for each call costs less than these workers, where a call takes so long.
pub(super) fn lambda_pays_below(usage: &Usage, mean_s: f64) -> f64 {
    let hour = usage.vcpu.mul_add(VCPU_HOUR, usage.memory_gb * GB_HOUR);
    // A function of 256 MB waits for its tool as a worker's slot does.
    let of_call = (mean_s * 0.25).mul_add(LAMBDA_GB_S, LAMBDA_REQUESTS / 1e6);
    f64::from(usage.workers) * hour / 3_600.0 / of_call
}

/// The size of a result, in bytes, above which S3 costs less than the row, by whole steps of 256 bytes.
pub(super) fn bucket_pays_above(usage: &Usage) -> f64 {
    // USD for a million calls.
    let kept_gb = |bytes: f64| bytes / 1e9 * 1e6 * (KEPT_S / MONTH_S);
    let row = |bytes: f64| {
        let (writes, reads) = (units(ROW_BYTES + bytes, 1024.0), units(ROW_BYTES + bytes, 4096.0));
        writes.mul_add(WRITES, usage.polls * reads * READS) + kept_gb(bytes) * TABLE_GB
    };
    let bucket =
        |bytes: f64| row(0.0) + usage.polls.min(1.0).mul_add(GETS, PUTS) + kept_gb(bytes) * BUCKET_GB;
    let sizes = (1..1_600).map(|step| f64::from(step) * 256.0);
    sizes.clone().find(|bytes| bucket(*bytes) < row(*bytes)).unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
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
    fn a_long_call_renews_its_claim() {
        let long = Usage { mean_s: 40.0, ..usage() };
        let more = item(&long, "DynamoDB writes") - item(&usage(), "DynamoDB writes");
        assert!((more - 4.0 * WRITES).abs() < 0.01, "{more}");
    }

    #[test]
    fn calls_without_a_claim_and_without_a_session_write_less() {
        let writes = |usage: Usage| item(&usage, "DynamoDB writes");
        assert!(writes(Usage { claimless: 1.0, ..usage() }) < writes(usage()));
        assert!(writes(Usage { sessions: true, ..usage() }) > writes(usage()));
    }
}
