//! `toolfleet group cancel`: cancels a group.

use clap::Args;
use serde_json::json;

use super::options::{WhichGroup, show, unknown};
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Which group.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    group: WhichGroup,
    /// Cancel it; without this, it is only shown.
    #[arg(long)]
    apply: bool,
}

/// Shows the group, or sends its cancellation.
pub(crate) async fn run(args: &CancelArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let key = args.group.key()?;
    let client = connect.client().await?;
    let Some(status) = client.library().group(&key).await? else { return unknown(&key, output) };
    if status.row.decision.is_some() {
        output.note(&format!("group {key} was decided before; nothing is cancelled"));
        return show(&status, output);
    }
    let open = status.row.open();
    if args.apply {
        client.library().cancel_group(&key).await?;
    }
    if output.is_json() {
        let GroupKeyParts { tenant, group, round } = GroupKeyParts::of(&key);
        let shown =
            json!({"tenant": tenant, "group": group, "round": round, "open": open, "applied": args.apply});
        output.document(&shown)?;
    }
    let verb = if args.apply { "is cancelled" } else { "would be cancelled" };
    output
        .line(&format!("group {key} {verb}: {open} of {} members have not ended", status.row.terms.size))?;
    output.note("members that have not started end as cancelled, those that run at their next heartbeat");
    if !args.apply {
        output.note("nothing is changed; add --apply to cancel it");
    }
    Ok(Exit::Done)
}

/// The parts of a key, as documents name them.
struct GroupKeyParts<'a> {
    tenant: &'a str,
    group: &'a str,
    round: u32,
}

impl<'a> GroupKeyParts<'a> {
    fn of(key: &'a toolfleet_core::request::GroupKey) -> Self {
        Self { tenant: key.tenant.as_str(), group: key.id.as_str(), round: key.round }
    }
}
