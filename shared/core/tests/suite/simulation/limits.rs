//! Rate and concurrency limits: the rows that workers share, the turn and the permit of each request, and the rules that limits keep.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use toolfleet_core::call::{CallRow, Held, HeldReason};
use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::holders::HolderRow;
use toolfleet_core::limits::turn_book::{
    Ask, Grant, LATE_US, Reserve, Setting, TurnRow, TurnTable, Wish, wake_us,
};
use toolfleet_core::limits::turn_search::{Next, TurnSearch};
use toolfleet_core::limits::{RateLimit, Turn};
use toolfleet_core::state_table::{Decision, StateTable};

use super::delivery::Delivery;
use super::planted::Planted;
use super::world::{AwsFailed, World};

/// A turn that is nearer is waited for in the worker.
const NEAR_MS: u64 = 2_000;
/// How long before its turn a message comes back.
const EARLY_MS: u64 = 1_500;
/// How much longer than its attempt a permit counts, for what lies between its write and the request.
pub(super) const PERMIT_SLACK_MS: u64 = 5_000;
/// After that time a changed rate is the only one in use: the first worker that asks changes the row, and its turns of before are past.
const CHANGE_KNOWN_MS: u64 = 8_000;

/// The limits of a scenario.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    /// The rate of each server.
    pub(crate) rates: Vec<Option<RateLimit>>,
    /// The rate of tenant 0.
    pub(crate) tenant_rate: Option<RateLimit>,
    /// The most open requests of each server.
    pub(crate) concurrency: Vec<Option<u32>>,
    /// The requests that each server answers at once, where the workers' limits adapt to that.
    pub(crate) adaptive: Vec<Option<u32>>,
    /// Whether the permit of a request passes to the task that its server makes of it.
    pub(crate) count_tasks: bool,
    /// When the rate of server 0 changes, and to what.
    pub(crate) change: Option<(u64, RateLimit)>,
    /// When the most open requests of server 0 change, and to how many.
    pub(crate) concurrency_change: Option<(u64, u32)>,
    /// The weight of each tenant; one where none is set.
    pub(crate) weights: Vec<u32>,
}

impl Limits {
    /// A rate and a concurrency limit of server 0, and a rate of tenant 0.
    pub(crate) fn of_one_server() -> Self {
        Self {
            rates: vec![Some(RateLimit::new(2, 1).unwrap())],
            tenant_rate: Some(RateLimit::new(3, 1).unwrap()),
            concurrency: vec![Some(1)],
            adaptive: vec![Some(1)],
            count_tasks: true,
            change: None,
            concurrency_change: None,
            weights: Vec::new(),
        }
    }

    /// Whether nothing is limited.
    pub(crate) fn is_empty(&self) -> bool {
        self.rates.iter().all(Option::is_none)
            && self.concurrency.iter().all(Option::is_none)
            && self.adaptive.iter().all(Option::is_none)
            && self.tenant_rate.is_none()
    }
}

/// The number of a rate limit: that of its server, or that of the tenant.
pub(crate) const OF_TENANT: usize = usize::MAX;

/// A turn under the limit of that number.
pub(crate) type OwnTurn = (usize, Turn);

/// What the workers share, and what they did.
#[derive(Default)]
pub(crate) struct LimitTables {
    turns: RefCell<BTreeMap<usize, TurnRow>>,
    pub(super) holders: RefCell<BTreeMap<usize, HolderRow>>,
    used: RefCell<BTreeMap<usize, Vec<Used>>>,
    pub(super) open: RefCell<Vec<Open>>,
    pub(super) tasks: RefCell<BTreeMap<u64, StoredTask>>,
    /// Tasks that have ended.
    pub(super) over: RefCell<BTreeSet<u64>>,
}

/// A request that was sent in a turn.
#[derive(Debug, Clone, Copy)]
struct Used {
    at_us: i64,
    sent_ms: u64,
    call: usize,
}

/// A request that a server may be working on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) server: usize,
    /// When it ends at the latest for this fleet.
    pub(super) until_ms: u64,
    pub(super) number: u64,
}

/// A task that is stored in its call's row, and whose permit is not kept for it yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredTask {
    /// The process that is to keep it.
    pub(super) process: usize,
    /// Until when it counts if that process is lost: as any request whose worker was lost.
    pub(super) lost_ms: u64,
}

/// The right to have a request open: its number, and until when it counts.
#[derive(Debug, Clone)]
pub(crate) struct Permit {
    pub(super) name: String,
    pub(crate) until_ms: u64,
}

/// How many requests more than it can answer at once a server has open.
pub(crate) fn overload(world: &World, server: usize) -> u64 {
    let Some(most) = world.scenario.limits.adaptive.get(server).copied().flatten() else { return 0 };
    let open = world.limits.open.borrow().iter().filter(|open| open.server == server).count();
    u64::try_from(open).unwrap().saturating_sub(u64::from(most))
}

