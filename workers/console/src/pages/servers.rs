//! The servers: those that are called now, with trouble first, and those of the last two days. Searched, and a page at a time.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use toolfleet_client::LimitShown;
use toolfleet_client::fleet_words::{paused, percent, seen_by, word};
use toolfleet_core::control::Control;
use toolfleet_core::fleet::{BreakerState, LimitPart, Minute, ServerSummary};
use toolfleet_core::ids::ServerId;
use toolfleet_core::time::Timestamp;

use super::now::stale;
use crate::command::Command;
use crate::console::Visit;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link::{self, Link};
use crate::numbers::{count, quantile};
use crate::page_of::PageOf;
use crate::reading::{self, Fleet, Problems};

/// Servers of a page.
const SIZE: usize = 50;
/// How far back a server without a call is still listed, in minutes.
const LISTED_MINUTES: i64 = 24 * 60;

#[derive(Template)]
#[template(path = "servers.html")]
struct ServersPage {
    frame: Frame,
    stale: Option<String>,
    search: String,
    servers: PageOf<ServerLine>,
    was_read: bool,
}

/// What stands where a read failed.
const NOT_READ: &str = "not read";

/// One server as a line.
#[derive(Default)]
pub(super) struct ServerLine {
    pub(super) id: String,
    pub(super) href: String,
    pub(super) state: &'static str,
    pub(super) breaker: String,
    pub(super) paused: String,
    pub(super) limits: String,
    pub(super) in_flight: String,
    pub(super) attempts: String,
    pub(super) failed: String,
    pub(super) is_failing: bool,
    pub(super) p50: String,
    pub(super) p95: String,
    pub(super) last_failure: String,
    pub(super) tools: String,
}

pub(super) async fn page(visit: &Visit<'_>) -> Result<String, Failure> {
    visit.sees_whole_fleet()?;
    let (mut problems, now) = (Problems::of(visit.scope()), visit.now);
    let client = &visit.console.client;
    let to = Minute::of(now);
    let (fleet, tools) = futures::join!(
        reading::fleet_without_queues(visit.console, now, &mut problems),
        client.called_tools(to.plus(-LISTED_MINUTES), to)
    );
    let tools = problems.take("The tools of the last two days", tools);
    let (view, was_read, has_tools) = (&fleet.view, fleet.has_summary && tools.is_some(), tools.is_some());
    let mut of_server: BTreeMap<ServerId, u64> = BTreeMap::new();
    for server in tools.into_iter().flatten().filter_map(|tool| tool.server) {
        let number = of_server.entry(server).or_default();
        *number = number.saturating_add(1);
    }
    let summary = view.summary.as_ref();
    let seen: BTreeMap<_, _> = summary.iter().flat_map(|summary| &summary.servers).collect();
    let search = visit.query.get("q").unwrap_or_default().to_lowercase();
    let all: BTreeSet<&ServerId> = of_server.keys().chain(seen.keys().copied()).collect();
    let mut found: Vec<_> =
        all.into_iter().filter(|id| id.as_str().to_lowercase().contains(&search)).collect();
    let trouble = |id: &&ServerId| {
        let seen = seen.get(id).map(|server| &server.seen);
        std::cmp::Reverse(seen.map(|seen| (seen.breaker, seen.failures, seen.attempts)))
    };
    found.sort_by_key(|id| (trouble(id), *id));
    let (limits, control) = (view.limits(), Control::new(0, view.entries.iter().cloned(), now));
    let address = Link::to("/servers").with_some("q", visit.query.get("q"));
    let none = ServerSummary::default();
    let servers = PageOf::of(found, &visit.query, SIZE, &address).map(|id| {
        let server = fleet.has_summary.then(|| seen.get(id).copied().unwrap_or(&none));
        let tools = of_server.get(id).copied().unwrap_or(0);
        let tools = if has_tools { count(tools) } else { NOT_READ.to_owned() };
        let paused = paused_of(&fleet, id, &control, now);
        ServerLine { tools, ..server_line(id, server, &limits, &paused) }
    });
    let page = ServersPage {
        frame: Frame::of(visit, "Servers", problems, vec![Command::new("servers")]),
        stale: stale(&fleet, now),
        search: visit.query.get("q").unwrap_or_default().to_owned(),
        servers,
        was_read,
    };
    page.render().map_err(Failure::defect)
}

/// Whether a server is paused, as far as that was read.
pub(super) fn paused_of(fleet: &Fleet, id: &ServerId, control: &Control, now: Timestamp) -> String {
    if fleet.has_entries { paused(id, control, now) } else { NOT_READ.to_owned() }
}

/// A server with what the workers saw of it in the last five minutes.
pub(super) fn server_line(
    id: &ServerId,
    server: Option<&ServerSummary>,
    limits: &[LimitShown],
    paused: &str,
) -> ServerLine {
    let line = ServerLine {
        id: id.to_string(),
        href: link::server(id.as_str()),
        paused: paused.to_owned(),
        ..ServerLine::default()
    };
    let Some(server) = server else {
        let unread = || NOT_READ.to_owned();
        return ServerLine {
            state: NOT_READ,
            breaker: unread(),
            limits: unread(),
            in_flight: unread(),
            attempts: unread(),
            failed: unread(),
            p50: unread(),
            p95: unread(),
            ..line
        };
    };
    let seen = &server.seen;
    let key = format!("server:{id}");
    let own = |limit: &&LimitShown| {
        limit.key.as_ref().is_some_and(|(limit, part)| *limit == key && *part != LimitPart::RetryBudget)
    };
    let limits: Vec<_> = limits.iter().filter(own).map(LimitShown::value).collect();
    ServerLine {
        state: word(seen.breaker),
        breaker: match seen.breaker {
            BreakerState::Closed => "closed".to_owned(),
            state @ (BreakerState::HalfOpen | BreakerState::Open) => seen_by(state, server.open_in),
        },
        limits: limits.join(", "),
        in_flight: count(seen.in_flight),
        attempts: count(seen.attempts),
        failed: if seen.attempts == 0 { "–".to_owned() } else { percent(seen.failures, seen.attempts) },
        is_failing: seen.failures > 0,
        p50: quantile(&seen.latency, 50),
        p95: quantile(&seen.latency, 95),
        last_failure: seen.last_failure.clone().unwrap_or_default(),
        ..line
    }
}
