//! The plan of a chaos run: which calls are sent when, and which fault comes when. A pure function of the seed.
//!
//! **Invariant:** the same seed and shape give the same plan. What a server does with a request is decided by `behaviour`, from the same seed.

mod call;
mod fault;
mod group;
mod server;
mod shape;

use std::collections::BTreeMap;

use fastrand::Rng;

pub use self::call::{ChaosCall, ID_PREFIX, Place, TENANTS};
pub use self::fault::{Event, Fault};
pub use self::group::ChaosGroup;
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
        events.sort_by_key(|event| event.at);
        Self { calls, groups, events }
    }

    /// The group of a call, and its place in it.
    pub fn group_of(&self, call: &ChaosCall) -> Option<(Place, &ChaosGroup)> {
        let place = call.group?;
        Some((place, self.groups.get(place.group)?))
    }

    /// How many faults of each kind there are.
    pub fn counts(&self) -> BTreeMap<Fault, u64> {
        let mut counts = BTreeMap::new();
        for event in &self.events {
            *counts.entry(event.fault).or_default() += 1;
        }
        counts
    }

    /// The starts in a second that the rated server's limit allows: about as many as are sent.
    pub fn rate(shape: Shape) -> u32 {
        rounded_up(per_second(shape, Server::Rated) * 1.1).max(2)
    }

    /// The open requests that the narrow server's limit allows: about as many as it needs.
    pub fn concurrency(shape: Shape) -> u32 {
        rounded_up(per_second(shape, Server::Narrow) * 0.4).max(2)
    }
}

fn per_second(shape: Shape, server: Server) -> f64 {
    let share = f64::from(server.share()) / 100.0;
    f64::from(shape.calls) * share / shape.length.as_secs_f64().max(1.0)
}

fn rounded_up(value: f64) -> u32 {
    let mut up = 0_u32;
    while f64::from(up) < value {
        up += 1;
    }
    up
}

#[cfg(test)]
mod tests;
