//! Which limits made calls wait in the last minutes. A call that no limit makes wait takes no lock here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use toolfleet_core::fleet::{LimitPart, LimitSeen, Minute, OTHER_LIMITS, WINDOW_MS};
use toolfleet_core::ids::Tenant;
use toolfleet_core::time::Timestamp;

use super::lock::lock;

/// The most limits; waits for others are counted together.
const MOST_LIMITS: usize = 1_000;
/// The most tenants of a limit within a minute; others are counted with the limit only.
const MOST_TENANTS: usize = 50;

/// The limits that made calls of a worker wait.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    known: Mutex<HashMap<String, OfLimit>>,
}

#[derive(Debug, Default)]
struct OfLimit {
    value: Option<String>,
    last: Option<Timestamp>,
    /// The minutes of the window in which calls waited.
    minutes: Vec<(Minute, Waits)>,
}

#[derive(Debug, Default)]
struct Waits {
    waited: u64,
    requeued: u64,
    late: u64,
    tenants: HashMap<Tenant, u64>,
}

/// A call that a limit makes wait.
#[derive(Debug)]
pub(crate) struct LimitMet<'a> {
    /// The limit's text, such as `server:crm`.
    pub(crate) key: String,
    pub(crate) part: LimitPart,
    /// The limit's value; none where the worker finds it itself.
    pub(crate) value: Option<String>,
    pub(crate) tenant: &'a Tenant,
    /// The call goes back to its queue; else it waits in the worker.
    pub(crate) requeued: bool,
}

impl Limits {
    pub(super) fn met(&self, met: LimitMet<'_>, now: Timestamp) {
        self.at(met.part.of(&met.key), met.value, |of| {
            of.last = Some(now);
            of.count(met.tenant, met.requeued, now);
        });
    }

    /// A request of that rate limit may have been written too late for its turn.
    pub(super) fn late(&self, key: &str, value: String, now: Timestamp) {
        self.at(LimitPart::Rate.of(key), Some(value), |of| {
            if let Some(waits) = of.waits(now) {
                waits.late = waits.late.saturating_add(1);
            }
        });
    }

    fn at(&self, name: String, value: Option<String>, count: impl FnOnce(&mut OfLimit)) {
        let mut known = lock(&self.known);
        let (mut name, mut value) = (name, value);
        if known.len() >= MOST_LIMITS && !known.contains_key(&name) {
            (name, value) = (OTHER_LIMITS.to_owned(), None);
        }
        let of = known.entry(name).or_default();
        of.value = value;
        count(of);
    }

    /// What was seen of each in the last minutes. Forgets limits of which nothing was.
    pub(crate) fn seen(&self, now: Timestamp) -> BTreeMap<String, LimitSeen> {
        let mut known = lock(&self.known);
        known.retain(|_, of| {
            retain_window(&mut of.minutes, now);
            !of.minutes.is_empty()
        });
        known.iter().map(|(name, of)| (name.clone(), of.seen())).collect()
    }
}

impl OfLimit {
    /// Those of this minute.
    fn waits(&mut self, now: Timestamp) -> Option<&mut Waits> {
        let minute = Minute::of(now);
        if self.minutes.last().is_none_or(|(last, _)| *last != minute) {
            retain_window(&mut self.minutes, now);
            self.minutes.push((minute, Waits::default()));
        }
        self.minutes.last_mut().map(|(_, waits)| waits)
    }

    fn count(&mut self, tenant: &Tenant, requeued: bool, now: Timestamp) {
        let Some(waits) = self.waits(now) else { return };
        let count = if requeued { &mut waits.requeued } else { &mut waits.waited };
        *count = count.saturating_add(1);
        if let Some(times) = waits.tenants.get_mut(tenant) {
            *times = times.saturating_add(1);
        } else if waits.tenants.len() < MOST_TENANTS {
            waits.tenants.insert(tenant.clone(), 1);
        }
    }

    fn seen(&self) -> LimitSeen {
        let mut seen = LimitSeen { last: self.last, ..LimitSeen::idle(self.value.clone()) };
        for (_, waits) in &self.minutes {
            seen.waited = seen.waited.saturating_add(waits.waited);
            seen.requeued = seen.requeued.saturating_add(waits.requeued);
            seen.late = seen.late.saturating_add(waits.late);
            for (tenant, times) in &waits.tenants {
                let sum = seen.tenants.entry(tenant.clone()).or_default();
                *sum = sum.saturating_add(*times);
            }
        }
        seen
    }
}

fn retain_window(minutes: &mut Vec<(Minute, Waits)>, now: Timestamp) {
    minutes.retain(|(minute, _)| now.ms_since(minute.start()) < WINDOW_MS);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(key: &str, tenant: &str, requeued: bool, at_ms: i64, limits: &Limits) {
        let tenant = Tenant::parse(tenant).unwrap();
        let value = Some("20/s".to_owned());
        let met = LimitMet { key: key.into(), part: LimitPart::Rate, value, tenant: &tenant, requeued };
        limits.met(met, Timestamp::from_ms(at_ms));
    }

    #[test]
    fn waits_count_for_five_minutes_and_name_their_tenants() {
        let limits = Limits::default();
        met("server:crm", "acme", true, 0, &limits);
        met("server:crm", "acme", false, 60_000, &limits);
        met("server:crm", "globex", true, 240_000, &limits);
        let seen = |ms| limits.seen(Timestamp::from_ms(ms)).remove("server:crm rate");
        let all = seen(299_999).unwrap();
        assert_eq!((all.waited, all.requeued, all.value.as_deref()), (1, 2, Some("20/s")));
        assert_eq!(all.tenants.values().copied().collect::<Vec<_>>(), [2, 1]);
        let later = seen(300_000).unwrap();
        assert_eq!((later.waited, later.requeued, later.last), (1, 1, Some(Timestamp::from_ms(240_000))));
        assert_eq!(seen(600_000), None, "it is forgotten");
    }

    #[test]
    fn requests_that_were_late_for_their_turns_are_counted_with_their_limit() {
        let limits = Limits::default();
        limits.late("server:crm", "20/s".to_owned(), Timestamp::from_ms(0));
        limits.late("server:crm", "20/s".to_owned(), Timestamp::from_ms(60_000));
        let seen = limits.seen(Timestamp::from_ms(60_000)).remove("server:crm rate").unwrap();
        assert_eq!((seen.late, seen.times(), seen.last), (2, 0, None));
    }

    #[test]
    fn limits_and_tenants_beyond_the_bounds_are_counted_together() {
        let limits = Limits::default();
        for n in 0..MOST_LIMITS + 5 {
            met(&format!("server:s{n}"), "acme", true, 0, &limits);
        }
        for n in 0..MOST_TENANTS + 5 {
            met("server:s0", &format!("t{n}"), true, 0, &limits);
        }
        let seen = limits.seen(Timestamp::from_ms(0));
        assert_eq!((seen.len(), seen[OTHER_LIMITS].requeued), (MOST_LIMITS + 1, 5));
        let first = &seen["server:s0 rate"];
        assert_eq!((first.requeued, first.tenants.len()), (56, MOST_TENANTS));
    }
}
