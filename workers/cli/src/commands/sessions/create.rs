//! `toolfleet sessions create`: creates a session before its first call. A session that exists is never overwritten.

use clap::Args;
use toolfleet_client::SessionError;
use toolfleet_core::request::User;

use super::options::{End, WhichSession, parse_grant};
use super::plan::{Plan, named};
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `sessions create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    which: WhichSession,
    /// What it may call: `*` for all, a tool id, tool.function, server/name, or server/* (all of a server). May be repeated.
    #[arg(long = "grant", value_name = "GRANT", required = true, value_parser = parse_grant)]
    grants: Vec<String>,
    /// The user of its calls: they act as this user, and calls that name another one are refused. Without it each message's own
    /// `user` is used.
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
    /// Apply the plan; without this, it is only shown.
    #[arg(long)]
    apply: bool,
}

/// Creates it.
pub(crate) async fn run(args: &CreateArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let (which, ends_at) = (&args.which.which()?, args.end.at()?);
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
        return Ok(Exit::Done);
    }
    client.sessions().create_for(&which.tenant, &which.session, &args.grants, ends_at, user).await?;
    plan.done(output)
}
