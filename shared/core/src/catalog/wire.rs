//! Owns the forms of a catalog, and the order in which its parts are read and checked.
//!
//! A catalog is an object in our own form, whose sections `pika` and `idp` hold (or name) what Pika and the GenAI IDP
//! accelerator write; or such an array by itself.
//!
//! **Invariant:** an error names the server or tool by its id wherever it has one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::pins::Pins;
use super::tenants::{ReplyQueues, WireTenants};
use super::tool::{Draft, WireTool};
use super::{Catalog, CatalogError, Offered, Programs, Server, Tool, idp, json, names, pika, problem};
use crate::digest::Digest;
use crate::ids::{ServerId, ToolId};

/// What a catalog needs beside its own text. A text may be a secret as a whole, so it does not print.
#[derive(Clone, Default)]
pub struct Material {
    /// The texts it names, by the words it names them with.
    pub included: BTreeMap<String, String>,
    /// Tenants for whom the queue speaks where the catalog itself has no `tenants`; `*` means all.
    pub tenants: Option<Vec<String>>,
    /// Whether it may name programs to be started.
    pub programs: Programs,
    /// Whether the text itself may write out the secrets of Pika's and the IDP accelerator's forms.
    pub literals: Literals,
}

/// Whether Pika's and the IDP accelerator's forms may hold secrets themselves. Our own form never may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Literals {
    /// They may not: whoever can read the file has them.
    #[default]
    Refused,
    /// They may: the text comes from Secrets Manager or the catalog table.
    Accepted,
}

impl Literals {
    /// What holds for a text that a section names.
    fn of_reference(name: &str) -> Self {
        let stored = ["secret://", "table://"].iter().any(|scheme| name.starts_with(scheme));
        if stored { Self::Accepted } else { Self::Refused }
    }
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.included.keys().collect();
        f.debug_struct("Material").field("included", &names).field("tenants", &self.tenants).finish()
    }
}

