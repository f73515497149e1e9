//! Groups under workers that are killed with -9: one decision each, which never changes, and at least one notice.
//!
//! Groups of every size and policy are sent, their members in random order, some twice. Some members are refused, some are never sent, and some
//! groups are cancelled. The rows are read all the time, so that a decision that changes is seen.

mod plan;
pub(crate) mod verdict;

use std::time::Duration;

use fastrand::Rng;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_aws::fleet::Fleet;
use toolfleet_aws::queue::Queue;
use toolfleet_client::{Aws, Client, Tables};
use toolfleet_core::group::{GroupNotice, GroupResult};
use toolfleet_core::request::Priority;
use toolfleet_core::time::Timestamp;

use self::plan::{PlannedGroup, SAFE, TENANT, UNSAFE};
use self::verdict::{Seen, violations};
use super::args::CommonArgs;
use super::calls::FlowCall;
use super::report::{FlowReport, Goal};
use super::rig::{Rig, Setup, outcomes};
use super::server::FlowServer;
use crate::bed::aws_options;

/// How often the rows are read.
const LOOK: Duration = Duration::from_millis(250);
/// How many rows are read at once.
const READS: usize = 16;
/// Groups that lack a member are decided so long after the last call was sent, the others long after the run.
const SOON_MS: u64 = 2_000;
const LATER_MS: u64 = 600_000;
/// How long everything may take after that.
const GIVE_UP: Duration = Duration::from_secs(120);

/// Arguments of `flow groups`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GroupsArgs {
    /// How many worker processes.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// How many calls each worker runs at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    /// How many groups.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    groups: u32,
    /// How long a call takes, in milliseconds.
    #[arg(long, default_value_t = 100, value_name = "MS")]
    ms: u64,
    /// For how long calls are sent, in seconds.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(2..=3_600))]
    seconds: u64,
    /// A worker is killed with -9 and started again about every so many seconds; 0: none is.
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    kill_every: u64,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) async fn run(args: &GroupsArgs) -> anyhow::Result<bool> {
    let setup = Setup {
        binary: args.common.worker_bin.as_deref(),
        workers: args.workers,
        slots: args.slots,
        lease_ms: args.common.lease_ms,
        reply_queue: true,
        ..Setup::default()
    };
    let planned = plan::groups(args.groups, Duration::from_secs(args.seconds), args.common.seed)?;
    let mut rig = Rig::start(&setup, catalog).await?;
    let mut watch = Watch::start(&rig).await;
    let start = Instant::now();
    let sender = Sender::new(args, &rig, &planned, start);
    let until = start + Duration::from_secs(args.seconds) + Duration::from_millis(SOON_MS) + GIVE_UP;
    tokio::try_join!(
        sender.send_all(),
        watch.until_over(&planned, until, still(args)),
        kill_workers(args, &mut rig, start)
    )?;
    rig.workers.check()?;
    let mut report = FlowReport::new("groups", load(args), args.common.strict);
    for execution in rig.server.executions() {
        *watch.seen.executions.entry(execution.call).or_default() += 1;
    }
    report.violations.extend(violations(&planned, &watch.seen));
    figures(&mut report, &planned, &watch);
    let killed = rig.killed.len() as f64;
    let wanted = if args.kill_every > 0 { 1.0 } else { 0.0 };
    report.rule("workers killed with -9", killed, "", Goal::AtLeast(wanted));
    if !report.violations.is_empty() {
        rig.keep_log();
    }
    report.publish(args.common.json.as_deref())
}

/// How long groups are watched after all are decided: redelivered members come within two leases.
fn still(args: &GroupsArgs) -> Duration {
    Duration::from_millis(u64::from(args.common.lease_ms) * 2)
}

fn load(args: &GroupsArgs) -> String {
    format!(
        "{} groups, {} workers with {} slots, members of {} ms sent within {} s, a worker killed about every {} s",
        args.groups, args.workers, args.slots, args.ms, args.seconds, args.kill_every
    )
}

fn figures(report: &mut FlowReport, planned: &[PlannedGroup], watch: &Watch) {
    let seen = &watch.seen;
    let members: usize = planned.iter().map(|group| group.members.len()).sum();
    let again = planned.iter().flat_map(|group| &group.members).filter(|member| member.again_at.is_some());
    report.figure("members sent", members as f64, "calls");
    report.figure("of them sent twice", again.count() as f64, "calls");
    report.figure("times that all rows were read", f64::from(watch.looks), "");
    for result in GroupResult::ALL {
        let decided = seen.first.values().filter(|decision| decision.result == result).count();
        report.figure(format!("groups decided as {result}"), decided as f64, "groups");
    }
    let undecided = planned.iter().filter(|group| !seen.first.contains_key(&group.key)).count();
    report.rule("groups without a decision", undecided as f64, "groups", Goal::AtMost(0.0));
    report.rule("decisions that changed", seen.changed.len() as f64, "groups", Goal::AtMost(0.0));
    let lost = planned.iter().filter(|group| seen.notices_of(&group.key).next().is_none()).count();
    report.rule("groups without a notice", lost as f64, "groups", Goal::AtMost(0.0));
    report.figure("notices sent more than once", (seen.notices.len() + lost - planned.len()) as f64, "");
}

/// Reads rows, notices and results.
struct Watch {
    client: Client,
    fleet: Fleet,
    replies: Queue,
    seen: Seen,
    looks: u32,
}

