//! `toolfleet switches`: everything that operators have set for the whole fleet, with who, why, since and until.

use super::shown;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Lists them.
pub(crate) async fn run(connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let entries = connect.client().await?.controls().entries().await?;
    if output.is_json() {
        output.document(&entries)?;
        return Ok(Exit::Done);
    }
    if entries.is_empty() {
        output.line("nothing is set: no pause, strike, drain, changed limit, weight or cancel rule")?;
        return Ok(Exit::Done);
    }
    output.shaped(&shown::SHAPE, &entries.iter().map(shown::row).collect::<Vec<_>>())?;
    Ok(Exit::Done)
}
