//! The servers: those that are called now, with trouble first, and those of the last two days. Searched, and a page at a time.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use toolfleet_client::LimitShown;
use toolfleet_client::fleet_words::{paused, percent, seen_by, word};
use toolfleet_core::control::Control;
use toolfleet_core::fleet::{BreakerState, LimitPart, Minute, ServerSummary};
use toolfleet_core::ids::ServerId;

use super::now::stale;
use crate::command::Command;
use crate::console::Visit;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link::{self, Link};
use crate::numbers::{count, quantile};
use crate::page_of::PageOf;
use crate::reading::{self, Problems};

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
}

/// One server as a line.
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
    let (view, tools) = futures::join!(
        reading::fleet_without_queues(visit.console, now, &mut problems),
        client.called_tools(to.plus(-LISTED_MINUTES), to)
    );
    let tools = problems.take("The tools of the last two days", tools).unwrap_or_default();
    let mut of_server: BTreeMap<ServerId, u64> = BTreeMap::new();
    for server in tools.into_iter().filter_map(|tool| tool.server) {
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
        let server = seen.get(id).copied().unwrap_or(&none);
        let tools = of_server.get(id).copied().unwrap_or(0);
        ServerLine { tools: count(tools), ..server_line(id, server, &limits, &paused(id, &control, now)) }
    });
    let page = ServersPage {
        frame: Frame::of(visit, "Servers", problems, vec![Command::new("servers")]),
        stale: stale(summary, now),
        search: visit.query.get("q").unwrap_or_default().to_owned(),
        servers,
    };
    page.render().map_err(Failure::defect)
}

/// A server with what the workers saw of it in the last five minutes.
pub(super) fn server_line(
    id: &ServerId,
    server: &ServerSummary,
    limits: &[LimitShown],
    paused: &str,
) -> ServerLine {
    let seen = &server.seen;
    let key = format!("server:{id}");
    let own = |limit: &&LimitShown| {
        limit.key.as_ref().is_some_and(|(limit, part)| *limit == key && *part != LimitPart::RetryBudget)
    };
    let limits: Vec<_> = limits.iter().filter(own).map(LimitShown::value).collect();
    ServerLine {
        id: id.to_string(),
        href: link::server(id.as_str()),
        state: word(seen.breaker),
        breaker: match seen.breaker {
            BreakerState::Closed => "closed".to_owned(),
            state @ (BreakerState::HalfOpen | BreakerState::Open) => seen_by(state, server.open_in),
        },
        paused: paused.to_owned(),
        limits: limits.join(", "),
        in_flight: count(seen.in_flight),
        attempts: count(seen.attempts),
        failed: if seen.attempts == 0 { "–".to_owned() } else { percent(seen.failures, seen.attempts) },
        is_failing: seen.failures > 0,
        p50: quantile(&seen.latency, 50),
        p95: quantile(&seen.latency, 95),
        last_failure: seen.last_failure.clone().unwrap_or_default(),
        tools: String::new(),
    }
}
