//! `toolfleet plan`: how many workers a load needs, how long its calls wait then, and what that costs in a month.

mod args;
mod bill;
mod check;
mod curve;
mod demand;
mod numbers;
mod proposal;
#[cfg(test)]
mod simulation;
mod waiting;

use std::time::Duration;

use serde_json::json;
use toolfleet_client::StatsOf;
use toolfleet_core::time::Timestamp;

use crate::commands::control::reason::now;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show;
pub(crate) use args::PlanArgs;
use bill::{bill, bucket_pays_above, lambda_pays_below};
use demand::{Part, Seen, service};
use numbers::{cents, per_second, shown_rate};
use proposal::{MOST_WORKERS, needed, usage};
use waiting::Wait;

/// Service times that vary more are outside what the formula was compared with.
const VARIES_MUCH: f64 = 2.0;

/// Plans.
pub(crate) async fn run(args: &PlanArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let seen = match args.from_history {
        Some(span) => Some(from_history(span, connect, output).await?),
        None => None,
    };
    if let (Some(path), Some(seen)) = (&args.check, &seen) {
        let summary = connect.client().await?.library().summary().await?;
        let summary = summary.filter(|summary| !summary.is_stale(now()));
        return check::check(path, args, seen, summary.as_ref(), output);
    }
    let (rate, parts) = match seen {
        Some(seen) => (seen.rate, seen.parts),
        None => (args.rate.map_or(0.0, per_second), args.parts.clone()),
    };
    let service = service(&parts);
    let peak = rate * args.peak;
    let Some(found) = needed(args, &service, peak) else {
        return Err(CommandError::usage(format!(
            "--rate: {peak:.0} calls a second at its highest, of {:.1} s each, need more than {MOST_WORKERS} workers of {} slots; give \
             more --slots or --vcpu",
            service.mean_s, args.slots
        )));
    };
    let usage = usage(args, rate, service.mean_s, found.workers);
    let items = bill(&usage);
    let month: f64 = items.iter().map(|item| item.usd).sum();
    let per_million = month / (rate * 730.0 * 3_600.0 / 1e6);
    let waits = curve::waits(&service, peak, args.slots, found.workers);
    if let Some(path) = &args.svg {
        let picture = curve::svg(&waits, found.workers, args.wait.as_secs_f64());
        let written = std::fs::write(path, picture);
        written.map_err(|error| CommandError::usage(format!("--svg: {}: {error}", path.display())))?;
    }
    if output.is_json() {
        let items: Vec<_> =
            items.iter().map(|i| json!({"item": i.name, "of": i.of, "usd_a_month": cents(i.usd)})).collect();
        output.document(&json!({
            "rate": rate, "peak_rate": peak, "mean_s": service.mean_s, "squared_variation": service.scv, "workers": found.workers,
            "slots": u64::from(found.workers) * u64::from(args.slots), "slots_used": found.slots_used, "cpu_used": found.cpu_used,
            "wait_probability": found.wait.probability, "wait_mean_s": found.wait.mean_s, "wait_p95_s": found.wait.quantile_s(95.0),
            "wait_p99_s": found.wait.quantile_s(99.0), "bill": items, "usd_a_month": cents(month),
            "usd_a_million_calls": cents(per_million), "lambda_pays_below_rate": lambda_pays_below(&usage, service.mean_s),
            "bucket_pays_above_bytes": bucket_pays_above(&usage),
            "waits_by_workers": waits.iter().map(wait_document).collect::<Vec<_>>(),
        }))?;
        return Ok(Exit::Done);
    }
    let ms = |s: f64| show::span((s * 1_000.0).round() as u64);
    output.line(&format!(
        "{} calls a second, {} at the highest; a call holds its slot for {} on average",
        shown_rate(rate),
        shown_rate(peak),
        ms(service.mean_s)
    ))?;
    output.line(&format!(
        "{} workers of {} slots: {:.0} % of the slots and {:.0} % of the CPU are used at the highest rate",
        found.workers,
        args.slots,
        found.slots_used * 100.0,
        found.cpu_used * 100.0
    ))?;
    output.line(&format!(
        "{:.1} % of the calls wait for a slot then; 95 of 100 wait at most {}, 99 of 100 at most {}",
        found.wait.probability * 100.0,
        ms(found.wait.quantile_s(95.0)),
        ms(found.wait.quantile_s(99.0))
    ))?;
    output.line("")?;
    let row = |(workers, wait): &(u32, Option<Wait>)| {
        let of = |wait: &Option<Wait>, percent| {
            wait.map_or_else(|| "grows without end".to_owned(), |wait| ms(wait.quantile_s(percent)))
        };
        vec![workers.to_string(), of(wait, 50.0), of(wait, 95.0), of(wait, 99.0)]
    };
    output.table(&["workers", "wait p50", "p95", "p99"], waits.iter().map(row).collect())?;
    output.line("")?;
    let mut rows: Vec<_> = items
        .iter()
        .map(|item| vec![item.name.to_owned(), format!("{:.2}", item.usd), item.of.clone()])
        .collect();
    rows.push(vec![
        "all".to_owned(),
        format!("{month:.2}"),
        format!("{per_million:.2} USD for a million calls"),
    ]);
    output.table(&["a month", "USD", "of"], rows)?;
    output.line("")?;
    output.line(&format!(
        "A Lambda function for each call costs less than these workers below {:.1} calls a second; S3 costs less than a row for results above {:.1} KB.",
        lambda_pays_below(&usage, service.mean_s),
        bucket_pays_above(&usage) / 1_000.0
    ))?;
    if service.scv > VARIES_MUCH {
        output.note(
            "some calls take very much longer than others: waits may be half as long again as said, and short calls wait behind long ones",
        );
    }
    if let Some(span) = args.from_history {
        output.note(&format!(
            "the rate is that of all calls of the last {}, divided by that whole time; give a span in which the fleet ran",
            show::span(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
        ));
    }
    output.note("prices of us-east-1 in November 2026, on demand; without data transfer, logs and metrics");
    Ok(Exit::Done)
}

fn wait_document((workers, wait): &(u32, Option<Wait>)) -> serde_json::Value {
    let quantile = |percent| wait.map(|wait| wait.quantile_s(percent));
    json!({"workers": workers, "p50_s": quantile(50.0), "p95_s": quantile(95.0), "p99_s": quantile(99.0)})
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
