//! The next round of a group, as its redrive has sent it: which members it has depends on what became of them in the run.

use std::collections::HashMap;
use std::time::Duration;

use super::call::{ChaosCall, Place};
use super::group::ChaosGroup;

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

impl Round {
    /// The group of the round, at that position, and its calls. `calls` has those of the plan by id.
    pub(super) fn of(
        &self,
        group: &ChaosGroup,
        position: usize,
        calls: &HashMap<&str, &ChaosCall>,
    ) -> (ChaosGroup, Vec<ChaosCall>) {
        let call = |(index, (old, new)): (u32, &(String, String))| {
            let call = ChaosCall::clone(calls.get(old.as_str())?);
            Some(ChaosCall {
                id: new.clone(),
                at: self.sent,
                not_before: None,
                cancelled_after: None,
                group: Some(Place { group: position, index }),
                redrives: Some(old.clone()),
                ..call
            })
        };
        let next = ChaosGroup {
            round: group.round + 1,
            size: u32::try_from(self.members.len()).unwrap_or(u32::MAX),
            members: self.members.iter().map(|(_, new)| new.clone()).collect(),
            first_at: self.sent,
            deadline: self.deadline,
            cancelled_at: None,
            redriven_after: None,
            ..group.clone()
        };
        (next, (0..).zip(&self.members).filter_map(call).collect())
    }
}