impl Watch {
    async fn start(rig: &Rig) -> Self {
        let aws = Aws::connect(aws_options(&rig.bed.addresses)).await;
        let fleet = aws.fleet(&Tables::with_prefix("toolfleet"));
        let replies = aws.queue(&rig.bed.addresses.idle_queue);
        Self { client: rig.bed.client.clone(), fleet, replies, seen: Seen::default(), looks: 0 }
    }

    /// Looks again and again until all groups are over, and `still` longer: what comes later must change nothing.
    async fn until_over(
        &mut self,
        planned: &[PlannedGroup],
        until: Instant,
        still: Duration,
    ) -> anyhow::Result<()> {
        let mut over_since = None;
        while over_since.is_none_or(|since: Instant| since.elapsed() < still) && Instant::now() < until {
            self.look(planned).await?;
            let over = planned.iter().all(|group| self.seen.is_over(group));
            over_since = if over { over_since.or_else(|| Some(Instant::now())) } else { None };
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn look(&mut self, planned: &[PlannedGroup]) -> anyhow::Result<()> {
        self.looks += 1;
        let reads = planned.iter().map(|group| self.fleet.group(&group.key));
        let rows: Vec<_> = stream::iter(reads).buffered(READS).try_collect().await?;
        rows.into_iter().flatten().for_each(|row| self.seen.read(row));
        loop {
            let got = self.replies.receive(10, 0, 30).await?;
            if got.is_empty() {
                break;
            }
            for delivery in &got {
                self.seen.notices.push(serde_json::from_str::<GroupNotice>(&delivery.body)?);
            }
            let deletes = got.iter().map(|delivery| self.replies.delete(&delivery.receipt));
            try_join_all(deletes).await?;
        }
        let known = |id: &str| self.seen.outcomes.contains_key(id);
        let open = planned.iter().flat_map(|group| &group.members).filter(|member| !known(&member.id));
        let open: Vec<FlowCall> = open.map(|member| as_call(&member.id)).collect();
        self.seen.outcomes.extend(outcomes(&self.client, &open).await?);
        Ok(())
    }
}

fn as_call(id: &str) -> FlowCall {
    FlowCall {
        id: id.to_owned(),
        tenant: TENANT.to_owned(),
        tool: SAFE.to_owned(),
        ms: 0,
        at: Duration::ZERO,
        priority: Priority::Normal,
    }
}

/// Kills workers at random times while calls are sent, and starts another one within a second after each.
async fn kill_workers(args: &GroupsArgs, rig: &mut Rig, start: Instant) -> anyhow::Result<()> {
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

/// Sends all messages at their times, and the cancellations.
struct Sender {
    client: Client,
    planned: Vec<PlannedGroup>,
    start: Instant,
    length: Duration,
    ms: u64,
    reply: String,
    soon: Timestamp,
    later: Timestamp,
}

/// What is sent: a member's message, or a group's cancellation.
enum Sending {
    Member(usize, usize),
    Cancel(usize),
}

impl Sender {
    fn new(args: &GroupsArgs, rig: &Rig, planned: &[PlannedGroup], start: Instant) -> Self {
        let now = (rig.bed.clock)();
        Self {
            client: rig.bed.client.clone(),
            planned: planned.to_vec(),
            start,
            length: Duration::from_secs(args.seconds),
            ms: args.ms,
            reply: rig.bed.addresses.idle_queue.clone(),
            soon: now.plus_ms(args.seconds * 1_000 + SOON_MS),
            later: now.plus_ms(args.seconds * 1_000 + LATER_MS),
        }
    }

    async fn send_all(self) -> anyhow::Result<()> {
        let mut sendings = Vec::new();
        for (g, group) in self.planned.iter().enumerate() {
            for (m, member) in group.members.iter().enumerate() {
                sendings.extend(
                    [Some(member.at), member.again_at]
                        .into_iter()
                        .flatten()
                        .map(|at| (at, Sending::Member(g, m))),
                );
            }
            if group.cancelled {
                sendings.push((self.length / 2, Sending::Cancel(g)));
            }
        }
        sendings.sort_by_key(|(at, _)| *at);
        for (at, sending) in sendings {
            tokio::time::sleep_until(self.start + at).await;
            self.send(&sending).await?;
        }
        Ok(())
    }

    async fn send(&self, sending: &Sending) -> anyhow::Result<()> {
        let (Sending::Member(g, _) | Sending::Cancel(g)) = sending;
        let Some(group) = self.planned.get(*g) else { return Ok(()) };
        match sending {
            Sending::Cancel(_) => {
                self.client.cancel_group(&group.key).await?;
            }
            Sending::Member(_, m) => {
                let Some(member) = group.members.get(*m) else { return Ok(()) };
                let deadline = if group.lacks_a_member() { self.soon } else { self.later };
                self.client.send(&group.request(member, self.ms, &self.reply, deadline)?, None).await?;
            }
        }
        Ok(())
    }
}

fn catalog(server: &FlowServer) -> Value {
    json!({
        "servers": [{"id": SAFE, "url": server.url(SAFE)}],
        "tools": [{"id": SAFE, "server": SAFE, "idempotent": true}, {"id": UNSAFE, "server": SAFE, "name": SAFE}],
        "tenants": {"queue": ["*"]},
    })
}
