//! A pause while calls run: how long until no call starts, whether calls are held and not refused, and how long until they run after the resume.
//!
//! Calls are sent to two servers the whole time. One of them is paused, then resumed; the other shows that the fleet goes on.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_client::CallStatus;
use toolfleet_core::call::HeldReason;
use toolfleet_core::control::{ControlEntry, Switch, SwitchTarget};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::request::Priority;

use super::args::CommonArgs;
use super::calls::{FlowCall, Stream, together};
use super::counts::quantile;
use super::report::{FlowReport, Goal};
use super::rig::{Rig, Setup, send_to};
use super::server::{Execution, FlowServer, micros};

/// The server that is paused, its tenant, and those that are not.
const PAUSED: &str = "paused";
const OTHER: &str = "other";
/// No call starts later than this after a pause.
const EFFECT_US: u64 = 5_000_000;
/// Calls that wait for a resume are tried within a minute; then they take their time.
const RESUME_MS: f64 = 65_000.0;

/// What the pause names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// The server of the calls.
    Server,
    /// Their tool.
    Tool,
    /// Their tenant.
    Tenant,
}

/// Arguments of `flow pause`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PauseArgs {
    /// How many worker processes.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// How many calls each worker runs at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    /// Calls a second to the paused server, and as many to the other one.
    #[arg(long, default_value_t = 20.0, value_name = "RATE")]
    rate: f64,
    /// How long a call takes, in milliseconds.
    #[arg(long, default_value_t = 200, value_name = "MS")]
    ms: u64,
    /// How long calls run before the pause, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=600))]
    before: u64,
    /// How long the pause lasts, in seconds.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(6..=600))]
    pause: u64,
    /// What the pause names.
    #[arg(long, value_enum, default_value = "server")]
    target: Target,
    #[command(flatten)]
    common: CommonArgs,
}

/// When the switch was set and cleared, on the servers' clock in microseconds, and the calls that it held.
struct Paused {
    asked_us: u64,
    stored_us: u64,
    resumed_us: u64,
    held: usize,
}

pub(super) async fn run(args: &PauseArgs) -> anyhow::Result<bool> {
    let setup = Setup {
        binary: args.common.worker_bin.as_deref(),
        workers: args.workers,
        slots: args.slots,
        lease_ms: args.common.lease_ms.max(10_000),
        ..Setup::default()
    };
    let mut rig = Rig::start(&setup, catalog).await?;
    let calls = calls(args);
    let start = Instant::now();
    let start_us = micros(start.duration_since(rig.server.start_of_clock()));
    let ((), paused) =
        tokio::try_join!(send_to(&rig.bed.client, &calls, start), switch(args, &rig, &calls, start))?;
    let load = format!(
        "{} workers, {}/s of {} ms to each of two servers, one of them paused by its {:?} for {} s",
        args.workers, args.rate, args.ms, args.target, args.pause
    );
    let mut report = FlowReport::new("pause", load, args.common.strict);
    let most = Duration::from_secs(180);
    if !rig.until_empty(most).await? {
        report.violations.push(format!("calls were left {} s after the last was sent", most.as_secs()));
    }
    report.violations.extend(rig.verify(&calls, false).await?);
    count(&mut report, &calls, &rig.server.executions(), &paused, start_us);
    if !report.violations.is_empty() {
        rig.keep_log();
    }
    report.publish(args.common.json.as_deref())
}

/// Calls to both servers, from the start to two seconds after the resume.
fn calls(args: &PauseArgs) -> Vec<FlowCall> {
    let (paused, other) = ([PAUSED.to_owned()], [OTHER.to_owned()]);
    let stream = |name, of| Stream {
        name,
        tenants: of,
        tools: of,
        rate: args.rate,
        ms: args.ms,
        length: Duration::from_secs(args.before + args.pause + 2),
        priority: Priority::Normal,
    };
    let streams = [stream(PAUSED, &paused), stream(OTHER, &other)];
    together(streams.map(|stream| stream.calls(args.common.seed)))
}

/// Pauses and resumes at their times, as an operator does.
async fn switch(args: &PauseArgs, rig: &Rig, calls: &[FlowCall], start: Instant) -> anyhow::Result<Paused> {
    let controls = rig.bed.client.controls();
    let entry = ControlEntry::Pause(Switch {
        target: match args.target {
            Target::Server => SwitchTarget::Server(ServerId::parse(PAUSED)?),
            Target::Tool => SwitchTarget::Tool(PAUSED.to_owned()),
            Target::Tenant => SwitchTarget::Tenant(Tenant::parse(PAUSED)?),
        },
        tenant: None,
        by: "load test".to_owned(),
        why: "to measure the pause".to_owned(),
        since: (rig.bed.clock)(),
        until: None,
    });
    tokio::time::sleep_until(start + Duration::from_secs(args.before)).await;
    let asked_us = rig.server.now_us();
    controls.set(&entry).await?;
    let stored_us = rig.server.now_us();
    tokio::time::sleep_until(start + Duration::from_secs(args.before + args.pause)).await;
    let held = held(rig, calls).await?;
    let ended = controls.clear(&entry.key(), "load test", "measured").await?;
    anyhow::ensure!(ended.is_some(), "the pause was gone before its end");
    Ok(Paused { asked_us, stored_us, resumed_us: rig.server.now_us(), held })
}

