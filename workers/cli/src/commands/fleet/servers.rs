//! `toolfleet servers`: each server as the workers see it: breaker, pauses, limits, requests under way, failures, latency; by tenant where it
//! differs. Below them all limits and pauses of the fleet.

use serde_json::json;
use toolfleet_client::fleet_words::{paused, percent, quantile, seen_by, stop, word};
use toolfleet_client::{LimitShown, limits};
use toolfleet_core::control::{Control, ControlEntry};
use toolfleet_core::fleet::{BreakerState, FleetSummary, LimitPart, ServerSummary, TenantAtServer};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::time::Timestamp;

use super::status::{note_stale, summary};
use crate::commands::control::reason::now;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::table::Shape;

/// Lists them.
pub(crate) async fn run(connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let client = connect.client().await?;
    let Some(summary) = summary(&client, output).await? else {
        return Ok(Exit::NoResult);
    };
    let entries = client.controls().entries().await?;
    let now = now();
    if output.is_json() {
        output.document(&json!({
            "at": summary.at, "servers": summary.servers, "limits": summary.limits, "set": entries,
        }))?;
        return Ok(Exit::Done);
    }
    note_stale(&summary, now, output);
    let limits = limits(&summary, &entries);
    of_servers(&summary, &limits, &entries, now, output)?;
    of_limits(&limits, summary.unlisted_limits, output)?;
    let stops: Vec<_> =
        entries.iter().filter(|entry| !entry.is_over(now)).filter_map(|entry| stop(entry, now)).collect();
    if !stops.is_empty() {
        output.line("")?;
    }
    for stop in stops {
        output.line(&stop)?;
    }
    Ok(Exit::Done)
}

fn of_servers(
    summary: &FleetSummary,
    limits: &[LimitShown],
    entries: &[ControlEntry],
    now: Timestamp,
    output: &Output,
) -> Result<(), CommandError> {
    if summary.servers.is_empty() {
        output.line("no server was called in the last five minutes, and every breaker is closed")?;
        return Ok(());
    }
    let control = Control::new(0, entries.iter().cloned(), now);
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
        rows.push(row(id, server, limits, &control, now));
        rows.extend(server.seen.tenants.iter().map(|(tenant, at)| tenant_row(tenant, at, now)));
    }
    let shape =
        Shape::of(&header).below(&["last failure"]).left_out(&["attempts", "in flight", "p50", "limit"]);
    output.shaped(&shape, &rows)?;
    output.note(
        "attempts, failures and latency are those of the last five minutes; p50 and p95 are of attempts",
    );
    Ok(())
}

fn of_limits(limits: &[LimitShown], unlisted: u64, output: &Output) -> Result<(), CommandError> {
    if limits.is_empty() {
        return Ok(());
    }
    let rows = limits.iter().map(|limit| {
        let LimitShown { seen, by, .. } = limit;
        let by = by.as_ref().map_or_else(|| "catalog".to_owned(), |by| format!("live by {by}"));
        let counts = [seen.waited, seen.requeued].map(|count| count.to_string());
        let ends = [seen.last.map(|at| at.to_string()).unwrap_or_default(), limit.tenants()];
        [limit.target(), limit.value(), by].into_iter().chain(counts).chain(ends).collect()
    });
    output.line("")?;
    let shape = Shape::of(&["limit", "value", "set", "waited", "went back", "last met", "tenants"])
        .times(&["last met"])
        .below(&["tenants"])
        .left_out(&["last met"]);
    output.shaped(&shape, &rows.collect::<Vec<_>>())?;
    if unlisted > 0 {
        output.note(&format!("{unlisted} more limits, met less often than these, are not listed"));
    }
    let late = limits.iter().filter(|limit| limit.seen.late > 0);
    for limit in late {
        let (target, count) = (limit.target(), limit.seen.late);
        output.note(&format!("{count} requests of {target} may have been sent more than 20 ms after their turns in the last five minutes: a worker was frozen or too slow"));
    }
    output.note("waited and went back count the calls of the last five minutes that the limit made wait in a worker or in their queue");
    Ok(())
}

fn row(
    id: &ServerId,
    server: &ServerSummary,
    limits: &[LimitShown],
    control: &Control,
    now: Timestamp,
) -> Vec<String> {
    let seen = &server.seen;
    let breaker = match seen.breaker {
        BreakerState::Closed => "closed".to_owned(),
        state @ (BreakerState::HalfOpen | BreakerState::Open) => seen_by(state, server.open_in),
    };
    let key = format!("server:{id}");
    let own = |limit: &&LimitShown| {
        limit.key.as_ref().is_some_and(|(limit, part)| *limit == key && *part != LimitPart::RetryBudget)
    };
    let values: Vec<_> = limits.iter().filter(own).map(LimitShown::value).collect();
    vec![
        id.to_string(),
        breaker,
        dash(paused(id, control, now)),
        dash(values.join(", ")),
        seen.in_flight.to_string(),
        seen.attempts.to_string(),
        percent(seen.failures, seen.attempts),
        quantile(&seen.latency, 50),
        quantile(&seen.latency, 95),
        seen.last_failure.clone().unwrap_or_default(),
    ]
}

fn dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// What differs for one tenant.
fn tenant_row(tenant: &Tenant, at: &TenantAtServer, now: Timestamp) -> Vec<String> {
    let asked = at.paused_until.filter(|until| *until > now);
    let asked = asked.map_or_else(|| "-".to_owned(), |until| format!("asks to pause until {until}"));
    let mut cells = vec![format!("  tenant {tenant}"), word(at.breaker).to_owned(), asked];
    cells.extend(std::iter::repeat_n(String::new(), 6));
    cells.push(at.last_failure.clone().unwrap_or_default());
    cells
}
