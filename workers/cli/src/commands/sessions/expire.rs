//! `toolfleet sessions expire`: sets the end of a session. A session that has ended is not opened again.

use clap::Args;
use toolfleet_client::SessionError;

use super::options::{End, WhichSession};
use super::plan::Plan;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `sessions expire`.
#[derive(Debug, Args)]
pub(crate) struct ExpireArgs {
    #[command(flatten)]
    which: WhichSession,
    #[command(flatten)]
    end: End,
    /// Apply the plan; without this, it is only shown.
    #[arg(long)]
    apply: bool,
}

/// Sets its end.
pub(crate) async fn run(args: &ExpireArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let (which, ends_at) = (&args.which.which()?, args.end.at()?);
    let client = connect.client().await?;
    let Some(before) = client.sessions().show(&which.tenant, &which.session).await? else {
        return Err(SessionError::Unknown(which.session.clone()).into());
    };
    if before.ended {
        return Err(SessionError::Ended(which.session.clone(), before.ends_at).into());
    }
    let changes = vec![("ends at", Some(before.ends_at.to_string()), ends_at.to_string())];
    let plan = Plan { which, verb: "expire", changes };
    if !plan.show(output, args.apply)? {
        return Ok(Exit::Done);
    }
    client.sessions().expire(&which.tenant, &which.session, ends_at).await?;
    plan.done(output)
}
