//! The report of a run: a table for people, JSON for programs, and a comparison of two reports.
//!
//! **Invariant:** a figure that was not measured is left out.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::faults::FaultCost;
use crate::prices::Bill;
use crate::time_series::Span;
use crate::traffic::Traffic;

/// The figures of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How many calls were sent.
    pub calls: u32,
    /// A drain, or an open loop with its rate.
    pub mode: String,
    /// The shares of the tools.
    pub mix: String,
    /// How long slow tools take, and how large payloads are.
    pub payload: String,
    /// The seed of the plan.
    pub seed: u64,
    /// Worker processes.
    pub workers: u32,
    /// Calls at once in each.
    pub slots: u32,
    /// How long a claim holds, in milliseconds.
    pub lease_ms: u32,
    /// The cost of each fault.
    #[serde(default)]
    pub faults: Vec<FaultCost>,
    /// Answers that came after their claim was lost, from their audit records.
    pub late_answers: usize,
    /// From the start (a drain: the workers' start; an open loop: the first send) to the last result, in seconds.
    pub wall_s: f64,
    /// Calls that ended, divided by that time.
    pub calls_per_s: f64,
    /// User and system time of the worker processes without their start, divided by the calls that ended, in microseconds.
    pub worker_cpu_us_per_call: f64,
    /// User and system time of one worker's start and first idle second, in microseconds.
    pub worker_start_cpu_us: u64,
    /// Resident memory of an idle worker, in KiB.
    pub idle_kib: u64,
    /// The peak resident memory of any worker, in KiB.
    pub peak_kib: u64,
    /// Memory while the server held all answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// How long calls took.
    pub latency: Latency,
    /// The latency without the tools' own time: the latency of the fleet and its queue.
    pub added: Latency,
    /// Calls by outcome.
    pub outcomes: BTreeMap<String, u32>,
    /// Executions of all tools.
    pub executions: u64,
    /// The workers' requests to AWS, if they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// The cost of one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bill: Option<Bill>,
    /// Throughput and latency over time.
    pub series: Vec<Span>,
    /// How many violations the verification found.
    #[serde(alias = "problems")]
    pub violations: usize,
    /// The first violations.
    #[serde(alias = "deviations")]
    pub first_violations: Vec<String>,
    /// Whether this program is a debug build.
    pub debug_build: bool,
}

/// Memory with calls in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Calls in flight at that moment, on all workers.
    pub in_flight: u32,
    /// Resident memory of the largest worker, in KiB.
    pub resident_kib: u64,
}

/// From the intended send (an open loop, so that no late send is left out) or the send (a drain) to the stored result, in ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the usual ones")]
pub struct Latency {
    pub p50_ms: u64,
    pub p95_ms: u64,
    pub p99_ms: u64,
    pub max_ms: u64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            p50_ms: histogram.value_at_quantile(0.50),
            p95_ms: histogram.value_at_quantile(0.95),
            p99_ms: histogram.value_at_quantile(0.99),
            max_ms: histogram.max(),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50_ms, p95_ms, p99_ms, max_ms } = self;
        write!(f, "p50 {p50_ms} ms, p95 {p95_ms} ms, p99 {p99_ms} ms, max {max_ms} ms")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = if self.debug_build { " (debug build)" } else { "" };
        let held = self.held.map_or_else(String::new, |held| {
            format!(", {} with {} calls in flight", mib(held.resident_kib), held.in_flight)
        });
        let late = if self.late_answers == 0 {
            String::new()
        } else {
            format!("; {} late answers", self.late_answers)
        };
        let outcomes: Vec<_> = self.outcomes.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        let verified = match self.violations {
            0 => format!("all {} calls, exactly once", self.calls),
            n => format!("{n} VIOLATIONS"),
        };
        let lines = [
            ("calls", format!("{} ({}), {}", self.calls, self.mode, self.mix)),
            ("payload", self.payload.clone()),
            (
                "workers",
                format!("{} with {} slots, leases of {} ms", self.workers, self.slots, self.lease_ms),
            ),
            ("calls per second", format!("{:.0} in {:.2} s", self.calls_per_s, self.wall_s)),
            (
                "worker CPU per call",
                format!(
                    "{:.0} us{build}, without {:.0} ms for each start",
                    self.worker_cpu_us_per_call,
                    self.worker_start_cpu_us as f64 / 1_000.0
                ),
            ),
            ("worker memory", format!("idle {}, peak {}{held}", mib(self.idle_kib), mib(self.peak_kib))),
            (
                if self.mode.starts_with("drain") { "send to result" } else { "intended send to result" },
                self.latency.to_string(),
            ),
            ("without the tools' time", self.added.to_string()),
            ("outcomes", format!("{}; {} executions{late}", outcomes.join(", "), self.executions)),
            ("verified", verified),
        ];
        for (name, value) in lines {
            writeln!(f, "{name:<26}{value}")?;
        }
        for fault in &self.faults {
            let bound_s = f64::from(self.lease_ms) / 1_000.0 + 5.0;
            writeln!(f, "{:<26}{fault} (lease + 5 s: {bound_s:.1} s)", "fault")?;
        }
        self.write_bill(f)
    }
}

