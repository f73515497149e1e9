//! Catalogs and configurations that other products write.

use serde_json::{Map, Value};

mod agentcore;
mod asked;
mod docker;
mod goose;
pub(crate) mod idp;
pub(crate) mod mcp_servers;
pub mod openapi;
pub(crate) mod pika;
mod registry;
pub(crate) mod unsupported;

/// Takes the servers out of a file of any program that has servers. Sections of our own form stay, and a remark names what else there is.
pub(crate) fn take(file: &mut Map<String, Value>) -> Option<mcp_servers::Imported> {
    let forms = [registry::take, docker::take, agentcore::take, goose::take];
    match forms.into_iter().find_map(|take| take(file)) {
        Some(mut imported) => {
            mcp_servers::own_sections(&mut imported, file);
            Some(imported)
        }
        None => mcp_servers::take(file),
    }
}

/// Takes the servers out of a list that is a form by itself.
pub(crate) fn take_list(items: &[Value]) -> Option<mcp_servers::Imported> {
    registry::take_list(items).or_else(|| agentcore::take_list(items))
}
