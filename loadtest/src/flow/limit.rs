//! A rate limit and a concurrency limit under workers that are killed with -9 and started again at random: counted at the servers.
//!
//! Two servers take more calls than their limits allow: `rated` has a limit of starts in a second, `narrow` one of open requests. What
//! was sent beyond the limits waits, and all of it must be executed in the end. The limits must hold the whole time; how much of
//! them is used is measured while calls are sent.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_core::request::Priority;

use super::args::CommonArgs;
use super::calls::{FlowCall, Stream, together};
use super::counts::{busy_between, count_between, most_at_once, most_in_window, over, quantile};
use super::report::{FlowReport, Goal};
use super::rig::{Rig, Setup, send_to};
use super::server::{Execution, FlowServer, micros};
use super::turns::{self, UsedTurn};
use crate::receives;
use crate::run_args::CLOCK_SKEW_MS;

/// The server with a rate limit, and the one with a concurrency limit.
const RATED: &str = "rated";
const NARROW: &str = "narrow";
const TENANT: &str = "load";
/// How much more is sent than the limits allow.
const DEMAND: f64 = 1.25;
/// How long a call takes at each server, in milliseconds.
const RATED_MS: u64 = 50;
const NARROW_MS: u64 = 400;
/// The delays between turn and server may differ by so much without a start over the rate at the server.
const DELAY_VARIATION_US: u64 = 50_000;
/// How long an attempt at the narrow server may take; a killed worker's call counts as open for as long, for two
/// seconds more, and for the clock skew.
const NARROW_TIMEOUT_MS: u64 = 2_000;
pub(super) const HOLD_MARGIN_MS: u64 = 2_000;
/// How much of a limit is used at least.
const USED: f64 = 0.9;
/// How often a call is received at most, at p99.
const RECEIVES: f64 = 3.0;
/// What belongs to the start: workers connect, and the first calls come.
const WARM_UP: Duration = Duration::from_secs(2);

/// The limit that is measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// The limit of starts in a second.
    Rate,
    /// The limit of open requests.
    Concurrency,
}

/// Arguments of `flow limit`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LimitArgs {
    /// How many worker processes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// How many calls of one tenant to one server each worker runs at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    /// The limit of starts in a second at one server.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// The limit of open requests at the other server.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    concurrency: u32,
    /// For how long calls are sent, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    seconds: u64,
    /// A worker is killed with -9 and started again about every so many seconds; 0: none is.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    kill_every: u64,
    /// Fail if less than this share of a limit is used, such as 0.6: a floor that holds on a slow machine too.
    #[arg(long, value_name = "SHARE")]
    floor: Option<f64>,
    /// Send calls to one of the servers only.
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Configure no limit. The run must fail: it shows that a limit that does not hold is found.
    #[arg(long)]
    planted: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) async fn run(args: &LimitArgs) -> anyhow::Result<bool> {
    let setup = Setup {
        binary: args.common.worker_bin.as_deref(),
        workers: args.workers,
        slots: args.slots,
        lease_ms: args.common.lease_ms,
        counted: true,
        environment: &[
            ("TOOLFLEET_LOG", turns::LOG_FILTER.to_owned()),
            ("TOOLFLEET_LOG_FORMAT", "json".to_owned()),
        ],
        ..Setup::default()
    };
    let mut rig = Rig::start(&setup, |server| catalog(args, server)).await?;
    let clock_start_us = clock_start_us(&rig);
    let calls = calls(args);
    let start = Instant::now();
    let start_us = micros(start.duration_since(rig.server.start_of_clock()));
    let client = rig.bed.client.clone();
    tokio::try_join!(send_to(&client, &calls, start), kill_workers(args, &mut rig, start))?;
    let length = Duration::from_secs(args.seconds);
    let mut report = FlowReport::new("limit", load(args), args.common.strict);
    let most = length * 2 + Duration::from_secs(60);
    if !rig.until_empty(most).await? {
        report.violations.push(format!("calls were left {} s after the last was sent", most.as_secs()));
    }
    report.violations.extend(rig.verify(&calls, args.kill_every > 0).await?);
    let period = (start_us + micros(WARM_UP), start_us + micros(length));
    let executions = rig.server.executions();
    let log = rig.bed.folder.log()?;
    if args.only != Some(Only::Concurrency) {
        let used =
            count_rated(&mut report, args.rate, &executions, &turns::in_log(&log, clock_start_us), period);
        judge(&mut report, "rate used", used, args.floor);
    }
    if args.only != Some(Only::Rate) {
        let used = count_narrow(&mut report, args.concurrency, &executions, period, rig.server.now_us());
        judge(&mut report, "concurrency used of what was not held", used, args.floor);
    }
    count_receives(&mut report, &rig);
    report.figure("workers killed with -9", rig.killed.len() as f64, "");
    report.bill(rig.bed.counted(), u32::try_from(calls.len()).unwrap_or(u32::MAX));
    if !report.violations.is_empty() {
        rig.keep_log();
    }
    report.publish(args.common.json.as_deref())
}

