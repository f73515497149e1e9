//! When a call that has a `not_before` waits, and how its message gets there.
//!
//! A message of a standard queue is sent anew with a delay, in hops of at most fifteen minutes (SQS quota). A FIFO queue takes no delay for
//! one message: there the message stays hidden, and the others of its group wait behind it.

use crate::call::{Held, HeldReason};
use crate::time::Timestamp;

/// The longest delay of one message, in milliseconds (SQS quota).
const LONGEST_HOP_MS: u64 = 900_000;

/// A wait for `not_before`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// When the message comes back, in milliseconds.
    pub after_ms: u64,
    /// What the row says: when the call is due, not when this hop ends.
    pub held: Held,
}

/// The wait of a call that is to start at `not_before`; `None` once that has come.
pub fn hop(not_before: Option<Timestamp>, now: Timestamp, is_fifo: bool) -> Option<Hop> {
    let left_ms = not_before?.ms_since(now);
    if left_ms == 0 {
        return None;
    }
    let after_ms = if is_fifo { left_ms } else { left_ms.min(LONGEST_HOP_MS) };
    Some(Hop { after_ms, held: Held::new(HeldReason::NotBefore, None, now, left_ms) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(0).plus_ms(ms)
    }

    #[test]
    fn a_call_waits_in_hops_until_it_is_due() {
        let (mut now, due, mut hops) = (at(5), at(2_000_000), Vec::new());
        while let Some(hop) = hop(Some(due), now, false) {
            assert_eq!((hop.held.reason, hop.held.next_try_at), (HeldReason::NotBefore, due));
            hops.push(hop.after_ms);
            now = now.plus_ms(hop.after_ms);
        }
        assert_eq!((hops, now), (vec![900_000, 900_000, 199_995], due));
        assert!(hop(None, at(5), false).is_none() && hop(Some(at(5)), at(5), false).is_none());
        assert_eq!(hop(Some(due), at(0), true).unwrap().after_ms, 2_000_000, "in a FIFO queue at once");
    }
}
