//! `toolfleet queue`: the verbs about queues.

pub(crate) mod status;

use clap::Subcommand;

/// The verbs of `queue`.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Show how many calls wait and run, and how many are in the dead-letter queue.
    Status,
}