fn load(args: &LimitArgs) -> String {
    format!(
        "{} workers, {}/s and {} open, {} times that sent for {} s, a worker killed about every {} s{}",
        args.workers,
        args.rate,
        args.concurrency,
        DEMAND,
        args.seconds,
        args.kill_every,
        if args.planted { ", NO LIMIT CONFIGURED" } else { "" }
    )
}

fn calls(args: &LimitArgs) -> Vec<FlowCall> {
    let tenants = [TENANT.to_owned()];
    let (rated, narrow) = ([RATED.to_owned()], [NARROW.to_owned()]);
    let length = Duration::from_secs(args.seconds);
    let to_rated = Stream {
        name: RATED,
        tenants: &tenants,
        tools: &rated,
        rate: f64::from(args.rate) * DEMAND,
        ms: RATED_MS,
        length,
        priority: Priority::Normal,
    };
    let most_narrow = f64::from(args.concurrency) * 1_000.0 / NARROW_MS as f64;
    let to_narrow = Stream {
        name: NARROW,
        tools: &narrow,
        rate: most_narrow * DEMAND,
        ms: NARROW_MS,
        ..to_rated.clone()
    };
    let of = |limit: Only, stream: &Stream<'_>| match args.only {
        Some(only) if only != limit => Vec::new(),
        Some(_) | None => stream.calls(args.common.seed),
    };
    together([of(Only::Rate, &to_rated), of(Only::Concurrency, &to_narrow)])
}

