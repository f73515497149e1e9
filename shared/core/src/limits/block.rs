//! The block of permits that one worker leases of a large concurrency limit, and gives out itself.
//!
//! **Invariant:** the worker never uses more permits, nor uses them for longer, than the limit's row has for it. So a smaller block holds for
//! the worker from the moment it asks for it: the write may take effect while its answer is still under way, or lost. Under a limit that was
//! lowered it starts nothing until all permits of the row are within that limit.

use super::holders::{Block, Granted, block_size};
use crate::time::Timestamp;

/// A block is leased for so long beyond what its calls need, in milliseconds, so that not every call renews it.
const SPARE_MS: u64 = 10_000;

/// The block, as its worker knows it.
#[derive(Debug, Clone, Default)]
pub struct LocalBlock {
    permits: u32,
    used: u32,
    until: Option<Timestamp>,
    /// The limit that the lease knew.
    limit: u32,
    /// The most permits that the row may have for the worker: of a write without an answer, what it asked for.
    stored: u32,
}

/// What a lease has to give.
#[derive(Debug, Clone, Copy)]
pub struct BlockWish {
    /// How many workers are alive.
    pub workers: u32,
    /// Until when it has to last.
    pub until: Timestamp,
}

impl LocalBlock {
    /// Takes a permit for a request that ends by `until` at the latest; false where none is free, the lease ends earlier, or the limit was
    /// lowered since.
    pub fn take(&mut self, limit: u32, until: Timestamp) -> bool {
        let lasts = self.until.is_some_and(|lease| lease >= until) && limit >= self.limit;
        let free = lasts && self.used < self.permits;
        if free {
            self.used = self.used.saturating_add(1);
        }
        free
    }

    /// The request of a permit has ended.
    pub const fn leave(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// The block to ask for, with so many calls that wait. It has no fewer permits than are used. Until the answer comes, the worker uses no
    /// more permits than it has and asks for.
    pub fn ask(&mut self, limit: u32, wish: BlockWish, waiting: usize) -> Block {
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let used = self.used.saturating_add(waiting);
        let permits = block_size(limit, wish.workers, used).max(self.used);
        self.permits = self.permits.min(permits);
        self.stored = self.stored.max(permits);
        // The spare time is added once: a lease that each write moved further would keep a dead worker's permits for minutes.
        let wished = wish.until.plus_ms(SPARE_MS);
        let until = self.until.map_or(wished, |lease| lease.max(wished));
        Block { permits, until }
    }

    /// Whether the row may have more permits for the worker than it uses.
    pub const fn has_unused(&self) -> bool {
        self.stored > self.used
    }

    /// The block of the permits in use, where the row may have more. The lease stays as long as it is, so that it covers the open requests.
    pub fn give_back(&mut self) -> Option<Block> {
        if !self.has_unused() {
            return None;
        }
        self.permits = self.permits.min(self.used);
        // Without a known lease nothing is used, and the row removes a block of no permits.
        Some(Block { permits: self.used, until: self.until.unwrap_or(Timestamp::from_ms(0)) })
    }

    /// The row has what was granted for the worker until then. What is held beyond the limit, by whomever, is not used.
    pub const fn leased(&mut self, granted: &Granted, limit: u32, until: Timestamp) {
        let beyond = granted.held.saturating_sub(limit);
        self.permits = granted.block.saturating_sub(beyond);
        self.stored = granted.block;
        self.until = Some(until);
        self.limit = limit;
    }
}
