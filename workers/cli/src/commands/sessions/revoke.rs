//! `toolfleet sessions revoke`: ends a session now. A session that is revoked before its first call is not opened by it.

use clap::Args;

use super::options::WhichSession;
use super::plan::Plan;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `sessions revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    which: WhichSession,
    /// Apply the plan; without this, it is only shown.
    #[arg(long)]
    apply: bool,
}

/// Ends it.
pub(crate) async fn run(args: &RevokeArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let which = &args.which.which()?;
    let client = connect.client().await?;
    let before = match client.sessions().show(&which.tenant, &which.session).await? {
        None => "does not exist".to_owned(),
        Some(session) if session.ended => {
            output.note(&format!(
                "{} ended at {}; there is nothing to revoke",
                which.name(),
                session.ends_at
            ));
            return Ok(Exit::Done);
        }
        Some(session) => session.ends_at.to_string(),
    };
    let changes = vec![("ends at", Some(before), "now".to_owned())];
    let plan = Plan { which, verb: "revoke", changes };
    if !plan.show(output, args.apply)? {
        return Ok(Exit::Done);
    }
    client.sessions().revoke(&which.tenant, &which.session).await?;
    plan.done(output)
}
