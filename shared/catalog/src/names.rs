//! Refuses names that could mean two tools.
//!
//! Grants, audit records and digests carry a target as text: `tool`, `tool.function`, `server/name`.
//!
//! **Invariant:** one such text never means two tools.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::CatalogError;
use crate::error::invalid;
use crate::server::Server;
use crate::tool::Tool;
use toolfleet_core::ids::ServerId;

/// Refuses two tools, or a tool and a server's own tool, that are written alike.
pub(crate) fn check<'a>(
    tools: impl Iterator<Item = &'a Arc<Tool>> + Clone,
    servers: &HashMap<ServerId, Arc<Server>>,
) -> Result<(), CatalogError> {
    let open: Vec<_> = tools.clone().filter(|t| t.open).map(|t| format!("{}.", t.id)).collect();
    let mut written: BTreeMap<String, String> = BTreeMap::new();
    for tool in tools {
        let entry = format!("tools.{}", tool.id);
        if let Some(open) = open.iter().find(|open| tool.id.as_str().starts_with(open.as_str())) {
            let text = format!(
                "is written like a function of the tool `{}`, whose functions are those its server lists; give one of them another id",
                open.trim_end_matches('.')
            );
            return Err(invalid(&entry, text));
        }
        if let Some((server, name)) = tool.id.as_str().split_once('/')
            && servers.contains_key(server)
        {
            let text = format!(
                "is written like the tool `{name}` of server `{server}`; give the tool an id that does not start with `{server}/`"
            );
            return Err(invalid(&entry, text));
        }
        let whole = [(tool.id.to_string(), format!("tool `{}`", tool.id))];
        let functions = tool.functions.iter().map(|function| {
            let name = &function.name;
            (format!("{}.{name}", tool.id), format!("function `{name}` of tool `{}`", tool.id))
        });
        for (text, meaning) in whole.into_iter().chain(functions) {
            if let Some(other) = written.insert(text.clone(), meaning.clone()) {
                let text = format!("`{text}` is both {other} and {meaning}; give one of them another name");
                return Err(invalid(&entry, text));
            }
        }
    }
    Ok(())
}
