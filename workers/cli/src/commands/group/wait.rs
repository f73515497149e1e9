//! `toolfleet group wait`: waits until a group is decided.

use std::time::Duration;

use clap::Args;
use toolfleet_client::GroupError;

use super::options::{WhichGroup, failed, show, unknown};
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::span_of_time::parse_span;

/// Which group, and for how long.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    group: WhichGroup,
    /// How long to wait.
    #[arg(long = "wait", alias = "for", value_name = "SPAN", default_value = "60s", value_parser = parse_span)]
    lasting: Duration,
}

/// Waits and shows.
pub(crate) async fn run(args: &WaitArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let key = args.group.key()?;
    let client = connect.client().await?;
    match client.library().wait_for_group(&key, args.lasting).await {
        Ok(status) => show(&status, output),
        Err(error @ GroupError::TimeOut { .. }) => {
            let Some(status) = client.library().group(&key).await? else { return unknown(&key, output) };
            output.note(&error.to_string());
            show(&status, output)
        }
        Err(error @ (GroupError::Unknown(_) | GroupError::Redrive(_) | GroupError::Aws(_))) => {
            Err(failed(error))
        }
    }
}
