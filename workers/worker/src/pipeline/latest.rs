//! How long after its message something may come at the latest.

use toolfleet_core::group::LATEST_DEADLINE_MS;

/// In a FIFO queue one receive can be hidden for no longer than twelve hours.
pub(super) const LATEST_FIFO_MS: u64 = 11 * 60 * 60 * 1000;

/// The latest deadline of a group after its member was sent, in milliseconds and in words.
pub(super) const fn latest_deadline(is_fifo: bool) -> (u64, &'static str) {
    if is_fifo { (LATEST_FIFO_MS, "11 hours, in a FIFO queue") } else { (LATEST_DEADLINE_MS, "14 days") }
}
