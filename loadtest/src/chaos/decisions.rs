//! Watches the decisions of groups: which decision of each was read first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use tokio::time::Instant;
use toolfleet_aws::fleet::Fleet;
use toolfleet_core::group::{Decision, GroupRow};
use toolfleet_core::request::GroupKey;

use super::plan::Plan;

/// How often the rows of open groups are read, and how many at once.
const LOOK: Duration = Duration::from_millis(250);
const READS: usize = 16;

/// The first decisions. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions(Arc<Mutex<BTreeMap<String, Decision>>>);

impl Decisions {
    /// Reads the rows of the groups that are not decided yet, until it is dropped.
    pub(crate) async fn watch(self, fleet: Fleet, plan: Arc<Plan>, start: Instant) {
        let mut open: BTreeSet<usize> = (0..plan.groups.len()).collect();
        loop {
            tokio::time::sleep(LOOK).await;
            let begun = |position: &usize| {
                plan.groups.get(*position).is_some_and(|group| start + group.first_at <= Instant::now())
            };
            let due: Vec<_> = open.iter().copied().filter(begun).collect();
            let keys = due.into_iter().filter_map(|position| {
                plan.groups.get(position).and_then(|group| group.key().ok()).map(|key| (position, key))
            });
            let mut rows =
                stream::iter(keys.map(|(position, key)| read(&fleet, position, key))).buffered(READS);
            while let Some((position, row)) = rows.next().await {
                if let Some(decision) = row.as_ref().and_then(|row| row.decision) {
                    open.remove(&position);
                    self.note(row.map(|row| row.key.to_string()).unwrap_or_default(), decision);
                }
            }
        }
    }

    /// The decision of that group that was read first.
    pub(crate) fn first(&self, group: &str) -> Option<Decision> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(group).copied()
    }

    fn note(&self, group: String, decision: Decision) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(group).or_insert(decision);
    }
}

/// The row of a group; none also if the endpoints are away, which answer again.
async fn read(fleet: &Fleet, position: usize, key: GroupKey) -> (usize, Option<GroupRow>) {
    (position, fleet.group(&key).await.ok().flatten())
}
