//! What `toolfleet plan` is asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use toolfleet_config::settings::number;
use toolfleet_core::limits::RateLimit;

use super::demand::Part;
use crate::span_of_time::parse_span;

/// What the fleet has to do.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The rate of calls on average, for example 200/s.
    #[arg(long, value_name = "RATE", required_unless_present_any = ["from_history", "print_prices"])]
    pub(super) rate: Option<RateLimit>,
    /// What a kind of calls takes at its tools: its share, the median and the 95th percentile, for example 60:300ms:1s. May be repeated.
    #[arg(long = "calls", value_name = "SHARE:P50[:P95]", required_unless_present_any = ["from_history", "print_prices"])]
    pub(super) parts: Vec<Part>,
    /// Take rate and latencies from what the fleet has counted within that time, for example 7d.
    #[arg(long, value_name = "SPAN", value_parser = parse_span, conflicts_with_all = ["rate", "parts"])]
    pub(super) from_history: Option<Duration>,
    /// Compare an earlier plan, as `plan --json` printed it to this file, with what has happened within the time of --from-history.
    #[arg(long, value_name = "FILE", requires = "from_history", conflicts_with_all = ["rate", "parts"])]
    pub(super) check: Option<PathBuf>,
    /// How much higher the rate is when it is highest. Unset, 2; with --from-history, the rate of the highest hour counts instead.
    #[arg(long, value_name = "FACTOR", value_parser = parse_positive)]
    pub(super) peak: Option<f64>,
    /// The fewest workers, so that calls go on when one dies.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = number(1_u32, 10_000))]
    pub(super) at_least: u32,
    /// How long 95 of 100 calls may wait for a slot, when the rate is highest.
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = parse_span)]
    pub(super) wait: Duration,
    /// How long a call may take, its wait for a slot and its tool together, when the rate is highest.
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(super) deadline: Option<Duration>,
    /// Which part of the calls may take longer than --deadline, from 0 to 1.
    #[arg(long, value_name = "PART", default_value_t = 0.01, value_parser = parse_part, requires = "deadline")]
    pub(super) late: f64,
    /// Slots of a worker.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = number(1_u32, 10_000))]
    pub(super) slots: u32,
    /// vCPU of a worker.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = parse_positive)]
    pub(super) vcpu: f64,
    /// Memory of a worker, in GB.
    #[arg(long, value_name = "GB", default_value_t = 2.0, value_parser = parse_positive)]
    pub(super) memory: f64,
    /// Queues of calls: 3 with those of high and low priority.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number(1_u32, 3))]
    pub(super) queues: u32,
    /// The size of a request, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1_000)]
    pub(super) request_bytes: u32,
    /// The size of a result, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 2_000)]
    pub(super) result_bytes: u32,
    /// How often a caller reads the row of a call until it has ended.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(super) polls: u32,
    /// Calls belong to sessions.
    #[arg(long)]
    pub(super) sessions: bool,
    /// Which part of the calls is executed without a claim, from 0 to 1.
    #[arg(long, value_name = "PART", default_value_t = 0.0, value_parser = parse_part)]
    pub(super) claimless: f64,
    /// Reckon with the prices of this file, a JSON object; what it leaves out is as --print-prices prints it.
    #[arg(long, value_name = "FILE")]
    pub(super) prices: Option<PathBuf>,
    /// Print the prices as a JSON object, and plan nothing.
    #[arg(long)]
    pub(super) print_prices: bool,
    /// Write the waits by number of workers as an SVG picture to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
}

fn parse_positive(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| format!("`{text}`: accepted is a number above 0"))
}

fn parse_part(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|number: &f64| (0.0..=1.0).contains(number));
    number.ok_or_else(|| format!("`{text}`: accepted is a number from 0 to 1"))
}
