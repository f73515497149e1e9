//! The fleet on one screen: workers and rates, queues, and then what an operator looks for: breakers, limits, pauses, tenants, failures.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use toolfleet_client::FleetView;
use toolfleet_client::fleet_words::{age, old_switches, percent, seen_by, stop, word};
use toolfleet_core::control::ControlEntry;
use toolfleet_core::fleet::{BreakerState, FleetSummary, OTHER_TOOLS, Runnable, ToolSeen};
use toolfleet_core::printable::one_line;
use toolfleet_core::time::Timestamp;

use super::lines::{Grid, Line, Tone, cut};
use crate::show;

/// The columns before what a line says.
const LABEL: usize = 10;
/// The most lines of one group.
const MOST: usize = 5;

/// The lines on the workers, the calls of a minute, and how old that is if nobody renews it.
pub(super) fn head(view: &FleetView, now: Timestamp, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    match &view.summary {
        None => {
            let remedy = "none has ever reported: start one (toolfleet-worker)";
            lines.push(labelled(Tone::Alarm, "workers", remedy));
        }
        Some(summary) if summary.is_stale(now) => {
            let text = format!("none has reported for {}; all below is older", age(summary.at, now));
            lines.push(labelled(Tone::Alarm, "workers", &text));
            lines.extend(rates(summary));
        }
        Some(summary) => {
            lines.push(labelled(tone_of_workers(summary), "workers", &workers(summary)));
            lines.extend(old_switches(summary).map(|text| labelled(Tone::Alarm, "switches", &text)));
            lines.extend(rates(summary));
        }
    }
    within(lines, width)
}

/// The table of the queues.
pub(super) fn queues(view: &FleetView, width: usize) -> Vec<Line> {
    let mut grid = Grid::new(&["queue", "visible", "flight", "delayed", "in/min", "oldest"], 1..5);
    for queue in &view.queues {
        let seen = view.seen_of(queue);
        let depth = queue.depth;
        let tone = if queue.dead_letter && depth.visible > 0 { Tone::Alarm } else { Tone::Plain };
        // A dead-letter queue is read by nobody: it has no rate and no age here.
        let none = || "-".to_owned();
        let rate = seen.map_or_else(none, |seen| seen.received.to_string());
        let oldest = seen.and_then(|seen| seen.oldest_ms).map_or_else(none, show::span);
        let oldest = if queue.dead_letter { "-".to_owned() } else { oldest };
        let counts = [depth.visible, depth.in_flight, depth.delayed].map(|count| count.to_string());
        grid.row(tone, std::iter::once(queue.name.clone()).chain(counts).chain([rate, oldest]).collect());
    }
    grid.lines(width)
}

/// What an operator looks for, in so many lines at most: each group has one line at least, and says so where there is nothing.
pub(super) fn groups(view: &FleetView, now: Timestamp, width: usize, height: usize) -> Vec<Line> {
    let groups = [breakers(view, now), limits(view), settings(view, now), tenants(view), failures(view)];
    let mut shown = [0_usize; 5];
    let mut left = height;
    // One line of each first, and then more of each in turn.
    for round in 0..MOST {
        for (count, group) in shown.iter_mut().zip(&groups) {
            if left > 0 && group.lines.len() > round {
                *count = count.saturating_add(1);
                left = left.saturating_sub(1);
            }
        }
    }
    let mut lines = Vec::new();
    for (group, shown) in groups.into_iter().zip(shown) {
        let hidden = group.lines.len().saturating_sub(shown);
        for (index, (tone, text)) in group.lines.into_iter().take(shown).enumerate() {
            let label = if index == 0 { group.label } else { "" };
            let more =
                if hidden > 0 && index + 1 == shown { format!(" (+{hidden} more)") } else { String::new() };
            let text = cut(&one_line(&text), width.saturating_sub(LABEL + more.len()));
            lines.push(labelled(tone, label, &format!("{text}{more}")));
        }
    }
    within(lines, width)
}

