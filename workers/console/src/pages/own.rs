//! The first page of a visitor whose token opens some tenants: their share of the fleet, what makes their calls wait, what failed lately.

use std::time::Duration;

use askama::Template;
use futures::future::join_all;
use toolfleet_client::fleet_words::{percent, stop, word};
use toolfleet_client::{FleetView, PAGE_READS, RecordSearch, Span};
use toolfleet_core::fleet::BreakerState;
use toolfleet_core::ids::Tenant;
use toolfleet_core::time::span;

use super::concerns;
use super::history::{RecordLine, line};
use crate::command::Command;
use crate::console::Visit;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link;
use crate::numbers::count;
use crate::reading::{self, Fleet, Problems};

/// Tenants of which the page reads failures.
const MOST_TENANTS: usize = 5;
/// Failures of each.
const MOST_FAILURES: usize = 10;
const LATELY: Duration = Duration::from_secs(24 * 3_600);

#[derive(Template)]
#[template(path = "own.html")]
struct OwnPage {
    frame: Frame,
    tenants: Vec<OwnTenant>,
    /// Tenants beyond those.
    more: usize,
    stops: Vec<String>,
    has_entries: bool,
}

struct OwnTenant {
    name: String,
    history: String,
    share: String,
    /// What makes its calls wait now.
    waits: Vec<String>,
    knows_waits: bool,
    /// None where they could not be read.
    failures: Option<Vec<RecordLine>>,
}

pub(super) async fn page(visit: &Visit<'_>) -> Result<String, Failure> {
    let (mut problems, now) = (Problems::of(visit.scope()), visit.now);
    let Some(own) = visit.scope().tenants() else { return Err(Failure::whole_fleet()) };
    let client = &visit.console.client;
    // The depths of the queues are those of all tenants.
    let fleet = reading::fleet_without_queues(visit.console, now, &mut problems).await;
    let view = &fleet.view;
    let searches = own.iter().take(MOST_TENANTS).map(|tenant| async move {
        let search = RecordSearch {
            tenant: tenant.clone(),
            session: None,
            call: None,
            failed: true,
            tool: None,
            span: Span::before(now, LATELY),
        };
        (tenant, client.search_records(&search, None, MOST_FAILURES, PAGE_READS).await)
    });
    let mut tenants = Vec::new();
    for (tenant, failures) in join_all(searches).await {
        let failures = problems.take(&format!("The failures of {tenant}"), failures);
        tenants.push(OwnTenant {
            name: tenant.to_string(),
            history: link::history(tenant.as_str()).text(),
            share: share(&fleet, tenant),
            waits: waits(view, tenant, now),
            knows_waits: fleet.has_limits(),
            failures: failures.map(|page| page.records.iter().map(|one| line(one, now)).collect()),
        });
    }
    let commands = own.iter().take(MOST_TENANTS).map(|tenant| {
        let limit = MOST_FAILURES.to_string();
        Command::new("history")
            .word(tenant.as_str())
            .flag_if("failed", true)
            .option("since", "1d")
            .option("limit", limit)
    });
    let stops = view.entries.iter().filter(|entry| concerns::entry(entry, own));
    let page = OwnPage {
        has_entries: fleet.has_entries,
        stops: stops.filter_map(|entry| stop(entry, now)).collect(),
        frame: Frame::of(visit, "Now", problems, commands.collect()),
        tenants,
        more: own.len().saturating_sub(MOST_TENANTS),
    };
    page.render().map_err(Failure::defect)
}

/// The tenant's part of the fleet's slot time.
fn share(fleet: &Fleet, tenant: &Tenant) -> String {
    if !fleet.has_summary {
        return "not read".to_owned();
    }
    fleet.view.summary.as_ref().map_or_else(
        || "not known: no worker has reported".to_owned(),
        |summary| {
            let own = summary.slot_ms_a_minute.get(tenant).copied().unwrap_or(0);
            percent(own, summary.total_slot_ms())
        },
    )
}

/// The breakers, pauses and limits that its calls meet.
fn waits(view: &FleetView, tenant: &Tenant, now: toolfleet_core::time::Timestamp) -> Vec<String> {
    let mut waits = Vec::new();
    for (id, server) in view.summary.iter().flat_map(|summary| &summary.servers) {
        let Some(at) = server.seen.tenants.get(tenant) else { continue };
        if let Some(until) = at.paused_until.filter(|until| *until > now) {
            waits.push(format!("Server {id} asks this tenant to pause, {} more", span(until.ms_since(now))));
        }
        if at.breaker != BreakerState::Closed {
            let why = at.last_failure.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            waits.push(format!("The breaker of server {id} is {} for this tenant{why}", word(at.breaker)));
        }
    }
    for limit in view.limits() {
        if let Some(times) = limit.seen.tenants.get(tenant) {
            let (target, value) = (limit.target(), limit.value());
            waits.push(format!("Limit {target} {value}: met {} times in the last 5 min", count(*times)));
        }
    }
    waits
}
