//! `toolfleet group redrive`: sends the members of a decided group that did not succeed again, as the group's next round.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use toolfleet_client::{GroupError, GroupRedrive};
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

use super::options::{WhichGroup, failed, unknown};
use crate::commands::request::parse_instant;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show::count;

/// Which group, and the requests of its members.
#[derive(Debug, Args)]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    group: WhichGroup,
    /// The requests that the members were sent with, one JSON object a line: the fleet stores no arguments.
    #[arg(long, value_name = "FILE")]
    requests: PathBuf,
    /// The deadline of the next round, for example 2026-11-21T09:30:00Z; without it, that of its first member and a minute.
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
    deadline: Option<Timestamp>,
    /// Send them; without this, they are only shown.
    #[arg(long)]
    apply: bool,
}

/// Shows the plan, or sends it.
pub(crate) async fn run(
    args: &RedriveArgs,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let key = args.group.key()?;
    let requests = read(&args.requests)?;
    let client = connect.client().await?;
    let redrive = if args.apply {
        client.library().redrive_group(&key, requests, args.deadline).await
    } else {
        client.library().plan_group_redrive(&key, requests, args.deadline).await
    };
    let redrive = match redrive {
        Err(GroupError::Unknown(_)) => return unknown(&key, output),
        redrive => redrive.map_err(failed)?,
    };
    let GroupRedrive { key: next, requests, skipped } = redrive;
    if output.is_json() {
        let sent: Vec<_> = requests.iter().map(|request| &request.key.call_id).collect();
        let skipped: Vec<_> = skipped
            .iter()
            .map(|member| json!({"index": member.index, "call_id": member.call_id, "why": member.why}))
            .collect();
        let shown = json!({"tenant": next.tenant, "group": next.id, "round": next.round, "calls": sent,
            "skipped": skipped, "applied": args.apply});
        output.document(&shown)?;
    }
    for member in &skipped {
        output.line(&format!("not sent: {} {}: {}", member.index, member.call_id, member.why))?;
    }
    let verb = if args.apply { "sent" } else { "would send" };
    for request in &requests {
        output.line(&format!("{verb}: {}", request.key.call_id))?;
    }
    output.line(&format!(
        "{verb} {} as round {} of group {}",
        count(requests.len(), "call"),
        next.round,
        next.id
    ))?;
    if !args.apply {
        output.note("nothing is sent; add --apply to send them");
    }
    Ok(Exit::Done)
}

/// The requests of a file.
fn read(path: &Path) -> Result<Vec<CallRequest>, CommandError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CommandError::usage(format!("--requests: {} cannot be read: {error}", path.display()))
    })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let request = |(n, line): (usize, &str)| {
        CallRequest::decode_large(line).map_err(|malformed| {
            let error = &malformed.error;
            CommandError::usage(format!("--requests: line {} of {}: {error}", n + 1, path.display()))
        })
    };
    lines.map(request).collect()
}
