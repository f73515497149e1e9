//! `toolfleet sessions`: the verbs about sessions. A verb that changes something shows its plan, and does it only with `--apply`.

mod create;
mod expire;
mod grant;
mod options;
mod plan;
mod revoke;
mod show;

use clap::Subcommand;

use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// The verbs of `sessions`.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// Create a session: what it may call, and until when.
    Create(create::CreateArgs),
    /// Show what a session may call, until when, and its MCP sessions.
    Show(show::ShowArgs),
    /// Add or remove grants of a session.
    Grant(grant::GrantArgs),
    /// Set the end of a session to an instant in the future.
    Expire(expire::ExpireArgs),
    /// End a session now, also one that does not exist yet.
    Revoke(revoke::RevokeArgs),
}

/// Runs the verb.
pub(crate) async fn run(
    command: &SessionsCommand,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    match command {
        SessionsCommand::Create(args) => create::run(args, connect, output).await,
        SessionsCommand::Show(args) => show::run(args, connect, output).await,
        SessionsCommand::Grant(args) => grant::run(args, connect, output).await,
        SessionsCommand::Expire(args) => expire::run(args, connect, output).await,
        SessionsCommand::Revoke(args) => revoke::run(args, connect, output).await,
    }
}
