//! Live changes of limits: what an operator set when, and for how long each value may have been in effect.
//!
//! **Invariant:** pure. Times are microseconds on the servers' clock.

use super::evidence::InEffect;

/// Workers take a changed limit within so long.
const TAKEN_US: u64 = 5_000_000;

/// A limit that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitChange {
    /// The value from now on.
    pub(crate) limit: u32,
    /// When the operator began to set it, and when it was stored.
    pub(crate) asked_us: u64,
    pub(crate) stored_us: u64,
}

/// A period in which workers may not be able to read what operators set.
pub(crate) type Unread = (u64, u64);

/// The values of a limit, with the catalog's first. A value that was replaced stays in effect for five seconds in which the tables answer.
pub(crate) fn in_effect(catalog: u32, changes: &[LimitChange], unread: &[Unread]) -> Vec<InEffect> {
    let first = LimitChange { limit: catalog, asked_us: 0, stored_us: 0 };
    let all: Vec<_> = std::iter::once(first).chain(changes.iter().copied()).collect();
    let until =
        |position: usize| all.get(position + 1).map_or(u64::MAX, |next| known(next.stored_us, unread));
    let value = |(position, change): (usize, &LimitChange)| InEffect {
        limit: usize::try_from(change.limit).unwrap_or(usize::MAX),
        from_us: change.asked_us,
        until_us: until(position),
    };
    all.iter().enumerate().map(value).collect()
}

/// When every worker knows of what was stored then, or what a worker that was frozen until then has read.
pub(super) fn known(stored_us: u64, unread: &[Unread]) -> u64 {
    let mut unread: Vec<_> = unread.to_vec();
    unread.sort_unstable();
    let (mut known_us, mut counted_us) = (stored_us + TAKEN_US, stored_us);
    for (from, to) in unread {
        let from = from.max(counted_us);
        if from < known_us && from < to {
            known_us += to - from;
            counted_us = to;
        }
    }
    known_us
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    #[test]
    fn a_value_is_in_effect_until_all_workers_know_the_next_one() {
        let change = |limit, s: u64| LimitChange { limit, asked_us: s * S, stored_us: s * S + 7 };
        let values = in_effect(2, &[change(1, 10), change(4, 20)], &[]);
        let of = |limit, from_us, until_us| InEffect { limit, from_us, until_us };
        assert_eq!(values, [of(2, 0, 15 * S + 7), of(1, 10 * S, 25 * S + 7), of(4, 20 * S, u64::MAX)]);
        assert_eq!(in_effect(2, &[], &[]), [of(2, 0, u64::MAX)]);
    }

    #[test]
    fn what_cannot_be_read_is_known_later_and_overlapping_periods_count_once() {
        assert_eq!(known(10 * S, &[(0, 9 * S), (15 * S, 17 * S)]), 15 * S);
        assert_eq!(known(10 * S, &[(9 * S, 12 * S)]), 17 * S);
        assert_eq!(known(10 * S, &[(11 * S, 14 * S), (13 * S, 15 * S)]), 19 * S);
        // The second period begins only because of the first one before all know of it.
        assert_eq!(known(10 * S, &[(16 * S, 17 * S), (14 * S, 16 * S)]), 18 * S);
    }
}
