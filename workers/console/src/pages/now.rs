//! The fleet now, for those who see all of it: what waits and why, how fast it goes, who works, what is broken, who makes the noise.

use askama::Template;
use toolfleet_client::fleet_words::{age, old_switches, percent, seen_by, stop, switches_of, word};
use toolfleet_client::{FleetView, LimitShown, QueueDepth};
use toolfleet_core::fleet::{BreakerState, FleetSummary, ToolSeen, WorkerRow};
use toolfleet_core::time::{Timestamp, span};

use crate::command::Command;
use crate::console::Visit;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link;
use crate::numbers::{When, bar, count};
use crate::reading::{self, Fleet, Problems};

/// The most lines of a list; what is beyond is counted.
const MOST: usize = 12;

#[derive(Template)]
#[template(path = "now.html")]
struct NowPage {
    frame: Frame,
    /// Why the numbers are old, or that there are none.
    stale: Option<String>,
    /// Which workers go on with old switches.
    old_switches: Option<String>,
    has_summary: bool,
    has_limits: bool,
    has_entries: bool,
    has_workers: bool,
    tiles: Vec<Tile>,
    queues: Vec<QueueLine>,
    held: Vec<BarLine>,
    breakers: List<BreakerLine>,
    limits: List<LimitLine>,
    stops: List<String>,
    tenants: List<BarLine>,
    failures: List<FailureLine>,
    workers: List<WorkerLine>,
}

/// One number with what it means.
struct Tile {
    label: &'static str,
    value: String,
    more: String,
    is_bad: bool,
}

struct QueueLine {
    name: String,
    is_dead: bool,
    is_bad: bool,
    visible: String,
    in_flight: String,
    delayed: String,
    received: String,
    oldest: String,
    bar: u64,
}

/// A name with a number, and the number as a bar.
pub(super) struct BarLine {
    pub(super) name: String,
    pub(super) href: String,
    pub(super) value: String,
    pub(super) bar: u64,
}

struct BreakerLine {
    server: String,
    href: String,
    tenant: String,
    state: &'static str,
    text: String,
    why: String,
}

struct LimitLine {
    target: String,
    value: String,
    waited: String,
    requeued: String,
    tenants: String,
}

struct FailureLine {
    tool: String,
    href: String,
    failures: String,
    calls: String,
    part: String,
    bar: u64,
}

struct WorkerLine {
    id: String,
    state: &'static str,
    is_bad: bool,
    version: String,
    busy: String,
    bar: u64,
    in_hand: String,
    calls: String,
    since: When,
    reported: When,
    switches: String,
    has_old_switches: bool,
}

/// The first lines of a list, and how many more there are.
pub(super) struct List<T> {
    pub(super) lines: Vec<T>,
    pub(super) more: usize,
}

impl<T> List<T> {
    pub(super) fn of(all: Vec<T>, most: usize) -> Self {
        let more = all.len().saturating_sub(most);
        Self { lines: all.into_iter().take(most).collect(), more }
    }
}

pub(super) async fn page(visit: &Visit<'_>) -> Result<String, Failure> {
    let (mut problems, now) = (Problems::of(visit.scope()), visit.now);
    let fleet = reading::fleet(visit.console, now, &mut problems);
    let (fleet, workers) = futures::join!(fleet, visit.console.client.workers());
    let workers = problems.take("The rows of the workers", workers);
    let view = &fleet.view;
    let commands = ["status", "workers", "switches"].map(Command::new).into();
    let page = NowPage {
        frame: Frame::of(visit, "Now", problems, commands),
        stale: stale(&fleet, now),
        old_switches: view.summary.as_ref().filter(|summary| !summary.is_stale(now)).and_then(old_switches),
        has_summary: fleet.has_summary,
        has_limits: fleet.has_limits(),
        has_entries: fleet.has_entries,
        has_workers: workers.is_some(),
        tiles: tiles(&fleet),
        queues: queues(view),
        held: held(view.summary.as_ref()),
        breakers: List::of(breakers(view, now), MOST),
        limits: List::of(limits(view), MOST),
        stops: List::of(view.entries.iter().filter_map(|entry| stop(entry, now)).collect(), MOST),
        tenants: tenants(view.summary.as_ref()),
        failures: failures(view.summary.as_ref()),
        workers: workers_of(workers.unwrap_or_default(), now),
    };
    page.render().map_err(Failure::defect)
}

