//! The permits of one concurrency limit: who has a request open, given to many workers by one row.
//!
//! A small limit has an entry for each open request. Of a large one, each worker leases a block of permits and gives them out itself.
//! An entry ends when its request is answered; the entry of a lost worker ends by itself at its own time.
//!
//! **Invariant:** entries and blocks together never hold more than the limit that the write which added one knew. An entry that takes the place
//! of another adds none.

use std::collections::BTreeMap;

use crate::state_table::{Decision, StateTable};
use crate::time::Timestamp;

/// A worker leases blocks where the limit is above so many times the number of workers.
const BLOCKS_ABOVE: u32 = 4;
/// There may be more workers than are known, so there are taken to be as many at least: else one that starts first leases most of a small limit.
const LEAST_WORKERS: u32 = 8;
/// The most entries of one row: about 100 KiB, of the 400 of an item. Each write costs as many units as the row has KiB.
pub(super) const MOST_ENTRIES: u32 = 4_000;
/// The longest name of an entry or block.
const NAME_CHARS: usize = 64;

/// The row of a concurrency limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HolderRow {
    /// Grows with each write; the condition of the next one.
    pub rev: u64,
    /// The open requests, by a name of call and attempt: until when each counts unless it is answered.
    pub entries: BTreeMap<String, Timestamp>,
    /// The blocks, by the worker's process: one that starts again under the same id does not know what the earlier one has open.
    pub blocks: BTreeMap<String, Block>,
    /// How long permits were held lately, in milliseconds.
    pub hold_ms: Option<u64>,
    /// About the latest time of all that it held, in seconds. It is never lowered: the table forgets the row some time after it.
    pub ends_s: Option<i64>,
}

/// The permits that one worker gives out itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// How many.
    pub permits: u32,
    /// Until when they count unless the worker renews them.
    pub until: Timestamp,
}

/// A request that asks for a permit, or keeps it for longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    /// The name of its entry.
    pub name: String,
    /// Until when it counts unless it is answered.
    pub until: Timestamp,
    /// The entry whose permit passes to it, as that of a request to its task. Such a permit is taken already, so that a limit that was lowered
    /// meanwhile does not refuse it, and it counts no shorter than before. Where that entry is gone there is nothing to pass: the task may be over
    /// and released already. An entry that replaces itself is kept for longer, if it is there.
    pub replaces: Option<String>,
}

/// What one worker changes together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Now.
    pub now: Timestamp,
    /// The most open requests.
    pub limit: u32,
    /// The allowed difference of two clocks, in milliseconds: an entry counts for so long after its time. The longest, where the worker's clock
    /// is known to be wrong: then no entry is taken for lost.
    pub skew_ms: u64,
    /// Requests that were answered.
    pub release: Vec<String>,
    /// How long they held their permits, in milliseconds: the mean.
    pub held_ms: Option<u64>,
    /// Requests that ask, in the order in which they are served. One that has an entry keeps it until the new time.
    pub take: Vec<Take>,
    /// The block that the worker wants to have from now on.
    pub block: Option<(String, Block)>,
}

/// What a change brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Granted {
    /// For each request that asked: whether it has a permit.
    pub taken: Vec<bool>,
    /// The permits of the worker's block.
    pub block: u32,
    /// How many permits are held by all.
    pub held: u32,
}

/// The state table of a concurrency limit's row.
#[derive(Debug, Clone, Copy)]
pub struct HolderTable;

impl StateTable for HolderTable {
    type Row = HolderRow;
    type Event = Change;
    type Effect = Granted;
    type Rejection = Granted;

