//! The tools that were called in a period: how their calls ended, and how long they took. Only the tools of the page are read.

use askama::Template;
use futures::{StreamExt as _, stream};
use toolfleet_client::fleet_words::percent;
use toolfleet_client::{CalledTool, Parts};
use toolfleet_core::fleet::{FleetSummary, Minute, Rollup};
use toolfleet_core::outcome::OutcomeKind;

use crate::command::Command;
use crate::console::Visit;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link::{self, Link};
use crate::numbers::{count, quantile};
use crate::page_of::PageOf;
use crate::period::Period;
use crate::plot::OutcomePlot;
use crate::reading::Problems;

/// Tools of a page: each has a plot.
const SIZE: usize = 20;
/// Tools that are read at once.
const AT_ONCE: usize = 8;

#[derive(Template)]
#[template(path = "tools.html")]
struct ToolsPage {
    frame: Frame,
    search: String,
    period: Period,
    periods: Vec<(&'static str, String, bool)>,
    tools: PageOf<ToolLine>,
    has_tools: bool,
}

/// One tool as a line.
pub(super) struct ToolLine {
    pub(super) name: String,
    pub(super) href: String,
    pub(super) server: String,
    pub(super) server_href: String,
    pub(super) calls: String,
    pub(super) succeeded: String,
    pub(super) tool_errors: String,
    pub(super) failed: String,
    pub(super) has_tool_errors: bool,
    pub(super) has_failed: bool,
    pub(super) p50: String,
    pub(super) p95: String,
    pub(super) plot: OutcomePlot,
}

pub(super) async fn page(visit: &Visit<'_>) -> Result<String, Failure> {
    visit.sees_whole_fleet()?;
    let (mut problems, period) = (Problems::of(visit.scope()), Period::of(&visit.query));
    let client = &visit.console.client;
    let parts = period.coarse(Minute::of(visit.now));
    let (called, summary) = futures::join!(client.called_tools(parts.from, parts.to()), client.summary());
    let called = problems.take("The tools of the period", called);
    let (has_tools, called) = (called.is_some(), called.unwrap_or_default());
    let summary = problems.take("The summary of the workers", summary).flatten();
    let search = visit.query.get("q").unwrap_or_default();
    let address = Link::to("/tools").with_some("q", visit.query.get("q"));
    let of_page = address.clone().with("last", period.as_str());
    let shown = PageOf::of(named(called, summary.as_ref(), search), &visit.query, SIZE, &of_page);
    let tools = lines(visit, shown, parts, &mut problems).await;
    let command = Command::new("stats").option("last", period.as_str());
    let page = ToolsPage {
        frame: Frame::of(visit, "Tools", problems, vec![command]),
        search: search.to_owned(),
        period,
        periods: period.offered(&address),
        tools,
        has_tools,
    };
    page.render().map_err(Failure::defect)
}

/// The tools whose name or server has that text, those that fail now first.
pub(super) fn named(
    called: Vec<CalledTool>,
    summary: Option<&FleetSummary>,
    search: &str,
) -> Vec<CalledTool> {
    let search = search.to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&search);
    let fits = |tool: &CalledTool| has(&tool.tool) || tool.server.as_ref().is_some_and(|id| has(id.as_str()));
    let mut found: Vec<_> = called.into_iter().filter(fits).collect();
    let failures =
        |tool: &str| summary.and_then(|summary| summary.tools.get(tool)).map_or(0, |seen| seen.failures);
    found.sort_by_cached_key(|tool| (std::cmp::Reverse(failures(&tool.tool)), tool.tool.clone()));
    found
}

/// The lines of a page of tools.
pub(super) async fn lines(
    visit: &Visit<'_>,
    page: PageOf<CalledTool>,
    parts: Parts,
    problems: &mut Problems<'_>,
) -> PageOf<ToolLine> {
    let client = &visit.console.client;
    // Without them the counts of each minute are read.
    let hours = problems.take("The sums of hours", client.summed_hours(parts).await).unwrap_or_default();
    let mut reads = Vec::new();
    for tool in &page.items {
        reads.push(client.tool_series(&tool.tool, parts, &hours));
    }
    let series: Vec<_> = stream::iter(reads).buffered(AT_ONCE).collect().await;
    let mut series = series.into_iter();
    page.map(|tool| {
        let read = series.next().unwrap_or_else(|| Ok(Vec::new()));
        let what = format!("The counts of {}", tool.tool);
        let series = problems.take(&what, read);
        tool_line(&tool, series.as_deref(), parts)
    })
}

fn tool_line(tool: &CalledTool, series: Option<&[Rollup]>, parts: Parts) -> ToolLine {
    let (was_read, series) = (series.is_some(), series.unwrap_or_default());
    let mut all = Rollup::default();
    series.iter().for_each(|rollup| all.merge(rollup));
    let (calls, of_tool) = (all.calls.total(), all.calls.of(OutcomeKind::ToolError));
    let failed = all.calls.failures().saturating_sub(of_tool);
    let part = |number: u64| if calls == 0 { "–".to_owned() } else { percent(number, calls) };
    ToolLine {
        name: link::tool_name(&tool.tool).to_owned(),
        href: link::tool(&tool.tool),
        server: tool.server.as_ref().map(ToString::to_string).unwrap_or_default(),
        server_href: tool.server.as_ref().map(|id| link::server(id.as_str())).unwrap_or_default(),
        calls: if was_read { count(calls) } else { "not read".to_owned() },
        succeeded: part(all.calls.of(OutcomeKind::Succeeded)),
        tool_errors: part(of_tool),
        has_tool_errors: of_tool > 0,
        failed: part(failed),
        has_failed: failed > 0,
        p50: quantile(&all.duration, 50),
        p95: quantile(&all.duration, 95),
        plot: OutcomePlot::new(series, parts, false),
    }
}
