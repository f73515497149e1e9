//! The command `chaos`: calls under faults of every kind, all drawn from a seed, and an account of every call.
//!
//! `plan` says from the seed what is sent and which faults come. `servers`, `fault_proxy` and `drive` make it happen, `collect` gathers what was
//! seen, and `account` turns it into violations.

pub mod account;
mod args;
mod behaviour;
mod callers;
mod changes;
mod collect;
mod deadly;
mod decisions;
mod drive;
pub mod evidence;
mod fault_proxy;
mod ledger;
mod letters;
mod operators;
pub mod plan;
pub mod plant;
mod redelivery;
mod redrive;
mod report;
mod rig;
mod served;
mod servers;
mod throttle;
mod trace;
mod used;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

pub use args::ChaosArgs;

use account::account;
use callers::{Callers, Notices};
use collect::{Left, collect};
use decisions::Decisions;
use drive::Faults;
use letters::Again;
use plan::{Limits, Plan};
use plant::plant;
use report::ChaosReport;
use rig::{Rig, Setup};
use used::Deaths;

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
    let limits = Limits::of(shape);
    let starting = Rig::start(Setup {
        binary: args.worker_bin.as_deref(),
        seed: args.seed,
        workers: args.workers,
        slots: args.slots,
        lease_ms: args.lease_ms,
        limits,
        log: args.log.as_deref(),
    });
    let mut rig = Box::pin(starting).await?;
    tokio::time::sleep(SETTLE).await;
    rig.workers.check()?;

    let callers = Callers {
        client: rig.client.clone(),
        plan: plan.clone(),
        seed: args.seed,
        replies: rig.bed.addresses.idle_queue.clone(),
        start: Instant::now(),
        started_at: (rig.bed.clock)(),
    };
    let start = callers.start;
    let (notices, decisions) = (Notices::default(), Decisions::default());
    let reading = tokio::spawn(notices.clone().read(rig.client.clone(), REPLIES));
    let watching = tokio::spawn(decisions.clone().watch(rig.fleet.clone()));
    let sending = tokio::spawn({
        let (callers, decisions) = (callers.clone(), decisions.clone());
        async move { redrive::send_all(&callers, &decisions).await }
    });
    let (deadly, again) = (rig.proxies.sqs.deadly(), Again::default());
    plan.calls.iter().filter(|call| call.deadly.is_some()).for_each(|call| deadly.add(&call.id));
    let redriving = tokio::spawn(again.clone().send_all(rig.client.clone(), plan.clone(), deadly));
    let mut faults = Faults::new(&plan.events, limits, args.lease_ms, start);
    faults.inject(&mut rig).await?;
    let sent = sending.await.context("the sender failed")??;
    let left_over = faults.settle(&mut rig, Duration::from_secs(args.settle)).await?;
    let (lasted, drained) = (faults.elapsed(), faults.left);
    faults.end_workers(&mut rig).await?;
    reading.abort();
    watching.abort();
    redriving.abort();
    notices.read_rest(&rig.client, REPLIES).await?;

    let callers = Callers { plan: Arc::new(plan.with_rounds(&sent.rounds)), ..callers };
    let left = Left {
        callers: &callers,
        sent: &sent,
        notices: &notices,
        decisions: &decisions,
        faults: &faults,
        limits,
    };
    let mut evidence = collect(&rig, &left).await?;
    evidence.bad_exits = std::mem::take(&mut faults.bad_exits);
    evidence.own_ends = std::mem::take(&mut faults.own_ends);
    evidence.injected = used::injected(&faults.injected, drained, faults.left_by_table);
    let deadly = Deaths { workers: faults.killed_by_message, sent_again: again.count() };
    evidence.used = used::used(&evidence, &rig, &plan, deadly).await;
    if let Some(kind) = args.plant {
        anyhow::ensure!(plant(kind, &mut evidence), "no call of this run can break the rule {}", kind.name());
    }
    let report = ChaosReport::new(args, &evidence, account(&evidence), left_over, lasted);
    if !report.is_clean() {
        eprintln!("{}", rig.bed.folder.keep());
    }
    report.publish(args.json.as_deref())
}