/// Lines that belong together.
struct Group {
    label: &'static str,
    lines: Vec<(Tone, String)>,
}

impl Group {
    /// Of these lines; `none` where there are none.
    fn of(label: &'static str, lines: Vec<(Tone, String)>, none: &str) -> Self {
        let lines = if lines.is_empty() { vec![(Tone::Faint, none.to_owned())] } else { lines };
        Self { label, lines }
    }
}

fn breakers(view: &FleetView, now: Timestamp) -> Group {
    let mut lines = Vec::new();
    let because = |why: &Option<String>| why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    for (id, server) in view.summary.iter().flat_map(|summary| &summary.servers) {
        let seen = &server.seen;
        if seen.breaker != BreakerState::Closed {
            let why = because(&seen.last_failure);
            let text = format!("{id} {}{why}", seen_by(seen.breaker, server.open_in));
            lines.push((Reverse(seen.breaker), Tone::Alarm, text));
        }
        for (tenant, at) in &seen.tenants {
            if at.breaker != BreakerState::Closed {
                let why = because(&at.last_failure);
                let text = format!("{id} {} for tenant {tenant}{why}", word(at.breaker));
                lines.push((Reverse(at.breaker), Tone::Alarm, text));
            } else if let Some(until) = at.paused_until.filter(|until| *until > now) {
                let text = format!("{id} asks {tenant} to pause, {} more", show::span(until.ms_since(now)));
                lines.push((Reverse(BreakerState::Closed), Tone::Notice, text));
            }
        }
    }
    // What is open comes first.
    lines.sort_by_key(|(state, ..)| *state);
    Group::of("breakers", lines.into_iter().map(|(_, tone, text)| (tone, text)).collect(), "all closed")
}

fn limits(view: &FleetView) -> Group {
    let binding = view.limits().into_iter().filter(|limit| limit.seen.times() > 0);
    let lines = binding.map(|limit| (Tone::Notice, limit.sentence())).collect();
    Group::of("limits", lines, "none made a call wait in the last 5 min")
}

fn settings(view: &FleetView, now: Timestamp) -> Group {
    let set: Vec<_> = view.entries.iter().filter(|entry| !entry.is_over(now)).collect();
    let stops = set.iter().filter_map(|entry| stop(entry, now));
    let mut lines: Vec<_> = stops.map(|text| (Tone::Notice, text)).collect();
    let mut kinds = BTreeMap::new();
    for kind in set.into_iter().filter_map(kind_of_change) {
        let count: &mut usize = kinds.entry(kind).or_default();
        *count = count.saturating_add(1);
    }
    if !kinds.is_empty() {
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let counts: Vec<_> = kinds.into_iter().map(|(kind, n)| format!("{n} {kind}{}", plural(n))).collect();
        lines.push((Tone::Plain, format!("{} (toolfleet switches)", counts.join(", "))));
    }
    Group::of("set", lines, "nothing paused or changed by operators")
}

const fn kind_of_change(entry: &ControlEntry) -> Option<&'static str> {
    match entry {
        ControlEntry::Pause(_) | ControlEntry::Strike(_) => None,
        ControlEntry::Drain { .. } => Some("drain"),
        ControlEntry::Limit { .. } => Some("limit change"),
        ControlEntry::Weight { .. } => Some("weight"),
        ControlEntry::Cancel(_) => Some("cancel rule"),
    }
}

fn tenants(view: &FleetView) -> Group {
    let of = |summary: &FleetSummary| {
        let noisy = summary.noisiest_tenants().into_iter().filter(|(_, ms)| *ms > 0).take(MOST);
        let total_ms = summary.total_slot_ms();
        noisy.map(|(tenant, ms)| format!("{tenant} {}", percent(ms, total_ms))).collect::<Vec<_>>().join(", ")
    };
    let text = view.summary.as_ref().map(of).filter(|text| !text.is_empty());
    let lines = text.map(|text| (Tone::Plain, format!("slot time: {text}"))).into_iter().collect();
    Group::of("tenants", lines, "no call had a slot in the last minute")
}

