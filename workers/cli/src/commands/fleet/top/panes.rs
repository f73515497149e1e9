//! The panes of `toolfleet top` beside the overview: servers, limits, tenants, tools, and what operators have set.

use toolfleet_client::FleetView;
use toolfleet_client::fleet_words::{lasts, percent, quantile, stop, word};
use toolfleet_core::control::{Control, ControlEntry};
use toolfleet_core::fleet::{BreakerState, FleetSummary};
use toolfleet_core::limits::LimitKey;
use toolfleet_core::time::Timestamp;

use super::super::lines::{Grid, Line, Tone};
use super::super::overview::tools;
use crate::show;

/// The servers that were called lately, those with trouble first.
pub(super) fn servers(view: &FleetView, now: Timestamp, width: usize) -> Vec<Line> {
    let Some(summary) = &view.summary else { return nothing("no worker has reported yet") };
    if summary.servers.is_empty() {
        return nothing("no server was called in the last five minutes, and every breaker is closed");
    }
    let head = ["server", "breaker", "flight", "calls", "failed", "p50", "p95", "last failure"];
    let mut grid = Grid::new(&head, 2..7);
    let mut all: Vec<_> = summary.servers.iter().collect();
    all.sort_by_key(|(id, server)| {
        (std::cmp::Reverse((server.seen.breaker, server.seen.failures, server.seen.attempts)), *id)
    });
    for (id, server) in all {
        let seen = &server.seen;
        let tone = if seen.breaker == BreakerState::Closed { Tone::Plain } else { Tone::Alarm };
        grid.row(
            tone,
            vec![
                id.to_string(),
                word(seen.breaker).to_owned(),
                seen.in_flight.to_string(),
                seen.attempts.to_string(),
                percent(seen.failures, seen.attempts),
                quantile(&seen.latency, 50),
                quantile(&seen.latency, 95),
                seen.last_failure.clone().unwrap_or_default(),
            ],
        );
        for (tenant, at) in &seen.tenants {
            let asked = at.paused_until.filter(|until| *until > now);
            let asked = asked.map(|until| format!("asks to pause, {} more", show::span(until.ms_since(now))));
            let why = at.last_failure.clone().or(asked).unwrap_or_default();
            let mut cells = vec![format!("  {tenant}"), word(at.breaker).to_owned()];
            cells.extend(std::iter::repeat_n(String::new(), 5));
            cells.push(why);
            grid.row(Tone::Notice, cells);
        }
    }
    grid.lines(width)
}

/// The limits, those that bind first.
pub(super) fn limits(view: &FleetView, width: usize) -> Vec<Line> {
    let limits = view.limits();
    if limits.is_empty() {
        return nothing("no limit is in the catalog or set by operators");
    }
    let mut grid = Grid::new(&["limit", "value", "waited", "back", "set by", "tenants"], 2..4);
    for limit in limits {
        let tone = if limit.seen.times() > 0 { Tone::Notice } else { Tone::Plain };
        grid.row(
            tone,
            vec![
                limit.target(),
                limit.value(),
                limit.seen.waited.to_string(),
                limit.seen.requeued.to_string(),
                limit.by.clone().unwrap_or_else(|| "catalog".to_owned()),
                limit.tenants(),
            ],
        );
    }
    grid.lines(width)
}

/// The tenants with slot time in the last minute, the noisiest first.
pub(super) fn tenants(view: &FleetView, now: Timestamp, width: usize) -> Vec<Line> {
    let Some(summary) = view.summary.as_ref().filter(|summary| summary.total_slot_ms() > 0) else {
        return nothing("no call had a slot in the last minute");
    };
    let control = Control::new(0, view.entries.iter().cloned(), now);
    let mut grid = Grid::new(&["tenant", "share", "slot time/min", "weight"], 1..4);
    let total_ms = summary.total_slot_ms();
    for (tenant, ms) in summary.noisiest_tenants() {
        let weight = control.weight_of(tenant).to_string();
        grid.row(Tone::Plain, vec![tenant.to_string(), percent(ms, total_ms), show::span(ms), weight]);
    }
    let others_ms = summary.other_slot_ms_a_minute;
    if others_ms > 0 {
        let cells = vec!["others".into(), percent(others_ms, total_ms), show::span(others_ms), String::new()];
        grid.row(Tone::Faint, cells);
    }
    grid.lines(width)
}

/// The tools of the last minutes, those with most failures first.
pub(super) fn of_tools(view: &FleetView, width: usize) -> Vec<Line> {
    let listed = view.summary.as_ref().map(tools).unwrap_or_default();
    if listed.is_empty() {
        return nothing("no call ended in the last five minutes");
    }
    let mut grid = Grid::new(&["tool", "calls", "failed", "part"], 1..4);
    for (tool, seen) in listed {
        let tone = if seen.failures > 0 { Tone::Alarm } else { Tone::Plain };
        let part = percent(seen.failures, seen.calls);
        grid.row(tone, vec![tool.clone(), seen.calls.to_string(), seen.failures.to_string(), part]);
    }
    grid.lines(width)
}

/// What operators have set.
pub(super) fn switches(view: &FleetView, now: Timestamp) -> Vec<Line> {
    let set: Vec<_> = view.entries.iter().filter(|entry| !entry.is_over(now)).collect();
    if set.is_empty() {
        return nothing("operators have set nothing");
    }
    set.into_iter().map(|entry| Line::new(Tone::Notice, setting(entry, now))).collect()
}

fn setting(entry: &ControlEntry, now: Timestamp) -> String {
    let text = match entry {
        ControlEntry::Pause(_) | ControlEntry::Strike(_) => return stop(entry, now).unwrap_or_default(),
        ControlEntry::Drain { worker, .. } => format!("worker {worker} drains"),
        ControlEntry::Limit { limit, change, .. } => {
            let rate = change.rate.map(|rate| rate.to_string());
            let most = change.concurrency.map(|most| format!("{most} at once"));
            let change = rate.into_iter().chain(most).collect::<Vec<_>>().join(", ");
            format!("limit {}: {change}", LimitKey::name_of(limit))
        }
        ControlEntry::Weight { tenant, weight, .. } => format!("weight of {tenant}: {weight}"),
        ControlEntry::Cancel(rule) => format!("cancel rule {}", rule.id),
    };
    let (by, why) = entry.by();
    format!("{text}, set by {by}{}: {why}", lasts(entry, now))
}

fn nothing(text: &str) -> Vec<Line> {
    vec![Line::new(Tone::Faint, text)]
}

/// How old the data are, for the title.
pub(super) fn data_age(summary: Option<&FleetSummary>, now: Timestamp) -> String {
    summary.map_or_else(
        || "no data".to_owned(),
        |summary| format!("data {} s old", now.ms_since(summary.at) / 1_000),
    )
}
