//! How long tables keep what they hold.

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How long calls, audit records and sessions are kept after their last date, in days. That is longer than
/// 14 days in the queues and three redrives, each of which gives a message another 14: an expired row never lets a call run again.
pub const RETENTION_DAYS: u64 = 60;

/// The same in milliseconds.
pub const RETENTION_MS: u64 = RETENTION_DAYS * DAY_MS;

/// A message older than this is refused, in milliseconds: its row may have expired.
pub const OLDEST_MESSAGE_MS: u64 = 28 * DAY_MS;
