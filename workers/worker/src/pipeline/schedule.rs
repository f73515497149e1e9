//! The step `schedule`: a call whose `not_before` has not come goes back to its queue until then.
//!
//! A message of a standard queue is sent anew with a delay, in hops of at most fifteen minutes (SQS quota). A FIFO queue takes no delay for
//! one message: there the message stays hidden, and the others of its group wait behind it.

use toolfleet_core::call::{Held, HeldReason};
use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::time::Timestamp;

use super::wait::Wait;

/// The longest delay of one message, in milliseconds (SQS quota).
const LONGEST_HOP_MS: u64 = 900_000;
/// The latest `not_before` after the message was sent: with the longest deadline after it, the message does not become too old.
const LATEST_MS: u64 = 14 * 24 * 60 * 60 * 1000;
/// The same in a FIFO queue, where one receive can be hidden for no longer than twelve hours.
pub(super) const LATEST_FIFO_MS: u64 = 11 * 60 * 60 * 1000;

/// The wait of a call that is to start at `not_before`; `None` once that has come.
pub(super) fn wait_until(not_before: Option<Timestamp>, now: Timestamp, is_fifo: bool) -> Option<Wait> {
    let left_ms = not_before?.ms_since(now);
    if left_ms == 0 {
        return None;
    }
    let after_ms = if is_fifo { left_ms } else { left_ms.min(LONGEST_HOP_MS) };
    // Its row says when it is due, not when the next hop ends.
    let held = Held::new(HeldReason::NotBefore, None, now, left_ms);
    Some(Wait { after_ms, held: Box::new(held) })
}

/// Refuses a `not_before` that lies further ahead than the fleet can keep a message.
pub(super) fn check_not_before(
    not_before: Option<Timestamp>,
    enqueued_at: Timestamp,
    is_fifo: bool,
) -> Result<(), Outcome> {
    let (most, span) =
        if is_fifo { (LATEST_FIFO_MS, "11 hours, in a FIFO queue") } else { (LATEST_MS, "14 days") };
    match not_before {
        Some(at) if at.ms_since(enqueued_at) > most => {
            let text = format!(
                "not_before: {at} is too late; accepted is at most {span}, after the message was sent ({enqueued_at}). Send the call later."
            );
            Err(Outcome::refused(Code::Unsupported, text))
        }
        Some(_) | None => Ok(()),
    }
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
        while let Some(wait) = wait_until(Some(due), now, false) {
            assert_eq!((wait.held.reason, wait.held.next_try_at), (HeldReason::NotBefore, due));
            hops.push(wait.after_ms);
            now = now.plus_ms(wait.after_ms);
        }
        assert_eq!((hops, now), (vec![900_000, 900_000, 199_995], due));
        assert!(wait_until(None, at(5), false).is_none() && wait_until(Some(at(5)), at(5), false).is_none());
        assert_eq!(
            wait_until(Some(due), at(0), true).unwrap().after_ms,
            2_000_000,
            "in a FIFO queue at once"
        );
    }

    #[test]
    fn a_start_beyond_what_the_queue_keeps_is_refused() {
        for (is_fifo, most) in [(false, LATEST_MS), (true, LATEST_FIFO_MS)] {
            assert!(check_not_before(Some(at(most)), at(0), is_fifo).is_ok());
            let refused = check_not_before(Some(at(most + 1)), at(0), is_fifo).unwrap_err().error.unwrap();
            assert!(refused.message.starts_with("not_before: "), "{}", refused.message);
        }
        assert!(check_not_before(None, at(0), false).is_ok());
    }
}
