//! The report of `peer`: the medians of both workers under each load, their ratios, and the goals.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::args::PeerArgs;
use super::load::Load;
use super::measure::{Contender, Measured, Round};
use crate::traffic::Traffic;

/// The most that the worker may cost of what the plain worker costs.
const CPU_GOALS: [(Load, f64); 4] =
    [(Load::Drain, 0.2), (Load::Rate(400), 0.5), (Load::Rate(100), 0.75), (Load::Rate(30), 0.75)];
/// The most of the plain worker's latency at a rate.
const LATENCY_GOAL: f64 = 1.3;
/// The write units of a small call: its row, once for the claim and once for the result, its record, and the record's index by session.
const WRITE_UNITS: f64 = 3.0;
const WRITE_UNITS_OF_CLAIM: f64 = 1.0;
const WRITE_UNITS_OF_SESSION: f64 = 1.0;
/// How far the mean may be off: a write that is sent again costs its units again.
const TOLERANCE: f64 = 0.1;

/// The figures of all workers and loads.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    rounds: u32,
    seconds: u32,
    slots: u32,
    session: bool,
    #[serde(skip)]
    counts_only: bool,
    loads: Vec<LoadFigures>,
    /// What was wrong.
    pub(super) violations: Vec<String>,
    debug_build: bool,
}

/// The workers under one load.
#[derive(Debug, Clone, Serialize)]
struct LoadFigures {
    name: String,
    calls: u32,
    cpu_goal: Option<f64>,
    latency_goal: Option<f64>,
    workers: BTreeMap<Contender, Figures>,
}

/// The medians of one worker under one load.
#[derive(Debug, Clone, Default, Serialize)]
struct Figures {
    cpu_us_per_call: f64,
    p50_ms: f64,
    p99_ms: f64,
    calls_per_s: f64,
    /// Requests to AWS for a call, by operation.
    requests_per_call: BTreeMap<String, f64>,
    write_units_per_call: f64,
    peak_mib: f64,
}

impl Figures {
    fn of(rounds: &[&Measured]) -> Self {
        let median = |value: &dyn Fn(&Measured) -> f64| median(rounds.iter().map(|one| value(one)).collect());
        let calls = |one: &Measured| f64::from(one.calls.max(1));
        let operations = rounds.iter().flat_map(|one| one.traffic.operations.keys());
        let requests = |operation: &String| {
            let each = |one: &Measured| {
                one.traffic.operations.get(operation).map_or(0.0, |count| count.requests as f64) / calls(one)
            };
            (operation.clone(), median(&each))
        };
        Self {
            cpu_us_per_call: median(&|one| one.cpu_us),
            p50_ms: median(&|one| one.p50_us as f64 / 1_000.0),
            p99_ms: median(&|one| one.p99_us as f64 / 1_000.0),
            calls_per_s: median(&|one| one.per_s),
            requests_per_call: operations.map(requests).collect(),
            write_units_per_call: median(&|one| units_of_calls(&one.traffic) / calls(one)),
            peak_mib: median(&|one| one.peak_kib as f64 / 1_024.0),
        }
    }
}

