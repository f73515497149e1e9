//! Owns the report of a run: a table for people, JSON for programs, and two reports side by side.
//!
//! **Invariant:** a figure that was not measured is left out, not invented.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// The figures of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) calls: u32,
    pub(crate) mode: String,
    pub(crate) workers: u32,
    pub(crate) slots: u32,
    pub(crate) killed: bool,
    pub(crate) wall_s: f64,
    pub(crate) calls_per_s: f64,
    /// User and system time of the worker processes, in microseconds.
    pub(crate) worker_cpu_us_per_call: f64,
    /// Resident memory of an idle worker, in KiB; 0 in a drain, which has none.
    pub(crate) idle_kib: u64,
    pub(crate) peak_kib: u64,
    pub(crate) latency: Latency,
    pub(crate) problems: usize,
    pub(crate) debug_build: bool,
}

/// From the intended send to the stored result, the tool's own time included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: u64,
    pub(crate) p95_ms: u64,
    pub(crate) p99_ms: u64,
    pub(crate) max_ms: u64,
}

impl Report {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let idle = if self.idle_kib == 0 { "not measured in a drain".to_owned() } else { mib(self.idle_kib) };
        let l = &self.latency;
        vec![
            ("calls", format!("{} ({})", self.calls, self.mode)),
            (
                "workers",
                format!(
                    "{} with {} slots{}",
                    self.workers,
                    self.slots,
                    if self.killed { ", one killed" } else { "" }
                ),
            ),
            ("calls per second", format!("{:.0} in {:.1} s", self.calls_per_s, self.wall_s)),
            (
                "worker CPU per call",
                format!(
                    "{:.0} us{}",
                    self.worker_cpu_us_per_call,
                    if self.debug_build { " (debug build)" } else { "" }
                ),
            ),
            ("worker memory", format!("peak {}, idle {idle}", mib(self.peak_kib))),
            (
                "intended send to result",
                format!("p50 {} ms, p95 {} ms, p99 {} ms, max {} ms", l.p50_ms, l.p95_ms, l.p99_ms, l.max_ms),
            ),
            (
                "verified",
                format!(
                    "{} of {} calls",
                    self.calls as usize - self.problems.min(self.calls as usize),
                    self.calls
                ),
            ),
        ]
    }

    pub(crate) fn print(&self) {
        for (name, value) in self.lines() {
            println!("{name:<24}{value}");
        }
    }

    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text).with_context(|| format!("cannot write the report to {}", file.display()))
    }

    fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not a report of `run --report`", file.display()))
    }
}

/// Prints two reports side by side, with the ratio of the first to the second.
pub(crate) fn compare(first: &Path, second: &Path) -> anyhow::Result<()> {
    let (a, b) = (Report::read(first)?, Report::read(second)?);
    println!("{:<24}{:>12}{:>12}{:>10}", "", "first", "second", "ratio");
    let rows = [
        ("calls per second", a.calls_per_s, b.calls_per_s),
        ("worker CPU us per call", a.worker_cpu_us_per_call, b.worker_cpu_us_per_call),
        ("peak memory KiB", a.peak_kib as f64, b.peak_kib as f64),
        ("p50 ms", a.latency.p50_ms as f64, b.latency.p50_ms as f64),
        ("p99 ms", a.latency.p99_ms as f64, b.latency.p99_ms as f64),
    ];
    for (name, a, b) in rows {
        println!("{name:<24}{a:>12.0}{b:>12.0}{:>10.2}", if b == 0.0 { f64::NAN } else { a / b });
    }
    Ok(())
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
