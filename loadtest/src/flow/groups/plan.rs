//! The groups of the scenario `groups`: of every size and policy, some with a member that is never sent, some cancelled.
//!
//! **Invariant:** pure. One seed gives the same groups.

use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use toolfleet_client::RequestBuilder;
use toolfleet_core::ids::{GroupId, Tenant};
use toolfleet_core::request::{CallRequest, GroupKey, Policy, Tolerance};
use toolfleet_core::time::Timestamp;

/// The tenant of all groups.
pub(super) const TENANT: &str = "load";
/// A tool that is safe to repeat, one that is not, and one that the catalog does not have: its calls are refused.
pub(super) const SAFE: &str = "safe";
pub(super) const UNSAFE: &str = "unsafe";
const MISSING: &str = "missing";
/// Sizes go from 1 to this.
const LARGEST: u32 = 5;
/// One group of so many has a member that is never sent.
const INCOMPLETE_EVERY: u32 = 8;
/// One group of so many is cancelled while its members are sent.
const CANCELLED_EVERY: u32 = 20;

/// One group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlannedGroup {
    pub(super) key: GroupKey,
    pub(super) policy: Policy,
    pub(super) size: u32,
    /// The members that are sent; a group may have others that never are.
    pub(super) members: Vec<PlannedMember>,
    pub(super) cancelled: bool,
}

/// A member that is sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlannedMember {
    pub(super) id: String,
    pub(super) index: u32,
    pub(super) tool: &'static str,
    /// When its message is sent, and when a second one, if it is sent twice.
    pub(super) at: Duration,
    pub(super) again_at: Option<Duration>,
}

impl PlannedGroup {
    /// Whether a member is never sent.
    pub(super) fn lacks_a_member(&self) -> bool {
        self.members.len() < usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    /// The request of a member.
    pub(super) fn request(
        &self,
        member: &PlannedMember,
        ms: u64,
        reply: &str,
        deadline: Timestamp,
    ) -> anyhow::Result<CallRequest> {
        RequestBuilder::tool(TENANT, member.tool)
            .call_id(&member.id)
            .arguments(json!({"call": member.id, "ms": ms}))
            .set(
                "group",
                json!({"id": self.key.id, "index": member.index, "size": self.size, "policy": self.policy,
                    "deadline": deadline, "reply": {"sqs_queue_url": reply}}),
            )
            .build()
            .map_err(|error| anyhow::anyhow!("{error}"))
    }
}

/// That many groups, whose members are sent within `length`.
pub(super) fn groups(count: u32, length: Duration, seed: u64) -> anyhow::Result<Vec<PlannedGroup>> {
    let mut rng = Rng::with_seed(seed);
    (0..count).map(|n| group(n, length, &mut rng)).collect()
}

fn group(n: u32, length: Duration, rng: &mut Rng) -> anyhow::Result<PlannedGroup> {
    let policies = [
        Policy::All,
        Policy::Any,
        Policy::FirstSuccess,
        Policy::Tolerate(Tolerance::Count(1)),
        Policy::Tolerate(Tolerance::Percent(40)),
    ];
    let policy = rng.choice(policies).unwrap_or_default();
    // A group of which nothing is sent is unknown, so one with a missing member has two at least.
    let lacks_one = n.is_multiple_of(INCOMPLETE_EVERY);
    let size = rng.u32(1 + u32::from(lacks_one)..=LARGEST);
    let id = format!("turn-{n}");
    let member = |index: u32, rng: &mut Rng| {
        let tool = match rng.u32(..100) {
            0..45 => SAFE,
            45..85 => UNSAFE,
            _ => MISSING,
        };
        let at = length.mul_f64(rng.f64() * 0.9);
        let again_at = (rng.u32(..8) == 0).then(|| at + length.mul_f64(rng.f64() * 0.1));
        PlannedMember { id: format!("{id}-{index}"), index, tool, at, again_at }
    };
    let members = (0..size - u32::from(lacks_one)).map(|index| member(index, rng)).collect();
    let key = GroupKey { tenant: Tenant::parse(TENANT)?, id: GroupId::parse(id.as_str())?, round: 1 };
    Ok(PlannedGroup { key, policy, size, members, cancelled: n % CANCELLED_EVERY == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_every_kind_of_group_and_is_the_same_for_one_seed() {
        let length = Duration::from_secs(10);
        let planned = groups(200, length, 1).unwrap();
        assert_eq!(planned, groups(200, length, 1).unwrap());
        assert_eq!(planned.iter().filter(|group| group.lacks_a_member()).count(), 25);
        assert_eq!(planned.iter().filter(|group| group.cancelled).count(), 10);
        let members = || planned.iter().flat_map(|group| &group.members);
        for tool in [SAFE, UNSAFE, MISSING] {
            assert!(members().filter(|member| member.tool == tool).count() > 50, "{tool}");
        }
        assert!(members().filter(|member| member.again_at.is_some()).count() > 30);
        assert!(members().all(|member| member.at < length && member.again_at.is_none_or(|at| at <= length)));
        for group in &planned {
            assert!(!group.members.is_empty());
            for member in &group.members {
                group.request(member, 1, "https://sqs/q", Timestamp::from_ms(4_000_000_000_000)).unwrap();
            }
        }
    }
}