    fn decide(seen: Option<&HolderRow>, event: &Change) -> Decision<HolderRow, Granted, Granted> {
        let mut row = seen.cloned().unwrap_or_default();
        row.forget_lost(event);
        let passes = |take: &Take| row.entries.get(take.replaces.as_ref()?).copied();
        let passes: Vec<_> = event.take.iter().map(passes).collect();
        let replaced = event.take.iter().filter_map(|take| take.replaces.as_ref());
        for name in event.release.iter().chain(replaced) {
            row.entries.remove(name);
        }
        row.learn_hold(event.held_ms);
        let mut taken = vec![false; passes.len()];
        // What passes on a permit has it: nothing else gets the room in between.
        row.take_each(event, &passes, true, &mut taken);
        let block =
            event.block.as_ref().map_or(0, |(worker, block)| row.take_block(worker, *block, event.limit));
        row.take_each(event, &passes, false, &mut taken);
        let granted = Granted { taken, block, held: row.held() };
        let is_same = |seen: &HolderRow| seen.entries == row.entries && seen.blocks == row.blocks;
        if seen.map_or(row.held() == 0, is_same) {
            return Decision::Leave(granted);
        }
        row.rev = row.rev.saturating_add(1);
        row.ends_s = row.ends_s.max(row.last_s());
        Decision::Write { row: Box::new(row), then: granted }
    }
}

impl HolderRow {
    /// How many permits are held.
    pub fn held(&self) -> u32 {
        let blocks = self.blocks.values().map(|block| block.permits);
        let entries = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        blocks.fold(entries, u32::saturating_add)
    }

    /// The latest time of its entries and blocks, in seconds.
    pub fn last_s(&self) -> Option<i64> {
        let until = self.entries.values().chain(self.blocks.values().map(|block| &block.until));
        until.map(|until| until.as_s()).max()
    }

    fn forget_lost(&mut self, event: &Change) {
        let lost = |until: Timestamp| until.plus_ms(event.skew_ms) <= event.now;
        self.entries.retain(|_, until| !lost(*until));
        self.blocks.retain(|_, block| !lost(block.until));
    }

    fn learn_hold(&mut self, held_ms: Option<u64>) {
        if let Some(held_ms) = held_ms {
            let before_ms = self.hold_ms.unwrap_or(held_ms);
            self.hold_ms = Some(before_ms.saturating_mul(7).saturating_add(held_ms) / 8);
        }
    }

    /// Serves the takes that pass on a permit, which counts until that time, or the others.
    fn take_each(&mut self, event: &Change, passes: &[Option<Timestamp>], passing: bool, taken: &mut [bool]) {
        for ((take, passes), taken) in event.take.iter().zip(passes).zip(taken) {
            if passes.is_some() == passing {
                *taken = self.take(take, *passes, event.limit);
            }
        }
    }

    fn take(&mut self, take: &Take, passes: Option<Timestamp>, limit: u32) -> bool {
        let known = passes.is_some() || self.entries.contains_key(&take.name);
        let is_late = take.replaces.is_some();
        if !known && (is_late || self.held() >= limit || take.name.len() > NAME_CHARS) {
            return false;
        }
        let before = self.entries.get(&take.name).copied().max(passes);
        let until = before.map_or(take.until, |before| before.max(take.until));
        self.entries.insert(take.name.clone(), until);
        true
    }

    /// A block can always be kept or made smaller; it grows by what is free.
    fn take_block(&mut self, worker: &str, wanted: Block, limit: u32) -> u32 {
        let had = self.blocks.remove(worker).map_or(0, |block| block.permits);
        let free = limit.saturating_sub(self.held());
        let permits = wanted.permits.min(free.max(had));
        if permits > 0 {
            self.blocks.insert(worker.to_owned(), Block { permits, until: wanted.until });
        }
        permits
    }
}

/// Whether workers lease blocks of that limit.
pub const fn by_blocks(limit: u32, workers: u32) -> bool {
    let workers = if workers < LEAST_WORKERS { LEAST_WORKERS } else { workers };
    limit > workers.saturating_mul(BLOCKS_ABOVE) || limit > MOST_ENTRIES
}

/// How many permits a worker that uses `used` of them wants in its block: half as many again, a quarter of its even share at least, and not
/// more than its even share while all are wanted.
pub fn block_size(limit: u32, workers: u32, used: u32) -> u32 {
    let share = (limit / workers.max(1)).max(1);
    used.saturating_add(used / 2).saturating_add(1).clamp(share.div_ceil(4), share)
}
