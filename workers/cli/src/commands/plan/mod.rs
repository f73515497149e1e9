//! `toolfleet plan`: how many workers a load needs, how long its calls wait then, and what that costs in a month.

mod args;
mod bill;
mod check;
mod curve;
mod deadline;
mod demand;
mod numbers;
mod places;
mod planned;
mod prices;
mod proposal;
mod shown;
#[cfg(test)]
mod simulation;
mod usage;
mod waiting;

use std::time::Duration;

use toolfleet_client::StatsOf;
use toolfleet_core::time::Timestamp;

use crate::commands::control::reason::now;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
pub(crate) use args::PlanArgs;
use bill::bill;
use demand::{Part, Peak, Seen, service};
use numbers::per_second;
use planned::Plan;
use prices::Prices;
use proposal::{needed, usage};
use usage::MOST_WORKERS;

/// Plans.
pub(crate) async fn run(args: &PlanArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let prices = args.prices.as_deref().map_or_else(|| Ok(Prices::default()), Prices::of)?;
    if args.print_prices {
        return shown::prices(&prices, output);
    }
    let seen = match args.from_history {
        Some(span) => Some(from_history(span, connect, output).await?),
        None => None,
    };
    if let (Some(path), Some(seen)) = (&args.check, &seen) {
        let summary = connect.client().await?.library().summary().await?;
        let summary = summary.filter(|summary| !summary.is_stale(now()));
        return check::check(path, args, prices, seen, summary.as_ref(), output);
    }
    let plan = plan(args, prices, seen.as_ref())?;
    if let Some(path) = &args.svg {
        let picture = curve::svg(&plan.waits, plan.found.workers, args.wait.as_secs_f64());
        let written = std::fs::write(path, picture);
        written.map_err(|error| CommandError::usage(format!("--svg: {}: {error}", path.display())))?;
    }
    if output.is_json() {
        output.document(&shown::document(args, &plan))?;
    } else {
        shown::show(args, &plan, output)?;
    }
    Ok(Exit::Done)
}

/// The plan for what was seen, or else for the figures of the command line.
fn plan(args: &PlanArgs, prices: Prices, seen: Option<&Seen>) -> Result<Plan, CommandError> {
    let (rate, parts) = match seen {
        Some(seen) => (seen.rate, &seen.parts),
        None => (args.rate.map_or(0.0, per_second), &args.parts),
    };
    let service = service(parts);
    let peak = Peak::of(args.peak, rate, seen.and_then(|seen| seen.peak_rate));
    let Some(found) = needed(args, parts, peak.rate) else {
        return Err(CommandError::usage(format!(
            "--rate: {:.0} calls a second at its highest, of {:.1} s each, need more than {MOST_WORKERS} workers of {} slots; give \
             more --slots or --vcpu",
            peak.rate, service.mean_s, args.slots
        )));
    };
    let usage = usage(args, prices, rate, service.mean_s, found.workers);
    let waits = curve::waits(&service, peak.rate, args.slots, found.workers);
    Ok(Plan { peak, service, found, items: bill(&usage), usage, waits })
}

/// The rate and the latencies of the calls that the fleet has counted.
async fn from_history(span: Duration, connect: &Connect, output: &Output) -> Result<Seen, CommandError> {
    let to = now();
    let ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let from = Timestamp::from_ms(to.as_ms().saturating_sub(ms));
    let stats = connect.client().await?.stats(from, to, &StatsOf::default()).await?;
    for lost in &stats.lost {
        output.note(&format!(
            "worker {} died or could not write: its counts of {} to {} are missing",
            lost.worker, lost.from, lost.to
        ));
    }
    let parts: Vec<_> = stats
        .tools
        .iter()
        .filter_map(|tool| {
            let duration = |percent| tool.rollup.duration.quantile_us(percent).map(Duration::from_micros);
            let (p50, p95) = (duration(50)?.max(Duration::from_millis(1)), duration(95)?);
            Some(Part { share: tool.rollup.calls.total() as f64, p50, p95: p95.max(p50) })
        })
        .collect();
    let calls: f64 = parts.iter().map(|part| part.share).sum();
    if parts.is_empty() {
        return Err(CommandError::usage(
            "--from-history: no call is counted in that time; give a longer one, or --rate and --calls",
        ));
    }
    let rate = calls / span.as_secs_f64();
    Ok(Seen { rate, peak_rate: check::peak_rate(&stats.calls_by_hour, from, to, rate), parts })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        plan: PlanArgs,
    }

    fn planned(line: &str, peak_rate: Option<f64>) -> (f64, u32) {
        let args = Line::parse_from(line.split(' ')).plan;
        let seen = Seen { rate: 24.0, peak_rate, parts: vec!["1:2s:4s".parse().unwrap()] };
        let plan = plan(&args, Prices::default(), Some(&seen)).unwrap();
        (plan.peak.rate, plan.found.workers)
    }

    #[test]
    fn a_plan_of_the_history_has_the_workers_that_its_check_asks_for() {
        let line = "plan --from-history 7d";
        let args = Line::parse_from(line.split(' ')).plan;
        let needed = |rate| needed(&args, &["1:2s:4s".parse().unwrap()], rate).unwrap().workers;
        assert_eq!(planned(line, Some(100.0)), (100.0, needed(100.0)));
        assert!(needed(100.0) > needed(48.0));
        assert_eq!(planned("plan --from-history 7d --peak 3", Some(100.0)), (72.0, needed(72.0)));
        assert_eq!(planned(line, None), (48.0, needed(48.0)), "no hour was counted");
    }
}
