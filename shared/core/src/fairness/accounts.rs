//! The accounts of the tenants of a worker: slots held, slot-seconds used, and who was seen lately.
//!
//! **Invariant:** the virtual time of a tenant never goes back, and one that joins is not behind the floor.

use std::collections::{BTreeMap, HashMap};

use super::share::Load;
use crate::ids::Tenant;

/// For how long after its last call a tenant counts as one that may send more, in milliseconds.
pub const SEEN_MS: u64 = 60_000;
/// Units of virtual time in a slot-millisecond of weight 1, so that large weights do not round to nothing.
const UNITS: u64 = 1_000;
/// Above this number of tenants without calls, all of them are forgotten.
const MANY: usize = 1_000;

/// The tenants of a worker. Times are milliseconds of a clock that does not go back.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Those with calls.
    tenants: HashMap<Tenant, Account>,
    /// The virtual times of those without calls, where they are ahead of the floor.
    idle: HashMap<Tenant, u64>,
    floor: u64,
    held: u64,
    /// The accounts of those with calls by slots held and weight. The virtual times of a class grow alike, so its first account stays its
    /// smallest, and the floor is found among few.
    classes: BTreeMap<(u64, u32), BTreeMap<i128, u32>>,
    /// The last two tenants that were seen, and when.
    seen: [Option<(Tenant, u64)>; 2],
}

#[derive(Debug)]
struct Account {
    held: u64,
    waiting: u64,
    weight: u32,
    virtual_time: u64,
    /// Until when `virtual_time` has been counted.
    counted_ms: u64,
}

impl Account {
    fn count(&mut self, now_ms: u64) {
        let spent = self.held.saturating_mul(now_ms.saturating_sub(self.counted_ms));
        let units = spent.saturating_mul(UNITS) / u64::from(self.weight.max(1));
        self.virtual_time = self.virtual_time.saturating_add(units);
        self.counted_ms = self.counted_ms.max(now_ms);
    }

    fn class(&self) -> (u64, u32) {
        (self.held, self.weight.max(1))
    }

    /// Its place in its class: its virtual time at the beginning of the clock, times its weight.
    fn place(&self) -> i128 {
        let (held, weight) = self.class();
        i128::from(self.virtual_time) * i128::from(weight)
            - i128::from(held) * i128::from(UNITS) * i128::from(self.counted_ms)
    }

    const fn is_idle(&self) -> bool {
        self.held == 0 && self.waiting == 0
    }
}

impl Accounts {
    /// Notes a call that wants a slot. A tenant without calls joins at the floor.
    pub fn arrive(&mut self, tenant: &Tenant, weight: u32, now_ms: u64) {
        self.see(tenant, now_ms);
        let again = self.change(tenant, now_ms, |account| {
            account.weight = weight;
            account.waiting = account.waiting.saturating_add(1);
        });
        if again {
            return;
        }
        let floor = self.floor(now_ms);
        let virtual_time = self.idle.remove(tenant).map_or(floor, |earlier| earlier.max(floor));
        let account = Account { held: 0, waiting: 1, weight, virtual_time, counted_ms: now_ms };
        self.enlist(&account);
        self.tenants.insert(tenant.clone(), account);
    }

    /// Changes the account of a tenant with calls. False where it has none.
    fn change(&mut self, tenant: &Tenant, now_ms: u64, change: impl FnOnce(&mut Account)) -> bool {
        let Some(account) = self.tenants.get_mut(tenant) else { return false };
        let (class, place) = (account.class(), account.place());
        account.count(now_ms);
        change(account);
        let (new_class, new_place) = (account.class(), account.place());
        if (class, place) != (new_class, new_place) {
            self.strike(class, place);
            *self.classes.entry(new_class).or_default().entry(new_place).or_default() += 1;
        }
        true
    }

    fn enlist(&mut self, account: &Account) {
        *self.classes.entry(account.class()).or_default().entry(account.place()).or_default() += 1;
    }

