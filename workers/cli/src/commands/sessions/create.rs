//! Owns `toolfleet sessions create`: a conversation that is registered before its first call.
//!
//! **Invariant:** a conversation that exists is never overwritten.

use clap::Args;
use toolfleet_client::SessionError;
use toolfleet_core::message::User;

use super::{End, Plan, Which, named, parse_grant};
use crate::connect::Connect;
use crate::ending::{Ending, Failure};
use crate::output::Output;

/// Which conversation, with what.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    which: Which,
    /// What it may call: `*` for all, a tool id, tool.function, server/name, or server/* (all of a server). May be repeated.
    #[arg(long = "grant", value_name = "GRANT", required = true, value_parser = parse_grant)]
    grants: Vec<String>,
    /// Whose calls it makes: they act as this user, and those that name another one are refused. Without it each message's own
    /// `user` counts.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The user's type, for access rules.
    #[arg(long, value_name = "TYPE", requires = "user")]
    user_type: Option<String>,
    /// A role of the user, for access rules. May be repeated.
    #[arg(long = "role", value_name = "ROLE", requires = "user")]
    roles: Vec<String>,
    #[command(flatten)]
    end: End,
    /// Do it; without this, only show what would be done.
    #[arg(long)]
    apply: bool,
}

/// Registers it.
pub(crate) async fn run(args: &CreateArgs, connect: &Connect, output: &Output) -> Result<Ending, Failure> {
    let (which, ends_at) = (&args.which, args.end.at()?);
    let user =
        args.user.clone().map(|id| User { id, kind: args.user_type.clone(), roles: args.roles.clone() });
    let mut changes = vec![("grants", None, args.grants.join(", ")), ("ends at", None, ends_at.to_string())];
    changes.extend(user.as_ref().map(|user| ("user", None, named(user))));
    let plan = Plan { which, verb: "create", changes };
    let client = connect.client().await?;
    if !args.apply && client.sessions().show(&which.tenant, &which.session).await?.is_some() {
        return Err(SessionError::Exists(which.session.clone()).into());
    }
    if !plan.show(output, args.apply)? {
        return Ok(Ending::Done);
    }
    client.sessions().create_for(&which.tenant, &which.session, &args.grants, ends_at, user).await?;
    plan.done(output)
}
