//! The plan of a chaos run: which calls are sent when, and which fault comes when. A pure function of the seed.
//!
//! **Invariant:** the same seed and shape give the same plan. What a server does with a request is decided by `behaviour`, from the same seed.

mod call;
mod fault;
mod group;
mod limits;
mod round;
mod server;
mod shape;

use std::collections::{BTreeMap, HashMap};

use fastrand::Rng;

pub use self::call::{ChaosCall, Deadly, ID_PREFIX, Place, TENANTS, question};
pub use self::fault::{Event, Fault, MOST_LONGER};
pub use self::group::ChaosGroup;
pub use self::limits::Limits;
pub use self::round::Round;
pub use self::server::{MOST_IN_BATCH, Repeats, Server, tool};
pub use self::shape::Shape;

/// What happens in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The calls, in the order of sending.
    pub calls: Vec<ChaosCall>,
    /// The groups that some of them belong to.
    pub groups: Vec<ChaosGroup>,
    /// The faults, in the order of their beginnings.
    pub events: Vec<Event>,
}

impl Plan {
    /// The plan of that seed.
    pub fn of(seed: u64, shape: Shape) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut calls = call::calls(seed, shape, &mut rng);
        let groups = group::groups(&mut calls, shape, &mut rng);
        let mut events: Vec<_> =
            Fault::ALL.into_iter().flat_map(|fault| fault::events(fault, shape, &mut rng)).collect();
        call::meet_losses(&calls, &mut events);
        events.sort_by_key(|event| event.at);
        call::enlarge(&mut calls, &events);
        Self { calls, groups, events }
    }

    /// The plan with those rounds, their groups and calls, after its own.
    #[must_use]
    pub fn with_rounds(&self, rounds: &[Round]) -> Self {
        let mut plan = self.clone();
        let calls: HashMap<_, _> = self.calls.iter().map(|call| (call.id.as_str(), call)).collect();
        for round in rounds {
            let Some(group) = self.groups.get(round.group) else { continue };
            let (group, members) = round.of(group, plan.groups.len(), &calls);
            plan.groups.push(group);
            plan.calls.extend(members);
        }
        plan
    }

    /// The group of a call, and its place in it.
    pub fn group_of(&self, call: &ChaosCall) -> Option<(Place, &ChaosGroup)> {
        let place = call.group?;
        Some((place, self.groups.get(place.group)?))
    }

    /// The calls of which messages kill their workers in that way.
    pub fn deadly(&self, kind: Deadly) -> impl Iterator<Item = &ChaosCall> {
        self.calls.iter().filter(move |call| call.deadly == Some(kind))
    }

    /// How many faults of each kind there are.
    pub fn counts(&self) -> BTreeMap<Fault, u64> {
        let mut counts = BTreeMap::new();
        for event in &self.events {
            *counts.entry(event.fault).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests;
