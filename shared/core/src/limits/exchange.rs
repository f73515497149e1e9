//! A change of a concurrency limit's entries that does not lose to the changes of other workers: entries that are released are removed, whatever
//! else the row holds, entries are added as long as the row has room for them, and entries that are there count for longer.
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

/// The time of a row's end may be so much before that of its last entry, in seconds: half of what it is kept for. So it is raised seldom.
const ENDS_BEFORE_S: i64 = 12 * 60 * 60;

/// Entries that are removed and added in one write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// New entries, with their times. None may be there: another worker that added it may need it for longer.
    pub add: Vec<(String, Timestamp)>,
    /// Entries that count for longer, with their new times: each must be there, and none counts for longer already.
    pub keep: Vec<(String, Timestamp)>,
    /// Entries in whose place others are added: each must be there.
    pub remove: Vec<String>,
    /// Entries that are released and need not be there: another worker may have added them since the row was seen, or removed them.
    pub let_go: Vec<String>,
    /// Entries of lost workers, which must still have that time: whoever is alive may have renewed them.
    pub expired: Vec<(String, Timestamp)>,
    /// The most entries that the row may have before; none where nothing is added but in the place of another.
    pub most_before: Option<usize>,
    /// The later end of the row; none where the end that was seen is late enough.
    pub ends_s: Option<i64>,
    /// How long permits were held lately, in milliseconds.
    pub hold_ms: Option<u64>,
}

impl Exchange {
    /// What leads from one row to another, if that is only entries: no block.
    pub fn between(seen: &HolderRow, new: &HolderRow, change: &Change) -> Option<Self> {
        let plain = seen.blocks.is_empty() && change.block.is_none();
        if !plain {
            return None;
        }
        let entry = |(name, until): (&String, &Timestamp)| (name.clone(), *until);
        let is_kept = |(name, until): &(&String, &Timestamp)| {
            seen.entries.get(*name).is_some_and(|before| before != *until)
        };
        let keep: Vec<_> = new.entries.iter().filter(is_kept).map(entry).collect();
        let add: Vec<_> =
            new.entries.iter().filter(|(name, _)| !seen.entries.contains_key(*name)).map(entry).collect();
        let is_new = |name: &String| new.entries.contains_key(name) && !seen.entries.contains_key(name);
        let passing = change.take.iter().filter(|take| is_new(&take.name));
        let replaced: BTreeSet<_> = passing.filter_map(|take| take.replaces.as_ref()).collect();
        let released: BTreeSet<_> = change.release.iter().chain(replaced.iter().copied()).collect();
        let gone = seen.entries.iter().filter(|(name, _)| !new.entries.contains_key(*name));
        let (there, mut expired): (Vec<_>, Vec<_>) =
            gone.map(entry).partition(|(name, _)| released.contains(name));
        // An entry in the place of another needs no room.
        let needs_room = add.len() > replaced.len();
        if !needs_room {
            // They count no longer, and the next write that needs their room removes them.
            expired.clear();
        }
        let there = there.into_iter().map(|(name, _)| name);
        let (remove, mut let_go): (Vec<_>, Vec<_>) =
            there.partition(|name| needs_room || replaced.contains(name));
        let is_unseen =
            |name: &&String| !seen.entries.contains_key(*name) && !new.entries.contains_key(*name);
        let_go.extend(released.into_iter().filter(is_unseen).cloned());
        let count = add.len() + keep.len() + remove.len() + let_go.len() + expired.len();
        if count == 0 || count > MOST {
            return None;
        }
        let limit = usize::try_from(change.limit).unwrap_or(usize::MAX);
        let most_before =
            limit.saturating_add(remove.len()).saturating_add(expired.len()).checked_sub(add.len());
        let most_before = if needs_room { Some(most_before?) } else { None };
        let is_too_early = |last_s: &i64| seen.ends_s.is_none_or(|ends_s| *last_s > ends_s + ENDS_BEFORE_S);
        let is_longer = !add.is_empty() || !keep.is_empty();
        let ends_s = new.last_s().filter(|last_s| is_longer && is_too_early(last_s));
        Some(Self { add, keep, remove, let_go, expired, most_before, ends_s, hold_ms: new.hold_ms })
    }

    /// The row after it; nothing where it cannot be made.
    pub fn apply(&self, row: &HolderRow) -> Option<HolderRow> {
        let new = self.add.iter().all(|(name, _)| !row.entries.contains_key(name));
        let there = self.remove.iter().all(|name| row.entries.contains_key(name));
        let kept =
            self.keep.iter().all(|(name, until)| row.entries.get(name).is_some_and(|before| before <= until));
        let lost = self.expired.iter().all(|(name, until)| row.entries.get(name) == Some(until));
        let has_room = self.most_before.is_none_or(|most| row.blocks.is_empty() && row.entries.len() <= most);
        let is_later = self.ends_s.is_none_or(|ends_s| row.ends_s.is_none_or(|before| before < ends_s));
        if !(new && there && kept && lost && has_room && is_later) {
            return None;
        }
        let mut row = row.clone();
        row.rev = row.rev.saturating_add(1);
        let released = self.remove.iter().chain(&self.let_go);
        let gone = released.chain(self.expired.iter().map(|(name, _)| name));
        for name in gone {
            row.entries.remove(name);
        }
        row.entries.extend(self.add.iter().chain(&self.keep).cloned());
        row.hold_ms = self.hold_ms.or(row.hold_ms);
        row.ends_s = self.ends_s.or(row.ends_s);
        Some(row)
    }

    /// Whether a row that refuses it has it already: the reply to an earlier try of this very write was lost.
    pub fn is_done_in(&self, row: &HolderRow) -> bool {
        let is_in = |(name, until): &(String, Timestamp)| row.entries.get(name) == Some(until);
        !self.add.is_empty() && self.add.iter().all(is_in)
    }
}