impl Report {
    /// The requests to AWS and their cost, if they were counted.
    fn write_bill(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(traffic), Some(bill)) = (&self.traffic, &self.bill) else { return Ok(()) };
        let calls = f64::from(self.calls);
        writeln!(
            f,
            "{:<26}{:>10}{:>10}{:>10}{:>12}",
            "requests to AWS", "total", "per call", "entries", "units/call"
        )?;
        for (operation, count) in &traffic.operations {
            let each = count.entries as f64 / count.requests.max(1) as f64;
            let per_call = count.requests as f64 / calls;
            let units = (count.write_units + count.read_units) / calls;
            writeln!(f, "  {operation:<24}{:>10}{per_call:>10.3}{each:>10.1}{units:>12.3}", count.requests)?;
        }
        for (place, units) in &traffic.write_units {
            writeln!(f, "  {:<44}{:>22.3}", format!("written to {place}"), units / calls)?;
        }
        writeln!(
            f,
            "{:<26}{:.2} USD for a million calls: {:.3} write units, {:.3} read units, {:.3} SQS requests a call",
            "AWS bill",
            bill.usd_per_million(),
            bill.write_units,
            bill.read_units,
            bill.sqs_requests
        )?;
        Ok(())
    }
}

impl Report {
    /// Writes it as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text).with_context(|| format!("cannot write the report to {}", file.display()))
    }

    fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not a report of `run --json`", file.display()))
    }

    /// A description of the load, to see whether two reports are comparable.
    fn load(&self) -> String {
        format!(
            "{} calls ({}), {}, {}, {} workers with {} slots{}",
            self.calls,
            self.mode,
            self.mix,
            self.payload,
            self.workers,
            self.slots,
            if self.debug_build { ", debug build" } else { "" }
        )
    }

    fn figures(&self) -> Vec<(String, f64)> {
        let mut figures: Vec<_> = [
            ("calls per second", self.calls_per_s),
            ("worker CPU us per call", self.worker_cpu_us_per_call),
            ("worker start CPU us", self.worker_start_cpu_us as f64),
            ("idle memory KiB", self.idle_kib as f64),
            ("peak memory KiB", self.peak_kib as f64),
            ("executions", self.executions as f64),
            ("late answers", self.late_answers as f64),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if let Some(held) = self.held {
            figures.push((format!("memory KiB with {} in flight", held.in_flight), held.resident_kib as f64));
        }
        for (of, latency) in [("", &self.latency), ("added ", &self.added)] {
            let Latency { p50_ms, p95_ms, p99_ms, max_ms } = latency;
            for (name, ms) in [("p50", p50_ms), ("p95", p95_ms), ("p99", p99_ms), ("max", max_ms)] {
                figures.push((format!("{of}{name} ms"), *ms as f64));
            }
        }
        for (n, fault) in (1..).zip(&self.faults) {
            let name = |what: &str| format!("fault {n} ({}) {what}", fault.kind.name());
            figures.push((name("interrupted"), f64::from(fault.interrupted)));
            figures.push((name("lasted s"), fault.lasted_s));
            figures.extend(fault.recovery_s.map(|s| (name("recovery s"), s)));
            figures.extend(fault.hidden_s.map(|s| (name("hidden s"), s)));
        }
        if let Some(bill) = &self.bill {
            figures.push(("USD per million calls".into(), bill.usd_per_million()));
            figures.push(("write units per call".into(), bill.write_units));
            figures.push(("read units per call".into(), bill.read_units));
            figures.push(("SQS requests per call".into(), bill.sqs_requests));
        }
        for (operation, count) in self.traffic.iter().flat_map(|traffic| &traffic.operations) {
            let requests = count.requests as f64;
            figures.push((format!("{operation} per call"), requests / f64::from(self.calls)));
            figures
                .push((format!("{operation} entries per request"), count.entries as f64 / requests.max(1.0)));
        }
        figures
    }
}

/// Two reports side by side, with the ratio of the second to the first.
///
/// # Errors
/// One of the files is not a report.
pub fn compare(first: &Path, second: &Path) -> anyhow::Result<String> {
    let (a, b) = (Report::read(first)?, Report::read(second)?);
    let mut table = String::new();
    writeln!(table, "first: {}\nsecond: {}", a.load(), b.load())?;
    for (report, name) in [(&a, "first"), (&b, "second")] {
        if report.violations != 0 {
            writeln!(
                table,
                "The {name} run had {} violations: its figures prove nothing.",
                report.violations
            )?;
        }
    }
    writeln!(table, "{:<40}{:>12}{:>12}{:>14}", "", "first", "second", "second/first")?;
    let theirs: BTreeMap<_, _> = b.figures().into_iter().collect();
    for (name, a) in a.figures() {
        // A figure that only one of them has is left out.
        let Some(b) = theirs.get(&name) else { continue };
        let ratio = if a == 0.0 { "-".to_owned() } else { format!("{:.2}", b / a) };
        let fine = name.ends_with(" s") || name.contains(" per ") && !name.contains("CPU");
        let places = if fine && !name.ends_with("second") { 3 } else { 0 };
        writeln!(table, "{name:<40}{a:>12.places$}{b:>12.places$}{ratio:>14}")?;
    }
    Ok(table)
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
