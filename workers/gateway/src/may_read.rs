//! What the catalog allows a caller: the tools that it may call, and the servers whose lists, prompts and resources it may read.

use toolfleet_catalog::{Catalog, Server, Tool};

use crate::caller::Caller;

/// Whether the caller may call the tool now.
pub(crate) fn is_open(caller: &Caller, tool: &Tool) -> bool {
    tool.is_open_to(caller.user.as_ref()) && !tool.paused
}

/// Whether the caller may ask the server for what it lists, and for what it has beside tools.
pub(crate) fn may_list(catalog: &Catalog, caller: &Caller, server: &Server) -> bool {
    if !server.lists_tools() {
        return false;
    }
    match catalog.tool_of_all(&server.id) {
        Some(tool) => is_open(caller, tool),
        None => server.discover,
    }
}
