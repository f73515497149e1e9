//! Who holds the seats, who waits for one, and to whom the next goes.
//!
//! **Invariant:** a call that waits cannot have a seat: whenever one is released, all that can have one get it.

use std::collections::{BTreeMap, HashMap, HashSet};

use tokio::sync::oneshot;
use toolfleet_core::fairness::{Accounts, Load, LookBudget, Room, SlotUse, TenantUse, is_above_share};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::request::Priority;

use super::urgency::{ByPriority, Urgency, is_more_urgent};

/// The figures of the fleet are not used when they are older than this, in milliseconds.
const FLEET_USE_MS: u64 = 60_000;
/// While a tenant fills the worker, so many of its calls may wait for a seat as start within this time, in milliseconds: from half the
/// reserve to all of it, so that slots stay free for calls of others.
const SOON_MS: f64 = 50.0;

/// Why a call has no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Its own tenant has its share while other tenants need theirs.
    Tenant,
    /// Its server has its share.
    Server,
    /// Its tenant has its share, and no other tenant was seen.
    Alone,
    /// Others hold more of its server than it does, so one of their seats is for it when it is released.
    Others,
}

/// How many calls wait before a call that has no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// Few, or it goes before them.
    Short,
    /// As many as should at most.
    Long,
}

#[derive(Debug)]
struct Waiting {
    server: ServerId,
    tenant: Tenant,
    priority: Priority,
    granted: oneshot::Sender<()>,
}

/// Whose call wants a seat.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) server: &'a ServerId,
    pub(super) tenant: &'a Tenant,
    pub(super) priority: Priority,
}

/// The seats of a worker.
#[derive(Debug)]
pub(super) struct Table {
    /// The most calls of one tenant at one server.
    of_pair: u64,
    /// The most calls of one server.
    of_server: u64,
    /// What tenants above their share leave free.
    reserve: u64,
    all: u64,
    accounts: Accounts,
    servers: HashMap<ServerId, HashMap<Tenant, ByPriority>>,
    urgency: Urgency,
    line: BTreeMap<u64, Waiting>,
    next_number: u64,
    fleet: Option<(TenantUse, u64)>,
    weights: HashMap<Tenant, u32>,
    looks: LookBudget,
    /// Messages that receives under way have asked for.
    asked: u64,
    /// Messages received and not yet out of the worker's hands.
    pub(super) in_hand: u64,
    /// Server and tenant of the last call that found the worker full of its own tenant's calls.
    filling: Option<(ServerId, Tenant)>,
    /// The most urgent of the calls that found the worker full.
    filled_by: Priority,
}

impl Table {
    pub(super) fn new(slots: u32, reserve: u32) -> Self {
        let (slots, reserve) = (slots.max(1), reserve.max(1));
        let all = u64::from(slots) + 2 * u64::from(reserve);
        Self {
            of_pair: u64::from(slots),
            of_server: u64::from(slots) + u64::from(reserve),
            reserve: u64::from(reserve),
            all,
            accounts: Accounts::default(),
            servers: HashMap::new(),
            urgency: Urgency::default(),
            line: BTreeMap::new(),
            next_number: 0,
            fleet: None,
            weights: HashMap::new(),
            looks: LookBudget::new(slots / 2),
            asked: 0,
            in_hand: 0,
            filling: None,
            filled_by: Priority::High,
        }
    }

    /// Gives a call a seat, or says why not. The call counts as one that wants a seat until [`Table::leave`].
    pub(super) fn arrive(&mut self, caller: Caller<'_>, weight: u32, now_ms: u64) -> Result<(), Full> {
        let Caller { server, tenant, priority } = caller;
        self.urgency.arrived(priority, now_ms);
        self.accounts.arrive(tenant, weight, now_ms);
        if self.fleet.is_some() {
            self.weights.insert(tenant.clone(), weight);
        }
        match self.full(caller, now_ms) {
            None => {
                self.give(caller, now_ms);
                let is_other = self.filling.as_ref().is_none_or(|(_, filling)| filling != tenant);
                self.looks.started(is_other, now_ms);
                Ok(())
            }
            Some(full) => {
                if full == Full::Tenant {
                    if !self.is_full(now_ms) || is_more_urgent(priority, self.filled_by) {
                        self.filled_by = priority;
                    }
                    self.looks.full(now_ms);
                    self.filling = Some((server.clone(), tenant.clone()));
                }
                Err(full)
            }
        }
    }

    /// Gives a call a seat, whether or not one is free.
    pub(super) fn enter_in_turn(&mut self, caller: Caller<'_>, weight: u32, now_ms: u64) {
        self.accounts.arrive(caller.tenant, weight, now_ms);
        self.urgency.arrived(caller.priority, now_ms);
        self.give(caller, now_ms);
    }

