//! The permits of concurrency limits in the simulation: as the workers do, entries are exchanged where that is possible, and the row is
//! replaced where it is not.

use std::rc::Rc;

use toolfleet_core::limits::exchange::Exchange;
use toolfleet_core::limits::holders::{Change, Granted, HolderTable, Take};
use toolfleet_core::limits::waits::Ahead;
use toolfleet_core::state_table::{Decision, StateTable as _};

use super::delivery::Delivery;
use super::limits::{Open, PERMIT_SLACK_MS, Permit, ended, task_number};
use super::planted::Planted;
use super::scenario::SKEW_MS;
use super::world::{AwsFailed, Process, World};

/// After so many lost writes a worker tries later.
const ROUNDS: usize = 16;

impl World {
    /// Applies a change to the row of a concurrency limit.
    async fn apply_holders(&self, server: usize, change: &Change) -> Result<Granted, AwsFailed> {
        let rows = &self.limits.holders;
        // The row as it was read before this write.
        let mut seen = self.aws(|| rows.borrow().get(&server).cloned()).await?;
        for _ in 0..ROUNDS {
            let (row, then) = match HolderTable::decide(seen.as_ref(), change) {
                Decision::Leave(effect) => return Ok(effect),
                Decision::Write { row, then } => (*row, then),
            };
            let exchange = seen.as_ref().and_then(|seen| Exchange::between(seen, &row, change));
            let stored = self
                .aws(|| {
                    let mut rows = rows.borrow_mut();
                    let met = rows.get(&server).cloned();
                    let new = match (&exchange, &met) {
                        _ if self.is_planted(Planted::UnconditionalLimit) => Some(row.clone()),
                        (Some(exchange), Some(met)) => exchange.apply(met),
                        (Some(_), None) => None,
                        (None, _) => (met == seen).then(|| row.clone()),
                    };
                    let Some(new) = new else { return Err(met) };
                    rows.insert(server, new);
                    Ok(())
                })
                .await?;
            let met = match stored {
                Ok(()) => return Ok(then),
                Err(met) => met,
            };
            let is_done = |exchange: &Exchange| met.as_ref().is_some_and(|met| exchange.is_done_in(met));
            if met.as_ref() == Some(&row) || exchange.as_ref().is_some_and(is_done) {
                return Ok(then);
            }
            seen = met;
        }
        Err(AwsFailed)
    }
}

impl Delivery {
    /// A permit for one request; `Err` with the time to stay away.
    pub(crate) async fn take_permit(&self) -> Result<Result<Option<Permit>, u64>, AwsFailed> {
        let (world, server) = (&self.world, self.spec().server);
        let Some(limit) = world.concurrency(server) else {
            return Ok(Ok(None));
        };
        let limit = limit + u32::from(world.is_planted(Planted::OverAdmit));
        let attempt = world.random.next();
        let mark = if world.is_planted(Planted::PermitPerDelivery) { self.message.receipt } else { attempt };
        let name = format!("c{}-{mark:x}", self.call());
        let lasts_ms = self.spec().attempt_ms + PERMIT_SLACK_MS;
        let until_ms = world.now_ms() + lasts_ms;
        let counted_ms = if world.is_planted(Planted::ShortPermit) {
            1_000
        } else if world.is_planted(Planted::EndlessPermit) {
            10_000_000
        } else {
            lasts_ms
        };
        let until = self.now().plus_ms(counted_ms);
        let take = vec![Take { name: name.clone(), until, replaces: None }];
        let event = Change {
            now: self.now(),
            limit,
            skew_ms: SKEW_MS,
            release: Vec::new(),
            held_ms: None,
            take,
            block: None,
        };
        let granted = world.apply_holders(server, &event).await?;
        if granted.taken == [true] {
            return Ok(Ok(Some(Permit { name, until_ms })));
        }
        let ahead = Ahead { in_hand: 0, parked: world.random.below(4), hold_ms: 1_000, workers: 1, limit };
        Ok(Err(ahead.away_ms()))
    }

    /// The request was answered.
    pub(crate) async fn release_permit(&self, permit: Option<Permit>) {
        let Some(permit) = permit else { return };
        let _ = change_holders(&self.world, &self.process, self.spec().server, vec![permit.name], None).await;
    }

    /// The server has made the request a task: an entry of the task takes the place of the permit, in one write.
    pub(crate) async fn pass_permit_to_task(&self, permit: Option<Permit>, handle: &str) {
        let (world, process, server) = (&self.world, &self.process, self.spec().server);
        let Some(permit) = permit else { return };
        if !world.scenario.limits.count_tasks {
            return self.release_permit(Some(permit)).await;
        }
        let replaces = Some(permit.name.clone());
        let take = Take { name: handle.to_owned(), until: self.deadline(), replaces };
        let mut release = vec![permit.name];
        if world.is_planted(Planted::ReleaseBeforeTask) {
            let first = std::mem::take(&mut release);
            let _ = change_holders(world, process, server, first, None).await;
        }
        let until_ms = world.virtual_ms(self.deadline(), self.process.offset_ms);
        match change_holders(world, process, server, release.clone(), Some(take.clone())).await {
            Ok(Some(granted)) => {
                let had_one = world.now_ms() <= permit.until_ms;
                let kept = granted.taken == [true];
                world.check(
                    kept || !had_one,
                    self.call(),
                    "the permit of a request passes to its task",
                    || format!("{granted:?}"),
                );
                if kept {
                    let number = task_number(handle);
                    world.limits.open.borrow_mut().push(Open { server, until_ms, number });
                }
            }
            Ok(None) => {}
            Err(AwsFailed) => change_later(world, process, server, release, Some(take)),
        }
    }

    /// The task is over.
    pub(crate) fn release_task(&self, handle: &str) {
        let (world, limits) = (&self.world, &self.world.scenario.limits);
        if limits.is_empty() || !limits.count_tasks {
            return;
        }
        ended(world, task_number(handle));
        if !world.is_planted(Planted::KeepTaskPermit) {
            change_later(world, &self.process, self.spec().server, vec![handle.to_owned()], None);
        }
    }
}

/// One write to the row of a concurrency limit; nothing where the server has none.
async fn change_holders(
    world: &World,
    process: &Process,
    server: usize,
    release: Vec<String>,
    take: Option<Take>,
) -> Result<Option<Granted>, AwsFailed> {
    let Some(limit) = world.concurrency(server) else {
        return Ok(None);
    };
    let (now, take) = (process.clock(world), take.into_iter().collect());
    let event = Change { now, limit, skew_ms: SKEW_MS, release, held_ms: None, take, block: None };
    world.apply_holders(server, &event).await.map(Some)
}

/// The same beside the delivery, until it is written or the process dies.
fn change_later(
    world: &Rc<World>,
    process: &Rc<Process>,
    server: usize,
    release: Vec<String>,
    take: Option<Take>,
) {
    let (of_task, process) = (Rc::clone(world), Rc::clone(process));
    process.unwritten.set(process.unwritten.get() + 1);
    world.spawn(Some(process.index), async move {
        while change_holders(&of_task, &process, server, release.clone(), take.clone()).await.is_err() {
            of_task.sleep(1_000).await;
        }
        process.unwritten.set(process.unwritten.get() - 1);
    });
}
