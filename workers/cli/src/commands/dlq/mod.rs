//! `toolfleet dlq`: the verbs about dead letters.

mod list;
mod options;
mod redrive;
mod rules;
mod show;

use clap::Subcommand;

use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// The verbs of `dlq`.
#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List the dead letters: the call, the reason, and whether it may have run.
    List(list::ListArgs),
    /// Show one dead letter, without the values of its arguments.
    Show(show::ShowArgs),
    /// Move dead letters back to the calls. Without --apply it says what it would do.
    Redrive(redrive::RedriveArgs),
}

/// Runs the verb.
pub(crate) async fn run(
    command: &DlqCommand,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    match command {
        DlqCommand::List(args) => list::run(args, connect, output).await,
        DlqCommand::Show(args) => show::run(args, connect, output).await,
        DlqCommand::Redrive(args) => Box::pin(redrive::run(args, connect, output)).await,
    }
}
