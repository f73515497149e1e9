//! The groups of a chaos run: of every policy, some with a member that is never sent, some cancelled, some with a deadline that comes early.

use std::time::Duration;

use fastrand::Rng;
use toolfleet_core::ids::{GroupId, Tenant};
use toolfleet_core::request::{GroupKey, Policy, Tolerance};

use super::call::{ChaosCall, Place};
use super::server::{Repeats, Server};
use super::shape::Shape;

/// So many of a hundred calls begin a group.
const BEGINS: u32 = 8;
/// Sizes go from 1 to this.
const LARGEST: u32 = 5;
/// One group of so many has a member that is never sent; one is cancelled; one has a deadline that comes early.
const LACKING: u32 = 8;
const CANCELLED: u32 = 8;
const EARLY: u32 = 4;
/// One cancellation of so many comes before the group's first member is sent.
const AHEAD: u32 = 3;
/// One group in so many is not sent again, whatever became of it.
const LEFT: u32 = 4;

/// A group of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChaosGroup {
    /// Its id.
    pub id: String,
    /// Its tenant.
    pub tenant: &'static str,
    /// 1, or the number of the redrive plus 1.
    pub round: u32,
    /// When it is decided.
    pub policy: Policy,
    /// How many members it has, with the one that is never sent.
    pub size: u32,
    /// The ids of the members that are sent, by index.
    pub members: Vec<String>,
    /// When its first member is sent, after the start.
    pub first_at: Duration,
    /// When it is decided in any case, after the start.
    pub deadline: Duration,
    /// When its caller cancels it, after the start.
    pub cancelled_at: Option<Duration>,
    /// Whether its members can be told from those of its redrive.
    pub is_redrivable: bool,
    /// How long after its decision its caller sends again what did not succeed.
    pub redriven_after: Option<Duration>,
}

impl ChaosGroup {
    /// Its key.
    ///
    /// # Errors
    /// The id is not valid.
    pub fn key(&self) -> anyhow::Result<GroupKey> {
        let (tenant, id) = (Tenant::parse(self.tenant)?, GroupId::parse(self.id.as_str())?);
        Ok(GroupKey { tenant, id, round: self.round })
    }
}

/// Puts calls that follow each other into groups; calls that others replace, that kill their workers, that ask, or that are given a stored answer, stay alone.
pub(super) fn groups(calls: &mut [ChaosCall], shape: Shape, rng: &mut Rng) -> Vec<ChaosGroup> {
    let mut groups: Vec<ChaosGroup> = Vec::new();
    let mut open: Option<ChaosGroup> = None;
    let mut missing = 0;
    let may_join = |call: &&mut ChaosCall| {
        call.supersede.is_none() && call.deadly.is_none() && call.server.takes_members()
    };
    for call in calls.iter_mut().filter(may_join) {
        if open.is_none() && rng.u32(..100) < BEGINS {
            missing = u32::from(rng.u32(..LACKING) == 0);
            open = Some(begin(call, missing, rng));
        }
        let Some(mut group) = open.take() else { continue };
        // What is sent in one request is of one tenant, and stays so.
        if call.server == Server::Batching && call.tenant != group.tenant {
            open = Some(group);
            continue;
        }
        join(call, &mut group, groups.len(), rng);
        if group.members.len() < usize::try_from(group.size - missing).unwrap_or(usize::MAX) {
            open = Some(group);
        } else {
            groups.push(ended(group, call, shape, rng));
        }
    }
    // A group that the last calls do not fill lacks members.
    if let (Some(group), Some(last)) = (open, calls.last()) {
        groups.push(ended(group, last, shape, rng));
    }
    groups
}

fn begin(first: &ChaosCall, missing: u32, rng: &mut Rng) -> ChaosGroup {
    let policies = [
        Policy::All,
        Policy::Any,
        Policy::FirstSuccess,
        Policy::Tolerate(Tolerance::Count(1)),
        Policy::Tolerate(Tolerance::Percent(40)),
    ];
    ChaosGroup {
        id: format!("turn-{}", first.n),
        tenant: first.tenant,
        round: 1,
        policy: rng.choice(policies).unwrap_or_default(),
        // A group of which nothing is sent is unknown, so one with a missing member has two at least.
        size: rng.u32(1 + missing..=LARGEST),
        members: Vec::new(),
        first_at: first.at,
        deadline: Duration::ZERO,
        cancelled_at: None,
        is_redrivable: true,
        redriven_after: None,
    }
}

/// When a cancelled group is cancelled: after its last member was sent, or before its first.
fn cancelled_at(group: &ChaosGroup, last: &ChaosCall, rng: &mut Rng) -> Duration {
    let off = Duration::from_millis(rng.u64(..1_000));
    if rng.u32(..AHEAD) == 0 { group.first_at.saturating_sub(off) } else { last.at + off }
}

fn join(call: &mut ChaosCall, group: &mut ChaosGroup, position: usize, rng: &mut Rng) {
    let index = u32::try_from(group.members.len()).unwrap_or(u32::MAX);
    group.members.push(call.id.clone());
    call.tenant = group.tenant;
    call.group = Some(Place { group: position, index });
    call.copies = if rng.u32(..10) == 0 { 2 } else { call.copies };
    call.promised = call.repeats != Repeats::Once && rng.bool();
    // A request for several calls names them by their arguments, which a call that is sent again has of the one before.
    group.is_redrivable &= call.server != Server::Batching;
}

/// Sets the times of a group whose last member is `last`.
fn ended(group: ChaosGroup, last: &ChaosCall, shape: Shape, rng: &mut Rng) -> ChaosGroup {
    let after_ms = if rng.u32(..EARLY) == 0 { rng.u64(500..4_000) } else { shape.timeout_ms };
    let cancelled = rng.u32(..CANCELLED) == 0;
    let deadline = last.due() + Duration::from_millis(after_ms);
    // A group that only its deadline decides would make the run longer.
    let in_time = u32::try_from(group.members.len()) == Ok(group.size) || deadline < shape.length;
    let redriven = rng.u32(..LEFT) > 0 && in_time && group.is_redrivable;
    ChaosGroup {
        deadline,
        redriven_after: redriven.then(|| Duration::from_millis(rng.u64(..1_500))),
        cancelled_at: cancelled.then(|| cancelled_at(&group, last, rng)),
        ..group
    }
}