/// Kills workers at random times until the last call was sent, and starts another one within a second after each.
async fn kill_workers(args: &LimitArgs, rig: &mut Rig, start: Instant) -> anyhow::Result<()> {
    if args.kill_every == 0 {
        return Ok(());
    }
    let mut rng = Rng::with_seed(args.common.seed);
    let until = start + Duration::from_secs(args.seconds);
    loop {
        let pause = Duration::from_secs_f64(args.kill_every as f64 * (0.5 + rng.f64()));
        if Instant::now() + pause >= until {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        rig.workers.check()?;
        rig.kill(rng.usize(..rig.workers.count()))?;
        tokio::time::sleep(Duration::from_millis(rng.u64(..1_000))).await;
        rig.workers.start_one()?;
    }
}

fn of_server<'a>(executions: &'a [Execution], server: &'a str) -> impl Iterator<Item = &'a Execution> {
    executions.iter().filter(move |execution| execution.server == server)
}

/// The start of the servers' clock, in microseconds since 1970, to a millisecond.
fn clock_start_us(rig: &Rig) -> u64 {
    let now_ms = u64::try_from((rig.bed.clock)().as_ms()).unwrap_or(0);
    (now_ms * 1_000).saturating_sub(rig.server.now_us())
}

/// The starts at the server with a rate limit, by turn and by when they came. Returns the share of the limit that was used.
fn count_rated(
    report: &mut FlowReport,
    rate: u32,
    executions: &[Execution],
    used: &[UsedTurn],
    (from, to): (u64, u64),
) -> f64 {
    let times: Vec<u64> = of_server(executions, RATED).map(|execution| execution.at_us).collect();
    let limit = usize::try_from(rate).unwrap_or(usize::MAX);
    let turn_times: Vec<u64> = used.iter().map(|turn| turn.at_us).collect();
    let late = over(&times, limit);
    report.figure("starts at the rated server", times.len() as f64, "calls");
    report.figure("most starts in any second", most_in_window(&times) as f64, "calls");
    report.rule("over the rate by turn", over(&turn_times, limit).len() as f64, "calls", Goal::AtMost(0.0));
    let delays = turns::delays(used, of_server(executions, RATED));
    let known: Vec<u64> = delays.iter().flatten().copied().collect();
    report.rule("starts without a turn", (delays.len() - known.len()) as f64, "calls", Goal::AtMost(0.0));
    for (label, q) in [("p50", 0.50), ("p99", 0.99), ("longest", 1.0)] {
        report.figure(format!("from turn to server, {label}"), quantile(&known, q) as f64 / 1_000.0, "ms");
    }
    // A start is over only if it and the `limit` starts before it came within a second.
    let unexplained = late.iter().filter(|last| {
        let window = delays.get(last.saturating_sub(limit)..=**last).unwrap_or_default();
        turns::variation(window).is_none_or(|variation| variation <= DELAY_VARIATION_US)
    });
    let unexplained = unexplained.count() as f64;
    report.figure("over the rate at the server", late.len() as f64, "calls");
    let name = "of them with delays that differ by 50 ms or less";
    report.rule(name, unexplained, "calls", Goal::AtMost(0.0));
    let possible = f64::from(rate) * to.saturating_sub(from) as f64 / 1_000_000.0;
    count_between(&times, from, to) as f64 / possible
}

/// The open requests at the server with a concurrency limit. Returns the share that was used of what killed workers did not hold.
fn count_narrow(
    report: &mut FlowReport,
    concurrency: u32,
    executions: &[Execution],
    (from, to): (u64, u64),
    now_us: u64,
) -> f64 {
    let spans: Vec<_> = of_server(executions, NARROW).map(|execution| execution.span(now_us)).collect();
    let most = most_at_once(&spans) as f64;
    report.figure("starts at the narrow server", spans.len() as f64, "calls");
    report.rule("most requests open at once", most, "requests", Goal::AtMost(f64::from(concurrency)));
    let possible = f64::from(concurrency) * to.saturating_sub(from) as f64;
    let busy = busy_between(&spans, from, to) as f64;
    // What a killed worker had open counts as open until its attempt's time-out, the margin and the clock skew have passed.
    let held_us = (NARROW_TIMEOUT_MS + HOLD_MARGIN_MS + CLOCK_SKEW_MS) * 1_000;
    let lost: Vec<_> = of_server(executions, NARROW)
        .filter(|execution| execution.abandoned)
        .map(|execution| (execution.span(now_us).1, execution.at_us + held_us))
        .collect();
    let lost = busy_between(&lost, from, to) as f64;
    report.figure("concurrency used", busy / possible, "of the limit");
    report.figure("held for requests of killed workers", lost / possible, "of the limit");
    busy / (possible - lost).max(1.0)
}

/// Adds the share of a limit that was used, with its goal, and its floor if there is one.
fn judge(report: &mut FlowReport, name: &str, used: f64, floor: Option<f64>) {
    report.goal(name, used, "of it", Goal::AtLeast(USED));
    if let Some(floor) = floor {
        report.rule(format!("{name}, the floor"), used, "of it", Goal::AtLeast(floor));
    }
}

/// How often a call was received, first messages and those that replaced them. Only the rate limit promises a number.
fn count_receives(report: &mut FlowReport, rig: &Rig) {
    let (rated, narrow): (Vec<_>, Vec<_>) =
        rig.bed.receives().into_iter().partition(|receive| receive.call.starts_with(RATED));
    for (server, receives) in [(RATED, &rated), (NARROW, &narrow)] {
        let (all, kept) = receives::by_call(receives, &rig.killed);
        for (label, q) in [("p50", 0.50), ("p99", 0.99)] {
            let name = format!("receives of a call to the {server} server, {label}");
            report.figure(name, quantile(&all, q) as f64, "");
        }
        let (name, p99) =
            ("the same without calls lost by killed workers, p99", quantile(&kept, 0.99) as f64);
        if server == RATED {
            report.goal(name, p99, "", Goal::AtMost(RECEIVES));
        } else {
            report.figure(name, p99, "");
        }
    }
}

fn catalog(args: &LimitArgs, server: &FlowServer) -> Value {
    let mut rated = json!({"id": RATED, "url": server.url(RATED)});
    let mut narrow = json!({"id": NARROW, "url": server.url(NARROW)});
    if !args.planted {
        for (server, limits) in [
            (&mut rated, json!({"rate": format!("{}/s", args.rate)})),
            (&mut narrow, json!({"concurrency": args.concurrency})),
        ] {
            server.as_object_mut().map(|server| server.insert("limits".to_owned(), limits));
        }
    }
    json!({
        "servers": [rated, narrow],
        "tools": [
            {"id": RATED, "server": RATED, "idempotent": true},
            {"id": NARROW, "server": NARROW, "idempotent": true, "timeout_ms": NARROW_TIMEOUT_MS},
        ],
        "tenants": {"queue": ["*"]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(server: &str, at_ms: u64, ms: u64, abandoned: bool) -> Execution {
        let end_us = Some((at_ms + ms) * 1_000);
        Execution {
            call: format!("c-{at_ms}"),
            server: server.into(),
            at_us: at_ms * 1_000,
            end_us,
            abandoned,
        }
    }

    /// Starts with their turns, both in milliseconds.
    fn rated(starts: impl IntoIterator<Item = (u64, u64)>) -> Vec<String> {
        let (mut executions, mut turns) = (Vec::new(), Vec::new());
        for (n, (turn_ms, at_ms)) in starts.into_iter().enumerate() {
            let call = format!("c-{n}");
            executions.push(Execution { call: call.clone(), ..execution(RATED, at_ms, 1, false) });
            turns.push(UsedTurn { call, at_us: turn_ms * 1_000 });
        }
        executions.sort_by_key(|execution| execution.at_us);
        turns.sort_by_key(|turn| turn.at_us);
        let mut report = FlowReport::new("limit", String::new(), true);
        let used = count_rated(&mut report, 20, &executions, &turns, (0, 10_000_000));
        judge(&mut report, "rate used", used, Some(0.8));
        report.violations
    }

    /// The turns of 20 a second, each request a millisecond after its turn.
    fn regular() -> impl Iterator<Item = (u64, u64)> {
        (0..190).map(|n| (n * 52, n * 52 + 1))
    }

    fn narrow(executions: &[Execution]) -> Vec<String> {
        let mut report = FlowReport::new("limit", String::new(), true);
        let used = count_narrow(&mut report, 2, executions, (0, 10_000_000), 10_000_000);
        judge(&mut report, "concurrency used", used, Some(0.8));
        report.violations
    }

    #[test]
    fn one_turn_more_in_a_second_is_found() {
        assert!(rated(regular()).is_empty(), "{:?}", rated(regular()));
        let found = rated(regular().chain([(5_000, 5_001), (5_001, 5_002)]));
        assert!(found[0].starts_with("over the rate by turn"), "{found:?}");
        assert!(found[1].starts_with("of them with delays that differ by 50 ms or less"), "{found:?}");
    }

    #[test]
    fn starts_over_the_rate_are_allowed_only_by_delays_that_differ_more() {
        let delayed = |ms: u64| {
            regular().map(move |(turn, at)| if turn == 5_200 { (turn, at + ms) } else { (turn, at) })
        };
        assert!(rated(delayed(0)).is_empty());
        assert!(rated(delayed(900)).is_empty(), "{:?}", rated(delayed(900)));
        // The request is sent at another time than its turn says: a turn of its own would have been needed.
        let without = regular().map(|(turn, at)| if turn == 5_200 { (turn + 900, at) } else { (turn, at) });
        assert!(rated(without).iter().any(|found| found.starts_with("starts without a turn")));
    }

    #[test]
    fn a_limit_that_is_not_used_is_found() {
        let found = rated((0..170).map(|n| (n * 58, n * 58 + 1)));
        assert!(found.len() == 1 && found[0].starts_with("rate used: 0.850"), "{found:?}");
        let found = rated((0..150).map(|n| (n * 66, n * 66 + 1)));
        assert!(found.len() == 2 && found[1].starts_with("rate used, the floor: 0.750"), "{found:?}");
    }

    #[test]
    fn one_open_request_more_is_found_and_a_killed_workers_counts_until_its_end() {
        let busy = |from_ms: u64| (0..25).map(move |n| execution(NARROW, from_ms + n * 400, 400, false));
        let mut full: Vec<_> = busy(0).chain(busy(1)).collect();
        full.sort_by_key(|execution| execution.at_us);
        assert!(narrow(&full).is_empty(), "{:?}", narrow(&full));
        full.push(execution(NARROW, 5_000, 10, true));
        assert!(narrow(&full)[0].starts_with("most requests open at once: 3"));
    }

    #[test]
    fn what_killed_workers_held_is_not_counted_as_unused() {
        // One of two is busy all the time; the other is held for four killed requests, 2.5 s each.
        let busy = (0..25).map(|n| execution(NARROW, n * 400, 400, false));
        let held = (0..4).map(|n| execution(NARROW, n * 2_500, 1, true));
        let all: Vec<_> = busy.chain(held).collect();
        assert!(narrow(&all).is_empty(), "{:?}", narrow(&all));
        assert_eq!(narrow(&all[..25]).len(), 2, "without them half was unused: the goal and the floor");
    }
}
