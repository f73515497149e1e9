//! A plan as text and as a JSON document.

use serde_json::{Value, json};

use super::args::PlanArgs;
use super::bill::{bucket_pays_above, history_shards, queues_of_calls};
use super::demand::PeakOf;
use super::numbers::{cents, shown_rate};
use super::places::{ec2_pays_from, lambda_pays_below, places};
use super::planned::Plan;
use super::prices::Prices;
use super::waiting::Wait;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show::{self, count};
use crate::table::Shape;

/// Service times that vary more are outside what the formula was compared with.
const VARIES_MUCH: f64 = 2.0;

/// The prices as a JSON object, a member a line, which is a file for `--prices`.
pub(super) fn prices(prices: &Prices, output: &Output) -> Result<Exit, CommandError> {
    if output.is_json() {
        output.document(prices)?;
    } else {
        output.line(&serde_json::to_string_pretty(prices).map_err(std::io::Error::other)?)?;
    }
    Ok(Exit::Done)
}

/// The plan as one document.
pub(super) fn document(args: &PlanArgs, plan: &Plan) -> Value {
    let Plan { found, usage, service, .. } = plan;
    let (month, per_million) = plan.usd();
    let items: Vec<_> =
        plan.items.iter().map(|i| json!({"item": i.name, "of": i.of, "usd_a_month": cents(i.usd)})).collect();
    let places: Vec<_> = places(usage)
        .iter()
        .map(|place| json!({"place": place.id, "of": place.of, "usd_a_month": cents(place.usd)}))
        .collect();
    json!({
        "rate": usage.rate, "peak_rate": plan.peak.rate, "peak_of": peak_of(plan.peak.of), "mean_s": service.mean_s, "squared_variation": service.scv, "workers": found.workers,
        "slots": u64::from(found.workers) * u64::from(args.slots), "slots_used": found.slots_used, "cpu_used": found.cpu_used,
        "wait_probability": found.wait.probability, "wait_mean_s": found.wait.mean_s, "wait_p95_s": found.wait.quantile_s(95.0),
        "wait_p99_s": found.wait.quantile_s(99.0), "in_flight": plan.in_flight(), "queues_of_calls": queues_of_calls(plan.in_flight()),
        "history_shards": history_shards(plan.peak.rate), "late": found.late.map(|late| late.part), "late_by_tools": found.late.map(|late| late.by_tools),
        "bill": items, "usd_a_month": cents(month), "usd_a_million_calls": cents(per_million), "places": places,
        "lambda_pays_below_rate": lambda_pays_below(usage), "ec2_pays_from_workers": ec2_pays_from(usage),
        "bucket_pays_above_bytes": bucket_pays_above(usage), "waits_by_workers": plan.waits.iter().map(wait_document).collect::<Vec<_>>(),
    })
}

const fn peak_of(of: PeakOf) -> &'static str {
    match of {
        PeakOf::History => "history",
        PeakOf::Factor => "factor",
    }
}

fn wait_document((workers, wait): &(u32, Option<Wait>)) -> Value {
    let quantile = |percent| wait.map(|wait| wait.quantile_s(percent));
    json!({"workers": workers, "p50_s": quantile(50.0), "p95_s": quantile(95.0), "p99_s": quantile(99.0)})
}

/// The plan for people.
pub(super) fn show(args: &PlanArgs, plan: &Plan, output: &Output) -> Result<(), CommandError> {
    workers(args, plan, output)?;
    output.line("")?;
    let row = |(workers, wait): &(u32, Option<Wait>)| {
        let of = |wait: &Option<Wait>, percent| {
            wait.map_or_else(|| "grows without end".to_owned(), |wait| ms(wait.quantile_s(percent)))
        };
        vec![workers.to_string(), of(wait, 50.0), of(wait, 95.0), of(wait, 99.0)]
    };
    output.table(&["workers", "wait p50", "p95", "p99"], plan.waits.iter().map(row).collect())?;
    output.line("")?;
    costs(plan, output)?;
    notes(args, plan, output);
    Ok(())
}