/// The tools, those with most failures first.
pub(super) fn tools(summary: &FleetSummary) -> Vec<(&String, &ToolSeen)> {
    let mut tools: Vec<_> = summary.tools.iter().collect();
    tools.sort_by_key(|(name, seen)| (Reverse((seen.failures, seen.calls)), *name));
    tools
}

fn failures(view: &FleetView) -> Group {
    let failing = view.summary.iter().flat_map(tools).filter(|(_, seen)| seen.failures > 0);
    let line = |(tool, seen): (&String, &ToolSeen)| {
        let part = percent(seen.failures, seen.calls);
        let tool = match (tool.as_str(), tool.strip_suffix("/*")) {
            (OTHER_TOOLS, _) => "other tools".to_owned(),
            (_, Some(server)) => format!("{server}, beside its tools"),
            (tool, None) => tool.to_owned(),
        };
        (Tone::Alarm, format!("{tool}: {} of {} calls ({part})", seen.failures, seen.calls))
    };
    Group::of("failures", failing.map(line).collect(), "no call failed in the last 5 min")
}

const fn tone_of_workers(summary: &FleetSummary) -> Tone {
    let workers = &summary.workers;
    if workers.dead > 0 || workers.alive == 0 { Tone::Alarm } else { Tone::Plain }
}

fn workers(summary: &FleetSummary) -> String {
    let workers = &summary.workers;
    let versions: Vec<_> = match workers.versions.len() {
        0 | 1 => workers.versions.keys().cloned().collect(),
        _ => workers.versions.iter().map(|(version, n)| format!("{n} of {version}")).collect(),
    };
    let counts = [(workers.draining, "draining"), (workers.not_receiving, "not receiving")];
    let counts: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let draining = if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) };
    let dead = if workers.dead > 0 { format!(", {} dead", workers.dead) } else { String::new() };
    format!(
        "{} running{draining}{dead}; {} of {} slots busy, {} calls in hand; {}",
        workers.alive,
        workers.busy,
        workers.slots,
        workers.in_hand,
        versions.join(", ")
    )
}

fn rates(summary: &FleetSummary) -> Vec<Line> {
    let text = format!("{} received, {} ended", summary.received_a_minute, summary.ended_a_minute);
    let work = summary
        .runnable
        .map(|runnable| labelled(tone_of_work(summary, &runnable), "work", &work(summary, &runnable)));
    let held = summary.held_a_minute.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
    if held == 0 {
        let rates = labelled(Tone::Plain, "a minute", &format!("{text}, none went back to the queue"));
        return work.into_iter().chain([rates]).collect();
    }
    let mut reasons: Vec<_> = summary.held_a_minute.iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let reasons: Vec<_> = reasons.into_iter().map(|(why, count)| format!("{count} {why}")).collect();
    let back = format!("{held} a minute: {}", reasons.join(", "));
    let rates = [labelled(Tone::Plain, "a minute", &text), labelled(Tone::Plain, "went back", &back)];
    work.into_iter().chain(rates).collect()
}

/// The work that runs or could run, and whether there are slots for it.
fn work(summary: &FleetSummary, runnable: &Runnable) -> String {
    format!(
        "{} wanted of {}; {} of slot time wait, {} run",
        show::count(runnable.wanted_slots, "slot"),
        summary.workers.slots,
        show::span(runnable.waiting_seconds().saturating_mul(1_000)),
        show::span(runnable.running_ms)
    )
}

const fn tone_of_work(summary: &FleetSummary, runnable: &Runnable) -> Tone {
    if runnable.wanted_slots > summary.workers.slots { Tone::Notice } else { Tone::Plain }
}

fn labelled(tone: Tone, label: &str, text: &str) -> Line {
    Line::new(tone, format!("{label:LABEL$}{text}"))
}

fn within(lines: Vec<Line>, width: usize) -> Vec<Line> {
    lines.into_iter().map(|line| line.within(width)).collect()
}