    /// Puts a call into the line.
    pub(super) fn wait(&mut self, caller: Caller<'_>, granted: oneshot::Sender<()>) -> u64 {
        let Caller { server, tenant, priority } = caller;
        let number = self.next_number;
        self.next_number += 1;
        let waiting = Waiting { server: server.clone(), tenant: tenant.clone(), priority, granted };
        self.line.insert(number, waiting);
        number
    }

    /// The seats: how many are free, and how many that tenant holds at that server.
    pub(super) fn slots(&self, server: &ServerId, tenant: &Tenant) -> SlotUse {
        let free = self.all.saturating_sub(self.accounts.held());
        SlotUse { all: self.all, reserve: self.reserve, free, of_tenant: self.held_by_pair(server, tenant) }
    }

    /// Whether a call that has no seat for that reason finds the line long. Less urgent calls do not count, nor those before which a call
    /// gets the next seat.
    pub(super) fn line_of(&self, full: Full, caller: Caller<'_>) -> Line {
        let is_long = match full {
            Full::Tenant => self.line_is_longer_than(self.longest_line(), caller.priority),
            // The rest of the slots that no seat is for looks for calls of others.
            Full::Alone => {
                self.line_is_longer_than(self.reserve, caller.priority) && !self.is_before_others(caller)
            }
            Full::Server => !self.is_before_others(caller),
            Full::Others => false,
        };
        if is_long { Line::Long } else { Line::Short }
    }

    fn line_is_longer_than(&self, most: u64, priority: Priority) -> bool {
        let before = self.line.values().filter(|waiting| !is_more_urgent(priority, waiting.priority));
        wide(before.count()) > most
    }

