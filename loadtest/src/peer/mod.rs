//! The command `peer`: the worker beside a plain Rust worker that does the same durable job, in one run, by turns.
//!
//! Each round starts fresh endpoints for one worker, runs a drain and the rates, and changes to the other worker; the order of the workers
//! changes from round to round. A figure is the median of its rounds. The requests of both pass the counting proxy, which adds the same to
//! every request of both.
//!
//! **Invariant:** a figure is printed only for calls that were each executed once and have a result.

mod args;
mod load;
mod measure;
mod report;

use anyhow::Context as _;

pub use args::PeerArgs;
use load::Load;
use measure::{Contender, Round};
use report::Report;

/// The share of the plain worker's drain that is one of the rates.
const SHARE_OF_DRAIN: f64 = 0.3;

/// Measures and prints; true if every call was executed once and has its result, and the counts are those of the goals.
///
/// Goals of time are printed and not checked: a debug build or a busy machine proves little.
///
/// # Errors
/// A worker cannot be started or ended by itself, or the calls did not end in time.
pub async fn run(args: &PeerArgs) -> anyhow::Result<bool> {
    let mut rounds: Vec<Round> = Vec::new();
    let mut rate_of_drain = None;
    for n in 0..args.rounds {
        let mut order = Contender::ALL.to_vec();
        // The plain worker's first drain gives the rate of all rounds.
        if n % 2 == 1 {
            order.reverse();
        }
        for contender in order {
            let loads = |drained_per_s: f64| -> Vec<Load> {
                let share = *rate_of_drain.get_or_insert(((drained_per_s * SHARE_OF_DRAIN) as u32).max(1));
                let rates = std::iter::once(Load::ShareOfDrain(share));
                rates.chain(args.rates.iter().map(|rate| Load::Rate(*rate))).collect()
            };
            rounds.push(Box::pin(measure::round(args, contender, n, loads)).await?);
        }
    }
    let report = Report::of(args, &rounds);
    print!("{report}");
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(report.violations.is_empty())
}
