//! The arguments of `chaos`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::account::Kind;
use super::plan::Shape;

/// Arguments of `chaos`.
#[derive(Debug, Clone, Args)]
pub struct ChaosArgs {
    /// The seed of the calls, the faults and what the servers do. Give the one of a failed run to get the same plan.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// For how long calls are sent and faults come, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=7_200))]
    pub(super) seconds: u64,
    /// How many calls are sent.
    #[arg(long, default_value_t = 2_400, value_parser = clap::value_parser!(u32).range(100..=5_000_000))]
    pub(super) calls: u32,
    /// How many worker processes.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub(super) workers: u32,
    /// How many calls of one tenant to one server each worker runs at once.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) slots: u32,
    /// The lease of a claim, in milliseconds.
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1_000..=600_000))]
    pub(super) lease_ms: u32,
    /// From a call's sending to its deadline, in milliseconds; some calls have less.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(5_000..=3_600_000))]
    pub(super) timeout_ms: u64,
    /// How long calls may take to end after the last fault, in seconds.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(10..=7_200))]
    pub(super) settle: u64,
    /// What the workers log beside warnings, as a filter such as toolfleet_worker=info. The log is kept if a rule was broken.
    #[arg(long, value_name = "FILTER")]
    pub(super) log: Option<String>,
    /// Change what was seen so that this rule is broken. The run must fail: it shows that such a violation is found.
    #[arg(long, value_enum, value_name = "RULE")]
    pub(super) plant: Option<Kind>,
    /// The worker's binary. The default is the one in this program's folder.
    #[arg(long, value_name = "FILE")]
    pub(super) worker_bin: Option<PathBuf>,
    /// Write the account as JSON to this file, with every id of both sets.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
}

impl ChaosArgs {
    /// What the plan is made of.
    pub(super) const fn shape(&self) -> Shape {
        Shape { calls: self.calls, length: Duration::from_secs(self.seconds), timeout_ms: self.timeout_ms }
    }
}
