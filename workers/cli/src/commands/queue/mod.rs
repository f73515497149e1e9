//! Owns the noun `queue`.
//!
//! **Invariant:** looks, and changes nothing.

pub(crate) mod status;

use clap::Subcommand;

/// The verbs of `queue`.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Show how many calls wait and run, and how many went to the dead-letter queue.
    Status,
}
