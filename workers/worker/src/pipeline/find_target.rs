//! Finds the server, and the registered tool where there is one, that a request's target names.

use std::sync::Arc;

use toolfleet_catalog::{Catalog, Function, NotExecutable, Pin, Server, Tool};
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::request::{CallRequest, OperationParams, Target};

/// What a target names.
pub(super) struct Found {
    pub(super) ask: OperationParams,
    pub(super) server: Arc<Server>,
    pub(super) tool: Option<Arc<Tool>>,
    pub(super) function: Option<Function>,
    pub(super) name: String,
}

impl Found {
    /// What the tool's definition has to be, where it is pinned.
    pub(super) fn pin(&self, catalog: &Catalog) -> Option<Pin> {
        let pinned = || catalog.approved(&self.server.id, &self.name).map(|approved| approved.pin.clone());
        matches!(self.ask, OperationParams::Tool).then(pinned).flatten()
    }
}

pub(super) fn find_target(catalog: &Catalog, request: &CallRequest) -> Result<Found, Outcome> {
    let known = || catalog.suggestions(&request.target);
    match &request.target {
        Target::Tool { id, function } => {
            let Some(tool) = catalog.tool(id) else {
                if let Some(found) = catalog.not_executable_tool(id) {
                    return Err(not_executable(&format!("Tool `{id}`"), found));
                }
                return Err(Outcome::refused(
                    Code::UnknownTool,
                    format!("No tool `{id}` is registered; {}.", known()),
                ));
            };
            match (tool.function(function.as_deref()), function) {
                (Some(found), _) => registered(tool, Some(found), &found.name, request),
                (None, Some(name)) if tool.open => registered(tool, None, name, request),
                (None, _) => {
                    let names: Vec<_> = tool.functions.iter().map(|f| f.name.as_str()).collect();
                    let names =
                        if tool.open { "the tools its server lists".to_owned() } else { names.join(", ") };
                    let text = format!("Tool `{id}` needs `function`, one of: {names}.");
                    Err(Outcome::refused(Code::UnknownTool, text))
                }
            }
        }
        Target::OnServer { server: id, name } => {
            let Some(server) = catalog.server(id) else {
                if let Some(found) = catalog.not_executable_server(id) {
                    return Err(not_executable(&format!("Server `{id}`"), found));
                }
                let text = format!("No server `{id}` is registered; {}.", known());
                return Err(Outcome::refused(Code::UnknownServer, text));
            };
            if let Some(tool) = catalog.tool_on(id, name) {
                return registered(tool, tool.function(Some(name)), name, request);
            }
            if !server.discover {
                let text = format!(
                    "No tool `{name}` of server `{id}` is registered, and the server is not open to discovered tools."
                );
                return Err(Outcome::refused(Code::UnknownTool, text));
            }
            let (server, name) = (server.clone(), name.clone());
            Ok(Found { ask: OperationParams::Tool, server, tool: None, function: None, name })
        }
        Target::Server { server: id } => {
            let Some(server) = catalog.server(id) else {
                if let Some(found) = catalog.not_executable_server(id) {
                    return Err(not_executable(&format!("Server `{id}`"), found));
                }
                let text = format!("No server `{id}` is registered; {}.", known());
                return Err(Outcome::refused(Code::UnknownServer, text));
            };
            of_server(catalog, server, request)
        }
    }
}

/// What the catalog names but cannot have called.
fn not_executable(what: &str, found: &NotExecutable) -> Outcome {
    let text = format!(
        "{what} is registered but cannot be called: {}. Nothing was sent. An operator must fix `{}` of the catalog.",
        found.reason, found.entry
    );
    Outcome::refused(Code::NotExecutable, text)
}

/// Operations of a server itself are allowed if everything that it lists is allowed: a server with single registered tools allows only
/// those. A registered tool that stands for all of them gives its access rules.
fn of_server(catalog: &Catalog, server: &Arc<Server>, request: &CallRequest) -> Result<Found, Outcome> {
    let operation = request.operation.as_str();
    if let Some(tool) = catalog.tool_of_all(&server.id) {
        usable(tool, request)?;
    } else if !server.discover {
        let text = format!(
            "Server `{}` is open to its registered tools alone, so `{operation}` is refused; an operator opens it with `discover`.",
            server.id
        );
        return Err(Outcome::refused(Code::AccessDenied, text));
    }
    let ask = request.ask().map_err(|error| Outcome::refused(Code::InvalidArguments, error.to_string()))?;
    let name = match &ask {
        OperationParams::Resource { uri } | OperationParams::Subscription { uri } => uri.clone(),
        OperationParams::Prompt { name, .. } => name.clone(),
        OperationParams::Completion { of } => of.clone(),
        OperationParams::Tool | OperationParams::List { .. } => String::new(),
    };
    Ok(Found { ask, server: server.clone(), tool: None, function: None, name })
}

/// `function` is none where the tool's functions are those its server lists.
fn registered(
    tool: &Arc<Tool>,
    function: Option<&Function>,
    name: &str,
    request: &CallRequest,
) -> Result<Found, Outcome> {
    usable(tool, request)?;
    Ok(Found {
        ask: OperationParams::Tool,
        server: Arc::clone(&tool.server),
        tool: Some(Arc::clone(tool)),
        function: function.cloned(),
        name: name.to_owned(),
    })
}

/// Whether its access rules allow the caller, and no operator has paused it.
fn usable(tool: &Tool, request: &CallRequest) -> Result<(), Outcome> {
    if !tool.is_open_to(request.user.as_ref()) {
        let who =
            request.user.as_ref().map_or("a call without `user`".to_owned(), |u| format!("user `{}`", u.id));
        let text = format!(
            "Tool `{}` is not open to {who}: its access rules ask for another type or role.",
            tool.id
        );
        return Err(Outcome::refused(Code::AccessDenied, text));
    }
    if tool.paused {
        let why = CallError::new(
            Code::Paused,
            format!("Tool `{}` is paused by an operator.", tool.id),
            MayHaveRun::No,
        );
        return Err(Outcome::ended(OutcomeKind::Refused, why.retryable(None)));
    }
    Ok(())
}
