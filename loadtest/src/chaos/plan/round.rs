//! The next round of a group, as its redrive has sent it: which members it has depends on what became of them in the run.

use std::collections::HashMap;
use std::time::Duration;

use super::call::{ChaosCall, Place};
use super::{ChaosGroup, Plan};

/// The next round of a group of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The position of the group in the plan.
    pub group: usize,
    /// When it was sent, and its deadline, after the start.
    pub sent: Duration,
    /// See `sent`.
    pub deadline: Duration,
    /// Each member's call in the round before, and its new call, by the new index.
    pub members: Vec<(String, String)>,
}

impl Plan {
    /// The plan with those rounds, their groups and calls, after its own.
    #[must_use]
    pub fn with_rounds(&self, rounds: &[Round]) -> Self {
        let mut plan = self.clone();
        let calls: HashMap<_, _> = self.calls.iter().map(|call| (call.id.as_str(), call)).collect();
        for round in rounds {
            let Some(group) = self.groups.get(round.group) else { continue };
            let position = plan.groups.len();
            let members = (0..).zip(&round.members);
            let call = |(index, (old, new)): (u32, &(String, String))| {
                let call = ChaosCall::clone(calls.get(old.as_str())?);
                Some(ChaosCall {
                    id: new.clone(),
                    at: round.sent,
                    not_before: None,
                    cancelled_after: None,
                    group: Some(Place { group: position, index }),
                    redrives: Some(old.clone()),
                    ..call
                })
            };
            plan.calls.extend(members.filter_map(call));
            plan.groups.push(ChaosGroup {
                round: group.round + 1,
                size: u32::try_from(round.members.len()).unwrap_or(u32::MAX),
                members: round.members.iter().map(|(_, new)| new.clone()).collect(),
                first_at: round.sent,
                deadline: round.deadline,
                cancelled_at: None,
                redriven_after: None,
                ..group.clone()
            });
        }
        plan
    }
}
