//! Owns the refusal of names that could mean two things.
//!
//! Grants, audit records and digests carry a target as text: `tool`, `tool.function`, `server/name`.
//!
//! **Invariant:** one such text never means two tools.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{CatalogError, Server, Tool, problem};
use crate::ids::ServerId;

/// Refuses two tools, or a tool and a server's own tool, that are written alike.
pub(super) fn check<'a>(
    tools: impl Iterator<Item = &'a Arc<Tool>>,
    servers: &HashMap<ServerId, Arc<Server>>,
) -> Result<(), CatalogError> {
    let mut written: BTreeMap<String, String> = BTreeMap::new();
    for tool in tools {
        let entry = format!("tools.{}", tool.id);
        if let Some((server, name)) = tool.id.as_str().split_once('/')
            && servers.contains_key(server)
        {
            let text = format!(
                "is written like the tool `{name}` of server `{server}`; give the tool an id that does not start with `{server}/`"
            );
            return Err(problem(&entry, text));
        }
        let whole = [(tool.id.to_string(), format!("tool `{}`", tool.id))];
        let functions = tool.functions.iter().map(|function| {
            let name = &function.name;
            (format!("{}.{name}", tool.id), format!("function `{name}` of tool `{}`", tool.id))
        });
        for (text, meaning) in whole.into_iter().chain(functions) {
            if let Some(other) = written.insert(text.clone(), meaning.clone()) {
                let text = format!("`{text}` is both {other} and {meaning}; give one of them another name");
                return Err(problem(&entry, text));
            }
        }
    }
    Ok(())
}
