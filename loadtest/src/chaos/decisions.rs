//! Watches the decisions of groups: which decision of each was read first, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use tokio::time::Instant;
use toolfleet_aws::fleet::Fleet;
use toolfleet_core::group::Decision;
use toolfleet_core::request::GroupKey;

/// How often the rows of open groups are read, and how many at once.
const LOOK: Duration = Duration::from_millis(250);
const READS: usize = 16;

/// The first decisions. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// The groups whose decision was not read yet, and when their rows are read first.
    open: BTreeMap<GroupKey, Instant>,
    first: BTreeMap<GroupKey, (Decision, Instant)>,
}

impl Decisions {
    /// Watches that group from then on.
    pub(crate) fn follow(&self, key: GroupKey, from: Instant) {
        self.lock().open.insert(key, from);
    }

    /// Reads the rows of the groups that are not decided yet, until it is dropped.
    pub(crate) async fn watch(self, fleet: Fleet) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = Instant::now();
            let due = |(key, from): (&GroupKey, &Instant)| (*from <= now).then(|| key.clone());
            let due: Vec<_> = self.lock().open.iter().filter_map(due).collect();
            let mut decided = stream::iter(due.into_iter().map(|key| read(&fleet, key))).buffered(READS);
            while let Some((key, decision)) = decided.next().await {
                if let Some(decision) = decision {
                    let mut inner = self.lock();
                    inner.open.remove(&key);
                    inner.first.entry(key).or_insert_with(|| (decision, Instant::now()));
                }
            }
        }
    }

    /// The decision of that group that was read first.
    pub(crate) fn first(&self, group: &GroupKey) -> Option<Decision> {
        self.lock().first.get(group).map(|(decision, _)| *decision)
    }

    /// When that was: whoever looks at the group later finds it decided.
    pub(crate) fn first_at(&self, group: &GroupKey) -> Option<Instant> {
        self.lock().first.get(group).map(|(_, at)| *at)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The decision of a group; none also if the endpoints are away, which answer again.
async fn read(fleet: &Fleet, key: GroupKey) -> (GroupKey, Option<Decision>) {
    let row = fleet.group(&key).await.ok().flatten();
    (key, row.and_then(|row| row.decision))
}
