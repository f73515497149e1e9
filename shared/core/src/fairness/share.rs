//! Max-min fair shares: whether a tenant holds more than its part of a capacity.

use std::collections::BTreeMap;

use crate::fleet::FleetSummary;
use crate::ids::Tenant;

/// What a tenant holds, in slots or slot-milliseconds, and its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Slots, or slot-milliseconds.
    pub held: u64,
    /// Its weight, at least 1.
    pub weight: u32,
}

/// The slot-milliseconds that the tenants of the fleet used within a recent window, from the fleet's summary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantUse {
    /// By tenant.
    pub slot_ms: BTreeMap<Tenant, u64>,
    /// What all slots of the fleet together had in the window, less the part that is kept free.
    pub capacity_slot_ms: u64,
}

/// The milliseconds of the window of a summary's figures.
const MINUTE_MS: u64 = 60_000;

impl TenantUse {
    /// The use that a summary shows; an eighth of the slots is kept free. Tenants that the summary does not list are those that use least, so
    /// they are below their share.
    pub fn of(summary: &FleetSummary) -> Self {
        let slots = summary.workers.slots;
        let capacity_slot_ms = slots.saturating_sub(slots / 8).saturating_mul(MINUTE_MS);
        Self { slot_ms: summary.slot_ms_a_minute.clone(), capacity_slot_ms }
    }

    /// Whether the tenant used more than its share of the fleet. `weight_of` gives the weights.
    pub fn is_above_share(&self, tenant: &Tenant, weight_of: impl Fn(&Tenant) -> u32) -> bool {
        let Some(held) = self.slot_ms.get(tenant) else { return false };
        let own = Load { held: *held, weight: weight_of(tenant) };
        let others = self.slot_ms.iter().filter(|(other, _)| *other != tenant);
        is_above_share(
            own,
            others.map(|(other, held)| Load { held: *held, weight: weight_of(other) }),
            self.capacity_slot_ms,
        )
    }

    /// Whether a tenant other than this one used anything.
    pub fn has_others(&self, tenant: &Tenant) -> bool {
        self.slot_ms.iter().any(|(other, held)| other != tenant && *held > 0)
    }
}

/// Whether a tenant holds more than its max-min fair share of `capacity`: whether the capacity would be used up before every tenant had as
/// much for its weight as this one has. Nobody is above its share while all together hold no more than the capacity.
pub fn is_above_share(own: Load, others: impl IntoIterator<Item = Load>, capacity: u64) -> bool {
    let weight = u128::from(own.weight.max(1));
    let own_held = u128::from(own.held);
    // Of another tenant, only what is within the level of this one counts. All sides are multiplied by this tenant's weight.
    let within =
        |other: Load| (u128::from(other.held) * weight).min(own_held * u128::from(other.weight.max(1)));
    let level = others.into_iter().map(within).fold(own_held * weight, u128::saturating_add);
    level > u128::from(capacity) * weight
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(held: u64, weight: u32) -> Load {
        Load { held, weight }
    }

    #[test]
    fn only_the_tenant_that_holds_most_is_above_its_share() {
        for (own, others, capacity, above) in [
            (load(72, 1), vec![], 72, false),
            (load(73, 1), vec![], 72, true),
            (load(70, 1), vec![load(3, 1)], 72, true),
            (load(3, 1), vec![load(70, 1)], 72, false),
            // A burst of one tenant is within its share up to the half.
            (load(36, 1), vec![load(72, 1)], 72, false),
            (load(37, 1), vec![load(72, 1)], 72, true),
            // Three tenants that want all.
            (load(24, 1), vec![load(40, 1), load(40, 1)], 72, false),
            (load(25, 1), vec![load(40, 1), load(40, 1)], 72, true),
            // A weight of 3 against 1.
            (load(54, 3), vec![load(72, 1)], 72, false),
            (load(55, 3), vec![load(72, 1)], 72, true),
            (load(18, 1), vec![load(72, 3)], 72, false),
            (load(19, 1), vec![load(72, 3)], 72, true),
        ] {
            assert_eq!(is_above_share(own, others.clone(), capacity), above, "{own:?} {others:?}");
        }
    }

    #[test]
    fn the_flood_of_a_fleet_is_above_its_share_and_300_small_tenants_are_not() {
        let tenant = |n: u32| Tenant::parse(format!("t{n}")).unwrap();
        let mut used = TenantUse { capacity_slot_ms: 1_000_000, ..TenantUse::default() };
        used.slot_ms.insert(tenant(0), 970_000);
        for n in 1..=300 {
            used.slot_ms.insert(tenant(n), 150 + u64::from(n));
        }
        let above: Vec<_> = (0..=301).filter(|n| used.is_above_share(&tenant(*n), |_| 1)).collect();
        assert_eq!(above, [0]);
        assert!(used.has_others(&tenant(0)) && used.has_others(&tenant(301)));
    }

    proptest! {
        /// The share is what water-filling in small steps gives.
        #[test]
        fn it_agrees_with_giving_out_the_capacity_unit_by_unit(
            loads in prop::collection::vec((1_u64..40, 1_u32..4), 1..6),
            capacity in 1_u64..80,
        ) {
            let loads: Vec<_> = loads.into_iter().map(|(held, weight)| load(held, weight)).collect();
            let whole: u64 = loads.iter().map(|load| load.held).sum();
            for (at, own) in loads.iter().enumerate() {
                let others = loads.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, load)| *load);
                let above = is_above_share(*own, others, capacity);
                prop_assert!(!above || whole > capacity, "all fit");
                // Somebody with a smaller part for its weight is never above where this one is not.
                if !above {
                    for (other_at, other) in loads.iter().enumerate() {
                        let rest = loads.iter().enumerate().filter(|(n, _)| *n != other_at).map(|(_, load)| *load);
                        let lower = other.held * u64::from(own.weight) <= own.held * u64::from(other.weight);
                        prop_assert!(!lower || !is_above_share(*other, rest, capacity));
                    }
                }
            }
            if whole > capacity {
                let any = loads.iter().enumerate().any(|(at, own)| {
                    let others = loads.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, load)| *load);
                    is_above_share(*own, others, capacity)
                });
                prop_assert!(any, "too much is held, so somebody holds too much");
            }
        }
    }
}
