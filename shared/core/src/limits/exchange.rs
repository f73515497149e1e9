//! A change of a concurrency limit's entries that does not lose to the changes of other workers: entries that are released are removed, whatever
//! else the row holds, and entries are added as long as the row has room for them.
//!
//! Replacing the whole row loses whenever another worker wrote since it was read. With hundreds of workers most writes would be lost, of calls
//! that want nothing of each other.
//!
//! **Invariant:** an exchange never leaves more entries than the limit that its worker knew, whichever row it meets.

use std::collections::BTreeSet;

use super::holders::{Change, HolderRow};
use crate::time::Timestamp;

/// The most entries in one exchange: its expression stays far below the 4 KiB of DynamoDB.
const MOST: usize = 40;

/// Entries that are removed and added in one write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// New entries, with their times.
    pub add: Vec<(String, Timestamp)>,
    /// Entries that are released. Where others are added in their place, each must be there.
    pub remove: Vec<String>,
    /// Entries of lost workers, which must still have that time: whoever is alive may have renewed them.
    pub expired: Vec<(String, Timestamp)>,
    /// The most entries that the row may have before; none where nothing is added.
    pub most_before: Option<usize>,
    /// How long permits were held lately, in milliseconds.
    pub hold_ms: Option<u64>,
}

impl Exchange {
    /// What leads from one row to another, if that is only released and new entries: no block, no entry that is kept or takes the place of
    /// another.
    pub fn between(seen: &HolderRow, new: &HolderRow, change: &Change) -> Option<Self> {
        let plain = seen.blocks.is_empty() && change.block.is_none();
        if !plain || change.take.iter().any(|take| take.replaces.is_some()) {
            return None;
        }
        let is_kept =
            |(name, until): (&String, &Timestamp)| new.entries.get(name).is_some_and(|new| new != until);
        if seen.entries.iter().any(is_kept) {
            return None;
        }
        let entry = |(name, until): (&String, &Timestamp)| (name.clone(), *until);
        let add: Vec<_> =
            new.entries.iter().filter(|(name, _)| !seen.entries.contains_key(*name)).map(entry).collect();
        let released: BTreeSet<_> = change.release.iter().collect();
        let gone = seen.entries.iter().filter(|(name, _)| !new.entries.contains_key(*name));
        let (remove, mut expired): (Vec<_>, Vec<_>) =
            gone.map(entry).partition(|(name, _)| released.contains(name));
        let remove: Vec<_> = remove.into_iter().map(|(name, _)| name).collect();
        if add.is_empty() {
            // They count no longer, and the next write that needs their room removes them.
            expired.clear();
        }
        let count = add.len() + remove.len() + expired.len();
        if count == 0 || count > MOST {
            return None;
        }
        let limit = usize::try_from(change.limit).unwrap_or(usize::MAX);
        let most_before =
            limit.saturating_add(remove.len()).saturating_add(expired.len()).checked_sub(add.len())?;
        let most_before = (!add.is_empty()).then_some(most_before);
        Some(Self { add, remove, expired, most_before, hold_ms: new.hold_ms })
    }

    /// The row after it; nothing where it cannot be made.
    pub fn apply(&self, row: &HolderRow) -> Option<HolderRow> {
        let there = self.remove.iter().all(|name| row.entries.contains_key(name));
        let lost = self.expired.iter().all(|(name, until)| row.entries.get(name) == Some(until));
        if let Some(most) = self.most_before
            && !(there && lost && row.blocks.is_empty() && row.entries.len() <= most)
        {
            return None;
        }
        let mut row = row.clone();
        row.rev = row.rev.saturating_add(1);
        let gone = self.remove.iter().chain(self.expired.iter().map(|(name, _)| name));
        for name in gone {
            row.entries.remove(name);
        }
        row.entries.extend(self.add.iter().cloned());
        row.hold_ms = self.hold_ms.or(row.hold_ms);
        Some(row)
    }

    /// Whether a row that refuses it has it already: the reply to an earlier try of this very write was lost.
    pub fn is_done_in(&self, row: &HolderRow) -> bool {
        let is_in = |(name, until): &(String, Timestamp)| row.entries.get(name) == Some(until);
        !self.add.is_empty() && self.add.iter().all(is_in)
    }
}
