//! `toolfleet plan`: how many workers a load needs, how long its calls wait then, and what that costs in a month.

mod bill;
mod curve;
mod demand;
#[cfg(test)]
mod simulation;
mod waiting;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use toolfleet_client::StatsOf;
use toolfleet_core::limits::RateLimit;
use toolfleet_core::time::Timestamp;

use crate::commands::control::reason::now;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show;
use crate::span_of_time::parse_span;
use bill::{Usage, bill, bucket_pays_above, lambda_pays_below};
use demand::{Part, service};
use waiting::{Service, Wait};

/// The most workers that are considered.
const MOST_WORKERS: u32 = 10_000;
/// The most of its CPU that a worker should use, so that a rush does not delay its heartbeats.
const CPU_USED: f64 = 0.6;
/// The most of all slots that calls should take: above it waits grow fast, and without end if the rate is a little higher than planned.
const SLOTS_USED: f64 = 0.85;
/// vCPU that a worker uses at a rate of calls, from the slowest runs of a release build (`docs/reference/performance.md`): batches make a call
/// cheaper at higher rates.
const CPU_AT_RATE: [(f64, f64); 5] =
    [(0.0, 0.0), (30.0, 0.07), (100.0, 0.19), (400.0, 0.44), (4_000.0, 0.88)];
/// Service times that vary more are outside what the formula was compared with.
const VARIES_MUCH: f64 = 2.0;

/// What the fleet has to do.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The rate of calls on average, for example 200/s.
    #[arg(long, value_name = "RATE", required_unless_present = "from_history")]
    rate: Option<RateLimit>,
    /// What a kind of calls takes at its tools: its share, the median and the 95th percentile, for example 60:300ms:1s. May be repeated.
    #[arg(long = "calls", value_name = "SHARE:P50[:P95]", required_unless_present = "from_history")]
    parts: Vec<Part>,
    /// Take rate and latencies from what the fleet has counted within that time, for example 7d.
    #[arg(long, value_name = "SPAN", value_parser = parse_span, conflicts_with_all = ["rate", "parts"])]
    from_history: Option<Duration>,
    /// How much higher the rate is when it is highest.
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0, value_parser = parse_positive)]
    peak: f64,
    /// The fewest workers, so that calls go on when one dies.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    at_least: u32,
    /// How long 95 of 100 calls may wait for a slot, when the rate is highest.
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = parse_span)]
    wait: Duration,
    /// Slots of a worker.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    /// vCPU of a worker.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = parse_positive)]
    vcpu: f64,
    /// Memory of a worker, in GB.
    #[arg(long, value_name = "GB", default_value_t = 2.0, value_parser = parse_positive)]
    memory: f64,
    /// Queues of calls: 3 with those of high and low priority.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3))]
    queues: u32,
    /// The size of a request, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1_000)]
    request_bytes: u32,
    /// The size of a result, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 2_000)]
    result_bytes: u32,
    /// How often a caller reads the row of a call until it has ended.
    #[arg(long, value_name = "N", default_value_t = 3)]
    polls: u32,
    /// Calls belong to sessions.
    #[arg(long)]
    sessions: bool,
    /// Which part of the calls is executed without a claim, from 0 to 1.
    #[arg(long, value_name = "PART", default_value_t = 0.0, value_parser = parse_part)]
    claimless: f64,
    /// Write the waits by number of workers as an SVG picture to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// A number of workers, and what it comes to.
#[derive(Debug, Clone, Copy)]
struct Proposal {
    workers: u32,
    /// Which part of the slots, and of the CPU, is used at the highest rate.
    slots_used: f64,
    cpu_used: f64,
    wait: Wait,
}

