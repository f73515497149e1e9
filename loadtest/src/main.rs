//! `toolfleet-loadtest`: puts calls on a queue, lets worker processes execute them, verifies every call once, reports.
//!
//! Calls either all wait in the queue before the workers start (a drain), or arrive at a given rate whether or not the
//! workers keep up (an open loop: a late send counts as latency).
//!
//! **Invariant:** a figure is reported only beside the verification of every call that it was measured on.

mod drive;
mod plan;
mod report;
mod server;
mod verify;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::plan::Mix;

/// Load against a fleet of worker processes; every call is verified exactly once.
#[derive(Debug, Parser)]
#[command(name = "toolfleet-loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a load, verify every call, print the figures. Exits with 1 if one call is not as it should be.
    Run(RunArgs),
    /// Print the figures of two reports and their ratios.
    Compare {
        /// The report of the first run (`run --report FILE`).
        first: PathBuf,
        /// The report of the second run.
        second: PathBuf,
    },
}

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RunArgs {
    /// How many calls.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) calls: u32,
    /// Calls a second, whether or not the workers keep up; without it all calls are queued before the workers start.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: Option<u32>,
    /// How many worker processes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) workers: u32,
    /// How many calls each worker runs at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) slots: u32,
    /// Shares of the tools: echo, counter (not safe to repeat), slow, failing, large.
    #[arg(long, default_value = "echo=70,counter=15,slow=5,failing=5,large=5")]
    pub(crate) mix: Mix,
    /// The seed of the payloads and of the order of tools.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The worker's binary; without it, the one beside this program.
    #[arg(long)]
    pub(crate) worker_bin: Option<PathBuf>,
    /// Kill one worker with SIGKILL when so many calls have ended, and start another.
    #[arg(long)]
    pub(crate) kill_after: Option<u32>,
    /// How long a claim holds, in milliseconds (a killed worker's calls wait for it).
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1_000..=600_000))]
    pub(crate) lease_ms: u32,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 300)]
    pub(crate) give_up_s: u64,
    /// Write the report as JSON to this file.
    #[arg(long)]
    pub(crate) report: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => drive::run(&args).await,
        Command::Compare { first, second } => report::compare(&first, &second).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("toolfleet-loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}