/// Why the numbers of the workers are old, or that there are none.
pub(super) fn stale(fleet: &Fleet, now: Timestamp) -> Option<String> {
    match &fleet.view.summary {
        // Why it was not read is among the problems.
        None if !fleet.has_summary => None,
        None => Some("No worker has ever reported. Start one: toolfleet-worker".to_owned()),
        Some(summary) if summary.is_stale(now) => {
            Some(format!("No worker has reported for {}. What follows is older.", age(summary.at, now)))
        }
        Some(_) => None,
    }
}

fn tiles(fleet: &Fleet) -> Vec<Tile> {
    let view = &fleet.view;
    let of_queues = |number: u64| if fleet.has_queues { count(number) } else { "not read".to_owned() };
    let calls = || view.queues.iter().filter(|queue| !queue.dead_letter);
    let dead: u64 =
        view.queues.iter().filter(|queue| queue.dead_letter).map(|queue| queue.depth.visible).sum();
    let visible: u64 = calls().map(|queue| queue.depth.visible).sum();
    let delayed: u64 = calls().map(|queue| queue.depth.delayed).sum();
    let oldest = calls().filter_map(|queue| view.seen_of(queue)?.oldest_ms).max();
    let tile = |label, value, more, is_bad| Tile { label, value, more, is_bad };
    let mut tiles =
        vec![tile("Backlog", of_queues(visible), format!("{} delayed", of_queues(delayed)), false)];
    let oldest = oldest.map_or_else(|| "–".to_owned(), span);
    tiles.push(tile("Longest wait", oldest, "of those received last".to_owned(), false));
    if let Some(summary) = &view.summary {
        let workers = &summary.workers;
        tiles.push(tile("Received", count(summary.received_a_minute), "a minute".to_owned(), false));
        tiles.push(tile("Ended", count(summary.ended_a_minute), "a minute".to_owned(), false));
        let slots = format!("{} in hand", count(workers.in_hand));
        tiles.push(tile(
            "Slots busy",
            format!("{} of {}", count(workers.busy), count(workers.slots)),
            slots,
            false,
        ));
        let others = match (workers.draining, workers.not_receiving, workers.dead) {
            (0, 0, 0) => "none draining or dead".to_owned(),
            (draining, 0, dead) => format!("{draining} draining, {dead} dead"),
            (draining, stopped, dead) => format!("{draining} draining, {stopped} not receiving, {dead} dead"),
        };
        let is_bad = workers.dead > 0 || workers.alive == 0;
        tiles.push(tile("Workers", workers.alive.to_string(), others, is_bad));
    }
    tiles.push(tile("Dead letters", of_queues(dead), "wait for a decision".to_owned(), dead > 0));
    tiles
}

fn queues(view: &FleetView) -> Vec<QueueLine> {
    let most = view.queues.iter().map(|queue| queue.depth.visible).max().unwrap_or(0);
    let line = |queue: &QueueDepth| {
        let (depth, seen) = (queue.depth, view.seen_of(queue));
        let none = || "–".to_owned();
        QueueLine {
            name: queue.name.clone(),
            is_dead: queue.dead_letter,
            is_bad: queue.dead_letter && depth.visible > 0,
            visible: count(depth.visible),
            in_flight: count(depth.in_flight),
            delayed: count(depth.delayed),
            received: seen.map_or_else(none, |seen| count(seen.received)),
            oldest: seen.and_then(|seen| seen.oldest_ms).map_or_else(none, span),
            bar: bar(depth.visible, most),
        }
    };
    view.queues.iter().map(line).collect()
}

/// Messages that went back to their queue within a minute, by reason.
fn held(summary: Option<&FleetSummary>) -> Vec<BarLine> {
    let mut reasons: Vec<_> = summary.iter().flat_map(|summary| &summary.held_a_minute).collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let most = reasons.first().map_or(0, |(_, number)| **number);
    let line = |(reason, number): (&String, &u64)| BarLine {
        name: reason.clone(),
        href: String::new(),
        value: count(*number),
        bar: bar(*number, most),
    };
    reasons.into_iter().map(line).collect()
}

