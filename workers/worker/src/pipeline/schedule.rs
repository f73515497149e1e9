//! The step `schedule`: a call whose `not_before` has not come goes back to its queue until then.

use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::schedule::{Hop, hop};
use toolfleet_core::time::Timestamp;

use super::latest::LATEST_FIFO_MS;
use super::wait::Wait;

/// The latest `not_before` after the message was sent: with the longest deadline after it, the message does not become too old.
const LATEST_MS: u64 = 14 * 24 * 60 * 60 * 1000;

/// The wait of a call that is to start at `not_before`; `None` once that has come.
pub(super) fn wait_until(not_before: Option<Timestamp>, now: Timestamp, is_fifo: bool) -> Option<Wait> {
    let Hop { after_ms, held } = hop(not_before, now, is_fifo)?;
    Some(Wait { after_ms, held: Box::new(held), silent: false })
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
    fn a_start_beyond_what_the_queue_keeps_is_refused() {
        for (is_fifo, most) in [(false, LATEST_MS), (true, LATEST_FIFO_MS)] {
            assert!(check_not_before(Some(at(most)), at(0), is_fifo).is_ok());
            let refused = check_not_before(Some(at(most + 1)), at(0), is_fifo).unwrap_err().error.unwrap();
            assert!(refused.message.starts_with("not_before: "), "{}", refused.message);
        }
        assert!(check_not_before(None, at(0), false).is_ok());
    }
}
