//! The block of permits that this worker leases of one large concurrency limit, and gives out itself.

use toolfleet_core::limits::holders::{Block, block_size};
use toolfleet_core::time::Timestamp;

/// A block is leased for so long beyond what its calls need, in milliseconds, so that not every call renews it.
const SPARE_MS: u64 = 10_000;

/// The block.
#[derive(Debug, Default)]
pub(super) struct LocalBlock {
    permits: u32,
    used: u32,
    until: Option<Timestamp>,
}

/// What a lease has to give.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockWish {
    /// How many workers are alive.
    pub(super) workers: u32,
    /// Until when it has to last.
    pub(super) until: Timestamp,
}

impl LocalBlock {
    /// Takes a permit for a request that ends by `until` at the latest; false where none is free or the lease ends earlier.
    pub(super) fn take(&mut self, until: Timestamp) -> bool {
        let lasts = self.until.is_some_and(|lease| lease >= until);
        let free = lasts && self.used < self.permits;
        if free {
            self.used = self.used.saturating_add(1);
        }
        free
    }

    pub(super) const fn leave(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// The block to ask for, with so many calls that wait. It never loses a permit in use.
    pub(super) fn wanted(&self, limit: u32, wish: BlockWish, waiting: usize) -> Block {
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let used = self.used.saturating_add(waiting);
        let until = self.until.map_or(wish.until, |lease| lease.max(wish.until));
        Block {
            permits: block_size(limit, wish.workers, used).max(self.used),
            until: until.plus_ms(SPARE_MS),
        }
    }

    pub(super) const fn leased(&mut self, permits: u32, until: Timestamp) {
        self.permits = permits;
        self.until = Some(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[test]
    fn permits_of_a_block_are_used_within_its_lease_only() {
        let mut block = LocalBlock::default();
        assert!(!block.take(at(1_000)), "nothing is leased");
        block.leased(2, at(5_000));
        assert!(block.take(at(5_000)) && !block.take(at(5_001)) && block.take(at(1_000)));
        assert!(!block.take(at(1_000)), "both are used");
        block.leave();
        assert!(block.take(at(1_000)));
    }

    #[test]
    fn a_block_grows_with_its_calls_and_loses_none_in_use() {
        let mut block = LocalBlock::default();
        let wish = |workers, ms| BlockWish { workers, until: at(ms) };
        let first = block.wanted(100, wish(10, 1_000), 1);
        assert_eq!((first.permits, first.until), (3, at(11_000)));
        block.leased(10, at(11_000));
        (0..9).for_each(|_| assert!(block.take(at(1_000))));
        assert_eq!(block.wanted(100, wish(50, 1_000), 0).permits, 9, "the share of 50 workers is 2");
    }
}
