//! Which call of one `supersede` key is the newest: the state table of one row for each tenant and key.
//!
//! A call with the field offers itself before it is started. The row decides which of two calls is the newer one: by the time its first message
//! was sent, then by its id. A call that lost is remembered, so that a later message under its id cannot win again and cancel the winner.
//!
//! **Invariant:** the newest call of a row never loses to itself, and of any two calls at most one can be told that it lost to the other.

use crate::ids::CallId;
use crate::state_table::{self, StateTable};
use crate::time::Timestamp;

/// The most bytes of a `supersede` key.
pub const MAX_KEY_BYTES: usize = 128;
/// So many of the calls that lost are remembered. The rows of earlier ones say that they have ended.
const LOSERS: usize = 16;

/// A call that may be the newest of its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contender {
    /// When its first message was sent.
    pub enqueued_at: Timestamp,
    /// The call.
    pub call_id: CallId,
}

/// The row of one tenant and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupersedeRow {
    /// The newest call so far.
    pub newest: Contender,
    /// The latest calls that lost, the last one first.
    pub losers: Vec<CallId>,
    /// Grows with every write; the guard of the next one.
    pub rev: u64,
    /// When the row may expire, to the second.
    pub expires_at: Timestamp,
}

/// A call that was not started yet.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The call.
    pub contender: Contender,
    /// Until when the row is kept for it.
    pub expires_at: Timestamp,
}

/// What a stored row means for the call that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is the newest, and may run.
    Newest,
    /// This newer call replaces it.
    SupersededBy(CallId),
}

/// The state table of these rows. Nothing that was decided before is written again: the rejection is then the standing.
#[derive(Debug, Clone, Copy)]
pub struct SupersedeTable;

impl StateTable for SupersedeTable {
    type Row = SupersedeRow;
    type Event = Offer;
    type Effect = Standing;
    type Rejection = Standing;

    fn decide(
        seen: Option<&SupersedeRow>,
        offer: &Offer,
    ) -> state_table::Decision<SupersedeRow, Standing, Standing> {
        use state_table::Decision::{Leave, Write};
        let Offer { contender, expires_at } = offer;
        let expires_at = expires_at.whole_s();
        let Some(seen) = seen else {
            let row = SupersedeRow { newest: contender.clone(), losers: Vec::new(), rev: 1, expires_at };
            return Write { row: Box::new(row), then: Standing::Newest };
        };
        let newest = &seen.newest;
        if newest.call_id == contender.call_id {
            return Leave(Standing::Newest);
        }
        if seen.losers.contains(&contender.call_id) {
            return Leave(Standing::SupersededBy(newest.call_id.clone()));
        }
        let (winner, loser, then) = if contender > newest {
            (contender, newest, Standing::Newest)
        } else {
            (newest, contender, Standing::SupersededBy(newest.call_id.clone()))
        };
        let losers = std::iter::once(&loser.call_id).chain(&seen.losers).take(LOSERS).cloned().collect();
        let expires_at = seen.expires_at.max(expires_at);
        Write {
            row: Box::new(SupersedeRow { newest: winner.clone(), losers, rev: seen.rev + 1, expires_at }),
            then,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(n: usize) -> CallId {
        CallId::parse(format!("c{n}")).unwrap()
    }

    fn offer(n: usize, ms: i64) -> Offer {
        let contender = Contender { enqueued_at: Timestamp::from_ms(ms), call_id: id(n) };
        Offer { contender, expires_at: Timestamp::from_ms(ms + 1_000_500) }
    }

    fn apply(row: &mut Option<SupersedeRow>, offer: &Offer) -> Standing {
        match SupersedeTable::decide(row.as_ref(), offer) {
            state_table::Decision::Write { row: new, then } => {
                assert!(row.as_ref().is_none_or(|row| row.rev < new.rev && row.expires_at <= new.expires_at));
                *row = Some(*new);
                then
            }
            state_table::Decision::Leave(standing) => standing,
        }
    }

    #[test]
    fn the_newer_call_wins_whichever_is_delivered_first() {
        let mut row = None;
        assert_eq!(apply(&mut row, &offer(1, 10)), Standing::Newest);
        assert_eq!(apply(&mut row, &offer(2, 20)), Standing::Newest);
        assert_eq!(apply(&mut row, &offer(1, 10)), Standing::SupersededBy(id(2)));
        assert_eq!(apply(&mut row, &offer(0, 5)), Standing::SupersededBy(id(2)), "late");
        assert_eq!(apply(&mut row, &offer(2, 20)), Standing::Newest, "a duplicate");
    }

    #[test]
    fn of_two_calls_of_one_millisecond_the_larger_id_is_the_newer() {
        let mut row = None;
        assert_eq!(apply(&mut row, &offer(2, 10)), Standing::Newest);
        assert_eq!(apply(&mut row, &offer(1, 10)), Standing::SupersededBy(id(2)));
    }

    #[test]
    fn a_call_that_lost_does_not_win_by_another_message_under_its_id() {
        let mut row = None;
        apply(&mut row, &offer(1, 10));
        apply(&mut row, &offer(2, 20));
        assert_eq!(apply(&mut row, &offer(1, 30)), Standing::SupersededBy(id(2)));
        assert_eq!(apply(&mut row, &offer(2, 20)), Standing::Newest);
    }

    proptest! {
        /// Out of order, twice, and after a crash anywhere: an offer of a crashed delivery is made again.
        #[test]
        fn exactly_one_call_wins_and_never_loses(
            sent in proptest::collection::vec(0_i64..50, 1..10),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let mut row = None;
            let mut told = BTreeMap::new();
            let all = order.iter().map(|index| index.index(sent.len())).chain(0..sent.len());
            for n in all {
                let standing = apply(&mut row, &offer(n, sent[n]));
                let lost = matches!(standing, Standing::SupersededBy(_));
                prop_assert!(!told.get(&n).is_some_and(|lost_before| *lost_before && !lost), "c{n} lost before");
                told.insert(n, lost);
            }
            let newest = (0..sent.len()).max_by_key(|n| (sent[*n], id(*n))).unwrap();
            // What each is told at its next delivery.
            for (n, sent_ms) in sent.iter().enumerate() {
                let expected = if n == newest { Standing::Newest } else { Standing::SupersededBy(id(newest)) };
                prop_assert_eq!(apply(&mut row, &offer(n, *sent_ms)), expected);
            }
            prop_assert_eq!(told.get(&newest), Some(&false));
        }
    }
}
