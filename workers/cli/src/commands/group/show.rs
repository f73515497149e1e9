//! `toolfleet group show`: a group, its decision, and what became of each member.

use clap::Args;

use super::options::{WhichGroup, show, unknown};
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Which group.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    group: WhichGroup,
}

/// Reads and shows.
pub(crate) async fn run(args: &ShowArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let key = args.group.key()?;
    match connect.client().await?.library().group(&key).await? {
        Some(status) => show(&status, output),
        None => unknown(&key, output),
    }
}
