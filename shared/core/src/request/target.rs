//! Reads which tool, or which server, a request means.

use super::call_request::{Operation, Target};
use super::error::{RequestError, invalid};
use crate::ids::{ServerId, ToolId};

/// What the fields name together.
pub(super) fn target(
    tool: Option<ToolId>,
    function: Option<String>,
    server: Option<ServerId>,
    name: Option<String>,
    operation: Operation,
) -> Result<Target, RequestError> {
    if operation != Operation::ToolsCall {
        return asked_server(tool, server, name, operation);
    }
    match (tool, server) {
        (Some(_), None) if name.is_some() => {
            Err(invalid("name", "belongs to `server`; a registered tool's function is named by `function`"))
        }
        (Some(id), None) => Ok(Target::Tool { id, function }),
        (None, Some(_)) if function.is_some() => {
            Err(invalid("function", "belongs to `tool`; beside `server` the tool is named by `name`"))
        }
        (None, Some(server)) => match name {
            Some(name) if !name.is_empty() && name.len() <= 256 => Ok(Target::OnServer { server, name }),
            Some(_) => Err(invalid("name", "must have 1 to 256 bytes")),
            None => Err(invalid("name", "is missing: beside `server`, `tools/call` needs the tool's `name`")),
        },
        (None, None) => Err(invalid("tool", "is missing: give `tool`, or `server` and `name`")),
        (Some(_), Some(_)) => Err(invalid("server", "is given beside `tool`: give one of the two")),
    }
}

/// What is not a tool call is asked of a server, whichever tools are registered of it.
fn asked_server(
    tool: Option<ToolId>,
    server: Option<ServerId>,
    name: Option<String>,
    operation: Operation,
) -> Result<Target, RequestError> {
    let operation = operation.as_str();
    if tool.is_some() {
        return Err(invalid(
            "tool",
            format!("belongs to `tools/call`; `{operation}` is asked of a `server`"),
        ));
    }
    if name.is_some() {
        let text = format!("belongs to `tools/call`; what `{operation}` needs stands in `arguments`");
        return Err(invalid("name", text));
    }
    let missing = || invalid("server", format!("is missing: `{operation}` is asked of a server"));
    server.map(|server| Target::Server { server }).ok_or_else(missing)
}
