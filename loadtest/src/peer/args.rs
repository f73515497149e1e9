//! The arguments of `peer`.

use std::path::PathBuf;

/// Arguments of `peer`.
#[derive(Debug, Clone, clap::Args)]
pub struct PeerArgs {
    /// Rounds of each worker.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// For how long calls are sent at each rate, in seconds.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Calls of a drain.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub drain_calls: u32,
    /// Rates in calls a second, beside 30 % of the plain worker's drain.
    #[arg(long, default_value = "400,100,30", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rates: Vec<u32>,
    /// How many calls a worker runs at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub slots: u32,
    /// Let all calls belong to one session.
    #[arg(long)]
    pub session: bool,
    /// Print and check counts only: executions, results, requests, write units. For short runs on busy machines.
    #[arg(long)]
    pub counts_only: bool,
    /// The worker's binary. The default is the one in this program's folder.
    #[arg(long, value_name = "FILE")]
    pub worker_bin: Option<PathBuf>,
    /// The plain worker's binary. The default is the one in this program's folder.
    #[arg(long, value_name = "FILE")]
    pub peer_bin: Option<PathBuf>,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
