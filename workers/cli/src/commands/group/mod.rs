//! `toolfleet group`: the verbs about groups of calls.

mod cancel;
mod options;
mod redrive;
mod show;
mod wait;

use clap::Subcommand;

use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// The verbs of `group`.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Show a group: its policy, its decision, and what became of each member.
    Show(show::ShowArgs),
    /// Wait until a group is decided, and show it.
    Wait(wait::WaitArgs),
    /// Cancel a group. Without --apply it says what it would do.
    Cancel(cancel::CancelArgs),
    /// Send the members of a decided group that did not succeed again, as its next round. Without --apply it says what it would do.
    Redrive(redrive::RedriveArgs),
}

/// Runs the verb.
pub(crate) async fn run(
    command: &GroupCommand,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    match command {
        GroupCommand::Show(args) => show::run(args, connect, output).await,
        GroupCommand::Wait(args) => wait::run(args, connect, output).await,
        GroupCommand::Cancel(args) => cancel::run(args, connect, output).await,
        GroupCommand::Redrive(args) => redrive::run(args, connect, output).await,
    }
}
