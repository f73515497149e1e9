//! `toolfleet tools list`: lists the tools of a catalog, its entries that cannot be executed, and with `--live` what servers list.

use std::sync::Arc;

use clap::Args;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_catalog::{Catalog, NotExecutable, Server, Tool, Transport};
use toolfleet_core::ids::ServerId;
use toolfleet_mcp::{Endpoint, EndpointTransport, RemoteTool};
use url::Url;

use super::live_list::{LIST_TIME_OUT, ListResult, ToolLister};
use super::source;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::network::client;
use crate::output::Output;
use crate::table::Shape;

/// Options of `tools list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The catalog: a file, secret://NAME or table://KEY.
    #[arg(long, value_name = "FILE", env = "TOOLFLEET_CATALOG", hide_env_values = true)]
    catalog: Option<String>,
    /// List the tools of the MCP server at this URL instead of a catalog.
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// Also list the tools of every server of the catalog; exits with 1 if one cannot be reached.
    #[arg(long, conflicts_with = "url")]
    live: bool,
}

/// Reads and shows.
pub(crate) async fn run(args: &ListArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    if let Some(url) = &args.url {
        return of_url(url, output).await;
    }
    let Some(place) = &args.catalog else {
        return Err(CommandError::usage(
            "give --catalog FILE (or TOOLFLEET_CATALOG) for the registered tools, or --url URL for those of an MCP server",
        ));
    };
    let (_, catalog) = source::read(place, connect).await?;
    for remark in catalog.remarks() {
        output.note(&format!("note: {}: {}", remark.entry, remark.text));
    }
    let live = if args.live { list_all(&catalog).await? } else { Vec::new() };
    let unreachable =
        args.live && catalog.not_executable_servers().any(|(_, found)| !found.is_switched_off());
    let failed = unreachable || live.iter().any(|(_, answer)| answer.is_err());
    let exit = if failed { Exit::NotSucceeded } else { Exit::Done };
    if output.is_json() {
        output.document(&document(&catalog, &live))?;
        return Ok(exit);
    }
    let rows: Vec<_> = catalog.tools().into_iter().flat_map(|tool| rows_of(tool)).collect();
    let shape = Shape::of(&["tool", "function", "server", "safe to repeat", "timeout", "attempts", "paused"])
        .left_out(&["attempts", "timeout"]);
    output.shaped(&shape, &rows)?;
    if live.is_empty() && !catalog.servers().is_empty() {
        output.line("")?;
        let rows: Vec<_> =
            catalog.servers().into_iter().map(|server| row_of_server(&catalog, server)).collect();
        output.shaped(&Shape::of(&["server", "at", "tools that may be called"]).below(&["at"]), &rows)?;
    }
    if let Some(rows) = rows_not_executable(&catalog) {
        output.line("")?;
        output.shaped(
            &Shape::of(&["not executable", "in the catalog", "because"]).below(&["because"]),
            &rows,
        )?;
    }
    for (server, answer) in &live {
        output.line("")?;
        match answer {
            Ok(tools) => {
                output.line(&format!("server {} at {} lists:", server.id, whereabouts(server)))?;
                if server.description.is_some() {
                    output.line(&server.description_with(tools.iter().map(|tool| tool.name.as_str())))?;
                }
                output.shaped(&REMOTE, &tools.iter().map(remote_row).collect::<Vec<_>>())?;
            }
            Err(problem) => {
                output.line(&format!("server {} at {}: {problem}", server.id, whereabouts(server)))?
            }
        }
    }
    Ok(exit)
}

/// How many tools of a server are registered by name.
fn registered(catalog: &Catalog, server: &Server) -> usize {
    let of_server = |tool: &&Arc<Tool>| tool.server.id == server.id;
    catalog.tools().into_iter().filter(of_server).map(|tool| tool.functions.len()).sum()
}

fn row_of_server(catalog: &Catalog, server: &Server) -> Vec<String> {
    let all = server.discover || catalog.tool_of_all(&server.id).is_some();
    let tools = match (all, registered(catalog, server)) {
        (true, 0) => "all it lists".to_owned(),
        (true, count) => format!("all it lists, {count} registered"),
        (false, 0) => "none: no tool is registered, and `discover` is not set".to_owned(),
        (false, count) => format!("{count} registered"),
    };
    vec![server.id.to_string(), whereabouts(server), tools]
}

fn rows_not_executable(catalog: &Catalog) -> Option<Vec<Vec<String>>> {
    let row = |what: String, found: &NotExecutable| vec![what, found.entry.clone(), found.reason.clone()];
    let servers = catalog.not_executable_servers().map(|(id, found)| row(format!("server {id}"), found));
    let tools = catalog.not_executable_tools().map(|(id, found)| row(format!("tool {id}"), found));
    Some(servers.chain(tools).collect::<Vec<_>>()).filter(|rows| !rows.is_empty())
}

fn not_executable_json(catalog: &Catalog) -> Vec<Value> {
    let of = |kind: &str, id: &str, found: &NotExecutable| json!({kind: id, "entry": found.entry, "reason": found.reason});
    let servers = catalog.not_executable_servers().map(|(id, found)| of("server", id.as_str(), found));
    let tools = catalog.not_executable_tools().map(|(id, found)| of("tool", id.as_str(), found));
    servers.chain(tools).collect()
}

