//! The command `chaos`: calls under faults of every kind, all drawn from a seed, and an account of every call.
//!
//! `plan` says from the seed what is sent and which faults come. `servers`, `fault_proxy` and `drive` make it happen, `collect` gathers what was
//! seen, and `account` turns it into violations.

pub mod account;
mod args;
mod behaviour;
mod callers;
mod collect;
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
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

pub use args::ChaosArgs;

use account::account;
use callers::{Notices, send_all};
use collect::{Left, collect};
use drive::Faults;
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
    let plan = Plan::of(args.seed, shape);
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
    let started_at = (rig.bed.clock)();
    tokio::time::sleep(SETTLE).await;
    rig.workers.check()?;

    let start = Instant::now();
    let notices = Notices::default();
    let reading = tokio::spawn(notices.clone().read(rig.client.clone(), REPLIES));
    let calls = Arc::new(plan.calls.clone());
    let replies = rig.bed.addresses.idle_queue.clone();
    let sending = tokio::spawn(send_all(rig.client.clone(), calls, replies, start));
    let mut faults = Faults::new(&plan.events, args.lease_ms, start);
    faults.inject(&mut rig).await?;
    let sent = sending.await.context("the sender failed")??;
    let settled = faults.settle(&mut rig, Duration::from_secs(args.settle)).await?;
    let lasted = faults.elapsed();
    faults.end_workers(&mut rig).await?;
    reading.abort();
    notices.read_rest(&rig.client, REPLIES).await?;

    let left = Left { sent: &sent, notices: &notices, started_at, rate, concurrency };
    let mut evidence = collect(&plan, &rig, &left).await?;
    evidence.bad_exits = std::mem::take(&mut faults.bad_exits);
    evidence.injected = injected(&faults, &rig);
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
