//! The running fleet: its workers, what they see of their servers, and what operators have set.

use std::collections::{BTreeMap, BTreeSet};

use toolfleet_client::shell_command::quoted;
use toolfleet_client::{AwsError, Client, system_clock};
use toolfleet_core::control::ControlEntry;
use toolfleet_core::fleet::{
    BreakerState, FleetSummary, LimitPart, LimitSeen, SWITCHES_WITHIN_MS, WorkerRow,
};
use toolfleet_core::time::{Timestamp, span};

use super::clock;
use super::finding::{Check, Finding};
use crate::show::count;

/// Fewer calls that a limit sent back within five minutes are no sign of too many calls.
const MANY_BACK: u64 = 10;
/// A clock that is further ahead makes waits and leases wrong by as much.
const CLOCKS_WITHIN_MS: u64 = 2_000;

/// The workers.
pub(super) async fn workers(client: &Client) -> Vec<Finding> {
    let rows = match client.workers().await {
        Ok(rows) => rows,
        Err(error) => return vec![unread(Check::WorkersRun, "workers", &error)],
    };
    let dated = clock::date_of(client.queue().url()).await;
    let now = system_clock()();
    let wrong = dated.and_then(|date| clock::of_this_machine(date, now));
    // Where this machine's clock is wrong, workers are compared with that of AWS.
    let now = if wrong.is_some() { dated.unwrap_or(now) } else { now };
    of_rows(&rows, now).into_iter().chain(wrong).collect()
}

/// The summary of the fleet, if a worker renews it.
pub(super) async fn seen(client: &Client) -> Option<FleetSummary> {
    let summary = client.summary().await.ok().flatten();
    summary.filter(|summary| !summary.is_stale(system_clock()()))
}

fn of_rows(rows: &[WorkerRow], now: Timestamp) -> Vec<Finding> {
    let alive: Vec<_> = rows.iter().filter(|row| row.is_alive(now)).collect();
    let taking = alive.iter().filter(|row| !row.draining && !row.not_receiving).count();
    let slots: u64 = alive.iter().map(|row| u64::from(row.slots)).sum();
    let busy: u64 = alive.iter().map(|row| u64::from(row.busy)).sum();
    let mut findings = vec![match (taking, alive.len()) {
        (0, 0) => {
            let text = "none runs: no call is executed";
            Finding::failed(
                Check::WorkersRun,
                "workers",
                text,
                "toolfleet-worker   # see docs/guides/operating.md for AWS",
            )
        }
        (0, all) if alive.iter().all(|row| row.draining) => {
            let text = format!("all {all} drain: no new call is executed");
            Finding::failed(Check::WorkersRun, "workers", text, "toolfleet workers")
        }
        (0, all) => {
            let text = format!(
                "all {all} drain, or receive nothing until their long calls have ended: new calls wait"
            );
            Finding::warning(Check::WorkersRun, "workers", text, "toolfleet workers")
        }
        (taking, all) if busy >= slots => {
            let text = format!("{taking} of {all} take calls, and all {slots} slots are taken: calls wait");
            Finding::warning(Check::WorkersRun, "workers", text, "toolfleet status")
        }
        (taking, all) => {
            let text = format!("{taking} of {all} take calls; {busy} of {slots} slots are taken");
            Finding::ok(Check::WorkersRun, "workers", text)
        }
    }];
    for dead in rows.iter().filter(|row| row.is_dead(now)) {
        let text = format!(
            "has not reported for {}: it died, or cannot reach DynamoDB",
            span(now.ms_since(dead.reported_at))
        );
        findings.push(Finding::warning(Check::WorkersAlive, dead.id.to_string(), text, "toolfleet workers"));
    }
    let versions: BTreeSet<_> = alive.iter().map(|row| row.version.as_str()).collect();
    if versions.len() > 1 {
        let text = format!("{} run at once", versions.into_iter().collect::<Vec<_>>().join(" and "));
        findings.push(Finding::warning(Check::WorkersOneVersion, "versions", text, "toolfleet workers"));
    }
    findings.extend(alive.iter().filter_map(|row| of_clock(row, now)));
    findings.extend(alive.iter().filter_map(|row| of_switches(row)));
    findings
}

/// A worker that goes on with old switches: what operators set has no effect in it.
fn of_switches(row: &WorkerRow) -> Option<Finding> {
    let (age_ms, unreadable) = (row.switches_age_ms()?, row.control?.unreadable);
    if age_ms > SWITCHES_WITHIN_MS {
        let text = format!(
            "has not read for {} what operators set: later pauses and limits have no effect in it",
            span(age_ms)
        );
        let remedy =
            "toolfleet doctor --worker-role ARN   # may it read the fleet table? if so, restart the worker";
        return Some(Finding::failed(Check::SwitchesRead, row.id.to_string(), text, remedy));
    }
    let settings = count(usize::try_from(unreadable).unwrap_or(usize::MAX), "setting");
    let text = format!("cannot read {settings} of operators, of a later version: no effect in it");
    (unreadable > 0).then(|| {
        Finding::failed(Check::SwitchesRead, row.id.to_string(), text, "toolfleet workers   # update it")
    })
}

