//! `toolfleet sessions show`: shows the grants and the end of a session, and its MCP sessions.
//!
//! **Invariant:** no id of an MCP session is shown in full: with it anybody could use that session.

use clap::Args;
use serde_json::{Value, json};

use super::options::WhichSession;
use super::plan::named;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::table::Shape;

/// Options of `sessions show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    which: WhichSession,
}

/// Reads and shows.
pub(crate) async fn run(args: &ShowArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let which = &args.which.which()?;
    let Some(session) = connect.client().await?.sessions().show(&which.tenant, &which.session).await? else {
        if output.is_json() {
            output.document(&json!({
                "tenant": which.tenant, "session": which.session, "state": "unknown",
            }))?;
        }
        output.note(&format!("unknown: {} was never created, and no worker has registered it", which.name()));
        return Ok(Exit::NoResult);
    };
    let state = if session.ended { "ended" } else { "open" };
    if output.is_json() {
        let mcp: Vec<Value> = session
            .mcp
            .iter()
            .map(|mcp| {
                json!({
                    "server": mcp.server, "mcp_session": mcp.shortened(), "protocol": mcp.version,
                    "opened_at": mcp.opened_at,
                })
            })
            .collect();
        output.document(&json!({
            "tenant": which.tenant, "session": which.session, "state": state, "grants": session.grants,
            "ends_at": session.ends_at, "mcp": mcp, "user": session.user,
        }))?;
    }
    let ends = if session.ended { "ended at" } else { "ends at" };
    output.line(&format!(
        "{}: {state}\n  grants: {}\n  {ends}: {}\n  user: {}",
        which.name(),
        session.grants.join(", "),
        session.ends_at,
        session.user.as_ref().map_or_else(|| "as in each message".to_owned(), named)
    ))?;
    if !session.mcp.is_empty() {
        let row = |mcp: &toolfleet_client::ServerSession| {
            vec![mcp.server.to_string(), mcp.shortened(), mcp.version.clone(), mcp.opened_at.to_string()]
        };
        let rows: Vec<_> = session.mcp.iter().map(row).collect();
        let shape = Shape::of(&["server", "mcp session", "protocol", "opened"]).times(&["opened"]);
        output.shaped(&shape, &rows)?;
    }
    Ok(Exit::Done)
}
