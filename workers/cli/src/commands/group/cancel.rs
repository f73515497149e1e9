//! `toolfleet group cancel`: cancels a group.

use clap::Args;
use serde_json::{Value, json};
use toolfleet_client::GroupError;
use toolfleet_core::request::GroupKey;

use super::options::{WhichGroup, show};
use crate::connect::{ClientHandle, Connect};
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Which group.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    group: WhichGroup,
    /// Cancel it; without this, it is only shown. A group that is not known yet is cancelled when its first member is received.
    #[arg(long)]
    apply: bool,
}

/// Shows the group, or sends its cancellation.
pub(crate) async fn run(args: &CancelArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let key = args.group.key()?;
    let client = connect.client().await?;
    let Some(status) = client.library().group(&key).await? else {
        return cancel_ahead(args, &key, &client, output).await;
    };
    if status.row.decision.is_some() {
        output.note(&format!("group {key} was decided before; nothing is cancelled"));
        return show(&status, output);
    }
    let open = status.row.open();
    if args.apply {
        cancel(&client, &key, output).await?;
    }
    if output.is_json() {
        output.document(&document(&key, json!({"open": open, "applied": args.apply})))?;
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

/// Cancels a group of which no member was received: the fleet keeps that for the first one.
async fn cancel_ahead(
    args: &CancelArgs,
    key: &GroupKey,
    client: &ClientHandle,
    output: &Output,
) -> Result<Exit, CommandError> {
    if args.apply {
        cancel(client, key, output).await?;
    }
    if output.is_json() {
        let told = json!({"state": "unknown", "open": null, "applied": args.apply});
        output.document(&document(key, told))?;
    }
    if !args.apply {
        output.note(&GroupError::Unknown(key.clone()).to_string());
        output.note("check tenant, id and --round");
        output.note("nothing is changed; add --apply to have its first member end it as cancelled");
        return Ok(Exit::NoResult);
    }
    output.line(&format!("group {key} is cancelled, and nothing is known of it yet"))?;
    output
        .note("the first member that comes within 60 days ends the group as cancelled, and none is started");
    output.note("this group id is not to be used again");
    Ok(Exit::Done)
}

/// Cancels it, and says where that holds only from when its message is received.
async fn cancel(client: &ClientHandle, key: &GroupKey, output: &Output) -> Result<(), CommandError> {
    if let Some(error) = client.library().cancel_group(key).await?.not_stored {
        output.note(&format!(
            "the cancellation is sent, but could not be stored ({error}): members that a worker receives before it still start"
        ));
    }
    Ok(())
}

/// Which group, and what was done.
fn document(key: &GroupKey, told: Value) -> Value {
    let mut document = json!({"tenant": key.tenant, "group": key.id, "round": key.round});
    if let (Some(document), Value::Object(told)) = (document.as_object_mut(), told) {
        document.extend(told);
    }
    document
}
