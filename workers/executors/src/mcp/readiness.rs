//! What a call needs of its MCP server before it is claimed: the credential, and the tool as the server lists it.

use tokio::time::Instant;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome};
use toolfleet_mcp::Endpoint;
use toolfleet_mcp::Fault;

use super::listing::{ListedTool, Listing};
use super::tool_list::{ListSource, ToolLists};
use crate::arguments::{SchemaOf, check_arguments};
use crate::compiled_schemas::CompiledSchemas;
use crate::executor::{Invocation, NotReady, Ready, ReadyLimits};
use crate::gate::{RequestGate, Stopped};

/// Reads the secrets and obtains the tokens that the first request will need.
pub(crate) async fn obtain_credential(endpoint: &Endpoint, limits: &ReadyLimits) -> Result<(), Fault> {
    if endpoint.auth.is_none() && endpoint.program().is_none() {
        return Ok(());
    }
    let within = limits.deadline.saturating_duration_since(Instant::now()).min(limits.longest_wait);
    let late = |_| Fault::CredentialPending {
        detail: format!("it was not at hand within {} ms", within.as_millis()),
    };
    tokio::time::timeout(within, endpoint.ready()).await.map_err(late)?
}

/// Looks at the server's own list of tools, where the call depends on it.
pub(crate) async fn check_definition<G: RequestGate, T>(
    (lists, schemas): (&ToolLists<G>, &CompiledSchemas),
    call: &Invocation<'_>,
    (target, source): (T, &impl ListSource),
    limits: ReadyLimits,
) -> Result<Ready<T>, NotReady> {
    let mut ready = Ready { target, definition: None, repeatable: false };
    if !needs_listing(call) {
        return Ok(ready);
    }
    let tools = match lists.get(call, source, &limits).await {
        Ok(tools) => tools,
        Err(stopped) if can_do_without(call, &stopped, limits.first_try) => return Ok(ready),
        Err(Stopped::Refused(refusal)) => return Err(NotReady::Refused(refusal)),
        Err(Stopped::Failed(failure)) => return Err(NotReady::Definition(failure)),
    };
    let tool = tools.tool(call.name);
    if tool.is_none() && tools.is_cut() && (!call.registered || call.pin.is_some()) {
        return Err(NotReady::Ended(not_among_those_read(call, &tools)));
    }
    if let Some(outcome) = changed(call, tool) {
        return Err(NotReady::Ended(outcome));
    }
    match tool {
        None if !call.registered => return Err(NotReady::Ended(not_listed(call, &tools))),
        // A registered tool is called as it is registered, whatever its server lists.
        None => {}
        Some(tool) => {
            ready.repeatable = call.server.trusted && tool.repeatable && call.resumed.is_none();
            if !call.registered || call.pin.is_some() {
                ready.definition = Some(tool.definition.digest().short());
            }
            if !call.registered
                && let Some(schema) = &tool.schema
                && let Err(outcome) = check_arguments(schemas, schema, SchemaOf::Listing, call.request).await
            {
                return Err(NotReady::Ended(outcome));
            }
        }
    }
    Ok(ready)
}

/// The server's own list is read when the tool is not registered or is pinned, or when its annotations may make the call safe to
/// repeat.
fn needs_listing(call: &Invocation<'_>) -> bool {
    let calls_a_tool = !call.params.is_reading();
    let server = call.server;
    calls_a_tool
        && (!call.registered
            || call.pin.is_some()
            || (server.discover && server.trusted && !call.repeatable && call.resumed.is_none()))
}

/// A registered tool can do without its server's hints, but not without the definition that it is pinned to.
fn can_do_without(call: &Invocation<'_>, stopped: &Stopped, first_try: bool) -> bool {
    let is_permanent = match stopped {
        Stopped::Refused(_) => false,
        Stopped::Failed(failure) => failure.is_permanent(),
    };
    call.registered && call.pin.is_none() && (first_try || is_permanent)
}

/// Only the definition that was approved may be called.
fn changed(call: &Invocation<'_>, tool: Option<&ListedTool>) -> Option<Outcome> {
    let pin = call.pin?;
    let what = match tool {
        Some(tool) if tool.definition == *pin => return None,
        Some(_) => "is not what was approved: its definition has changed",
        None => "is no longer listed, though it is pinned",
    };
    let text = format!(
        "Tool `{}` of server `{}` {what}. Nothing was sent. An operator must look at it (`toolfleet tools diff`) and approve it.",
        call.name, call.server.id
    );
    Some(Outcome::refused(Code::DefinitionChanged, text))
}

fn not_listed(call: &Invocation<'_>, tools: &Listing) -> Outcome {
    let names = match tools.names(30) {
        names if names.is_empty() => "no tools".to_owned(),
        names => names.join(", "),
    };
    let text = format!("Server `{}` has no tool `{}`; it lists {names}.", call.server.id, call.name);
    Outcome::refused(Code::UnknownTool, text)
}

/// The server may have the tool all the same: its list was not read to its end.
fn not_among_those_read(call: &Invocation<'_>, tools: &Listing) -> Outcome {
    let text = format!(
        "Server `{}` gives a list of tools that is too long or does not end, and `{}` is not among the {} tools that were read. Nothing \
         was sent. An operator can register the tool, or have the server's list fixed.",
        call.server.id,
        call.name,
        tools.len()
    );
    Outcome::failed(CallError::new(Code::InvalidAnswer, text, MayHaveRun::No))
}
