//! `toolfleet result`: shows the result of a call, or its state.

use clap::Args;

use super::which::WhichCall;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show;

/// Options of `result`.
#[derive(Debug, Args)]
pub(crate) struct ResultArgs {
    #[command(flatten)]
    which: WhichCall,
}

/// Reads and shows.
pub(crate) async fn run(args: &ResultArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let key = args.which.key()?;
    let row = connect.client().await?.read(&key).await?;
    Ok(show::call(output, &key, row.as_ref())?)
}