/// The units written to rows and records. A worker also writes its own row from time to time, however many calls there are.
fn units_of_calls(traffic: &Traffic) -> f64 {
    let of_calls =
        |place: &str| place.starts_with("toolfleet-calls") || place.starts_with("toolfleet-history");
    traffic.write_units.iter().filter(|(place, _)| of_calls(place)).map(|(_, units)| units).sum()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl Report {
    pub(super) fn of(args: &PeerArgs, rounds: &[Round]) -> Self {
        let first = rounds.first().map_or(&[][..], |round| &round.measured);
        let loads = first.iter().map(|one| LoadFigures::of(one, rounds)).collect();
        let mut report = Self {
            rounds: args.rounds,
            seconds: args.seconds,
            slots: args.slots,
            session: args.session,
            counts_only: args.counts_only,
            loads,
            violations: rounds.iter().flat_map(|round| round.violations.clone()).collect(),
            debug_build: cfg!(debug_assertions),
        };
        report.check_counts();
        report
    }

    /// The counts do not depend on the machine, so they are checked.
    fn check_counts(&mut self) {
        let in_session = if self.session { WRITE_UNITS + WRITE_UNITS_OF_SESSION } else { WRITE_UNITS };
        for load in &self.loads {
            for (contender, figures) in &load.workers {
                let units = match contender {
                    Contender::Plain | Contender::Ours => in_session,
                    Contender::Claimless => in_session - WRITE_UNITS_OF_CLAIM,
                };
                let found = figures.write_units_per_call;
                if (found - units).abs() > TOLERANCE {
                    let worker = contender.name();
                    let text = format!("{worker}, {}: {found:.3} write units a call, not {units}", load.name);
                    self.violations.push(text);
                }
            }
        }
    }
}

impl LoadFigures {
    fn of(one: &Measured, rounds: &[Round]) -> Self {
        let of_worker = |contender: Contender| {
            let rounds = rounds.iter().filter(|round| round.contender == contender);
            let measured = rounds.flat_map(|round| &round.measured);
            let measured: Vec<_> = measured.filter(|measured| measured.load == one.load).collect();
            (contender, Figures::of(&measured))
        };
        Self {
            name: one.load.name(),
            calls: one.calls,
            cpu_goal: CPU_GOALS.iter().find(|(load, _)| *load == one.load).map(|(_, goal)| *goal),
            latency_goal: one.load.rate().map(|_| LATENCY_GOAL),
            workers: Contender::ALL.into_iter().map(of_worker).collect(),
        }
    }

    /// One line: the plain worker's value, and each other worker's with its ratio.
    fn line(&self, f: &mut fmt::Formatter<'_>, what: &str, value: Value, goal: Option<f64>) -> fmt::Result {
        write!(f, "  {what:<22}")?;
        let plain = self.workers.get(&Contender::Plain).map_or(0.0, value);
        for (contender, figures) in &self.workers {
            let own = value(figures);
            write!(f, "{own:>10.2}")?;
            if *contender == Contender::Plain {
                continue;
            }
            let ratio = own / plain.max(f64::MIN_POSITIVE);
            write!(f, " {ratio:>6.2}")?;
            if let Some(goal) = goal {
                let missed = if ratio <= goal { "" } else { " MISSED" };
                write!(f, " (at most {goal}){missed}")?;
            }
        }
        writeln!(f)
    }
}

type Value = fn(&Figures) -> f64;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = if self.debug_build { ", debug build" } else { "" };
        let session = if self.session { "in a session" } else { "without a session" };
        writeln!(
            f,
            "peer: calls {session}, {} slots, medians of {} rounds of {} s{build}; ratios to the plain worker",
            self.slots, self.rounds, self.seconds
        )?;
        let names: String =
            Contender::ALL.iter().map(|contender| format!("{:>10}", contender.name())).collect();
        writeln!(f, "  columns: {}", names.split_whitespace().collect::<Vec<_>>().join(", "))?;
        for load in &self.loads {
            writeln!(f, "{} ({} calls)", load.name, load.calls)?;
            if !self.counts_only {
                load.line(f, "CPU us a call", |all| all.cpu_us_per_call, load.cpu_goal)?;
                load.line(f, "p50 ms", |all| all.p50_ms, load.latency_goal)?;
                load.line(f, "p99 ms", |all| all.p99_ms, load.latency_goal)?;
                load.line(f, "calls a second", |all| all.calls_per_s, None)?;
                load.line(f, "memory MiB, peak", |all| all.peak_mib, None)?;
            }
            load.line(f, "write units a call", |all| all.write_units_per_call, None)?;
            load.line(f, "requests a call", |all| all.requests_per_call.values().sum(), None)?;
            for (contender, figures) in &load.workers {
                let kinds = figures.requests_per_call.iter();
                let kinds: Vec<_> = kinds.map(|(kind, each)| format!("{kind} {each:.2}")).collect();
                writeln!(f, "    {}: {}", contender.name(), kinds.join(", "))?;
            }
        }
        for violation in &self.violations {
            writeln!(f, "  VIOLATION {violation}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Count;

    fn args() -> PeerArgs {
        PeerArgs {
            rounds: 3,
            seconds: 1,
            drain_calls: 10,
            rates: vec![400],
            slots: 1,
            session: false,
            counts_only: false,
            worker_bin: None,
            peer_bin: None,
            json: None,
        }
    }

    fn round(contender: Contender, cpu_us: f64, units: f64) -> Round {
        let count = Count { requests: 20, ..Count::default() };
        let write_units = BTreeMap::from([
            ("toolfleet-calls".to_owned(), units * 10.0),
            ("toolfleet-fleet".to_owned(), 7.0),
        ]);
        let operations = BTreeMap::from([("PutItem".to_owned(), count)]);
        let traffic = Traffic { operations, write_units };
        let load = Load::Rate(400);
        let measured = Measured {
            load,
            calls: 10,
            cpu_us,
            p50_us: 1_000,
            p99_us: 2_000,
            per_s: 9.0,
            traffic,
            peak_kib: 2_048,
        };
        Round { contender, measured: vec![measured], violations: Vec::new() }
    }

    #[test]
    fn a_figure_is_the_median_of_its_rounds_and_a_ratio_that_of_medians() {
        let plain = [900.0, 100.0, 200.0].map(|cpu| round(Contender::Plain, cpu, 3.0));
        let ours = [90.0, 100.0, 900.0].map(|cpu| round(Contender::Ours, cpu, 3.0));
        let rest = [200.0; 3].map(|cpu| round(Contender::Claimless, cpu, 2.0));
        let report = Report::of(&args(), &[plain, ours, rest].concat());
        let text = report.to_string();
        assert!(text.contains("CPU us a call             200.00    100.00   0.50 (at most 0.5)"), "{text}");
        assert!(text.contains("plain: PutItem 2.00\n"), "{text}");
        assert_eq!(report.violations, Vec::<String>::new());
    }

    #[test]
    fn a_missed_goal_of_time_is_shown_and_a_wrong_count_is_a_violation() {
        let claimless = round(Contender::Claimless, 40.0, 2.0);
        let rounds = [round(Contender::Plain, 100.0, 3.0), round(Contender::Ours, 60.0, 5.0), claimless];
        let report = Report::of(&args(), &rounds);
        assert!(report.to_string().contains("0.60 (at most 0.5) MISSED"), "{report}");
        assert_eq!(report.violations, ["ours, 400/s: 5.000 write units a call, not 3"]);
    }
}