/// Plans.
pub(crate) async fn run(args: &PlanArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let (rate, parts) = match args.from_history {
        Some(span) => from_history(span, connect, output).await?,
        None => (args.rate.map_or(0.0, per_second), args.parts.clone()),
    };
    let service = service(&parts);
    let peak = rate * args.peak;
    let first = fewest(args, &service, peak).max(args.at_least);
    let Some(found) = (first..=MOST_WORKERS).find_map(|workers| fits(args, &service, peak, workers)) else {
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

/// The fewest workers whose slots and whose CPU may be enough, so that waits are computed for few numbers of workers.
fn fewest(args: &PlanArgs, service: &Service, peak: f64) -> u32 {
    let slots = service.utilisation(peak, f64::from(args.slots)) / SLOTS_USED;
    let cpu = peak / CPU_AT_RATE.last().map_or(f64::MAX, |(rate, vcpu)| rate / vcpu * args.vcpu * CPU_USED);
    slots.max(cpu).floor().clamp(1.0, f64::from(MOST_WORKERS) + 1.0) as u32
}

/// What that many workers come to, if they keep the wait and have the CPU.
fn fits(args: &PlanArgs, service: &Service, peak: f64, workers: u32) -> Option<Proposal> {
    let slots = workers.checked_mul(args.slots)?;
    let cpu_used = cpu_used(peak / f64::from(workers)) / args.vcpu;
    let wait = service.wait(peak, slots)?;
    let in_time = wait.quantile_s(95.0) <= args.wait.as_secs_f64();
    let slots_used = service.utilisation(peak, f64::from(slots));
    (in_time && cpu_used <= CPU_USED && slots_used <= SLOTS_USED).then_some(Proposal {
        workers,
        slots_used,
        cpu_used,
        wait,
    })
}

/// vCPU that a worker uses at that rate of calls; above what was measured, each call costs as much as there.
fn cpu_used(rate: f64) -> f64 {
    let mut steps = CPU_AT_RATE.iter().zip(CPU_AT_RATE.iter().skip(1));
    let within = steps.clone().find(|(_, (high, _))| rate < *high).or_else(|| steps.next_back());
    within.map_or(0.0, |((low, at_low), (high, at_high))| {
        let part = (rate - low) / (high - low);
        part.mul_add(at_high - at_low, *at_low)
    })
}

fn wait_document((workers, wait): &(u32, Option<Wait>)) -> serde_json::Value {
    let quantile = |percent| wait.map(|wait| wait.quantile_s(percent));
    json!({"workers": workers, "p50_s": quantile(50.0), "p95_s": quantile(95.0), "p99_s": quantile(99.0)})
}

fn usage(args: &PlanArgs, rate: f64, mean_s: f64, workers: u32) -> Usage {
    Usage {
        rate,
        mean_s,
        workers,
        vcpu: args.vcpu,
        memory_gb: args.memory,
        queues: args.queues,
        request_bytes: f64::from(args.request_bytes),
        result_bytes: f64::from(args.result_bytes),
        polls: f64::from(args.polls),
        sessions: args.sessions,
        claimless: args.claimless,
    }
}

/// The rate and the latencies of the calls that the fleet has counted.
async fn from_history(
    span: Duration,
    connect: &Connect,
    output: &Output,
) -> Result<(f64, Vec<Part>), CommandError> {
    let to = now();
    let ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let from = Timestamp::from_ms(to.as_ms().saturating_sub(ms));
    let stats = connect.client().await?.stats(from, to, &StatsOf::default()).await?;
    for lost in &stats.lost {
        output.note(&format!(
            "worker {} died: its counts of {} to {} are missing",
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
    Ok((calls / span.as_secs_f64(), parts))
}

fn per_second(rate: RateLimit) -> f64 {
    f64::from(rate.count()) / f64::from(rate.seconds())
}

/// A rate with about three digits.
fn shown_rate(rate: f64) -> String {
    if rate < 1.0 { format!("{rate:.3}") } else { format!("{rate:.1}") }
}

fn cents(usd: f64) -> f64 {
    (usd * 100.0).round() / 100.0
}

fn parse_positive(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| format!("`{text}`: accepted is a number above 0"))
}

fn parse_part(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|number: &f64| (0.0..=1.0).contains(number));
    number.ok_or_else(|| format!("`{text}`: accepted is a number from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_never_uses_less_cpu_at_a_higher_rate() {
        let used: Vec<_> = (1..6_000).map(|rate| cpu_used(f64::from(rate))).collect();
        assert!(used.windows(2).all(|pair| pair[1] >= pair[0] * 0.999), "more calls cost more");
    }
}