/// A worker whose clock is wrong. One that knows it goes by DynamoDB's, so that only its row tells.
fn of_clock(row: &WorkerRow, now: Timestamp) -> Option<Finding> {
    let (text, remedy) = match row.clock_off_ms {
        Some(off_ms) => {
            let way = if off_ms > 0 { "ahead of" } else { "behind" };
            let off = span(off_ms.unsigned_abs());
            (
                format!("its clock is {off} {way} that of DynamoDB: it receives nothing"),
                "chronyc tracking   # on its machine",
            )
        }
        None if row.reported_at > now.plus_ms(CLOCKS_WITHIN_MS) => (
            format!("its clock is {} ahead of this machine's", span(row.reported_at.ms_since(now))),
            "chronyc tracking   # on both machines",
        ),
        None => return None,
    };
    Some(Finding::failed(Check::ClocksAgree, row.id.to_string(), text, remedy))
}

/// What the workers see of the servers.
pub(super) async fn servers(client: &Client) -> Vec<Finding> {
    let summary = match client.summary().await {
        Ok(Some(summary)) if !summary.is_stale(system_clock()()) => summary,
        // No worker runs: that is said already.
        Ok(_) => return Vec::new(),
        Err(error) => return vec![unread(Check::ServersAnswer, "servers", &error)],
    };
    let mut findings = Vec::new();
    for (id, server) in &summary.servers {
        let tenants = server.seen.tenants.iter().filter(|(_, tenant)| tenant.breaker != BreakerState::Closed);
        let tenants: Vec<_> = tenants.map(|(tenant, _)| tenant.to_string()).collect();
        let who = match (server.seen.breaker, tenants.is_empty()) {
            (BreakerState::Closed, true) => continue,
            (BreakerState::Closed, false) => format!("for {}", tenants.join(", ")),
            (BreakerState::HalfOpen | BreakerState::Open, _) => {
                format!("in {}", count(server.open_in, "worker"))
            }
        };
        let failure = server.seen.last_failure.as_deref().unwrap_or("its workers say no more");
        let state = if server.seen.breaker == BreakerState::HalfOpen { "half open" } else { "open" };
        let text = format!("its breaker is {state} {who}: {failure}");
        let remedy = format!(
            "toolfleet pause server {} --why 'it is down'   # or fix it; calls wait",
            quoted(id.as_str())
        );
        findings.push(Finding::failed(Check::ServersAnswer, id.to_string(), text, remedy));
    }
    if findings.is_empty() {
        let text = format!(
            "{} called in the last minutes; every breaker is closed",
            count(summary.servers.len(), "server")
        );
        findings.push(Finding::ok(Check::ServersAnswer, "servers", text));
    }
    findings
}

/// The limits that sent more calls back to their queue than they made wait for a moment.
pub(super) async fn limits(client: &Client) -> Vec<Finding> {
    // What cannot be read was said by the check of the servers.
    let Ok(Some(summary)) = client.summary().await else { return Vec::new() };
    if summary.is_stale(system_clock()()) {
        return Vec::new();
    }
    of_limits(&summary.limits)
}

fn of_limits(limits: &BTreeMap<String, LimitSeen>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, seen) in
        limits.iter().filter(|(_, seen)| seen.requeued >= MANY_BACK && seen.requeued > seen.waited)
    {
        let value = seen.value.as_deref().map(|value| format!(" ({value})")).unwrap_or_default();
        let tenants: Vec<_> = seen.tenants.keys().map(ToString::to_string).collect();
        let whose =
            if tenants.is_empty() { String::new() } else { format!(", most of {}", tenants.join(", ")) };
        let text = format!(
            "{name}{value} sent {} calls back to their queue within five minutes, and {} waited for a moment{whose}: more come than it lets through",
            seen.requeued, seen.waited
        );
        let remedy = match LimitPart::split(name) {
            Some((key, LimitPart::Rate)) => format!(
                "toolfleet limit set {} --rate RATE --why TEXT   # if its server can take more",
                quoted(key)
            ),
            Some((key, LimitPart::Concurrency)) => {
                format!(
                    "toolfleet limit set {} --concurrency N --why TEXT   # if its server can take more",
                    quoted(key)
                )
            }
            Some((_, LimitPart::Adaptive | LimitPart::RetryBudget)) | None => "toolfleet servers".to_owned(),
        };
        findings.push(Finding::warning(Check::LimitsKeepUp, "limits", text, remedy));
    }
    if findings.is_empty() {
        let text = format!("calls come through in time ({})", count(limits.len(), "part"));
        findings.push(Finding::ok(Check::LimitsKeepUp, "limits", text));
    }
    findings
}

