//! The command `bill`: runs each kind of call by itself, counts its requests and units, and computes the cost of a million calls.
//!
//! Every kind is a load of its own on its own endpoints, and verified like any other load. Some kinds need other calls beside them (the
//! breaker would stop calls to a server that only fails): such a kind is the rare one of a mix, and the cost of the others is deducted.
//!
//! A worker also sends requests without calls. They are in the counts of every load, and measured alone at the end.
//!
//! **Invariant:** a bill is printed only with the result of the verification.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;
use crate::flow::idle;
use crate::plan::{Mix, plan};
use crate::prices::{Bill, READ_UNITS, SQS_REQUESTS, WRITE_UNITS};
use crate::report::Report;
use crate::run::measure;
use crate::run_args::RunArgs;
use crate::tool::Tool;

/// How many leases a slow call takes: a minute with the default lease of 30 s, and as many heartbeats with any other lease.
const SLOW_LEASES: u32 = 2;

/// Arguments of `bill`.
#[derive(Debug, Clone, clap::Args)]
pub struct BillArgs {
    /// How many calls of each kind.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub calls: u32,
    /// Calls a second; without it all calls are queued before the workers start, so that batches are full.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: Option<u32>,
    /// The lease of a claim, in milliseconds; a slow call takes two leases.
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1_000..=60_000))]
    pub lease_ms: u32,
    /// The size of arguments, in bytes.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub argument_bytes: u32,
    /// How many calls belong to one session; 0 gives none a session.
    #[arg(long, default_value_t = 20)]
    pub session_calls: u32,
    /// For how long the requests of a worker without calls are counted, in seconds; 0 leaves it out.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub idle_seconds: u64,
    /// The worker's binary. The default is the one in this program's folder.
    #[arg(long, value_name = "FILE")]
    pub worker_bin: Option<PathBuf>,
    /// Write the bills as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A kind of call.
struct Kind {
    name: &'static str,
    mix: &'static str,
    /// The tool to compute the bill of, if the mix has others.
    rare: Option<Tool>,
    result_bytes: u32,
    resend: bool,
}

const KINDS: [Kind; 7] = [
    Kind { name: "fast, small result", mix: "echo=1", rare: None, result_bytes: 200, resend: false },
    Kind { name: "fast, result of 2 KB", mix: "echo=1", rare: None, result_bytes: 2_048, resend: false },
    Kind { name: "the tool fails", mix: "failing=1", rare: None, result_bytes: 200, resend: false },
    Kind { name: "slow: two leases", mix: "slow=1", rare: None, result_bytes: 200, resend: false },
    Kind {
        name: "retried at once",
        mix: "echo=6,flaky=1",
        rare: Some(Tool::Flaky),
        result_bytes: 200,
        resend: false,
    },
    Kind {
        name: "retried later",
        mix: "echo=6,busy=1",
        rare: Some(Tool::Busy),
        result_bytes: 200,
        resend: false,
    },
    Kind { name: "a duplicate of an ended call", mix: "echo=1", rare: None, result_bytes: 200, resend: true },
];

/// The bill of one kind of call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The kind.
    pub kind: String,
    /// The bill of one call.
    pub bill: Bill,
    /// USD for a million of them.
    pub usd_per_million: f64,
    /// Entries in a request, by operation.
    pub batches: BTreeMap<String, f64>,
    /// Write units of a call by table and index; for a rare kind those of its mix.
    pub write_units: BTreeMap<String, f64>,
    /// Violations that the verification found.
    pub violations: usize,
}

/// The bills of all kinds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bills {
    /// A description of the load.
    pub load: String,
    /// One for each kind.
    pub lines: Vec<Line>,
}

/// Runs every kind and prints the bills; true if no check failed.
///
/// # Errors
/// A load cannot be run.
pub async fn run(args: &BillArgs) -> anyhow::Result<bool> {
    let mut lines = Vec::new();
    let mut fast = Bill::default();
    for (n, kind) in (1..).zip(&KINDS) {
        eprintln!("{n} of {}: {}", KINDS.len(), kind.name);
        let load = load(args, kind)?;
        let report = Box::pin(measure(&load)).await?;
        let line = line(kind, &load, &report, &fast)?;
        if n == 1 {
            fast = line.bill;
        }
        lines.push(line);
    }
    let rate = args.rate.map_or_else(|| "drain".to_owned(), |rate| format!("{rate} calls/s"));
    let load = format!(
        "{} calls each ({rate}), arguments of {} bytes, {} calls a session, leases of {} ms",
        args.calls, args.argument_bytes, args.session_calls, args.lease_ms
    );
    let bills = Bills { load, lines };
    print!("{bills}");
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&bills)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(bills.is_verified() && idle_is_as_expected(args).await?)
}

