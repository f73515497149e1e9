//! Kill -9 of workers whose calls hold all permits of concurrency limits: how long until other calls get these permits?
//!
//! The servers go on with the requests of killed workers, so a permit without an answer must be held until its attempt is over for sure: the
//! attempt's time-out, a margin and the allowance for clocks after its start. Each server has a limit of its own, from 1 to 5.

use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_core::request::Priority;

use super::args::CommonArgs;
use super::calls::FlowCall;
use super::counts::{most_at_once, quantile};
use super::limit::HOLD_MARGIN_MS;
use super::report::{FlowReport, Goal};
use super::rig::{Rig, Setup, send_all};
use super::server::{Execution, FlowServer};
use crate::run_args::CLOCK_SKEW_MS;

/// The limits, one for each server.
const LIMITS: [u32; 5] = [1, 2, 3, 4, 5];
/// Two workers have their calls at the servers when they are killed.
const KILLED: u32 = 2;
/// How long an attempt may take, how long the calls of the killed workers take, and how long those that wait take.
const TIMEOUT_MS: u64 = 4_000;
const HOLDER_MS: u64 = 3_000;
const WAITING_MS: u64 = 500;
/// A call that waits for a permit asks again after some seconds.
const BEYOND_BOUND_MS: f64 = 5_000.0;

/// Kills the workers that hold all permits, and measures when the permits are used again.
pub(super) async fn measure(common: &CommonArgs, slots: u32, report: &mut FlowReport) -> anyhow::Result<()> {
    let setup = Setup {
        binary: common.worker_bin.as_deref(),
        workers: KILLED,
        slots,
        lease_ms: common.lease_ms,
        ..Setup::default()
    };
    let mut rig = Rig::start(&setup, catalog).await?;
    let holders = calls("holder", 1, HOLDER_MS);
    send_all(&rig.bed.client, &holders).await?;
    rig.until_open(holders.len()).await?;
    let waiting = calls("waiting", 2, WAITING_MS);
    send_all(&rig.bed.client, &waiting).await?;
    for _ in 0..KILLED {
        rig.kill(0)?;
    }
    let killed_at_us = rig.server.now_us();
    for _ in 0..KILLED {
        rig.workers.start_one()?;
    }
    let most = Duration::from_millis(TIMEOUT_MS * 4) + Duration::from_secs(60);
    let before = report.violations.len();
    if !rig.until_empty(most).await? {
        report.violations.push("calls that need a permit were left after the kill".to_owned());
    }
    let all = [holders, waiting].concat();
    report.violations.extend(rig.verify(&all, true).await?);
    count(report, &rig.server.executions(), killed_at_us, rig.server.now_us());
    if report.violations.len() > before {
        rig.keep_log();
    }
    Ok(())
}

/// So many calls for each permit of each server.
fn calls(name: &str, for_each: u32, ms: u64) -> Vec<FlowCall> {
    let of = |limit: u32| {
        (0..limit * for_each).map(move |n| FlowCall {
            id: format!("{name}-{limit}-{n}"),
            tenant: "load".to_owned(),
            tool: server_of(limit),
            ms,
            at: Duration::ZERO,
            priority: Priority::Normal,
        })
    };
    LIMITS.into_iter().flat_map(of).collect()
}

fn server_of(limit: u32) -> String {
    format!("limit-{limit}")
}

/// The figures of all limits.
fn count(report: &mut FlowReport, executions: &[Execution], killed_at_us: u64, now_us: u64) {
    let mut after_bound = Vec::new();
    let mut from_kill = Vec::new();
    for limit in LIMITS {
        let server = server_of(limit);
        let of: Vec<_> = executions.iter().filter(|e| e.server == server).collect();
        let spans: Vec<_> = of.iter().map(|e| e.span(now_us)).collect();
        let name = format!("most requests open at the server with the limit {limit}");
        report.rule(name, most_at_once(&spans) as f64, "", Goal::AtMost(f64::from(limit)));
        for (start, bound_ends) in freed(&of, killed_at_us) {
            from_kill.push(start.saturating_sub(killed_at_us));
            after_bound.push(start.saturating_sub(bound_ends));
        }
    }
    let held: u32 = LIMITS.iter().sum();
    report.rule(
        "permits of killed workers that were used again",
        from_kill.len() as f64,
        "",
        Goal::AtLeast(f64::from(held)),
    );
    let bound_ms = (TIMEOUT_MS + HOLD_MARGIN_MS + CLOCK_SKEW_MS) as f64;
    report.figure("the crash bound of a permit, from the start of its attempt", bound_ms, "ms");
    let ms = |values: &[u64], q| quantile(values, q) as f64 / 1_000.0;
    for (label, q) in [("first", 0.0), ("p50", 0.5), ("last", 1.0)] {
        report.figure(
            format!("from kill -9 to the next use of the permit, {label}"),
            ms(&from_kill, q),
            "ms",
        );
    }
    report.figure("from the crash bound to the next use, p50", ms(&after_bound, 0.5), "ms");
    report.goal(
        "from the crash bound to the next use, last",
        ms(&after_bound, 1.0),
        "ms",
        Goal::AtMost(BEYOND_BOUND_MS),
    );
}