/// What operators have paused.
pub(super) async fn switches(client: &Client) -> Vec<Finding> {
    let entries = match client.controls().entries().await {
        Ok(entries) => entries,
        Err(error) => return vec![unread(Check::NothingPaused, "switches", &error)],
    };
    let held = |entry: &&ControlEntry| matches!(entry, ControlEntry::Pause(_) | ControlEntry::Strike(_));
    match entries.iter().filter(held).count() {
        0 => vec![Finding::ok(Check::NothingPaused, "switches", "nothing is paused or struck")],
        held => {
            let text =
                format!("calls are held back by {} of operators (pause, strike)", count(held, "setting"));
            vec![Finding::warning(Check::NothingPaused, "switches", text, "toolfleet switches")]
        }
    }
}

fn unread(check: Check, subject: &str, error: &AwsError) -> Finding {
    Finding::failed(check, subject, error.to_string(), "toolfleet context show")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-11-29T10:00:00Z").unwrap()
    }

    fn row(id: &str, reported_ms: i64, changes: serde_json::Value) -> WorkerRow {
        let mut row = json!({
            "id": id, "boot": "0123456789abcdef", "version": "0.1.0", "started_at": now(),
            "reported_at": Timestamp::from_ms(now().as_ms() + reported_ms), "beat_ms": 5_000, "slots": 4, "window_ms": 5_000,
            "ended_calls": 0,
        });
        row.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(row).unwrap()
    }

    fn texts(rows: &[WorkerRow]) -> String {
        of_rows(rows, now()).iter().flat_map(Finding::lines).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_fleet_without_a_worker_that_takes_calls_fails() {
        assert!(texts(&[]).contains("FAILED  workers: none runs"));
        assert!(texts(&[row("w-1", 0, json!({"draining": true}))]).contains("FAILED  workers: all 1 drain"));
        let stopped = texts(&[row("w-1", 0, json!({"not_receiving": true}))]);
        assert!(
            stopped.contains("all 1 drain, or receive nothing until") && !stopped.contains("FAILED"),
            "{stopped}"
        );
        assert!(texts(&[row("w-1", -60_000, json!({}))]).contains("w-1: has not reported for"));
        assert!(
            texts(&[row("w-1", 0, json!({}))]).contains("ok      workers: 1 of 1 take calls; 0 of 4 slots")
        );
    }

    #[test]
    fn a_worker_that_goes_on_with_old_switches_fails() {
        let with = |age_ms: i64, unreadable: u64| {
            let read_at = Timestamp::from_ms(now().as_ms() - age_ms);
            row("w-1", 0, json!({"control": {"version": 3, "read_at": read_at, "unreadable": unreadable}}))
        };
        let old = texts(&[with(60_000, 0)]);
        assert!(old.contains("FAILED  w-1: has not read for 1 min 0 s what operators set"), "{old}");
        let partial = texts(&[with(0, 2)]);
        assert!(partial.contains("FAILED  w-1: cannot read 2 settings of operators"), "{partial}");
        assert!(!texts(&[with(5_000, 0)]).contains("operators"));
    }

    #[test]
    fn a_limit_that_sends_more_calls_back_than_it_makes_wait_does_not_keep_up() {
        let seen =
            |waited, requeued| LimitSeen { waited, requeued, ..LimitSeen::idle(Some("20/s".to_owned())) };
        let told = |seen| {
            let limits = BTreeMap::from([("server:crm rate".to_owned(), seen)]);
            of_limits(&limits).iter().flat_map(Finding::lines).collect::<Vec<_>>().join("\n")
        };
        for (waited, requeued) in [(10, 10), (0, 9)] {
            let told = told(seen(waited, requeued));
            assert!(told.contains("ok      limits: calls come through in time (1 part)"), "{told}");
        }
        let found = told(seen(9, 10));
        assert!(found.contains("look    limits: server:crm rate (20/s) sent 10 calls back"), "{found}");
        assert!(found.contains("toolfleet limit set server:crm --rate"), "{found}");
    }

    #[test]
    fn full_slots_two_versions_and_a_clock_ahead_are_named() {
        let found = texts(&[
            row("w-1", 0, json!({"busy": 4})),
            row("w-2", 60_000, json!({"busy": 4, "version": "0.2.0"})),
            row("w-3", 0, json!({"slots": 0, "clock_off_ms": -60_000, "not_receiving": true})),
        ]);
        for part in [
            "all 8 slots are taken",
            "0.1.0 and 0.2.0 run at once",
            "w-2: its clock is 1 min 0 s ahead",
            "FAILED  w-3: its clock is 1 min 0 s behind that of DynamoDB: it receives nothing",
        ] {
            assert!(found.contains(part), "{part} is not in\n{found}");
        }
    }
}