/// Servers that `--live` asks at the same time: a program's start takes a processor for a second or two.
const LISTED_AT_ONCE: usize = 8;

const REMOTE: Shape<'_> =
    Shape::of(&["tool", "read only", "idempotent", "description"]).below(&["description"]);

fn rows_of(tool: &Tool) -> Vec<Vec<String>> {
    let row = |name: String, safe: String| {
        vec![
            tool.id.to_string(),
            name,
            tool.server.id.to_string(),
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

fn document(catalog: &Catalog, live: &[(Arc<Server>, ListResult)]) -> Value {
    let tool = |tool: &Tool| {
        let functions: Vec<Value> =
            tool.functions.iter().map(|f| json!({"name": f.name, "safe_to_repeat": f.idempotent})).collect();
        json!({
            "tool": tool.id, "description": tool.description, "functions": functions, "timeout_ms": tool.timeout_ms,
            "server": tool.server.id, "open": tool.open,
            "max_attempts": tool.max_attempts, "paused": tool.paused,
        })
    };
    let known = |server: &Server| {
        json!({
            "server": server.id, "url": url_or_name(server), "command": server.stdio().map(|program| &program.command),
            "lambda": server.lambda().map(|lambda| lambda.function.as_str()),
            "openapi": server.openapi().map(|openapi| openapi.interface.place.as_str()), "name": server.name,
            "description": server.description, "discover": server.discover, "registered": registered(catalog, server),
        })
    };
    let live_json = |(server, answer): &(Arc<Server>, ListResult)| {
        let mut value = known(server);
        match answer {
            Ok(tools) => {
                let names = tools.iter().map(|tool| tool.name.as_str());
                insert(&mut value, "description", json!(server.description_with(names)));
                insert(&mut value, "tools", tools.iter().map(remote_json).collect());
            }
            Err(problem) => insert(&mut value, "problem", json!(problem)),
        }
        value
    };
    let of_server = |server: &Arc<Server>| {
        live.iter().find(|(listed, _)| listed.id == server.id).map_or_else(|| known(server), live_json)
    };
    let servers: Vec<Value> = catalog.servers().into_iter().map(of_server).collect();
    json!({
        "tools": catalog.tools().into_iter().map(|t| tool(t)).collect::<Vec<_>>(),
        "servers": servers,
        "not_executable": not_executable_json(catalog),
    })
}

fn insert(value: &mut Value, field: &str, member: Value) {
    if let Some(object) = value.as_object_mut() {
        object.insert(field.to_owned(), member);
    }
}

/// A server's address without what may be a secret in it.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    shown.to_string()
}

/// A server's address; of a program its name, as in `stdio:files`, and of a function its ARN.
fn url_or_name(server: &Server) -> String {
    match &server.transport {
        Transport::Http(http) => shown(&http.url),
        Transport::Stream(stream) => shown(&stream.http.url),
        Transport::Stdio(_) => format!("stdio:{}", server.id),
        Transport::Lambda(lambda) => lambda.function.as_str().to_owned(),
        Transport::OpenApi(openapi) => shown(&openapi.http.url),
    }
}

/// Where a server is, or what starts it. Arguments may be many and are left out.
fn whereabouts(server: &Server) -> String {
    match &server.transport {
        Transport::Http(http) => shown(&http.url),
        Transport::Stream(stream) => format!("{} ({})", shown(&stream.http.url), stream.kind.as_str()),
        Transport::Stdio(program) => format!("`{}` (stdio)", program.command),
        Transport::Lambda(lambda) => format!("{} ({})", lambda.function.as_str(), lambda.payload.as_str()),
        Transport::OpenApi(openapi) => format!("{} (OpenAPI)", shown(&openapi.http.url)),
    }
}

/// Asks several at once, so that one that does not start holds up no other. They stay in their order.
async fn list_all(catalog: &Catalog) -> Result<Vec<(Arc<Server>, ListResult)>, CommandError> {
    let lister = ToolLister::of(catalog).await?;
    let asked = catalog.servers().into_iter().filter(|server| server.lists_tools());
    let lists = asked.map(|server| {
        let lister = &lister;
        async move { (Arc::clone(server), lister.list(server).await) }.boxed()
    });
    let answers = stream::iter(lists.collect::<Vec<_>>()).buffered(LISTED_AT_ONCE).collect().await;
    lister.close().await;
    Ok(answers)
}

async fn of_url(url: &Url, output: &Output) -> Result<Exit, CommandError> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(CommandError::usage(
            "--url: carries a user or password; register the server in a catalog, with its credential",
        ));
    }
    let server = ServerId::parse("url").map_err(|e| CommandError::Unavailable(e.into()))?;
    let endpoint = Endpoint {
        server,
        url: url.clone(),
        headers: HeaderMap::new(),
        auth: None,
        tenant: None,
        transport: EndpointTransport::of_address(url),
    };
    let listed = client().await?.list_tools(&endpoint, None, Instant::now() + LIST_TIME_OUT).await;
    let tools =
        listed.map_err(|fault| CommandError::Unavailable(anyhow::anyhow!("{}: {fault}", shown(url))))?;
    if output.is_json() {
        output.document(
            &json!({"url": shown(url), "tools": tools.iter().map(remote_json).collect::<Vec<_>>()}),
        )?;
    }
    output.shaped(&REMOTE, &tools.iter().map(remote_row).collect::<Vec<_>>())?;
    Ok(Exit::Done)
}