impl Material {
    /// The digest of a catalog's text and this, as [`Catalog::digest`] has it.
    pub fn digest_with(&self, text: &str) -> Digest {
        Digest::of_json(&serde_json::json!([text, self.included, self.tenants]))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCatalog {
    #[serde(default)]
    servers: Option<Vec<Value>>,
    #[serde(default)]
    tools: Vec<Value>,
    #[serde(default)]
    pika: Option<Value>,
    #[serde(default)]
    idp: Option<Value>,
    #[serde(default)]
    tenants: Option<WireTenants>,
    #[serde(default)]
    reply_queues: Option<Value>,
    #[serde(default)]
    pins: BTreeMap<String, Value>,
}

/// Reads and checks a catalog.
pub(super) fn parse(text: &str, material: &Material) -> Result<Catalog, CatalogError> {
    let (wire, bare) = sections(text)?;
    let mut parts = Parts::default();
    for server in entries::<Server>("servers", wire.servers.unwrap_or_default())? {
        let entry = format!("servers.{}", server.id);
        let server = server.placed(&entry, material.programs)?;
        parts.servers.push((entry, server, Literals::Refused));
    }
    for tool in entries::<WireTool>("tools", wire.tools)? {
        let entry = format!("tools.{}", tool.id);
        parts.tools.push((entry.clone(), tool.draft(&entry)?));
    }
    if let Some(section) = wire.pika {
        let (section, literals) = included("pika", section, material)?;
        pika::read(&mut parts, section, literals)?;
    }
    if let Some(section) = wire.idp {
        let (section, literals) = included("idp", section, material)?;
        idp::read(&mut parts, section, literals)?;
    }
    let of_queue = material.tenants.as_deref().map(WireTenants::of_queue);
    let (speakers, sessions) = match wire.tenants.or(of_queue) {
        Some(tenants) => tenants.check()?,
        None if bare => WireTenants::default().check()?,
        None => return Err(problem("tenants", "is missing; say who may speak for which tenant")),
    };
    if speakers.are_nobody() && !bare {
        let text = "names nobody; list tenants under `queue` or `senders`, or `\"queue\": [\"*\"]`";
        return Err(problem("tenants", text));
    }
    let (servers, tools) = parts.check()?;
    let mut pins = Pins::default();
    for tool in tools.values() {
        tool.add_pins(&mut pins)?;
    }
    pins.section(wire.pins, &servers)?;
    Ok(Catalog {
        offered: offered(&tools),
        servers,
        tools,
        speakers,
        sessions,
        reply_queues: ReplyQueues::parse(wire.reply_queues)?,
        pins,
        digest: material.digest_with(text),
    })
}

/// The texts that the sections name.
pub(super) fn references(text: &str) -> Result<Vec<String>, CatalogError> {
    let (wire, _) = sections(text)?;
    let named = [wire.pika, wire.idp].into_iter().flatten();
    Ok(named.filter_map(|section| section.as_str().map(str::to_owned)).collect())
}

/// The sections, and whether the text was an array by itself.
fn sections(text: &str) -> Result<(WireCatalog, bool), CatalogError> {
    let value = json::value("the text", text)?;
    if let Value::Array(items) = &value {
        let of_idp = items.first().is_some_and(|item| item.get("mcp_url").is_some());
        let empty = WireCatalog::default();
        let wire = if of_idp {
            WireCatalog { idp: Some(value), ..empty }
        } else {
            WireCatalog { pika: Some(value), ..empty }
        };
        return Ok((wire, true));
    }
    let misplaced = |word: &str| value.get(word).is_some();
    if misplaced("mcp_url") || misplaced("executionType") {
        let what =
            if misplaced("mcp_url") { "one agent of an external MCP agents secret" } else { "one Pika tool" };
        let text = format!("is a single object, {what}; put it into an array: [{{..}}]");
        return Err(problem("the text", text));
    }
    let wire: WireCatalog = json::typed("", value)?;
    if wire.servers.is_none() && wire.pika.is_none() && wire.idp.is_none() {
        return Err(problem("servers", "is missing; give at least one of `servers`, `pika` and `idp`"));
    }
    Ok((wire, false))
}

/// The section itself, or the text it names, and whether that may write out secrets.
fn included(entry: &str, section: Value, material: &Material) -> Result<(Value, Literals), CatalogError> {
    let Value::String(name) = section else {
        return Ok((section, material.literals));
    };
    match material.included.get(&name) {
        Some(text) => json::value(&format!("{entry} ({name})"), text)
            .map(|value| (value, Literals::of_reference(&name))),
        None => Err(problem(entry, format!("names `{name}`, which was not read along with the catalog"))),
    }
}

/// What the sections give, each with its place for errors.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) servers: Vec<(String, Server, Literals)>,
    pub(super) tools: Vec<(String, Draft)>,
}

type Servers = HashMap<ServerId, Arc<Server>>;
type Tools = BTreeMap<ToolId, Arc<Tool>>;

impl Parts {
    fn check(self) -> Result<(Servers, Tools), CatalogError> {
        let mut servers = Servers::new();
        for (entry, server, literals) in self.servers {
            server.check(&entry, literals)?;
            if servers.insert(server.id.clone(), Arc::new(server)).is_some() {
                return Err(problem(&entry, "stands twice; give each server an id of its own"));
            }
        }
        let mut tools = Tools::new();
        for (entry, draft) in self.tools {
            let tool = draft.check(&entry, &servers)?;
            if tools.insert(tool.id.clone(), Arc::new(tool)).is_some() {
                return Err(problem(&entry, "stands twice; give each tool an id of its own"));
            }
        }
        names::check(tools.values(), &servers)?;
        Ok((servers, tools))
    }
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
fn offered(tools: &Tools) -> HashMap<ServerId, Offered> {
    let mut offered: HashMap<ServerId, Offered> = HashMap::new();
    for tool in tools.values() {
        let Some(server) = tool.server() else {
            continue;
        };
        let names = offered.entry(server.id.clone()).or_default();
        if tool.open {
            names.open.get_or_insert_with(|| tool.clone());
        }
        for function in &tool.functions {
            names.by_name.entry(function.name.clone()).or_insert_with(|| tool.clone());
        }
    }
    offered
}
