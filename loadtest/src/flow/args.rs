//! The arguments that all scenarios of `flow` share.

use std::path::PathBuf;

use clap::Args;

/// Arguments of every scenario.
#[derive(Debug, Clone, Args)]
pub(crate) struct CommonArgs {
    /// The seed of arrivals and of what is killed when.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The lease of a claim, in milliseconds.
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1_000..=600_000))]
    pub(crate) lease_ms: u32,
    /// The worker's binary. The default is the one in this program's folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) worker_bin: Option<PathBuf>,
    /// Fail if a goal was missed that depends on the machine, such as a ratio of waits. Without it only a broken rule fails: a lost call, a
    /// start too many.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}