impl World {
    /// Applies an event to a row of the fleet's table, by compare-and-swap.
    pub(crate) async fn apply_limit<T>(
        &self,
        rows: &RefCell<BTreeMap<usize, T::Row>>,
        key: usize,
        event: &T::Event,
    ) -> Result<T::Effect, AwsFailed>
    where
        T: StateTable<Rejection = <T as StateTable>::Effect>,
    {
        // The row as it was read before this write.
        let mut seen = self.aws(|| rows.borrow().get(&key).cloned()).await?;
        for _ in 0..16 {
            let (row, then) = match T::decide(seen.as_ref(), event) {
                Decision::Leave(effect) => return Ok(effect),
                Decision::Write { row, then } => (*row, then),
            };
            let swapped = self
                .aws(|| {
                    let mut rows = rows.borrow_mut();
                    let same = rows.get(&key) == seen.as_ref();
                    if same || self.is_planted(Planted::UnconditionalLimit) {
                        rows.insert(key, row.clone());
                        return Ok(());
                    }
                    Err(rows.get(&key).cloned())
                })
                .await?;
            match swapped {
                Ok(()) => return Ok(then),
                Err(Some(other)) if other == row => return Ok(then),
                Err(other) => seen = other,
            }
        }
        Err(AwsFailed)
    }

    /// The rate of that limit and its version, as workers know it.
    fn rate(&self, limit: usize) -> Option<(RateLimit, u64)> {
        let limits = &self.scenario.limits;
        if limit == OF_TENANT {
            return limits.tenant_rate.map(|rate| (rate, 0));
        }
        let rate = limits.rates.get(limit).copied().flatten()?;
        match limits.change {
            Some((at_ms, changed)) if limit == 0 && self.now_ms() >= at_ms => Some((changed, 1)),
            Some(_) | None => Some((rate, 0)),
        }
    }
}

impl World {
    /// The most open requests of that server, as workers know it; all know of a change at once.
    pub(super) fn concurrency(&self, server: usize) -> Option<u32> {
        self.concurrency_at(server, self.now_ms())
    }

    fn concurrency_at(&self, server: usize, at_ms: u64) -> Option<u32> {
        let limits = &self.scenario.limits;
        let most = limits.concurrency.get(server).copied().flatten()?;
        let changed = limits.concurrency_change.filter(|(from_ms, _)| server == 0 && at_ms >= *from_ms);
        Some(changed.map_or(most, |(_, most)| most))
    }

    /// The most open requests when one is sent now, whose permit may be a few seconds old.
    fn most_open(&self, server: usize) -> Option<u32> {
        let before_ms = self.now_ms().saturating_sub(PERMIT_SLACK_MS);
        self.concurrency(server).max(self.concurrency_at(server, before_ms))
    }
}

impl Delivery {
    fn now_us(&self) -> i64 {
        self.now().as_ms() * 1_000
    }

    /// The rate limits of this call, from narrow to wide.
    pub(super) fn rate_limits(&self) -> Vec<usize> {
        let (server, tenant) = (self.spec().server, self.spec().tenant);
        let of_tenant =
            (tenant == 0 && self.world.scenario.limits.tenant_rate.is_some()).then_some(OF_TENANT);
        let of_server = self.world.rate(server).map(|_| server);
        of_tenant.into_iter().chain(of_server).collect()
    }

    /// Asks for one turn of that limit, and gives back others.
    async fn ask(&self, limit: usize, wish: Wish, give_back: Vec<Turn>) -> Result<Option<Grant>, AwsFailed> {
        let Some((rate, version)) = self.world.rate(limit) else { return Ok(None) };
        let tenant: Tenant = self.world.tenants[self.spec().tenant].clone();
        let weight = self.world.scenario.limits.weights.get(self.spec().tenant).copied().unwrap_or(1);
        let asks = vec![Ask { tenant, weight, wish }];
        let shared = limit != OF_TENANT;
        let event =
            Reserve { now_us: self.now_us(), rate, version, shared, give_back, asks, mark: self.mark() };
        let grants = self.world.apply_limit::<TurnTable>(&self.world.limits.turns, limit, &event).await?;
        self.world.note(Some(self.call()), || format!("limit {limit}: {wish:?} is answered by {grants:?}"));
        Ok(grants.into_iter().next())
    }

    /// The mark of a write, by which a worker knows its own row again.
    fn mark(&self) -> u64 {
        if self.world.is_planted(Planted::ForgetMark) { 0 } else { self.world.random.next() }
    }

