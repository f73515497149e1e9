//! `toolfleet sessions grant`: adds and removes grants of a session. Concurrent grants are kept.

use clap::Args;
use toolfleet_client::SessionError;

use super::options::{WhichSession, parse_grant};
use super::plan::Plan;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `sessions grant`.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    #[command(flatten)]
    which: WhichSession,
    /// A grant to add; see `sessions create`. May be repeated.
    #[arg(long = "grant", value_name = "GRANT", required_unless_present = "withdraw", value_parser = parse_grant)]
    grants: Vec<String>,
    /// A grant to remove, as it was granted. May be repeated.
    #[arg(long, value_name = "GRANT", value_parser = parse_grant)]
    withdraw: Vec<String>,
    /// Apply the plan; without this, it is only shown.
    #[arg(long)]
    apply: bool,
}

/// Adds and removes the grants.
pub(crate) async fn run(args: &GrantArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let which = &args.which.which()?;
    let client = connect.client().await?;
    let Some(before) = client.sessions().show(&which.tenant, &which.session).await? else {
        return Err(SessionError::Unknown(which.session.clone()).into());
    };
    if before.ended {
        return Err(SessionError::Ended(which.session.clone(), before.ends_at).into());
    }
    if let Some(unknown) = args.withdraw.iter().find(|grant| !before.grants.contains(grant)) {
        let text =
            format!("--withdraw: `{unknown}` is not granted; granted are {}", before.grants.join(", "));
        return Err(CommandError::usage(text));
    }
    let kept = before.grants.iter().filter(|grant| !args.withdraw.contains(grant));
    let new = args.grants.iter().filter(|grant| !before.grants.contains(grant));
    let after: Vec<String> = kept.chain(new).cloned().collect();
    if after.is_empty() {
        return Err(SessionError::NoGrant.into());
    }
    let change = |after: &[String]| vec![("grants", Some(before.grants.join(", ")), after.join(", "))];
    let plan = Plan { which, verb: "grant", changes: change(&after) };
    if !plan.show(output, args.apply)? {
        return Ok(Exit::Done);
    }
    let granted =
        client.sessions().grant(&which.tenant, &which.session, &args.grants, &args.withdraw).await?;
    Plan { changes: change(&granted), ..plan }.done(output)
}
