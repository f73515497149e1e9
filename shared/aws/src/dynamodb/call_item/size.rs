//! Whether an outcome fits into the item of its call.

use toolfleet_core::outcome::Outcome;

use crate::gzip::compress;

/// A larger outcome does not fit into an item of 400 KB beside the other attributes.
pub(crate) const MAX_BYTES: usize = 380 * 1024;

/// Checks that an outcome fits into its row. The error's message is not compressed and counts as well. The content is compressed here
/// only if it would not fit as it is; `attributes_of` compresses it to store it.
///
/// # Errors
/// It does not; its size in bytes.
pub(crate) fn check_fits(outcome: &Outcome) -> Result<(), usize> {
    let message = outcome.error.as_ref().map_or(0, |error| error.message.len());
    let text = outcome.content().map_or("", |content| content.get());
    if message.saturating_add(text.len()) <= MAX_BYTES {
        return Ok(());
    }
    let room = MAX_BYTES.saturating_sub(message);
    match compress(text, room) {
        Some(bytes) if bytes.len() <= room => Ok(()),
        Some(_) | None => Err(text.len().saturating_add(message)),
    }
}