    /// Gives turns back that their call cannot use.
    pub(crate) async fn give_back(&self, turns: Vec<OwnTurn>) {
        for (limit, turn) in turns {
            self.world.note(Some(self.call()), || format!("limit {limit}: {turn:?} is given back"));
            if let Some((rate, version)) = self.world.rate(limit) {
                let shared = limit != OF_TENANT;
                let (now_us, give_back, asks) = (self.now_us(), vec![turn], Vec::new());
                let event = Reserve { now_us, rate, version, shared, give_back, asks, mark: self.mark() };
                let _ = self.world.apply_limit::<TurnTable>(&self.world.limits.turns, limit, &event).await;
            }
        }
    }

    /// A turn of each limit, at one time; or when to ask again, in microseconds.
    async fn find_turns(&self, again: bool) -> Result<Result<Vec<OwnTurn>, i64>, AwsFailed> {
        let limits = self.rate_limits();
        let wish = if again { Wish::Again } else { Wish::Next };
        let mut search = TurnSearch::new(limits.len(), 0, wish);
        let (mut turns, mut next): (Vec<OwnTurn>, _) = (Vec::new(), search.begin());
        loop {
            let (index, wish) = match next {
                Next::Found => return Ok(Ok(turns)),
                Next::Ask(index, wish) => (index, wish),
                Next::AskAnew(index, wish) => {
                    self.give_back(std::mem::take(&mut turns)).await;
                    (index, wish)
                }
                Next::Wait(_, at_us) => {
                    self.give_back(turns).await;
                    return Ok(Err(wake_us(self.now_us(), at_us)));
                }
            };
            // A limit that is gone meanwhile holds nothing up.
            let Some(grant) = self.ask(limits[index], wish, Vec::new()).await? else { return Ok(Ok(turns)) };
            if let Grant::Turn(turn) = grant {
                turns.push((limits[index], turn));
            }
            next = search.answered(index, grant, self.now_us());
        }
    }

    /// Gives back the turns of a delivery that has lost the claim. Those that its message carries may be in use by another delivery of it.
    pub(crate) async fn give_back_own(&self) {
        let turns = self.turns.take();
        if !self.carries.get() || self.world.is_planted(Planted::GiveBackCarried) {
            self.give_back(turns).await;
        }
    }

    /// Waits for the turns of the next request. Gives the wait of a call whose turn is too far away.
    pub(crate) async fn take_turns(&self) -> Result<Option<Held>, AwsFailed> {
        let world = &self.world;
        if self.rate_limits().is_empty() || world.is_planted(Planted::IgnoreRate) {
            return Ok(None);
        }
        if self.carries.get() && !self.carried_turns_count().await? {
            self.carries.set(false);
            self.turns.borrow_mut().clear();
        }
        let missed = self.turns.borrow().iter().any(|(_, turn)| turn.at_us + LATE_US < self.now_us());
        if missed {
            self.turns.borrow_mut().clear();
        }
        if self.turns.borrow().is_empty() {
            match self.find_turns(missed).await? {
                Ok(turns) => {
                    self.carries.set(false);
                    *self.turns.borrow_mut() = turns;
                }
                Err(wake_us) => return Ok(Some(self.limited(HeldReason::RateLimit, self.until_ms(wake_us)))),
            }
        }
        let at_us = self.turns.borrow().iter().map(|(_, turn)| turn.at_us).max().unwrap_or(0);
        let left_ms = self.until_ms(at_us);
        if left_ms > NEAR_MS {
            return Ok(Some(self.limited(HeldReason::RateLimit, left_ms - EARLY_MS)));
        }
        Ok(None)
    }