    /// Whether less urgent calls of that tenant hold seats at that server: the next of them that is released is for this call.
    fn is_before_others(&self, caller: Caller<'_>) -> bool {
        let held = self.servers.get(caller.server).and_then(|tenants| tenants.get(caller.tenant));
        let is_less_urgent = |priority: &Priority| is_more_urgent(caller.priority, *priority);
        let first_less_urgent = Priority::ALL.into_iter().find(is_less_urgent);
        first_less_urgent.is_some_and(|priority| held.is_some_and(|held| held.not_before(priority) > 0))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number of starts within 50 ms is positive and small"
    )]
    fn longest_line(&self) -> u64 {
        (self.looks.starts_within(SOON_MS) as u64).clamp((self.reserve / 2).max(1), self.reserve)
    }

    /// Takes a call out of the line. False if it was given a seat before.
    pub(super) fn leave(&mut self, number: u64, tenant: &Tenant, now_ms: u64) -> bool {
        let waited = self.line.remove(&number).is_some();
        if waited {
            self.accounts.leave(tenant, now_ms);
        }
        waited
    }

    /// Notes that a call goes back to the queue, and says what holds its seats.
    pub(super) fn goes_back(
        &mut self,
        server: &ServerId,
        tenant: &Tenant,
        own_tenant: bool,
        now_ms: u64,
    ) -> String {
        if own_tenant {
            self.looks.full(now_ms);
            self.looks.went_back();
        }
        let (held, all) = (self.accounts.held_by(tenant), self.all);
        let at_server = self.held_at(server);
        format!(
            "tenant {tenant} holds {held} of this worker's {all} slots, {} of them at server {server}, which has {at_server} in all; \
             at most {} are for one tenant at one server, and {} stay free for tenants below their share",
            self.held_by_pair(server, tenant),
            self.of_pair,
            self.reserve
        )
    }

    /// Takes a seat back and gives it to those that can have it, the tenant with the smallest virtual time first.
    pub(super) fn release(&mut self, caller: Caller<'_>, now_ms: u64) {
        let Caller { server, tenant, priority } = caller;
        self.accounts.end(tenant, now_ms);
        self.urgency.ended(priority, now_ms);
        if let Some(tenants) = self.servers.get_mut(server) {
            if let Some(held) = tenants.get_mut(tenant) {
                held.remove(priority);
                if held.all() == 0 {
                    tenants.remove(tenant);
                }
            }
            if tenants.is_empty() {
                self.servers.remove(server);
            }
        }
        while let Some(number) = self.next_in_line(now_ms)
            && let Some(Waiting { server, tenant, priority, granted }) = self.line.remove(&number)
        {
            self.give(Caller { server: &server, tenant: &tenant, priority }, now_ms);
            self.looks.started(false, now_ms);
            // Where nobody receives this, `leave` finds the call out of the line and gives the seat back.
            let _gone = granted.send(()).is_err();
        }
    }

    /// The waiting call that is next: of the tenant with the smallest virtual time, and of its calls the first of the priority that uses the
    /// least for its weight.
    fn next_in_line(&self, now_ms: u64) -> Option<u64> {
        let mut asked = HashSet::new();
        let firsts = self.line.iter().filter(|(_, Waiting { server, tenant, priority, .. })| {
            asked.insert((server, tenant, priority.as_str()))
        });
        let can = firsts.filter(|(_, Waiting { server, tenant, priority, .. })| {
            self.full(Caller { server, tenant, priority: *priority }, now_ms).is_none()
        });
        let virtual_time = |waiting: &Waiting| self.accounts.virtual_time(&waiting.tenant, now_ms);
        let use_of = |waiting: &Waiting| self.urgency.use_of(waiting.priority);
        let next = can.min_by(|(one_number, one), (other_number, other)| {
            let by_tenant = virtual_time(one).cmp(&virtual_time(other));
            by_tenant.then_with(|| use_of(one).total_cmp(&use_of(other))).then(one_number.cmp(other_number))
        });
        next.map(|(number, _)| *number)
    }

    /// How many more calls of that priority may have a seat, beside those that stay free for more urgent ones.
    fn left_by_urgency(&self, Caller { server, tenant, priority }: Caller<'_>, now_ms: u64) -> u64 {
        if !self.urgency.more_urgent_seen(priority, now_ms) {
            return u64::MAX;
        }
        let tenants = self.servers.get(server);
        let at_server =
            tenants.map_or(0, |tenants| tenants.values().map(|held| held.not_before(priority)).sum());
        let of_pair =
            tenants.and_then(|tenants| tenants.get(tenant)).map_or(0, |held| held.not_before(priority));
        let left = |all: u64, held: u64| all.saturating_sub(self.reserve).max(1).saturating_sub(held);
        left(self.of_pair, of_pair)
            .min(left(self.of_server, at_server))
            .min(left(self.all, self.urgency.held().not_before(priority)))
    }

    /// Why a call cannot have a seat.
    fn full(&self, caller: Caller<'_>, now_ms: u64) -> Option<Full> {
        let Caller { server, tenant, .. } = caller;
        let has_others = self.others_seen(tenant, now_ms);
        let own = || if has_others { Full::Tenant } else { Full::Alone };
        if self.held_by_pair(server, tenant) >= self.of_pair || self.left_by_urgency(caller, now_ms) == 0 {
            return Some(own());
        }
        if self.accounts.held_by(tenant) >= self.most_of_tenant(has_others) {
            return Some(own());
        }
        let (at_server, of_server) = (self.held_at(server).saturating_add(1), self.of_server);
        if at_server > of_server.saturating_sub(self.reserve) && has_others {
            let above = self.is_above_share_at(server, tenant);
            if at_server > of_server {
                return Some(if above { Full::Server } else { Full::Others });
            }
            if above {
                return Some(Full::Tenant);
            }
        } else if at_server > of_server {
            return Some(own());
        }
        let would_hold = self.accounts.held().saturating_add(1);
        let free_is_left = would_hold <= self.all.saturating_sub(self.reserve);
        (has_others && !free_is_left && self.is_above_share(tenant, now_ms)).then_some(Full::Tenant)
    }

    /// Whether one more call would bring a tenant above its share of a server's seats without the reserve.
    fn is_above_share_at(&self, server: &ServerId, tenant: &Tenant) -> bool {
        let weight = |tenant: &Tenant| self.accounts.with_one_more(tenant).weight;
        let held = self.held_by_pair(server, tenant).saturating_add(1);
        let tenants = self.servers.get(server).into_iter().flatten();
        let others = tenants.filter(|(other, _)| *other != tenant);
        is_above_share(
            Load { held, weight: weight(tenant) },
            others.map(|(other, held)| Load { held: held.all(), weight: weight(other) }),
            self.of_server.saturating_sub(self.reserve),
        )
    }

    /// The most calls of one tenant.
    const fn most_of_tenant(&self, has_others: bool) -> u64 {
        if has_others { self.all.saturating_sub(self.reserve) } else { self.all }
    }

    fn others_seen(&self, tenant: &Tenant, now_ms: u64) -> bool {
        self.accounts.others_seen(tenant, now_ms)
            || self.fleet_use(now_ms).is_some_and(|used| used.has_others(tenant))
    }

    fn is_above_share(&self, tenant: &Tenant, now_ms: u64) -> bool {
        let own = self.accounts.with_one_more(tenant);
        let capacity = self.all.saturating_sub(self.reserve);
        is_above_share(own, self.accounts.others(tenant), capacity)
            || self.fleet_use(now_ms).is_some_and(|used| {
                used.is_above_share(tenant, |tenant| self.weights.get(tenant).copied().unwrap_or(1))
            })
    }

    fn fleet_use(&self, now_ms: u64) -> Option<&TenantUse> {
        let (used, at_ms) = self.fleet.as_ref()?;
        (now_ms.saturating_sub(*at_ms) < FLEET_USE_MS).then_some(used)
    }

    pub(super) fn take_fleet_use(&mut self, used: TenantUse, now_ms: u64) {
        self.weights.retain(|tenant, _| used.slot_ms.contains_key(tenant));
        self.fleet = Some((used, now_ms));
    }

    /// How many messages of that priority to receive now; an error is when to ask again. Calls that are less urgent do not delay it.
    pub(super) fn receive(&mut self, wanted: usize, priority: Priority, now_ms: u64) -> Result<usize, u64> {
        if is_more_urgent(priority, self.filled_by) {
            self.asked = self.asked.saturating_add(wide(wanted));
            return Ok(wanted);
        }
        let room = if self.is_full(now_ms) { self.room(now_ms) } else { Room::default() };
        let count = self.looks.receive(wanted, room, now_ms)?;
        self.asked = self.asked.saturating_add(wide(count));
        Ok(count)
    }

    pub(super) fn received(&mut self, asked: usize, got: Option<usize>, priority: Priority) {
        self.asked = self.asked.saturating_sub(wide(asked));
        // An empty queue of more urgent calls says nothing about the calls that fill the worker.
        if let Some(count) = got.filter(|_| !is_more_urgent(priority, self.filled_by)) {
            self.looks.received(count);
        }
    }

    pub(super) fn paces(&self, priority: Priority, now_ms: u64) -> bool {
        self.is_full(now_ms) && !is_more_urgent(priority, self.filled_by)
    }

    pub(super) fn is_full(&self, now_ms: u64) -> bool {
        self.looks.is_full(now_ms)
    }

    /// How many more messages of the pair that fills the worker could have a seat at once, or wait for one.
    fn room(&self, now_ms: u64) -> Room {
        let Some((server, tenant)) = &self.filling else { return Room::default() };
        let held = self.accounts.held();
        let has_others = self.others_seen(tenant, now_ms);
        let free = self.all.saturating_sub(held);
        let of_share = if has_others && self.is_above_share(tenant, now_ms) {
            free.saturating_sub(self.reserve)
        } else {
            free
        };
        let of_tenant = self.most_of_tenant(has_others).saturating_sub(self.accounts.held_by(tenant));
        let of_pair = self.of_pair.saturating_sub(self.held_by_pair(server, tenant));
        let of_server = self.of_server.saturating_sub(self.held_at(server));
        let of_server = if has_others && self.is_above_share_at(server, tenant) {
            of_server.saturating_sub(self.reserve)
        } else {
            of_server
        };
        let of_urgency = self.left_by_urgency(Caller { server, tenant, priority: self.filled_by }, now_ms);
        let seats = of_share.min(of_tenant).min(of_pair).min(of_server).min(of_urgency);
        // Messages that are on their way to a seat, or wait for one.
        let coming = self.asked.saturating_add(self.in_hand).saturating_sub(held);
        let narrow = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let with_line = seats.saturating_add(self.longest_line());
        Room {
            seats: narrow(seats.saturating_sub(coming)),
            in_line: narrow(with_line.saturating_sub(coming.max(seats))),
        }
    }

    fn give(&mut self, Caller { server, tenant, priority }: Caller<'_>, now_ms: u64) {
        self.accounts.start(tenant, now_ms);
        self.urgency.started(priority, now_ms);
        if let Some(held) = self.servers.get_mut(server).and_then(|tenants| tenants.get_mut(tenant)) {
            held.add(priority);
            return;
        }
        let mut held = ByPriority::default();
        held.add(priority);
        self.servers.entry(server.clone()).or_default().insert(tenant.clone(), held);
    }

    fn held_by_pair(&self, server: &ServerId, tenant: &Tenant) -> u64 {
        self.servers.get(server).and_then(|tenants| tenants.get(tenant)).map_or(0, ByPriority::all)
    }

    fn held_at(&self, server: &ServerId) -> u64 {
        self.servers.get(server).map_or(0, |tenants| tenants.values().map(ByPriority::all).sum())
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize, u64, usize) {
        (self.accounts.len(), self.servers.len(), self.accounts.held(), self.line.len())
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
