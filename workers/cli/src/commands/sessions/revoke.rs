//! Owns `toolfleet sessions revoke`: the end of a conversation, now.
//!
//! **Invariant:** a conversation that is revoked before its first call does not open with it.

use clap::Args;

use super::{Plan, Which};
use crate::connect::Connect;
use crate::ending::{Ending, Failure};
use crate::output::Output;

/// Which conversation.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    which: Which,
    /// Do it; without this, only show what would be done.
    #[arg(long)]
    apply: bool,
}

/// Ends it.
pub(crate) async fn run(args: &RevokeArgs, connect: &Connect, output: &Output) -> Result<Ending, Failure> {
    let which = &args.which;
    let client = connect.client().await?;
    let before = match client.sessions().show(&which.tenant, &which.session).await? {
        None => "not registered".to_owned(),
        Some(session) if session.ended => {
            output.note(&format!(
                "{} ended at {}; there is nothing to revoke",
                which.name(),
                session.ends_at
            ));
            return Ok(Ending::Done);
        }
        Some(session) => session.ends_at.to_string(),
    };
    let changes = vec![("ends at", Some(before), "now".to_owned())];
    let plan = Plan { which, verb: "revoke", changes };
    if !plan.show(output, args.apply)? {
        return Ok(Ending::Done);
    }
    client.sessions().revoke(&which.tenant, &which.session).await?;
    plan.done(output)
}