    /// Whether the turns that the message carries are still those of their limits.
    async fn carried_turns_count(&self) -> Result<bool, AwsFailed> {
        let world = &self.world;
        let carried = self.turns.borrow().clone();
        for (limit, turn) in carried {
            let row = world.aws(|| world.limits.turns.borrow().get(&limit).cloned()).await?;
            let honoured = row
                .zip(world.rate(limit))
                .is_some_and(|(row, (rate, version))| Setting::of(&row).honours(turn, rate, version));
            if !honoured && !world.is_planted(Planted::IgnoreEpoch) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Milliseconds until that time on the worker's clock, rounded up.
    fn until_ms(&self, at_us: i64) -> u64 {
        u64::try_from((at_us - self.now_us() + 999).div_euclid(1_000)).unwrap_or(0)
    }

    pub(crate) fn limited(&self, reason: HeldReason, after_ms: u64) -> Held {
        let left_ms = self.deadline().ms_since(self.now());
        Held::new(reason, None, self.now(), after_ms.max(1).min(left_ms.max(1)))
    }

    /// Waits until the turns are that near.
    pub(crate) async fn approach_turns(&self, ahead_ms: u64) {
        let at_us = self.turns.borrow().iter().map(|(_, turn)| turn.at_us).max();
        let left_ms = at_us.map_or(0, |at_us| self.until_ms(at_us));
        self.world.sleep(left_ms.saturating_sub(ahead_ms)).await;
    }

    /// Waits for the time of the turns; whether the request is still in time then.
    pub(crate) async fn await_turns(&self) -> bool {
        let at_us = self.turns.borrow().iter().map(|(_, turn)| turn.at_us).max();
        let Some(at_us) = at_us else { return true };
        self.world.sleep(self.until_ms(at_us)).await;
        let first_us = self.turns.borrow().iter().map(|(_, turn)| turn.at_us).min().unwrap_or(at_us);
        self.now_us() <= first_us + LATE_US || self.world.is_planted(Planted::ForgetLateness)
    }
}

/// The number of the open request that stands for a task: another one for each task (FNV-1a).
pub(super) fn task_number(handle: &str) -> u64 {
    let mix = |number: u64, byte| (number ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    handle.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// A request is sent: its turns are used up, and it is open until `until_ms` at the latest. Gives its number.
pub(crate) fn sent(delivery: &Delivery, until_ms: u64) -> u64 {
    let (world, call) = (&delivery.world, delivery.call());
    let server = delivery.spec().server;
    for limit in delivery.rate_limits() {
        let turn = delivery.turns.borrow().iter().find(|(of, _)| *of == limit).map(|(_, turn)| *turn);
        let Some(turn) = turn else {
            world.check(false, call, "a limited call is sent in its turn", || format!("limit {limit}"));
            continue;
        };
        let late_us = delivery.now_us() - turn.at_us;
        world.check((-1_000..=LATE_US).contains(&late_us), call, "a call is sent at its turn", || {
            format!("{late_us} us late")
        });
        let used = Used { at_us: turn.at_us, sent_ms: world.now_ms(), call };
        used_turn(world, limit, used);
    }
    delivery.turns.borrow_mut().clear();
    let number = world.random.next();
    let mut open = world.limits.open.borrow_mut();
    open.retain(|open| open.until_ms > world.now_ms());
    open.push(Open { server, until_ms, number });
    let count = open.iter().filter(|open| open.server == server).count();
    let most = world.most_open(server);
    let within = most.is_none_or(|most| count <= usize::try_from(most).unwrap());
    world.check(within, call, "open requests are at most the limit", || format!("{count} open: {open:?}"));
    number
}

/// A request has ended.
pub(crate) fn ended(world: &World, number: u64) {
    world.limits.open.borrow_mut().retain(|open| open.number != number);
}

/// A call ends. Where a task that its row names may go on, the permit of the task ends at the deadline of the call.
pub(crate) fn call_ends(world: &World, row: &CallRow) {
    let Some(task) = &row.task else { return };
    let goes_on = world.limits.open.borrow().iter().any(|open| open.number == task_number(task));
    world.task_permit_lost.set(world.task_permit_lost.get() || goes_on);
}

/// No more turns are used in any period than the limit allows, by the times of the turns and by the times of the requests.
fn used_turn(world: &World, limit: usize, used: Used) {
    let Some((rate, _)) = world.rate(limit) else { return };
    let mut all = world.limits.used.borrow_mut();
    let of_limit = all.entry(limit).or_default();
    let twice = of_limit.iter().any(|other| other.at_us == used.at_us);
    world
        .check(!twice, used.call, "a turn is used once", || format!("limit {limit}, {used:?}, {of_limit:?}"));
    of_limit.push(used);
    // Around a change both rates are in use until every worker knows the new one.
    let change = world.scenario.limits.change.filter(|_| limit == 0);
    let before = |used: &&Used| change.is_none_or(|(at_ms, _)| used.sent_ms < at_ms);
    let after = |used: &&Used| change.is_some_and(|(at_ms, _)| used.sent_ms > at_ms + CHANGE_KNOWN_MS);
    let is_after = after(&&used);
    if !is_after && !before(&&used) {
        return;
    }
    let same: Vec<_> =
        of_limit.iter().filter(|used| if is_after { after(used) } else { before(used) }).collect();
    let count = usize::try_from(rate.count()).unwrap();
    let over = |times: &mut Vec<i64>, period: i64| {
        times.sort_unstable();
        times.windows(count + 1).any(|window| window[count] - window[0] < period)
    };
    let period_us = i64::from(rate.seconds()) * 1_000_000;
    let mut at_us: Vec<_> = same.iter().map(|used| used.at_us).collect();
    world.check(!over(&mut at_us, period_us), used.call, "no period has more turns than its limit", || {
        format!("limit {limit} of {rate}: {at_us:?}")
    });
    let mut sent_ms: Vec<_> = same.iter().map(|used| i64::try_from(used.sent_ms).unwrap()).collect();
    let exact = over(&mut sent_ms, period_us / 1_000);
    world.check(!exact, used.call, "no period has more requests than its limit", || {
        format!("limit {limit} of {rate}: {sent_ms:?}")
    });
}
