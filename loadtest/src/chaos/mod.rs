//! The command `chaos`: calls under faults of every kind, all drawn from a seed, and an account of every call.
//!
//! `plan` says from the seed what is sent and which faults come. `servers`, `fault_proxy` and `drive` make it happen, `collect` gathers what was
//! seen, and `account` turns it into violations.

pub mod account;
mod args;
mod behaviour;
mod callers;
mod collect;
mod decisions;
mod drive;
pub mod evidence;
mod fault_proxy;
mod ledger;
pub mod plan;
pub mod plant;
mod redelivery;
mod report;
mod rig;
mod servers;
mod throttle;
mod trace;
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use toolfleet_core::group::GroupResult;
use toolfleet_core::outcome::Code;

pub use args::ChaosArgs;

use account::account;
use callers::{Callers, Notices};
use collect::{Left, collect};
use decisions::Decisions;
use drive::Faults;
use evidence::{CallSeen, Evidence, GroupSeen};
use ledger::Fate;
use plan::{Fault, Plan};
use plant::plant;
use report::ChaosReport;
use rig::{Rig, Setup};

/// How long workers get to start before the load.
const SETTLE: Duration = Duration::from_millis(1_500);
/// The queue of notices.
const REPLIES: &str = "toolfleet-replies";

/// Runs the plan of the seed and prints the account; true if no rule was broken.
///
/// # Errors
/// The run cannot take place.
pub async fn run(args: &ChaosArgs) -> anyhow::Result<bool> {
    let shape = args.shape();
    let plan = Arc::new(Plan::of(args.seed, shape));
    let (rate, concurrency) = (Plan::rate(shape), Plan::concurrency(shape));
    let mut rig = Rig::start(Setup {
        binary: args.worker_bin.as_deref(),
        seed: args.seed,
        workers: args.workers,
        slots: args.slots,
        lease_ms: args.lease_ms,
        rate,
        concurrency,
        log: args.log.as_deref(),
    })
    .await?;
    tokio::time::sleep(SETTLE).await;
    rig.workers.check()?;

    let callers = Arc::new(Callers {
        client: rig.client.clone(),
        plan: plan.clone(),
        seed: args.seed,
        replies: rig.bed.addresses.idle_queue.clone(),
        start: Instant::now(),
        started_at: (rig.bed.clock)(),
    });
    let start = callers.start;
    let (notices, decisions) = (Notices::default(), Decisions::default());
    let reading = tokio::spawn(notices.clone().read(rig.client.clone(), REPLIES));
    let watching = tokio::spawn(decisions.clone().watch(rig.fleet.clone(), plan.clone(), start));
    let sending = tokio::spawn({
        let callers = callers.clone();
        async move { callers.send_all().await }
    });
    let mut faults = Faults::new(&plan.events, args.lease_ms, start);
    faults.inject(&mut rig).await?;
    let sent = sending.await.context("the sender failed")??;
    let settled = faults.settle(&mut rig, Duration::from_secs(args.settle)).await?;
    let lasted = faults.elapsed();
    faults.end_workers(&mut rig).await?;
    reading.abort();
    watching.abort();
    notices.read_rest(&rig.client, REPLIES).await?;

    let left =
        Left { callers: &callers, sent: &sent, notices: &notices, decisions: &decisions, rate, concurrency };
    let mut evidence = collect(&rig, &left).await?;
    evidence.bad_exits = std::mem::take(&mut faults.bad_exits);
    evidence.injected = injected(&faults, &rig);
    evidence.injected.extend(used(&evidence));
    if let Some(kind) = args.plant {
        anyhow::ensure!(plant(kind, &mut evidence), "no call of this run can break the rule {}", kind.name());
    }
    let report = ChaosReport::new(args, &evidence, account(&evidence), &faults.own_ends, settled, lasted);
    if !report.is_clean() {
        eprintln!("{}", rig.bed.folder.keep());
    }
    report.publish(args.json.as_deref())
}

/// How often each kind of fault was injected, by the plan, the proxies and the servers.
fn injected(faults: &Faults, rig: &Rig) -> BTreeMap<&'static str, u64> {
    let times = |fault: &Fault| faults.injected.get(fault).copied().unwrap_or(0);
    let mut all: BTreeMap<_, _> = Fault::ALL.iter().map(|fault| (fault.name(), times(fault))).collect();
    for proxy in [&rig.proxies.dynamodb, &rig.proxies.sqs, &rig.proxies.s3] {
        for (what, times) in proxy.counts() {
            *all.entry(what).or_default() += times;
        }
    }
    let ledger = rig.servers.ledger();
    let of = |fate: Fate, ran: bool| ledger.count(|request| request.fate == fate && request.ran == ran);
    all.extend([
        ("requests reset before the tool ran", of(Fate::Reset, false)),
        ("requests reset after the tool ran", of(Fate::Reset, true)),
        ("errors after the tool ran", of(Fate::Unclear, true)),
        ("requests answered 429 or in a lost session", of(Fate::Refused, false)),
        ("requests whose caller hung up while the tool ran", of(Fate::Abandoned, true)),
        ("answers to requests in lost sessions", rig.servers.lost_answers()),
    ]);
    // Few calls meet such a server, so a short run may have none.
    if let silent @ 1.. = of(Fate::Abandoned, false) {
        all.insert("requests never answered", silent);
    }
    all
}

/// How often each feature of the calls was used.
fn used(evidence: &Evidence) -> Vec<(&'static str, u64)> {
    let calls = |of: fn(&CallSeen) -> bool| evidence.calls.iter().filter(|call| of(call)).count() as u64;
    let decided = |result: GroupResult| {
        let of_it = |group: &&GroupSeen| group.decision.is_some_and(|decision| decision.result == result);
        evidence.groups.iter().filter(of_it).count() as u64
    };
    vec![
        ("calls given a stored answer", calls(|call| call.cached_from.is_some())),
        ("requests that served several calls", evidence.shared.len() as u64),
        ("calls whose task another worker polled", calls(|call| call.polled_elsewhere)),
        ("calls whose task was cancelled", calls(|call| call.tasks_cancelled > 0)),
        ("calls replaced by a newer one", calls(|call| call.ended_with(Code::Superseded))),
        ("calls ended by the decision of their group", calls(|call| call.ended_with(Code::GroupDecided))),
        ("groups decided as succeeded", decided(GroupResult::Succeeded)),
        ("groups decided as failed", decided(GroupResult::Failed)),
        ("groups decided as incomplete", decided(GroupResult::Incomplete)),
        ("groups decided as cancelled", decided(GroupResult::Cancelled)),
    ]
}