/// Prints what a worker costs whether or not calls come; false if it sends more requests than it should.
async fn idle_is_as_expected(args: &BillArgs) -> anyhow::Result<bool> {
    if args.idle_seconds == 0 {
        return Ok(true);
    }
    let report = Box::pin(idle::measure(args.worker_bin.as_deref(), 1, args.idle_seconds)).await?;
    report.publish(None)
}

impl Bills {
    /// Whether no check failed in any of the loads.
    pub fn is_verified(&self) -> bool {
        self.lines.iter().all(|line| line.violations == 0)
    }
}

fn load(args: &BillArgs, kind: &Kind) -> anyhow::Result<RunArgs> {
    let mix: Mix = kind.mix.parse().map_err(anyhow::Error::msg)?;
    let slow_ms = args.lease_ms * SLOW_LEASES;
    let slow = kind.mix.starts_with("slow");
    // All slow calls run at once.
    let slots = if slow { args.calls.min(10_000) } else { 64 };
    let load = RunArgs {
        calls: args.calls,
        rate: args.rate.filter(|_| !kind.resend),
        slots,
        mix,
        slow: Distribution::Fixed(slow_ms),
        argument_bytes: args.argument_bytes,
        result_bytes: kind.result_bytes,
        session_calls: args.session_calls,
        resend: kind.resend,
        worker_bin: args.worker_bin.clone(),
        lease_ms: args.lease_ms,
        count_requests: true,
        ..RunArgs::standard()?
    };
    load.check().map_err(anyhow::Error::msg)?;
    Ok(load)
}

fn line(kind: &Kind, load: &RunArgs, report: &Report, fast: &Bill) -> anyhow::Result<Line> {
    let traffic = report.traffic.as_ref().context("nothing was counted")?;
    let mixed = Bill::of(traffic, load.calls);
    let bill = match kind.rare {
        None => mixed,
        Some(tool) => {
            let calls = plan(load.calls, &load.mix, load.seed, &load.shape());
            let rare = calls.iter().filter(|call| call.tool == tool).count();
            mixed.without(fast, rare as f64 / f64::from(load.calls))
        }
    };
    let calls = f64::from(load.calls);
    let batches = traffic
        .operations
        .iter()
        .map(|(operation, count)| (operation.clone(), count.entries as f64 / count.requests.max(1) as f64));
    Ok(Line {
        kind: kind.name.to_owned(),
        bill,
        usd_per_million: bill.usd_per_million(),
        batches: batches.collect(),
        write_units: traffic
            .write_units
            .iter()
            .map(|(place, units)| (place.clone(), units / calls))
            .collect(),
        violations: report.violations,
    })
}

impl fmt::Display for Bills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.load)?;
        writeln!(
            f,
            "{:<30}{:>12}{:>12}{:>12}{:>14}  entries in a write, delete, receive",
            "one call", "write units", "read units", "SQS", "USD/million"
        )?;
        for Line { kind, bill, usd_per_million, batches, violations, .. } in &self.lines {
            let entries =
                ["BatchExecuteStatement", "DeleteMessageBatch", "ReceiveMessage"].map(|operation| {
                    batches.get(operation).map_or_else(|| "-".to_owned(), |n| format!("{n:.1}"))
                });
            let mut row = String::new();
            write!(row, "{kind:<30}{:>12.3}{:>12.3}", bill.write_units, bill.read_units)?;
            write!(row, "{:>12.3}{usd_per_million:>14.2}  {}", bill.sqs_requests, entries.join(", "))?;
            if *violations > 0 {
                write!(row, "  {violations} VIOLATIONS")?;
            }
            writeln!(f, "{row}")?;
        }
        writeln!(
            f,
            "Prices in USD: {WRITE_UNITS} a million write units, {READ_UNITS} read units, {SQS_REQUESTS} SQS requests (on demand, \
             us-east-1). Not included, for the sender: {:.2} for sends in batches of ten, {SQS_REQUESTS:.2} for single sends; a \
             read of a row of up to 4 KB {READ_UNITS:.3}.",
            SQS_REQUESTS / 10.0
        )
    }
}
