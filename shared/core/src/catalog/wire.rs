//! Owns the form of a catalog file, and the order in which its parts are read and checked.
//!
//! **Invariant:** an error names the server or tool by its id wherever it has one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::tenants::WireTenants;
use super::tool::WireTool;
use super::{Catalog, CatalogError, Server, Tool, json, names, problem};
use crate::ids::{ServerId, ToolId};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCatalog {
    servers: Vec<Value>,
    #[serde(default)]
    tools: Vec<Value>,
    tenants: WireTenants,
    #[serde(default)]
    reply_queues: Vec<String>,
}

/// Reads and checks a catalog.
pub(super) fn parse(text: &str) -> Result<Catalog, CatalogError> {
    let wire: WireCatalog = json::typed("", json::value("the file", text)?)?;
    let mut servers = HashMap::new();
    for server in entries::<Server>("servers", wire.servers)? {
        server.check(&format!("servers.{}", server.id))?;
        add_server(&mut servers, server)?;
    }
    let mut tools = BTreeMap::new();
    for tool in entries::<WireTool>("tools", wire.tools)? {
        let tool = tool.check(&servers)?;
        let id = tool.id.clone();
        if tools.insert(id.clone(), Arc::new(tool)).is_some() {
            return Err(problem(&format!("tools.{id}"), "stands twice; give each tool an id of its own"));
        }
    }
    names::check(tools.values(), &servers)?;
    let speakers = wire.tenants.check()?;
    Ok(Catalog { by_name: by_name(&tools), servers, tools, speakers, reply_queues: wire.reply_queues })
}

fn add_server(servers: &mut HashMap<ServerId, Arc<Server>>, server: Server) -> Result<(), CatalogError> {
    let id = server.id.clone();
    if servers.insert(id.clone(), Arc::new(server)).is_some() {
        return Err(problem(&format!("servers.{id}"), "stands twice; give each server an id of its own"));
    }
    Ok(())
}

/// The entries of a section; an error names the entry by its id, or by its place where it has none.
fn entries<T: DeserializeOwned>(section: &str, values: Vec<Value>) -> Result<Vec<T>, CatalogError> {
    let read = |(i, value): (usize, Value)| {
        let id = value.get("id").and_then(Value::as_str);
        let entry = id.map_or_else(|| format!("{section}[{i}]"), |id| format!("{section}.{id}"));
        json::typed(&entry, value)
    };
    values.into_iter().enumerate().map(read).collect()
}

/// Which tool a server's own name stands for. Where several offer it, the first by id: the same on every worker.
fn by_name(tools: &BTreeMap<ToolId, Arc<Tool>>) -> HashMap<ServerId, HashMap<String, Arc<Tool>>> {
    let mut by_name: HashMap<ServerId, HashMap<String, Arc<Tool>>> = HashMap::new();
    for tool in tools.values() {
        let names = by_name.entry(tool.server.id.clone()).or_default();
        for function in &tool.functions {
            names.entry(function.name.clone()).or_insert_with(|| tool.clone());
        }
    }
    by_name
}