/// For each permit of a server that a killed worker's request held: when it was used again, and when its crash bound ended. The first bound that
/// ends is that of the first start after the kill, and so on.
fn freed(executions: &[&Execution], killed_at_us: u64) -> Vec<(u64, u64)> {
    let bound_us = (TIMEOUT_MS + HOLD_MARGIN_MS + CLOCK_SKEW_MS) * 1_000;
    let held = executions.iter().filter(|e| e.abandoned && e.at_us <= killed_at_us);
    let mut bounds: Vec<u64> = held.map(|e| e.at_us + bound_us).collect();
    bounds.sort_unstable();
    let mut starts: Vec<u64> = executions.iter().map(|e| e.at_us).filter(|at| *at > killed_at_us).collect();
    starts.sort_unstable();
    starts.into_iter().zip(bounds).collect()
}

fn catalog(server: &FlowServer) -> Value {
    let servers = LIMITS.map(|limit| {
        let name = server_of(limit);
        json!({"id": name, "url": server.url(&name), "limits": {"concurrency": limit}})
    });
    let tools = LIMITS.map(|limit| {
        let name = server_of(limit);
        json!({"id": name, "server": name, "idempotent": true, "timeout_ms": TIMEOUT_MS})
    });
    json!({"servers": servers, "tools": tools, "tenants": {"queue": ["*"]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(limit: u32, at_ms: u64, ms: u64, abandoned: bool) -> Execution {
        Execution {
            call: format!("c-{at_ms}"),
            server: server_of(limit),
            at_us: at_ms * 1_000,
            end_us: Some((at_ms + ms) * 1_000),
            abandoned,
        }
    }

    /// All permits are held at 0, the workers are killed at 1 s, and all permits are used again at that time.
    fn violations(again_ms: u64) -> Vec<String> {
        let held = LIMITS.iter().flat_map(|limit| (0..*limit).map(|_| execution(*limit, 0, HOLDER_MS, true)));
        let again = LIMITS
            .iter()
            .flat_map(|limit| (0..*limit).map(|_| execution(*limit, again_ms, WAITING_MS, false)));
        let executions: Vec<_> = held.chain(again).collect();
        let mut report = FlowReport::new("kill", String::new(), true);
        count(&mut report, &executions, 1_000_000, 100_000_000);
        report.violations
    }

    #[test]
    fn a_permit_that_is_given_before_the_request_of_the_killed_worker_ended_is_found() {
        assert!(violations(8_000).is_empty(), "{:?}", violations(8_000));
        let found = violations(2_999);
        assert!(found.len() == 5 && found[0].ends_with("2 , and it must be at most 1"), "{found:?}");
    }

    #[test]
    fn a_permit_that_is_used_again_late_misses_the_goal() {
        let found = violations(60_000);
        assert!(
            found.len() == 1 && found[0].starts_with("from the crash bound to the next use, last"),
            "{found:?}"
        );
    }

    #[test]
    fn the_next_use_of_each_permit_is_a_start_of_its_own() {
        let all = [execution(2, 0, 10, true), execution(2, 500, 10, true), execution(2, 9_000, 1, false)];
        let of: Vec<_> = all.iter().collect();
        let bound_us = (TIMEOUT_MS + HOLD_MARGIN_MS + CLOCK_SKEW_MS) * 1_000;
        assert_eq!(freed(&of, 1_000_000), [(9_000_000, bound_us)]);
    }
}