fn breakers(view: &FleetView, now: Timestamp) -> Vec<BreakerLine> {
    let mut lines = Vec::new();
    let reason = |why: &Option<String>| why.clone().unwrap_or_default();
    for (id, server) in view.summary.iter().flat_map(|summary| &summary.servers) {
        let line = |tenant: String, state: BreakerState, text, why| BreakerLine {
            server: id.to_string(),
            href: link::server(id.as_str()),
            tenant,
            state: word(state),
            text,
            why,
        };
        let seen = &server.seen;
        if seen.breaker != BreakerState::Closed {
            let text = seen_by(seen.breaker, server.open_in);
            lines
                .push((seen.breaker, line("all".to_owned(), seen.breaker, text, reason(&seen.last_failure))));
        }
        for (tenant, at) in &seen.tenants {
            let asked = at.paused_until.filter(|until| *until > now);
            let text = match asked {
                Some(until) => format!("the server asks to pause, {} more", span(until.ms_since(now))),
                None => "for this tenant".to_owned(),
            };
            if at.breaker != BreakerState::Closed || asked.is_some() {
                lines
                    .push((at.breaker, line(tenant.to_string(), at.breaker, text, reason(&at.last_failure))));
            }
        }
    }
    lines.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
    lines.into_iter().map(|(_, line)| line).collect()
}

fn limits(view: &FleetView) -> Vec<LimitLine> {
    let line = |limit: LimitShown| LimitLine {
        target: limit.target(),
        value: limit.value(),
        waited: count(limit.seen.waited),
        requeued: count(limit.seen.requeued),
        tenants: limit.tenants(),
    };
    view.limits().into_iter().filter(|limit| limit.seen.times() > 0).map(line).collect()
}

fn tenants(summary: Option<&FleetSummary>) -> List<BarLine> {
    let total = summary.map_or(0, FleetSummary::total_slot_ms);
    let noisy = summary.map(FleetSummary::noisiest_tenants).unwrap_or_default();
    let noisy = noisy.into_iter().filter(|(_, ms)| *ms > 0);
    let line = |(tenant, ms): (&toolfleet_core::ids::Tenant, u64)| BarLine {
        name: tenant.to_string(),
        href: link::history(tenant.as_str()).text(),
        value: percent(ms, total),
        bar: bar(ms, total),
    };
    List::of(noisy.map(line).collect(), MOST)
}

fn failures(summary: Option<&FleetSummary>) -> List<FailureLine> {
    let mut failing: Vec<(&String, &ToolSeen)> =
        summary.iter().flat_map(|summary| &summary.tools).filter(|(_, seen)| seen.failures > 0).collect();
    failing.sort_by_key(|(name, seen)| (std::cmp::Reverse((seen.failures, seen.calls)), *name));
    let line = |(tool, seen): (&String, &ToolSeen)| FailureLine {
        tool: link::tool_name(tool).to_owned(),
        href: link::tool(tool),
        failures: count(seen.failures),
        calls: count(seen.calls),
        part: percent(seen.failures, seen.calls),
        bar: bar(seen.failures, seen.calls),
    };
    List::of(failing.into_iter().map(line).collect(), MOST)
}

/// The workers: the dead first, then those with old switches.
fn workers_of(mut rows: Vec<WorkerRow>, now: Timestamp) -> List<WorkerLine> {
    let rank = |row: &WorkerRow| {
        let has_new = !row.has_old_switches();
        (!row.is_dead(now), row.ended, has_new, !row.draining, !row.not_receiving)
    };
    rows.sort_by_key(|row| (rank(row), row.id.clone()));
    let line = |row: WorkerRow| WorkerLine {
        id: row.id.to_string(),
        state: match (row.ended, row.is_dead(now), row.draining) {
            (true, ..) => "exited",
            (false, true, _) => "dead",
            (false, false, true) => "draining",
            (false, false, false) if row.not_receiving => "not receiving",
            (false, false, false) => "running",
        },
        is_bad: row.is_dead(now),
        version: row.version.clone(),
        busy: format!("{} of {}", row.busy, row.slots),
        bar: bar(u64::from(row.busy), u64::from(row.slots)),
        in_hand: row.in_hand.to_string(),
        calls: count(row.calls.total()),
        since: When::clock(row.started_at, now),
        reported: When::ago(row.reported_at, now),
        switches: switches_of(&row),
        has_old_switches: row.is_alive(now) && row.has_old_switches(),
    };
    List::of(rows.into_iter().map(line).collect(), 3 * MOST)
}