fn workers(args: &PlanArgs, plan: &Plan, output: &Output) -> Result<(), CommandError> {
    let Plan { found, service, .. } = plan;
    output.text(&format!(
        "{} calls a second, {} {}; a call holds its slot for {} on average",
        shown_rate(plan.usage.rate),
        shown_rate(plan.peak.rate),
        match plan.peak.of {
            PeakOf::History => "in the highest hour of the history",
            PeakOf::Factor => "at the highest",
        },
        ms(service.mean_s)
    ))?;
    output.text(&format!(
        "{} of {}: {:.0} % of the slots and {:.0} % of the CPU are used at the highest rate",
        count(found.workers, "worker"),
        count(args.slots, "slot"),
        found.slots_used * 100.0,
        found.cpu_used * 100.0
    ))?;
    output.text(&format!(
        "{:.1} % of the calls wait for a slot then; 95 of 100 wait at most {}, 99 of 100 at most {}",
        found.wait.probability * 100.0,
        ms(found.wait.quantile_s(95.0)),
        ms(found.wait.quantile_s(99.0))
    ))?;
    if let (Some(late), Some(deadline)) = (found.late, args.deadline) {
        output.text(&format!(
            "{:.2} % of the calls take longer than {} then, {:.2} % by their tools alone",
            late.part * 100.0,
            ms(deadline.as_secs_f64()),
            late.by_tools * 100.0
        ))?;
    }
    let (in_flight, shards) = (plan.in_flight(), history_shards(plan.peak.rate));
    let queues = queues_of_calls(in_flight);
    output.text(&format!(
        "{in_flight:.0} messages in flight: {}; TOOLFLEET_HISTORY_SHARDS={shards:.0} if one tenant sends all calls",
        count(queues as u64, "queue")
    ))?;
    Ok(())
}

fn costs(plan: &Plan, output: &Output) -> Result<(), CommandError> {
    let usage = &plan.usage;
    let (month, per_million) = plan.usd();
    let mut rows: Vec<_> = plan
        .items
        .iter()
        .map(|item| vec![item.name.to_owned(), format!("{:.2}", item.usd), item.of.clone()])
        .collect();
    rows.push(vec![
        "all".to_owned(),
        format!("{month:.2}"),
        format!("{per_million:.2} USD for a million calls"),
    ]);
    output.shaped(&Shape::of(&["a month", "USD", "of"]).below(&["of"]), &rows)?;
    output.line("")?;
    let row =
        |place: super::places::Place| vec![place.name.to_owned(), format!("{:.2}", place.usd), place.of];
    let rows: Vec<_> = places(usage).into_iter().map(row).collect();
    output.shaped(&Shape::of(&["the workers at", "USD", "of"]).below(&["of"]), &rows)?;
    output.line("")?;
    let ec2 = match ec2_pays_from(usage) {
        Some(workers) => format!("from {} on", count(workers, "worker")),
        None => "with no number of workers".to_owned(),
    };
    output.text(&format!(
        "A Lambda function for each call costs less than these workers below {:.1} calls a second; EC2 costs less than Fargate {ec2}; \
         S3 costs less than a row for results above {:.1} KB.",
        lambda_pays_below(usage),
        bucket_pays_above(usage) / 1_000.0
    ))?;
    Ok(())
}

fn notes(args: &PlanArgs, plan: &Plan, output: &Output) {
    if plan.found.late.is_some_and(|late| late.by_tools > args.late) {
        output.note("more calls than --late are late by their tools alone: no number of workers helps; give a longer --deadline");
    }
    if queues_of_calls(plan.in_flight()) > 1.0 {
        output.note("SQS lets 120,000 messages of a queue be in flight: give each queue a fleet of its own, and spread tenants over them");
    }
    if plan.service.scv > VARIES_MUCH {
        output.note(
            "some calls take very much longer than others: waits may be half as long again as said, and short calls wait behind long ones",
        );
    }
    if let Some(span) = args.from_history {
        output.note(&format!(
            "the rate is that of all calls of the last {}, divided by that whole time; give a span in which the fleet ran",
            ms(span.as_secs_f64())
        ));
    }
    let prices = match &args.prices {
        Some(path) => format!("prices of {}", path.display()),
        None => "prices of us-east-1 in November 2026, on demand (--print-prices, --prices FILE)".to_owned(),
    };
    output.note(&format!("{prices}; without data transfer, logs and metrics"));
}

fn ms(s: f64) -> String {
    show::span((s * 1_000.0).round() as u64)
}
