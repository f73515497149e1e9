//! The permits of concurrency limits in the simulation: as the workers do, entries are exchanged where that is possible, and the row is
//! replaced where it is not.

use std::cell::Cell;
use std::rc::Rc;

use toolfleet_core::limits::exchange::Exchange;
use toolfleet_core::limits::holders::{Change, Granted, HolderTable, Take};
use toolfleet_core::limits::waits::Ahead;
use toolfleet_core::state_table::{Decision, StateTable as _};
use toolfleet_core::time::Timestamp;

use super::delivery::Delivery;
use super::limits::{Open, PERMIT_SLACK_MS, Permit, StoredTask, ended, task_number};
use super::planted::Planted;
use super::scenario::{LEASE_MS, SKEW_MS};
use super::world::{AwsFailed, Process, World};

/// After so many lost writes a worker tries later.
const ROUNDS: usize = 16;
/// For so long a delivery waits until the permit of a task is written.
const WRITTEN_WITHIN_MS: u64 = 3_000;

/// A change of a limit's row that is written beside its delivery: whether it is stored.
pub(crate) type Written = Rc<Cell<bool>>;

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

    /// The request was not sent.
    pub(crate) fn release_later(&self, permit: Option<Permit>) {
        let Some(permit) = permit else { return };
        self.change_later(None, vec![permit.name], None, |_, _| {});
    }

    fn counts_tasks(&self) -> bool {
        self.world.scenario.limits.count_tasks && self.world.concurrency(self.spec().server).is_some()
    }

    /// The server has made the request a task: an entry of the task takes the place of the permit, in one write. It counts no longer than a lost
    /// request, and as long as the worker has to store the task.
    pub(crate) async fn pass_permit_to_task(&self, permit: Option<Permit>, handle: &str) {
        let (world, server, call) = (&self.world, self.spec().server, self.call());
        let Some(permit) = permit else { return };
        if !self.counts_tasks() {
            return self.release_permit(Some(permit)).await;
        }
        let until = if world.is_planted(Planted::TaskPermitBeforePark) {
            self.deadline()
        } else {
            self.now().plus_ms(LEASE_MS)
        };
        let (number, until_ms) = (task_number(handle), permit.until_ms.max(world.now_ms() + LEASE_MS));
        let replaces = Some(permit.name.clone());
        let take = Take { name: handle.to_owned(), until, replaces };
        let mut release = vec![permit.name.clone()];
        if world.is_planted(Planted::ReleaseBeforeTask) {
            let first = std::mem::take(&mut release);
            let _ = change_holders(world, &self.process, server, first, None).await;
        }
        world.limits.open.borrow_mut().push(Open { server, until_ms: permit.until_ms, number });
        let passed = self.change_later(None, release, Some(take), move |world, granted| {
            let had_one = world.now_ms() <= permit.until_ms;
            let kept = granted.taken == [true];
            let rule = "the permit of a request passes to its task";
            world.check(kept || !had_one, call, rule, || format!("{granted:?}"));
            if kept {
                task_has_permit(world, number, until_ms);
            }
        });
        self.wait_until_written(&passed).await;
        *self.passing.borrow_mut() = Some(passed);
    }

    /// The task is stored: its permit counts until the deadline. Whether that is written soon.
    pub(crate) async fn keep_task_permit(&self, handle: &str) -> bool {
        if !self.counts_tasks() || self.world.is_planted(Planted::TaskPermitNotKept) {
            return true;
        }
        let (call, server, number) = (self.call(), self.spec().server, task_number(handle));
        let take =
            Take { name: handle.to_owned(), until: self.deadline(), replaces: Some(handle.to_owned()) };
        let until_ms = self.world.virtual_ms(self.deadline(), self.process.offset_ms);
        let kept = self.change_later(self.passing.take(), Vec::new(), Some(take), move |world, granted| {
            task_is_kept(world, call, Open { server, until_ms, number }, granted.taken == [true]);
        });
        self.wait_until_written(&kept).await
    }

    /// The task is over.
    pub(crate) async fn release_task(&self, handle: &str) {
        if !self.counts_tasks() {
            return;
        }
        ended(&self.world, task_number(handle));
        self.world.limits.over.borrow_mut().insert(task_number(handle));
        if !self.world.is_planted(Planted::KeepTaskPermit) {
            let unwritten = Rc::clone(&self.process);
            unwritten.unwritten.set(unwritten.unwritten.get() + 1);
            let released = self.change_later(None, vec![handle.to_owned()], None, move |_, _| {
                unwritten.unwritten.set(unwritten.unwritten.get() - 1);
            });
            self.wait_until_written(&released).await;
        }
    }

    /// A task is polled: as long as it counts as open, it has an entry until the deadline, by what its message says or this delivery has written.
    pub(crate) fn polls_with_permit(&self, handle: &str) {
        let (world, server) = (&self.world, self.spec().server);
        if !self.counted.get() || !self.counts_tasks() {
            return;
        }
        let number = task_number(handle);
        let is_open = |open: &Open| open.number == number && open.until_ms > world.now_ms();
        let is_open = world.limits.open.borrow().iter().any(is_open);
        let rows = world.limits.holders.borrow();
        let until = rows.get(&server).and_then(|row| row.entries.get(handle)).copied();
        world.check(
            !is_open || until == Some(self.deadline()),
            self.call(),
            "a task that is polled has its permit until the deadline",
            || format!("{until:?}"),
        );
    }

    /// Writes a change beside the delivery, after another one, until it is stored or the process dies.
    fn change_later(
        &self,
        after: Option<Written>,
        release: Vec<String>,
        take: Option<Take>,
        then: impl FnOnce(&World, &Granted) + 'static,
    ) -> Written {
        let (world, process, server) = (Rc::clone(&self.world), Rc::clone(&self.process), self.spec().server);
        let written = Written::default();
        let told = Rc::clone(&written);
        self.world.spawn(Some(process.index), async move {
            while after.as_ref().is_some_and(|after| !after.get()) {
                world.sleep(20).await;
            }
            loop {
                match change_holders(&world, &process, server, release.clone(), take.clone()).await {
                    Ok(granted) => {
                        then(&world, &granted.unwrap_or_default());
                        return told.set(true);
                    }
                    Err(AwsFailed) => world.sleep(1_000).await,
                }
            }
        });
        written
    }

    async fn wait_until_written(&self, written: &Written) -> bool {
        let until_ms = self.world.now_ms() + WRITTEN_WITHIN_MS;
        while !written.get() && self.world.now_ms() < until_ms {
            self.world.sleep(5).await;
        }
        written.get()
    }
}

