//! `toolfleet plan --check`: an earlier plan beside what has happened since.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use toolfleet_core::fleet::{FleetSummary, Minute};
use toolfleet_core::time::Timestamp;

use super::args::PlanArgs;
use super::bill::bill;
use super::demand::{Seen, service};
use super::numbers::{cents, shown_rate};
use super::prices::Prices;
use super::proposal::{needed, usage};
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show;

/// A figure that differs by less from the plan is as planned.
const AS_PLANNED: f64 = 0.2;
/// An hour of which less was counted, in seconds, says nothing of the highest rate.
const SHORTEST_HOUR_S: u64 = 600;

/// What a plan said (`toolfleet plan --json`).
#[derive(Debug, Deserialize)]
struct Planned {
    rate: f64,
    peak_rate: f64,
    mean_s: f64,
    workers: u32,
    slots_used: f64,
    wait_p95_s: f64,
    usd_a_month: f64,
}

/// One line: what was planned, and what was seen; nothing where it cannot be said.
struct Figure {
    name: &'static str,
    id: &'static str,
    planned: f64,
    seen: Option<f64>,
    shown: fn(f64) -> String,
}

impl Figure {
    /// By which part what was seen is above the plan, or below it.
    fn difference(&self) -> Option<f64> {
        let seen = self.seen?;
        (self.planned > 0.0).then(|| seen / self.planned - 1.0).or((seen == 0.0).then_some(0.0))
    }

    fn verdict(&self) -> String {
        match (self.seen, self.difference()) {
            (None, _) => "not known".to_owned(),
            (Some(_), None) => "more".to_owned(),
            (Some(_), Some(part)) if part.abs() <= AS_PLANNED => "as planned".to_owned(),
            (Some(_), Some(part)) if part > 0.0 => format!("{:.0} % more", part * 100.0),
            (Some(_), Some(part)) => format!("{:.0} % less", -part * 100.0),
        }
    }
}

/// Prints the plan of that file beside what was seen.
pub(super) fn check(
    path: &Path,
    args: &PlanArgs,
    prices: Prices,
    seen: &Seen,
    fleet: Option<&FleetSummary>,
    output: &Output,
) -> Result<Exit, CommandError> {
    let planned = read(path)?;
    let figures = figures(&planned, args, prices, seen, fleet);
    let needs = needed(args, &seen.parts, seen.highest()).map(|proposal| proposal.workers);
    if output.is_json() {
        let figures: Vec<_> = figures.iter().map(document).collect();
        output.document(&json!({"figures": figures, "workers_needed": needs}))?;
        return Ok(Exit::Done);
    }
    let row = |figure: &Figure| {
        let seen = figure.seen.map_or_else(|| "-".to_owned(), figure.shown);
        vec![figure.name.to_owned(), (figure.shown)(figure.planned), seen, figure.verdict()]
    };
    output.table(&["", "planned", "seen", ""], figures.iter().map(row).collect())?;
    output.line("")?;
    match needs {
        Some(needs) => {
            output.line(&format!("What was seen needs {needs} workers of {} slots.", args.slots))?
        }
        None => output
            .line("What was seen needs more workers than are planned for; give more --slots or --vcpu.")?,
    }
    if fleet.is_none() {
        output.note("no worker reports now, so that workers, slots and waits are not known");
    }
    output.note("waits are computed from the load that was seen and the workers that run now: the fleet does not keep waits");
    Ok(Exit::Done)
}

fn figures(
    planned: &Planned,
    args: &PlanArgs,
    prices: Prices,
    seen: &Seen,
    fleet: Option<&FleetSummary>,
) -> Vec<Figure> {
    let service = service(&seen.parts);
    let workers = fleet.map(|fleet| fleet.workers.alive);
    let slots = fleet.map_or(0, |fleet| u32::try_from(fleet.workers.slots).unwrap_or(u32::MAX));
    let peak = seen.highest();
    let month = bill(&usage(args, prices, seen.rate, service.mean_s, workers.unwrap_or(0)));
    let month: f64 = month.iter().map(|item| item.usd).sum();
    let used = (slots > 0).then(|| service.utilisation(peak, f64::from(slots)));
    let wait_s = service.wait(peak, slots).filter(|_| slots > 0).map(|wait| wait.quantile_s(95.0));
    vec![
        figure("calls a second", "rate", planned.rate, Some(seen.rate), shown_rate),
        figure("in the highest hour", "peak_rate", planned.peak_rate, Some(peak), shown_rate),
        figure("a call holds its slot for", "mean_s", planned.mean_s, Some(service.mean_s), seconds),
        figure("workers", "workers", f64::from(planned.workers), workers.map(f64::from), whole),
        figure("slots used in the highest hour", "slots_used", planned.slots_used, used, percent),
        figure("95 of 100 calls wait at most", "wait_p95_s", planned.wait_p95_s, wait_s, seconds),
        figure("USD a month", "usd_a_month", planned.usd_a_month, workers.map(|_| month), dollars),
    ]
}