/// How many calls are held by a pause now.
async fn held(rig: &Rig, calls: &[FlowCall]) -> anyhow::Result<usize> {
    let keys = calls.iter().filter(|call| call.tool == PAUSED).map(|call| Ok(call.request()?.key));
    let keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
    let statuses = rig.bed.client.status_many(&keys).await?;
    let is_paused = |status: &CallStatus| match status {
        CallStatus::Open(row) => row.held().is_some_and(|held| held.reason == HeldReason::Paused),
        CallStatus::Unknown | CallStatus::Ended(_) | CallStatus::Unreadable(_) => false,
    };
    Ok(statuses.iter().filter(|status| is_paused(status)).count())
}

/// The figures of the pause. `start_us` is when the first call could be sent.
fn count(
    report: &mut FlowReport,
    calls: &[FlowCall],
    executions: &[Execution],
    paused: &Paused,
    start_us: u64,
) {
    let Paused { asked_us, stored_us, resumed_us, held } = *paused;
    let within = |server: &'static str| {
        let starts = executions.iter().filter(move |e| e.server == server).map(|e| e.at_us);
        starts.filter(move |at| (stored_us..resumed_us).contains(at))
    };
    report.figure("to store the pause and its audit record", (stored_us - asked_us) as f64 / 1_000.0, "ms");
    let last = within(PAUSED).max().map_or(0, |at| at - stored_us);
    report.goal(
        "from the stored pause to the last start",
        last as f64 / 1_000.0,
        "ms",
        Goal::AtMost(EFFECT_US as f64 / 1_000.0),
    );
    report.figure("starts after the stored pause", within(PAUSED).count() as f64, "calls");
    let late = within(PAUSED).filter(|at| at - stored_us > EFFECT_US).count();
    report.rule("starts later than 5 s after the stored pause", late as f64, "calls", Goal::AtMost(0.0));
    report.rule("calls that were held when the pause ended", held as f64, "calls", Goal::AtLeast(1.0));
    report.rule(
        "starts at the other server meanwhile",
        within(OTHER).count() as f64,
        "calls",
        Goal::AtLeast(1.0),
    );
    let waited = after_resume(calls, executions, paused, start_us);
    report.figure("calls that were sent before the resume and ran after it", waited.len() as f64, "calls");
    for (label, q) in [("first", 0.0), ("p50", 0.5)] {
        report.figure(
            format!("from the resume to their start, {label}"),
            quantile(&waited, q) as f64 / 1_000.0,
            "ms",
        );
    }
    let last = quantile(&waited, 1.0) as f64 / 1_000.0;
    report.goal("from the resume to their start, last", last, "ms", Goal::AtMost(RESUME_MS));
}

/// For each call to the paused server that was sent before the resume and started after it: how long after, in microseconds.
fn after_resume(calls: &[FlowCall], executions: &[Execution], paused: &Paused, start_us: u64) -> Vec<u64> {
    let waited = |call: &FlowCall| {
        let sent_before = start_us + micros(call.at) < paused.resumed_us;
        let first = executions.iter().find(|e| e.call == call.id && e.server == PAUSED)?;
        let after = first.at_us.checked_sub(paused.resumed_us)?;
        sent_before.then_some(after)
    };
    calls.iter().filter_map(waited).collect()
}

fn catalog(server: &FlowServer) -> Value {
    let of = |name: &str| json!({"id": name, "url": server.url(name)});
    let tool = |name: &str| json!({"id": name, "server": name, "idempotent": true});
    json!({
        "servers": [of(PAUSED), of(OTHER)],
        "tools": [tool(PAUSED), tool(OTHER)],
        "tenants": {"queue": ["*"]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCHED: Paused =
        Paused { asked_us: 900_000, stored_us: 1_000_000, resumed_us: 20_000_000, held: 1 };

    fn call(id: &str, at_s: u64) -> FlowCall {
        FlowCall {
            id: id.into(),
            tenant: PAUSED.into(),
            tool: PAUSED.into(),
            ms: 1,
            at: Duration::from_secs(at_s),
            priority: Priority::Normal,
        }
    }

    fn execution(call: &str, server: &str, at_us: u64) -> Execution {
        Execution {
            call: call.into(),
            server: server.into(),
            at_us,
            end_us: Some(at_us + 1),
            abandoned: false,
        }
    }

    fn violations(paused: &Paused, starts: &[u64]) -> Vec<String> {
        let mut report = FlowReport::new("pause", String::new(), false);
        let mut executions = vec![execution("o", OTHER, 2_000_000)];
        executions.extend(starts.iter().map(|at| execution("a", PAUSED, *at)));
        count(&mut report, &[call("a", 0)], &executions, paused, 0);
        report.violations
    }

    #[test]
    fn a_start_later_than_five_seconds_after_the_pause_is_found() {
        assert!(violations(&SWITCHED, &[500_000, 6_000_000, 21_000_000]).is_empty());
        let found = violations(&SWITCHED, &[6_000_001]);
        assert!(found.len() == 1 && found[0].starts_with("starts later than 5 s"), "{found:?}");
    }

    #[test]
    fn a_pause_that_held_no_call_is_found() {
        let found = violations(&Paused { held: 0, ..SWITCHED }, &[]);
        assert!(found.len() == 1 && found[0].starts_with("calls that were held"), "{found:?}");
    }

    #[test]
    fn only_calls_that_were_sent_before_the_resume_wait_for_it() {
        let calls = [call("before", 19), call("after", 21), call("ran", 0)];
        let executions = [("ran", 500_000), ("before", 25_000_000), ("after", 26_000_000)]
            .map(|(id, at)| execution(id, PAUSED, at));
        assert_eq!(after_resume(&calls, &executions, &SWITCHED, 0), [5_000_000]);
    }
}