    fn strike(&mut self, class: (u64, u32), place: i128) {
        let Some(places) = self.classes.get_mut(&class) else { return };
        if let Some(count) = places.get_mut(&place) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                places.remove(&place);
            }
        }
        if places.is_empty() {
            self.classes.remove(&class);
        }
    }

    /// Notes that a call that wanted a slot has one.
    pub fn start(&mut self, tenant: &Tenant, now_ms: u64) {
        let started = self.change(tenant, now_ms, |account| {
            account.waiting = account.waiting.saturating_sub(1);
            account.held = account.held.saturating_add(1);
        });
        self.held = self.held.saturating_add(u64::from(started));
    }

    /// Notes that a call wants a slot no longer.
    pub fn leave(&mut self, tenant: &Tenant, now_ms: u64) {
        self.change(tenant, now_ms, |account| account.waiting = account.waiting.saturating_sub(1));
        self.rest(tenant, now_ms);
    }

    /// Notes that a call has released its slot.
    pub fn end(&mut self, tenant: &Tenant, now_ms: u64) {
        let ended = self.change(tenant, now_ms, |account| account.held = account.held.saturating_sub(1));
        self.held = self.held.saturating_sub(u64::from(ended));
        self.see(tenant, now_ms);
        self.rest(tenant, now_ms);
    }

    /// Puts a tenant without calls aside.
    fn rest(&mut self, tenant: &Tenant, now_ms: u64) {
        if !self.tenants.get(tenant).is_some_and(Account::is_idle) {
            return;
        }
        let Some((tenant, account)) = self.tenants.remove_entry(tenant) else { return };
        self.strike(account.class(), account.place());
        if account.virtual_time > self.floor(now_ms) {
            if self.idle.len() >= MANY {
                self.idle.clear();
            }
            self.idle.insert(tenant, account.virtual_time);
        }
    }

    /// The slots that all tenants hold.
    pub const fn held(&self) -> u64 {
        self.held
    }

    /// The slots that a tenant holds.
    pub fn held_by(&self, tenant: &Tenant) -> u64 {
        self.tenants.get(tenant).map_or(0, |account| account.held)
    }

    /// What a tenant would hold with one slot more.
    pub fn with_one_more(&self, tenant: &Tenant) -> Load {
        let account = self.tenants.get(tenant);
        let held = account.map_or(0, |account| account.held).saturating_add(1);
        Load { held, weight: account.map_or(1, |account| account.weight) }
    }

    /// What the other tenants hold.
    pub fn others(&self, tenant: &Tenant) -> impl Iterator<Item = Load> {
        let others = self.tenants.iter().filter(move |(other, account)| *other != tenant && account.held > 0);
        others.map(|(_, account)| Load { held: account.held, weight: account.weight })
    }

    /// The virtual time of a tenant: of those that wait, the one with the smallest is next.
    pub fn virtual_time(&self, tenant: &Tenant, now_ms: u64) -> u64 {
        self.tenants.get(tenant).map_or(self.floor, |account| {
            let spent = account.held.saturating_mul(now_ms.saturating_sub(account.counted_ms));
            account
                .virtual_time
                .saturating_add(spent.saturating_mul(UNITS) / u64::from(account.weight.max(1)))
        })
    }

    /// Whether a tenant other than this one had a call within the last minute.
    pub fn others_seen(&self, tenant: &Tenant, now_ms: u64) -> bool {
        let others = self.seen.iter().flatten().filter(|(other, _)| other != tenant);
        others.into_iter().any(|(_, at_ms)| now_ms.saturating_sub(*at_ms) < SEEN_MS)
            || self.tenants.keys().any(|other| other != tenant)
    }

    /// How many tenants are remembered.
    pub fn len(&self) -> usize {
        self.tenants.len().saturating_add(self.idle.len())
    }

    /// Whether no tenant is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The smallest virtual time of the tenants with calls. It never goes back.
    fn floor(&mut self, now_ms: u64) -> u64 {
        let firsts =
            self.classes.iter().filter_map(|(class, places)| Some((class, places.first_key_value()?.0)));
        let times = firsts.map(|((held, weight), place)| {
            let grown = i128::from(*held) * i128::from(UNITS) * i128::from(now_ms);
            (place + grown) / i128::from(*weight)
        });
        let least = times.min().map(|time| u64::try_from(time).unwrap_or(0));
        self.floor = self.floor.max(least.unwrap_or(self.floor));
        self.floor
    }

    fn see(&mut self, tenant: &Tenant, now_ms: u64) {
        match &mut self.seen {
            [Some((last, at_ms)), _] if last == tenant => *at_ms = now_ms,
            [last, before] => {
                std::mem::swap(last, before);
                *last = Some((tenant.clone(), now_ms));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::parse(name).unwrap()
    }

    #[test]
    fn a_tenant_that_was_idle_joins_at_the_floor_without_credit() {
        let (mut accounts, a, b) = (Accounts::default(), tenant("a"), tenant("b"));
        accounts.arrive(&b, 1, 0);
        accounts.start(&b, 0);
        accounts.end(&b, 10);
        accounts.arrive(&a, 1, 0);
        accounts.start(&a, 0);
        // An hour of a alone; b used ten milliseconds before it.
        accounts.arrive(&b, 1, 3_600_000);
        assert_eq!(accounts.virtual_time(&b, 3_600_000), accounts.virtual_time(&a, 3_600_000));
    }

    #[test]
    fn slot_seconds_count_by_weight() {
        let (mut accounts, a, b) = (Accounts::default(), tenant("a"), tenant("b"));
        for (tenant, weight) in [(&a, 1), (&b, 4)] {
            accounts.arrive(tenant, weight, 0);
            accounts.start(tenant, 0);
        }
        assert_eq!(accounts.virtual_time(&a, 1_000), 4 * accounts.virtual_time(&b, 1_000));
        accounts.arrive(&a, 1, 1_000);
        accounts.end(&a, 1_000);
        assert_eq!(accounts.virtual_time(&a, 9_000), 1_000 * UNITS, "nothing is held, nothing is counted");
        assert_eq!((accounts.held(), accounts.held_by(&b)), (1, 1));
    }

    #[test]
    fn another_tenant_is_seen_for_a_minute_after_its_last_call() {
        let (mut accounts, a, b) = (Accounts::default(), tenant("a"), tenant("b"));
        accounts.arrive(&a, 1, 0);
        assert!(!accounts.others_seen(&a, 0));
        accounts.arrive(&b, 1, 0);
        accounts.start(&b, 0);
        for now_ms in [1, 100_000] {
            accounts.arrive(&a, 1, now_ms);
            assert!(accounts.others_seen(&a, now_ms), "it runs");
        }
        accounts.end(&b, 200_000);
        accounts.arrive(&a, 1, 259_999);
        assert!(accounts.others_seen(&a, 259_999) && !accounts.others_seen(&a, 260_000));
        assert!(accounts.others_seen(&b, 400_000), "calls of a still wait");
    }

    #[test]
    fn a_tenant_cannot_lose_what_it_used_by_a_short_break() {
        let (mut accounts, a, b) = (Accounts::default(), tenant("a"), tenant("b"));
        for tenant in [&a, &b] {
            accounts.arrive(tenant, 1, 0);
        }
        accounts.start(&a, 0);
        accounts.end(&a, 5_000);
        accounts.arrive(&a, 1, 5_001);
        assert_eq!((accounts.virtual_time(&a, 5_001), accounts.virtual_time(&b, 5_001)), (5_000 * UNITS, 0));
    }

    #[test]
    fn tenants_without_calls_are_forgotten_when_there_are_many() {
        let mut accounts = Accounts::default();
        for n in 0..3 * MANY {
            let tenant = tenant(&format!("t{n}"));
            accounts.arrive(&tenant, 1, 0);
            accounts.start(&tenant, 0);
            accounts.end(&tenant, 0);
        }
        assert!(accounts.len() <= MANY, "{}", accounts.len());
    }

    /// The floor by the old rule: of all tenants with calls.
    fn scanned_floor(accounts: &Accounts, now_ms: u64) -> u64 {
        let least = accounts.tenants.keys().map(|tenant| accounts.virtual_time(tenant, now_ms)).min();
        accounts.floor.max(least.unwrap_or(accounts.floor))
    }

    #[test]
    fn a_hundred_thousand_tenants_need_few_classes_and_little_memory() {
        let mut accounts = Accounts::default();
        let names: Vec<_> = (0..100_000).map(|n| tenant(&format!("t{n}"))).collect();
        for (now_ms, name) in (0..).zip(&names) {
            accounts.arrive(name, 1, now_ms);
            accounts.start(name, now_ms);
        }
        assert_eq!(accounts.classes.len(), 1, "one place is compared, not 100,000");
        for name in &names {
            accounts.end(name, 200_000);
        }
        assert!(accounts.len() <= MANY && accounts.classes.is_empty(), "{}", accounts.len());
    }

    proptest! {
        /// The floor is that of a scan over all tenants, whatever happens.
        #[test]
        fn the_floor_is_the_smallest_virtual_time(
            steps in prop::collection::vec((0_usize..6, 0_u8..4, 1_u32..4, 0_u64..50), 1..300)
        ) {
            let names: Vec<_> = (0..6).map(|n| tenant(&format!("t{n}"))).collect();
            let mut accounts = Accounts::default();
            let (mut waiting, mut held, mut now_ms) = ([0_u32; 6], [0_u32; 6], 0);
            for (at, step, weight, pause_ms) in steps {
                now_ms += pause_ms;
                match step {
                    0 => {
                        accounts.arrive(&names[at], weight, now_ms);
                        waiting[at] += 1;
                    }
                    1 if waiting[at] > 0 => {
                        accounts.start(&names[at], now_ms);
                        (waiting[at], held[at]) = (waiting[at] - 1, held[at] + 1);
                    }
                    2 if waiting[at] > 0 => {
                        accounts.leave(&names[at], now_ms);
                        waiting[at] -= 1;
                    }
                    3 if held[at] > 0 => {
                        accounts.end(&names[at], now_ms);
                        held[at] -= 1;
                    }
                    _ => {}
                }
                let expected = scanned_floor(&accounts, now_ms);
                prop_assert_eq!(accounts.floor(now_ms), expected);
                let listed: u32 = accounts.classes.values().flat_map(BTreeMap::values).sum();
                prop_assert_eq!(listed as usize, accounts.tenants.len());
            }
        }

        /// Tenants that always have a call waiting get slot-seconds by their weights, whatever the lengths of their calls.
        #[test]
        fn backlogged_tenants_share_by_weight(
            lengths in prop::collection::vec(1_u64..50, 3..4), weights in prop::collection::vec(1_u32..5, 3..4)
        ) {
            let names = [tenant("a"), tenant("b"), tenant("c")];
            let mut accounts = Accounts::default();
            let mut used = [0_u64; 3];
            for (name, weight) in names.iter().zip(&weights) {
                accounts.arrive(name, *weight, 0);
            }
            let mut now_ms = 0;
            for _ in 0..5_000 {
                let next = (0..3).min_by_key(|at| accounts.virtual_time(&names[*at], now_ms)).unwrap();
                accounts.start(&names[next], now_ms);
                now_ms += lengths[next];
                used[next] += lengths[next];
                accounts.arrive(&names[next], weights[next], now_ms);
                accounts.end(&names[next], now_ms);
            }
            for (one, other) in [(0, 1), (1, 2)] {
                let difference = (used[one] / u64::from(weights[one])).abs_diff(used[other] / u64::from(weights[other]));
                prop_assert!(difference <= 100, "{used:?} by {weights:?}");
            }
        }
    }
}