/// The task of a call is stored: it counts until the deadline, whoever keeps its permit.
pub(crate) fn task_is_stored(
    world: &World,
    handle: &str,
    process: Option<usize>,
    deadline: Option<Timestamp>,
) {
    let (Some(process), Some(deadline)) = (process, deadline) else { return };
    let mut open = world.limits.open.borrow_mut();
    let is_of = |open: &&mut Open| open.number == task_number(handle) && open.until_ms > world.now_ms();
    if let Some(open) = open.iter_mut().find(is_of) {
        let stored = StoredTask { process, lost_ms: open.until_ms };
        open.until_ms = world.virtual_ms(deadline, 0);
        world.limits.tasks.borrow_mut().insert(open.number, stored);
    }
}

/// A task has an entry of its own, until then.
fn task_has_permit(world: &World, number: u64, until_ms: u64) {
    if let Some(stored) = world.limits.tasks.borrow_mut().get_mut(&number) {
        stored.lost_ms = until_ms;
    }
    let mut open = world.limits.open.borrow_mut();
    let of_task = open.iter_mut().filter(|open| open.number == number);
    of_task.for_each(|open| open.until_ms = open.until_ms.max(until_ms));
}

/// The permit of a task was asked for until its deadline.
fn task_is_kept(world: &World, call: usize, task: Open, kept: bool) {
    let stored = world.limits.tasks.borrow_mut().remove(&task.number);
    if world.limits.over.borrow().contains(&task.number) {
        return;
    }
    let mut open = world.limits.open.borrow_mut();
    if kept {
        match open.iter_mut().find(|open| open.number == task.number) {
            Some(open) => open.until_ms = task.until_ms,
            None => open.push(task),
        }
        return;
    }
    let is_lost = stored.is_none_or(|stored| stored.lost_ms <= world.now_ms());
    world.check(is_lost, call, "a task that is stored keeps its permit", || format!("{task:?}, {stored:?}"));
    if stored.is_some() {
        open.retain(|open| open.number != task.number);
    }
}

/// A process is lost before it has kept the permits of tasks: they end as those of lost requests, unless the next delivery is in time.
pub(crate) fn lose_tasks(world: &World, process: &Process) {
    let tasks = world.limits.tasks.borrow();
    let lost = tasks.iter().filter(|(_, task)| task.process == process.index);
    let mut open = world.limits.open.borrow_mut();
    for (number, task) in lost {
        open.iter_mut().filter(|open| open.number == *number).for_each(|open| open.until_ms = task.lost_ms);
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
