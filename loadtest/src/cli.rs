//! Owns the command line: what may be asked for, and what is said to everything else.
//!
//! **Invariant:** arguments that passed `check` describe a load that can end within its time.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::plan::Mix;

/// Load against a fleet of worker processes; every call is verified exactly once.
#[derive(Debug, Parser)]
#[command(
    name = "toolfleet-loadtest",
    version,
    after_help = "Exit codes: 0 every call is as it should be, 1 one is not, 2 the load could not run, 130 a signal ended it"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a load, verify every call, print the figures. Exits with 1 if one call is not as it should be.
    Run(RunArgs),
    /// Print the figures of two reports and their ratios.
    Compare {
        /// The report of the first run (`run --json FILE`).
        first: PathBuf,
        /// The report of the second run.
        second: PathBuf,
    },
}

/// What to run.
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
    /// Shares of the tools: echo, counter (not safe to repeat), slow, failing, large.
    #[arg(long, default_value = "echo=70,counter=15,slow=5,failing=5,large=5")]
    pub mix: Mix,
    /// The seed of the payloads and of the order of tools.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The worker's binary; without it, the one beside this program.
    #[arg(long, value_name = "FILE")]
    pub worker_bin: Option<PathBuf>,
    /// Kill one worker with SIGKILL when so many calls have ended, and start another.
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..))]
    pub kill_after: Option<u32>,
    /// How long a claim holds, in milliseconds (a killed worker's calls wait for it).
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1_000..=600_000))]
    pub lease_ms: u32,
    /// Count the workers' requests to AWS by operation, with a proxy between them: the other figures get worse by it.
    #[arg(long)]
    pub count_requests: bool,
    /// Give up after so long (`300s`, `5m`), and list the calls that have not ended.
    #[arg(long, default_value = "300s", alias = "give-up-s", value_name = "TIME", value_parser = duration)]
    pub give_up_after: Duration,
    /// Write the report as JSON to this file.
    #[arg(long, alias = "report", value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl RunArgs {
    /// What each argument alone cannot tell: whether they fit each other.
    ///
    /// # Errors
    /// A sentence that names the argument and what is accepted.
    pub fn check(&self) -> Result<(), String> {
        if let Some(after) = self.kill_after.filter(|after| *after >= self.calls) {
            return Err(format!(
                "--kill-after {after} would kill nobody; accepted is a number from 1 to {}, less than --calls",
                self.calls.saturating_sub(1)
            ));
        }
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
        if let Some(file) = &self.json {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            if file.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
                return Err(format!(
                    "--json {} cannot be written; accepted is a file in a folder that exists",
                    file.display()
                ));
            }
        }
        Ok(())
    }
}

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
