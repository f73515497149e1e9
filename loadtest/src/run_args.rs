//! The arguments of `run`.
//!
//! **Invariant:** arguments that passed `check` describe a load that can end within its time limit.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::distribution::Distribution;
use crate::faults::{FaultKind, FaultPlan};
use crate::payload::Shape;
use crate::plan::Mix;

/// Arguments of `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// How many calls.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub calls: u32,
    /// Calls a second, whether or not the workers keep up; without it all calls are queued before the workers start.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: Option<u32>,
    /// How many worker processes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,
    /// How many calls each worker runs at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub slots: u32,
    /// Shares of the tools: echo, counter (not safe to repeat), slow, failing, large, huge (nearly 16 MiB), payment (slow and not
    /// safe to repeat),
    /// flaky (fails the first time), busy (asks for a pause the first time).
    #[arg(long, default_value = "echo=70,counter=15,slow=5,failing=5,large=5")]
    pub mix: Mix,
    /// How long slow tools take: a time in ms, lognormal:MEDIAN_MS:SIGMA, or growing percentiles in ms.
    #[arg(long, default_value_t = Distribution::default(), value_name = "TIMES")]
    pub slow: Distribution,
    /// Pad arguments to about that many bytes.
    #[arg(long, default_value_t = 0, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(..=200_000))]
    pub argument_bytes: u32,
    /// Let every tool answer with about that many bytes, which compress like lists of records.
    #[arg(long, default_value_t = 0, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub result_bytes: u32,
    /// Calls of one session; 0 gives calls no session.
    #[arg(long, default_value_t = 0, value_name = "CALLS")]
    pub session_calls: u32,
    /// Let the server hold every answer until all slots are busy (or all calls are in flight), and measure memory then.
    #[arg(long)]
    pub hold: bool,
    /// Send every call a second time when all have ended, and count the requests of the second time only.
    #[arg(long)]
    pub resend: bool,
    /// The seed of the payloads and of the order of tools.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The worker's binary. The default is the one in this program's folder.
    #[arg(long, value_name = "FILE")]
    pub worker_bin: Option<PathBuf>,
    /// Faults to inject: kill (SIGKILL to a worker), term (SIGTERM to a worker, which drains), stop (SIGSTOP to a worker until its
    /// leases have expired), endpoints (SIGKILL to queues and tables). Each after a number of ended calls, such as
    /// kill@50,term@80, or spread evenly.
    #[arg(long, default_value = "", value_name = "FAULTS", hide_default_value = true)]
    pub faults: FaultPlan,
    /// The lease of a claim, in milliseconds. Calls of a killed worker wait until it expires.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1_000..=600_000))]
    pub lease_ms: u32,
    /// Count the workers' requests to AWS by operation. The proxy that counts makes the other figures worse.
    #[arg(long)]
    pub count_requests: bool,
    /// Draw throughput and latencies over time as SVG to this file.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Give up after that time (`300s`, `5m`), and list the calls that have not ended.
    #[arg(long, default_value = "300s", alias = "give-up-s", value_name = "TIME", value_parser = duration)]
    pub give_up_after: Duration,
    /// Write the report as JSON to this file.
    #[arg(long, alias = "report", value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl RunArgs {
    /// The arguments of `run` when none is given.
    pub(crate) fn standard() -> anyhow::Result<Self> {
        #[derive(Parser)]
        struct Run {
            #[command(flatten)]
            args: RunArgs,
        }
        Ok(Run::try_parse_from(["run"])?.args)
    }

    /// Checks arguments against each other.
    ///
    /// # Errors
    /// A sentence that names the argument and what is accepted.
    pub fn check(&self) -> Result<(), String> {
        if let Some((kind, at)) =
            self.faults.schedule(self.calls).into_iter().find(|(_, at)| *at >= self.calls)
        {
            return Err(format!(
                "--faults {}@{at} would come after all calls; accepted is a number from 1 to {}, less than --calls",
                kind.name(),
                self.calls.saturating_sub(1)
            ));
        }
        if self.hold && self.rate.is_some() {
            return Err("--hold fills all slots at once; accepted is a drain, without --rate".into());
        }
        if self.resend && (self.rate.is_some() || self.faults != FaultPlan::default()) {
            return Err(
                "--resend counts duplicates alone; accepted is a drain, without --rate and --faults".into()
            );
        }
        if self.count_requests && self.faults.contains(FaultKind::Endpoints) {
            return Err(
                "--count-requests needs endpoints that stay; accepted is a load without --faults endpoints"
                    .into(),
            );
        }
        self.check_duration()?;
        self.check_files()
    }

    fn check_duration(&self) -> Result<(), String> {
        if let Some(rate) = self.rate {
            let sending_s = u64::from(self.calls.div_ceil(rate));
            let most_s = self.give_up_after.as_secs();
            if sending_s >= most_s {
                return Err(format!(
                    "sending {} calls at --rate {rate} takes {sending_s} s, and --give-up-after is {most_s} s; \
                     accepted is a rate or a number of calls that takes less, or a longer --give-up-after",
                    self.calls
                ));
            }
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), String> {
        for (option, file) in [("--json", &self.json), ("--plot", &self.plot)] {
            let Some(file) = file else { continue };
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            if file.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
                return Err(format!(
                    "{option} {} cannot be written; accepted is a file in a folder that exists",
                    file.display()
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn shape(&self) -> Shape {
        let bytes = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        Shape {
            slow: self.slow.clone(),
            argument_bytes: bytes(self.argument_bytes),
            result_bytes: bytes(self.result_bytes),
        }
    }

    /// How many calls are in flight when the server holds all it gets.
    pub(crate) fn held(&self) -> u32 {
        self.calls.min(self.workers.saturating_mul(self.slots))
    }

    /// How long a stopped worker keeps its claims, in milliseconds: the lease and the allowed clock skew.
    pub(crate) fn lease_and_skew_ms(&self) -> u64 {
        u64::from(self.lease_ms) + CLOCK_SKEW_MS
    }

    /// How calls arrive and which faults are injected, for the report.
    pub(crate) fn mode(&self) -> String {
        let mut mode =
            self.rate.map_or_else(|| "drain".to_owned(), |rate| format!("open loop, {rate} calls/s"));
        for (is, word) in [(self.hold, ", held"), (self.resend, ", each sent twice")] {
            if is {
                mode.push_str(word);
            }
        }
        if self.faults != FaultPlan::default() {
            mode.push_str(&format!(", {}", self.faults));
        }
        mode
    }

    /// The sizes of payloads, for the report.
    pub(crate) fn payload(&self) -> String {
        let size = |bytes| if bytes == 0 { "set by the tool".to_owned() } else { format!("{bytes} bytes") };
        format!(
            "slow {} ms, arguments {}, results {}, {} calls a session",
            self.slow,
            size(self.argument_bytes),
            size(self.result_bytes),
            self.session_calls
        )
    }
}

/// The allowed difference between the workers' clocks, in milliseconds. On one machine there is one clock.
pub(crate) const CLOCK_SKEW_MS: u64 = 500;

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit_s) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let seconds = number.trim().parse::<u64>().ok().and_then(|n| n.checked_mul(unit_s));
    match seconds {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        Some(_) | None => Err("accepted is a time from 1s to 1440m, such as 300s or 5m".into()),
    }
}
