//! `toolfleet servers`: each server as the workers see it: breaker, pauses, requests under way, failures, latency; by tenant where it differs.

use toolfleet_core::control::{Control, Subject};
use toolfleet_core::fleet::{BreakerState, ServerSummary, TenantAtServer};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::time::Timestamp;

use super::numbers::{percent, quantile};
use super::status::{note_stale, summary};
use crate::commands::control::reason::now;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Lists them.
pub(crate) async fn run(connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let client = connect.client().await?;
    let Some(summary) = summary(&client, output).await? else {
        return Ok(Exit::NoResult);
    };
    let control = client.controls().current().await?;
    let now = now();
    if output.is_json() {
        output.document(&summary.servers)?;
        return Ok(Exit::Done);
    }
    note_stale(&summary, now, output);
    if summary.servers.is_empty() {
        output.line("no server was called in the last five minutes, and every breaker is closed")?;
        return Ok(Exit::Done);
    }
    let header = [
        "server",
        "breaker",
        "paused",
        "limit",
        "in flight",
        "attempts",
        "failed",
        "p50",
        "p95",
        "last failure",
    ];
    let mut rows = Vec::new();
    for (id, server) in &summary.servers {
        rows.push(row(id, server, &control, now));
        rows.extend(server.seen.tenants.iter().map(|(tenant, at)| tenant_row(tenant, at, now)));
    }
    output.table(&header, rows)?;
    output.note(
        "attempts, failures and latency are those of the last five minutes; p50 and p95 are of attempts",
    );
    Ok(Exit::Done)
}

fn row(id: &ServerId, server: &ServerSummary, control: &Control, now: Timestamp) -> Vec<String> {
    let seen = &server.seen;
    let breaker = match seen.breaker {
        BreakerState::Closed => "closed".to_owned(),
        state @ (BreakerState::HalfOpen | BreakerState::Open) => {
            format!("{} in {} workers", state.as_str(), server.open_in)
        }
    };
    let limit = control.limits.get(&format!("server:{id}"));
    let limit = limit.map_or_else(
        || "-".to_owned(),
        |change| {
            let rate = change.rate.map(|rate| rate.to_string());
            let most = change.concurrency.map(|most| format!("{most} at once"));
            rate.into_iter().chain(most).collect::<Vec<_>>().join(", ")
        },
    );
    vec![
        id.to_string(),
        breaker,
        paused(id, control, now),
        limit,
        seen.in_flight.to_string(),
        seen.attempts.to_string(),
        percent(seen.failures, seen.attempts),
        quantile(&seen.latency, 50),
        quantile(&seen.latency, 95),
        seen.last_failure.clone().unwrap_or_default(),
    ]
}

/// Who paused the whole server, and for which tenants it is paused.
fn paused(id: &ServerId, control: &Control, now: Timestamp) -> String {
    let of_server = control.switches.iter().filter(|switch| switch.is_on(now)).filter(|switch| {
        let tenant = switch.tenant.clone().or_else(|| Tenant::parse("-").ok());
        tenant.is_some_and(|tenant| {
            switch.target.matches(Subject { server: id, tenant: &tenant, tool: None, digest: None })
        })
    });
    let shown: Vec<_> = of_server
        .map(|switch| match &switch.tenant {
            Some(tenant) => format!("for {tenant} by {}", switch.by),
            None => format!("by {}", switch.by),
        })
        .collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(", ") }
}

/// What differs for one tenant.
fn tenant_row(tenant: &Tenant, at: &TenantAtServer, now: Timestamp) -> Vec<String> {
    let asked = at.paused_until.filter(|until| *until > now);
    let asked = asked.map_or_else(|| "-".to_owned(), |until| format!("asked for a pause until {until}"));
    let failure = at.last_failure.clone().unwrap_or_default();
    let none = || String::new();
    let name = format!("  tenant {tenant}");
    vec![name, at.breaker.as_str().to_owned(), asked, none(), none(), none(), none(), none(), none(), failure]
}
