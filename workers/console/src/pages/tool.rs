//! One tool: how its calls ended over a period, how long they took, its limits and what operators have stopped.

use askama::Template;
use toolfleet_client::fleet_words::{percent, stop};
use toolfleet_core::control::{ControlEntry, SwitchTarget};
use toolfleet_core::fleet::{Minute, Rollup};
use toolfleet_core::ids::ServerId;

use super::server::{LimitLine, limits_of};
use crate::command::Command;
use crate::console::Visit;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link::{self, Link};
use crate::numbers::{bar, count, quantile};
use crate::period::Period;
use crate::plot::{LatencyPlot, OutcomePlot, times};
use crate::reading::{self, Problems};

/// A longer text is the name of no tool.
const LONGEST_NAME: usize = 300;

#[derive(Template)]
#[template(path = "tool.html")]
struct ToolPage {
    frame: Frame,
    server: Option<(String, String)>,
    period: Period,
    periods: Vec<(&'static str, String, bool)>,
    facts: Vec<(&'static str, String)>,
    outcomes: Vec<OutcomeLine>,
    plot: OutcomePlot,
    latency: LatencyPlot,
    times: Vec<String>,
    limits: Vec<LimitLine>,
    stops: Vec<String>,
    is_empty: bool,
    has_counts: bool,
    has_limits: bool,
    has_entries: bool,
}

struct OutcomeLine {
    outcome: &'static str,
    is_failure: bool,
    calls: String,
    part: String,
    bar: u64,
}

pub(super) async fn page(visit: &Visit<'_>) -> Result<String, Failure> {
    visit.sees_whole_fleet()?;
    let Some(name) = visit.query.get("name") else {
        return Err(Failure::wrong("name", "is missing; name a tool"));
    };
    if name.len() > LONGEST_NAME || name.contains('#') {
        return Err(Failure::wrong("name", "is the name of no tool"));
    }
    let (mut problems, now, period) = (Problems::of(visit.scope()), visit.now, Period::of(&visit.query));
    let client = &visit.console.client;
    let parts = period.fine(Minute::of(now));
    let hours = problems.take("The sums of hours", client.summed_hours(parts).await).unwrap_or_default();
    let (fleet, series, called) = futures::join!(
        reading::fleet_without_queues(visit.console, now, &mut problems),
        client.tool_series(name, parts, &hours),
        client.called_tools(parts.to().plus(-60), parts.to())
    );
    let series = problems.take("The counts of the tool", series);
    let (has_counts, series) = (series.is_some(), series.unwrap_or_default());
    let view = &fleet.view;
    let called = problems.take("The server of the tool", called).unwrap_or_default();
    let server: Option<ServerId> =
        called.into_iter().find(|tool| tool.tool == name).and_then(|tool| tool.server);
    let mut all = Rollup::default();
    series.iter().for_each(|rollup| all.merge(rollup));
    let stops =
        view.entries.iter().filter(|entry| stops_tool(entry, name)).filter_map(|entry| stop(entry, now));
    let stops = stops.collect();
    let command = Command::new("stats").option("tool", name).option("last", period.as_str());
    let title = format!("Tool {}", link::tool_name(name));
    let page = ToolPage {
        frame: Frame::of(visit, &title, problems, vec![command]),
        server: server.map(|id| (id.to_string(), link::server(id.as_str()))),
        period,
        periods: period.offered(&Link::to("/tool").with("name", name)),
        facts: facts(&all),
        outcomes: outcomes(&all),
        plot: OutcomePlot::new(&series, parts, true),
        latency: LatencyPlot::new(&series),
        times: times(parts),
        limits: limits_of(&view.limits(), |key| key == format!("tool:{name}")),
        stops,
        has_counts,
        has_limits: fleet.has_limits(),
        has_entries: fleet.has_entries,
        is_empty: all.calls.is_empty(),
    };
    page.render().map_err(Failure::defect)
}

fn facts(all: &Rollup) -> Vec<(&'static str, String)> {
    let calls = all.calls.total();
    vec![
        ("Calls", count(calls)),
        ("Attempts", count(all.attempts)),
        ("p50", quantile(&all.duration, 50)),
        ("p95", quantile(&all.duration, 95)),
        ("p99", quantile(&all.duration, 99)),
        ("Stored answers", count(all.cached)),
        ("Needed no request of their own", count(all.saved())),
    ]
}

fn outcomes(all: &Rollup) -> Vec<OutcomeLine> {
    let calls = all.calls.total();
    let line = |(kind, number): (toolfleet_core::outcome::OutcomeKind, u64)| OutcomeLine {
        outcome: kind.as_str(),
        is_failure: kind.is_failure(),
        calls: count(number),
        part: percent(number, calls),
        bar: bar(number, calls),
    };
    all.calls.iter().filter(|(_, number)| *number > 0).map(line).collect()
}

/// Whether a pause is of this tool.
fn stops_tool(entry: &ControlEntry, name: &str) -> bool {
    match entry {
        ControlEntry::Pause(switch) => match &switch.target {
            SwitchTarget::Tool(tool) => tool == name,
            SwitchTarget::Server(_) | SwitchTarget::Tenant(_) | SwitchTarget::Queue(_) => false,
        },
        ControlEntry::Strike(_)
        | ControlEntry::Drain { .. }
        | ControlEntry::Limit { .. }
        | ControlEntry::Weight { .. }
        | ControlEntry::Cancel(_) => false,
    }
}
