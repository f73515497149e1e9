//! One server: its breaker for all and by tenant, pauses, limits, and its tools with how their calls ended.

use askama::Template;
use toolfleet_client::LimitShown;
use toolfleet_client::fleet_words::{stop, word};
use toolfleet_core::control::{Control, ControlEntry, SwitchTarget};
use toolfleet_core::fleet::{BreakerState, LimitPart, Minute, ServerSummary};
use toolfleet_core::ids::ServerId;
use toolfleet_core::time::{Timestamp, span};

use super::now::stale;
use super::servers::{ServerLine, paused_of, server_line};
use super::tools::{ToolLine, lines, named};
use crate::command::Command;
use crate::console::Visit;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link::Link;
use crate::numbers::count;
use crate::page_of::PageOf;
use crate::period::Period;
use crate::reading::{self, Problems};

/// Tools of a page: each has a plot.
const SIZE: usize = 12;

#[derive(Template)]
#[template(path = "server.html")]
struct ServerPage {
    frame: Frame,
    stale: Option<String>,
    server: ServerLine,
    tenants: Vec<TenantLine>,
    limits: Vec<LimitLine>,
    stops: Vec<String>,
    period: Period,
    periods: Vec<(&'static str, String, bool)>,
    tools: PageOf<ToolLine>,
    has_tools: bool,
    has_summary: bool,
    has_limits: bool,
    has_entries: bool,
}

struct TenantLine {
    tenant: String,
    state: &'static str,
    asked: String,
    why: String,
}

/// A limit of a server or a tool.
pub(super) struct LimitLine {
    pub(super) target: String,
    pub(super) value: String,
    pub(super) by: String,
    pub(super) waited: String,
    pub(super) requeued: String,
    pub(super) tenants: String,
}

pub(super) async fn page(visit: &Visit<'_>) -> Result<String, Failure> {
    visit.sees_whole_fleet()?;
    let Some(id) = visit.query.read::<ServerId>("id")? else {
        return Err(Failure::wrong("id", "is missing; name a server"));
    };
    let (mut problems, now, period) = (Problems::of(visit.scope()), visit.now, Period::of(&visit.query));
    let client = &visit.console.client;
    let parts = period.coarse(Minute::of(now));
    let (fleet, called) = futures::join!(
        reading::fleet_without_queues(visit.console, now, &mut problems),
        client.called_tools(parts.from, parts.to())
    );
    let called = problems.take("The tools of the server", called);
    let (has_tools, called) = (called.is_some(), called.unwrap_or_default());
    let view = &fleet.view;
    let own: Vec<_> = called.into_iter().filter(|tool| tool.server.as_ref() == Some(&id)).collect();
    let address = Link::to("/server").with("id", id.as_str()).with("last", period.as_str());
    let shown = PageOf::of(named(own, view.summary.as_ref(), ""), &visit.query, SIZE, &address);
    let tools = lines(visit, shown, parts, &mut problems).await;
    let none = ServerSummary::default();
    let summary = view.summary.as_ref();
    let server = summary.and_then(|summary| summary.servers.get(&id)).unwrap_or(&none);
    let (limits, control) = (view.limits(), Control::new(0, view.entries.iter().cloned(), now));
    let commands = vec![
        Command::new("servers"),
        Command::new("stats").option("server", id.as_str()).option("last", period.as_str()),
    ];
    let title = format!("Server {id}");
    let page = ServerPage {
        frame: Frame::of(visit, &title, problems, commands),
        stale: stale(&fleet, now),
        server: server_line(
            &id,
            fleet.has_summary.then_some(server),
            &limits,
            &paused_of(&fleet, &id, &control, now),
        ),
        tenants: tenants(server, now),
        limits: limits_of(&limits, |key| key == format!("server:{id}")),
        stops: stops(&view.entries, &id, now),
        period,
        periods: period.offered(&Link::to("/server").with("id", id.as_str())),
        tools,
        has_tools,
        has_summary: fleet.has_summary,
        has_limits: fleet.has_limits(),
        has_entries: fleet.has_entries,
    };
    page.render().map_err(Failure::defect)
}

/// The limits whose key fits.
pub(super) fn limits_of(limits: &[LimitShown], fits: impl Fn(&str) -> bool) -> Vec<LimitLine> {
    let own = limits.iter().filter(|limit| limit.key.as_ref().is_some_and(|(key, _)| fits(key)));
    let line = |limit: &LimitShown| LimitLine {
        target: match limit.key.as_ref().map(|(_, part)| part) {
            Some(LimitPart::Rate) => "rate".to_owned(),
            Some(LimitPart::Concurrency) => "at once".to_owned(),
            Some(LimitPart::Adaptive) => "adaptive".to_owned(),
            Some(LimitPart::RetryBudget) => "retry budget".to_owned(),
            None => limit.target(),
        },
        value: limit.value(),
        by: limit.by.as_ref().map_or_else(|| "catalog".to_owned(), |by| format!("live by {by}")),
        waited: count(limit.seen.waited),
        requeued: count(limit.seen.requeued),
        tenants: limit.tenants(),
    };
    own.map(line).collect()
}

fn tenants(server: &ServerSummary, now: Timestamp) -> Vec<TenantLine> {
    let line = |(tenant, at): (&toolfleet_core::ids::Tenant, &toolfleet_core::fleet::TenantAtServer)| {
        let asked = at.paused_until.filter(|until| *until > now);
        TenantLine {
            tenant: tenant.to_string(),
            state: word(at.breaker),
            asked: asked
                .map_or_else(|| "–".to_owned(), |until| format!("{} more", span(until.ms_since(now)))),
            why: at.last_failure.clone().unwrap_or_default(),
        }
    };
    let differs = |(_, at): &(&toolfleet_core::ids::Tenant, &toolfleet_core::fleet::TenantAtServer)| {
        at.breaker != BreakerState::Closed || at.paused_until.is_some_and(|until| until > now)
    };
    server.seen.tenants.iter().filter(differs).map(line).collect()
}

/// The pauses of the server and of its tools that are named by it.
fn stops(entries: &[ControlEntry], id: &ServerId, now: Timestamp) -> Vec<String> {
    let own = |entry: &&ControlEntry| match entry {
        ControlEntry::Pause(switch) => match &switch.target {
            SwitchTarget::Server(server) => server == id,
            SwitchTarget::Tool(tool) => tool.split_once('/').is_some_and(|(server, _)| server == id.as_str()),
            SwitchTarget::Tenant(_) | SwitchTarget::Queue(_) => false,
        },
        ControlEntry::Strike(_)
        | ControlEntry::Drain { .. }
        | ControlEntry::Limit { .. }
        | ControlEntry::Weight { .. }
        | ControlEntry::Cancel(_) => false,
    };
    entries.iter().filter(own).filter_map(|entry| stop(entry, now)).collect()
}
