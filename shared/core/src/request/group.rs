//! The field `group`: the place of a call in a group, and what all members of the group agree on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::{RequestError, invalid};
use super::policy::Policy;
use super::reply::Reply;
use crate::ids::{GroupId, Tenant};
use crate::time::Timestamp;

/// The most members of a group.
pub const MAX_MEMBERS: u32 = 1_000;
/// The most rounds of a group: its first, and its redrives.
pub const MAX_ROUNDS: u32 = 100;

/// The place of a call in a group, and what all members of the group agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The group's id within the tenant.
    pub id: GroupId,
    /// Which of its calls this one is, from 0.
    #[serde(deserialize_with = "super::lenient::needed_whole")]
    #[schemars(range(max = 999))]
    pub index: u32,
    /// How many calls it has.
    #[serde(deserialize_with = "super::lenient::needed_whole")]
    #[schemars(range(min = 1, max = 1000))]
    pub size: u32,
    /// 1, or in a redrive the number of the round.
    #[serde(
        default = "first_round",
        deserialize_with = "super::lenient::needed_whole",
        skip_serializing_if = "is_first"
    )]
    #[schemars(range(min = 1, max = 100))]
    pub round: u32,
    /// When it is decided; `all` by default.
    #[serde(default, deserialize_with = "super::lenient::or_default", skip_serializing_if = "is_all")]
    #[schemars(with = "Option<Policy>")]
    pub policy: Policy,
    /// The instant at which it is decided in any case. Left out it is the deadline of the member that comes first, and a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Where its notice goes. Left out it is the `reply` of the member that comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
}

/// Which group: a redrive is another round of the same id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupKey {
    /// Whose it is.
    pub tenant: Tenant,
    /// Its id within the tenant.
    pub id: GroupId,
    /// 1, or the number of the redrive plus 1.
    pub round: u32,
}

impl std::fmt::Display for GroupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tenant, id, round } = self;
        match round {
            1 => write!(f, "{tenant}/{id}"),
            _ => write!(f, "{tenant}/{id}#{round}"),
        }
    }
}

/// The place of a call in a group, as rows and audit records keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The group's id within the tenant.
    pub id: GroupId,
    /// Which of its calls this one is; unknown where a worker of an earlier version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// How many calls it has.
    pub size: u32,
    /// 1, or in a redrive the number of the round.
    #[serde(default = "first_round", skip_serializing_if = "is_first")]
    pub round: u32,
}

const fn first_round() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_first(round: &u32) -> bool {
    *round == 1
}

fn is_all(policy: &Policy) -> bool {
    *policy == Policy::All
}

impl Group {
    /// The key of the group of a tenant's call.
    pub fn key(&self, tenant: &Tenant) -> GroupKey {
        GroupKey { tenant: tenant.clone(), id: self.id.clone(), round: self.round }
    }

    /// What rows and audit records keep of it.
    pub fn membership(&self) -> Membership {
        let Self { id, index, size, round, .. } = self;
        Membership { id: id.clone(), index: Some(*index), size: *size, round: *round }
    }

    /// The bounds of its numbers.
    pub(super) fn check(&self) -> Result<(), RequestError> {
        let bounded = |field: &str, n: u32, most: u32| {
            let wrong = || invalid(field, format!("is {n}; accepted are 1 to {most}"));
            if n == 0 || n > most { Err(wrong()) } else { Ok(()) }
        };
        bounded("group.size", self.size, MAX_MEMBERS)?;
        bounded("group.round", self.round, MAX_ROUNDS)?;
        if self.index >= self.size {
            let (index, size, most) = (self.index, self.size, self.size - 1);
            let text = format!("is {index}; accepted are 0 to {most} in a group of size {size}");
            return Err(invalid("group.index", text));
        }
        Ok(())
    }
}
