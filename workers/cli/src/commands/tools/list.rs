//! Owns `toolfleet tools list`: what a catalog registers, and what its servers say of themselves.
//!
//! **Invariant:** asks a server for its list only when told to, and calls no tool.

use std::sync::Arc;

use clap::Args;
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_core::catalog::{Catalog, Executor, Server, Tool};
use toolfleet_core::ids::ServerId;
use toolfleet_mcp::{Endpoint, RemoteTool};
use url::Url;

use super::asking::{Answer, Asker, LIST_WITHIN};
use super::source;
use crate::connect::Connect;
use crate::ending::{Ending, Failure};
use crate::network::client;
use crate::output::Output;

/// Options of `tools list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The catalog: a file, secret://NAME or table://KEY.
    #[arg(long, value_name = "FILE", env = "TOOLFLEET_CATALOG", hide_env_values = true)]
    catalog: Option<String>,
    /// List what the MCP server at this URL offers, instead of a catalog.
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// Ask every server of the catalog what it offers, too.
    #[arg(long, conflicts_with = "url")]
    live: bool,
}

/// Reads and shows.
pub(crate) async fn run(args: &ListArgs, connect: &Connect, output: &Output) -> Result<Ending, Failure> {
    if let Some(url) = &args.url {
        return of_url(url, output).await;
    }
    let Some(place) = &args.catalog else {
        return Err(Failure::usage(
            "give --catalog FILE (or TOOLFLEET_CATALOG) for the registered tools, or --url URL for those of an MCP server",
        ));
    };
    let (_, catalog) = source::read(place, connect).await?;
    let live = if args.live { ask_all(&catalog).await? } else { Vec::new() };
    if output.is_json() {
        output.document(&document(&catalog, &live))?;
        return Ok(Ending::Done);
    }
    let rows = catalog.tools().into_iter().flat_map(|tool| rows_of(tool)).collect();
    output.table(&["tool", "function", "server", "safe to repeat", "timeout", "attempts", "paused"], rows)?;
    for (server, answer) in &live {
        output.line("")?;
        match answer {
            Ok(tools) => {
                output.line(&format!("server {} at {} lists:", server.id, whereabouts(server)))?;
                if server.description.is_some() {
                    output.line(&server.description_with(tools.iter().map(|tool| tool.name.as_str())))?;
                }
                output.table(&REMOTE_HEADER, tools.iter().map(remote_row).collect())?;
            }
            Err(problem) => {
                output.line(&format!("server {} at {}: {problem}", server.id, whereabouts(server)))?
            }
        }
    }
    Ok(Ending::Done)
}

const REMOTE_HEADER: [&str; 4] = ["tool", "read only", "idempotent", "description"];

fn rows_of(tool: &Tool) -> Vec<Vec<String>> {
    let row = |name: String, safe: String| {
        vec![
            tool.id.to_string(),
            name,
            runs_on(tool),
            safe,
            crate::show::span(tool.timeout_ms),
            tool.max_attempts.to_string(),
            yes_no(tool.paused),
        ]
    };
    if tool.open {
        return vec![row("(all it lists)".to_owned(), "as it says".to_owned())];
    }
    tool.functions.iter().map(|f| row(f.name.clone(), yes_no(f.idempotent))).collect()
}

fn runs_on(tool: &Tool) -> String {
    match &tool.executor {
        Executor::Mcp(server) => server.id.to_string(),
        Executor::Lambda(_) => "(lambda)".to_owned(),
    }
}

fn remote_row(tool: &RemoteTool) -> Vec<String> {
    let description = tool.description.as_deref().unwrap_or_default();
    let short: String = description.lines().next().unwrap_or_default().chars().take(80).collect();
    vec![tool.name.clone(), yes_no(tool.read_only), yes_no(tool.idempotent), short]
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn remote_json(tool: &RemoteTool) -> Value {
    json!({
        "name": tool.name, "description": tool.description, "read_only": tool.read_only,
        "idempotent": tool.idempotent, "input_schema": tool.input_schema,
    })
}

fn lambda(tool: &Tool) -> Option<&str> {
    match &tool.executor {
        Executor::Mcp(_) => None,
        Executor::Lambda(arn) => Some(arn.as_str()),
    }
}

fn document(catalog: &Catalog, live: &[(Arc<Server>, Answer)]) -> Value {
    let tool = |tool: &Tool| {
        let functions: Vec<Value> =
            tool.functions.iter().map(|f| json!({"name": f.name, "safe_to_repeat": f.idempotent})).collect();
        json!({
            "tool": tool.id, "description": tool.description, "functions": functions, "timeout_ms": tool.timeout_ms,
            "server": tool.server().map(|server| &server.id), "open": tool.open, "lambda": lambda(tool),
            "max_attempts": tool.max_attempts, "paused": tool.paused,
        })
    };
    let servers = live.iter().map(|(server, answer)| match answer {
        Ok(tools) => json!({
            "server": server.id, "url": shown(&server.url), "command": server.command, "name": server.name,
            "description": server.description_with(tools.iter().map(|tool| tool.name.as_str())),
            "tools": tools.iter().map(remote_json).collect::<Vec<_>>(),
        }),
        Err(problem) => {
            json!({"server": server.id, "url": shown(&server.url), "command": server.command, "problem": problem})
        }
    });
    json!({
        "tools": catalog.tools().into_iter().map(|t| tool(t)).collect::<Vec<_>>(),
        "servers": servers.collect::<Vec<_>>(),
    })
}

/// A server's address without what may be a secret in it.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    shown.to_string()
}

/// Where a server is, or what starts it. Arguments may be many and are left out.
fn whereabouts(server: &Server) -> String {
    server.command.as_ref().map_or_else(|| shown(&server.url), |command| format!("`{command}` (stdio)"))
}

async fn ask_all(catalog: &Catalog) -> Result<Vec<(Arc<Server>, Answer)>, Failure> {
    let asker = Asker::new().await?;
    let mut answers = Vec::new();
    for server in catalog.servers() {
        answers.push((Arc::clone(server), asker.ask(server).await));
    }
    asker.close().await;
    Ok(answers)
}

async fn of_url(url: &Url, output: &Output) -> Result<Ending, Failure> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::usage(
            "--url: carries a user or password; register the server in a catalog, with its credential",
        ));
    }
    let server = ServerId::parse("url").map_err(|e| Failure::Ours(e.into()))?;
    let endpoint = Endpoint {
        server,
        url: url.clone(),
        headers: HeaderMap::new(),
        auth: None,
        tenant: None,
        program: None,
    };
    let listed = client().await?.list_tools(&endpoint, None, Instant::now() + LIST_WITHIN).await;
    let tools = listed.map_err(|fault| Failure::Ours(anyhow::anyhow!("{}: {fault}", shown(url))))?;
    if output.is_json() {
        output.document(
            &json!({"url": shown(url), "tools": tools.iter().map(remote_json).collect::<Vec<_>>()}),
        )?;
    }
    output.table(&REMOTE_HEADER, tools.iter().map(remote_row).collect())?;
    Ok(Ending::Done)
}