fn read(path: &Path) -> Result<Planned, CommandError> {
    let wrong = |why: String| {
        let wanted = "give a file with the output of `toolfleet plan --json`";
        CommandError::usage(format!("--check: {}: {why}; {wanted}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

/// The highest rate of an hour, by what was counted of it between two instants, and no less than `rate`; nothing where no hour was counted for
/// long enough.
pub(super) fn peak_rate(
    by_hour: &BTreeMap<Minute, u64>,
    from: Timestamp,
    to: Timestamp,
    rate: f64,
) -> Option<f64> {
    let of_hour = |(hour, calls): (&Minute, &u64)| {
        let (begin, end) = (hour.start().max(from), hour.plus(60).start().min(to));
        let counted_s = end.ms_since(begin) / 1_000;
        (counted_s >= SHORTEST_HOUR_S).then(|| *calls as f64 / counted_s as f64)
    };
    by_hour.iter().filter_map(of_hour).map(|of_hour| of_hour.max(rate)).reduce(f64::max)
}

const fn figure(
    name: &'static str,
    id: &'static str,
    planned: f64,
    seen: Option<f64>,
    shown: fn(f64) -> String,
) -> Figure {
    Figure { name, id, planned, seen, shown }
}

fn document(figure: &Figure) -> serde_json::Value {
    json!({"figure": figure.id, "planned": figure.planned, "seen": figure.seen, "difference": figure.difference()})
}

fn seconds(s: f64) -> String {
    show::span((s * 1_000.0).round() as u64)
}

fn whole(count: f64) -> String {
    format!("{count:.0}")
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

fn dollars(usd: f64) -> String {
    format!("{:.2}", cents(usd))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use toolfleet_core::ids::WorkerId;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        plan: PlanArgs,
    }

    #[test]
    fn a_plan_stands_beside_what_was_seen() {
        let args = Line::parse_from(["plan", "--rate", "1/s", "--calls", "1:1s", "--slots", "10"]).plan;
        let planned = Planned {
            rate: 10.0,
            peak_rate: 20.0,
            mean_s: 1.02,
            workers: 4,
            slots_used: 0.51,
            wait_p95_s: 0.0,
            usd_a_month: 100.0,
        };
        let seen = Seen { rate: 20.0, peak_rate: Some(30.0), parts: vec!["1:1s".parse().unwrap()] };
        let now = Timestamp::parse("2026-11-30T10:00:00Z").unwrap();
        let mut fleet = FleetSummary::of(&[], now, WorkerId::parse("w").unwrap());
        (fleet.workers.alive, fleet.workers.slots) = (4, 40);
        let told = |fleet: Option<&FleetSummary>| -> Vec<_> {
            figures(&planned, &args, Prices::default(), &seen, fleet)
                .iter()
                .map(|one| format!("{} {}", one.id, one.verdict()))
                .collect()
        };
        let with_fleet = told(Some(&fleet));
        assert_eq!(
            with_fleet[..5],
            [
                "rate 100 % more",
                "peak_rate 50 % more",
                "mean_s as planned",
                "workers as planned",
                "slots_used 50 % more"
            ]
        );
        assert!(told(None)[3..].iter().all(|line| line.ends_with("not known")), "{:?}", told(None));
    }

    #[test]
    fn a_figure_within_a_fifth_is_as_planned() {
        let verdict = |planned, seen| figure("", "", planned, seen, whole).verdict();
        assert_eq!(verdict(10.0, Some(12.0)), "as planned");
        assert_eq!(verdict(10.0, Some(15.0)), "50 % more");
        assert_eq!(verdict(10.0, Some(5.0)), "50 % less");
        assert_eq!(verdict(0.0, Some(0.0)), "as planned");
        assert_eq!(verdict(0.0, Some(1.0)), "more");
        assert_eq!(verdict(1.0, None), "not known");
    }

    #[test]
    fn the_highest_rate_is_that_of_an_hour_by_what_was_counted_of_it() {
        let at = |time: &str| Timestamp::parse(&format!("2026-11-29T{time}:00Z")).unwrap();
        let hour = |time: &str| Minute::of(at(time));
        let by_hour = BTreeMap::from([(hour("09:00"), 3_600), (hour("10:00"), 3_600), (hour("11:00"), 600)]);
        // Half of the first hour, the whole second, five minutes of the third.
        assert_eq!(peak_rate(&by_hour, at("09:30"), at("11:05"), 0.5), Some(2.0));
        assert_eq!(peak_rate(&by_hour, at("09:30"), at("11:05"), 2.5), Some(2.5));
        assert_eq!(peak_rate(&by_hour, at("11:00"), at("11:05"), 0.5), None, "five minutes are no hour");
    }
}
