//! Parses a catalog in any of its forms, and checks its parts in order.
//!
//! A catalog is an object in our own form, whose sections `pika` and `idp` hold (or name) what Pika and the GenAI IDP
//! accelerator write; or such an array by itself; or the file in which another program keeps its MCP servers.
//!
//! **Invariant:** an error names the server or tool by its id wherever it has one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::CatalogError;
use crate::error::invalid;
use crate::import;
use crate::import::idp;
use crate::import::mcp_servers::{self, Imported};
use crate::import::pika;
use crate::import::unsupported;
use crate::json;
use crate::parts::{Checked, Parts};
use crate::permissions::Literals;
use crate::pins::Pins;
use crate::publish::Registered;
use crate::server::Server;
use crate::snapshot::{Catalog, stands_for_all};
use crate::sources::CatalogSources;
use crate::tenants::{ReplyQueues, WireTenants};
use crate::tool::{Tool, WireTool};
use crate::written::Written;
use crate::yaml;
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{ServerId, ToolId};

impl Catalog {
    /// Reads and checks a catalog that names no other text.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        parse(text, &CatalogSources::default(), None)
    }

    /// Reads and checks a catalog together with what it names.
    pub fn parse_with(text: &str, material: &CatalogSources) -> Result<Self, CatalogError> {
        parse(text, material, None)
    }

    /// The texts that a catalog names instead of containing them.
    pub fn references(text: &str) -> Result<References, CatalogError> {
        references(text)
    }
}

/// The texts that a catalog names instead of containing them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct References {
    /// Sections: files, `secret://NAME`, `table://KEY`. The catalog cannot be read without them.
    pub sections: Vec<String>,
    /// OpenAPI documents: the same, `s3://BUCKET/KEY`, and addresses.
    pub documents: Vec<String>,
}

impl std::fmt::Debug for CatalogSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.included.keys().collect();
        f.debug_struct("CatalogSources").field("included", &names).field("tenants", &self.tenants).finish()
    }
}

impl CatalogSources {
    /// The digest of a catalog's text and this, as [`Catalog::digest`] has it.
    pub fn digest_with(&self, text: &str) -> Digest {
        Digest::of_json(&serde_json::json!([text, self.included, self.tenants, self.unread]))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCatalog {
    #[serde(default)]
    servers: Option<Value>,
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
    #[serde(default)]
    publish: Option<Value>,
}

/// Reads and checks a catalog. What it says in our own form is kept in `written`.
pub(crate) fn parse(
    text: &str,
    material: &CatalogSources,
    written: Option<&mut Written>,
) -> Result<Catalog, CatalogError> {
    let Sections { wire, bare, imported } = sections(text)?;
    let mut parts = Parts::new(material, written);
    if let Some(written) = &mut parts.written {
        written.pika.clone_from(&wire.pika);
        written.idp.clone_from(&wire.idp);
        written.tools.clone_from(&wire.tools);
    }
    for (entry, server) in own_servers(wire.servers)? {
        parts.own_server(&entry, server)?;
    }
    for (i, tool) in wire.tools.into_iter().enumerate() {
        let entry = entry_of("tools", i, &tool);
        let tool: WireTool = json::typed(&entry, tool)?;
        let entry = format!("tools.{}", tool.id);
        let draft = tool.draft(&entry, parts.known)?;
        parts.tools.push((entry, draft));
    }
    parts.imported(imported);
    if let Some(section) = wire.pika {
        let (section, literals) = included("pika", section, material)?;
        pika::read(&mut parts, section, literals)?;
    }
    if let Some(section) = wire.idp {
        let (section, literals) = included("idp", section, material)?;
        idp::read(&mut parts, section, literals)?;
    }
    let of_queue = material.tenants.as_deref().map(WireTenants::of_queue);
    let (tenant_policy, sessions, tenant_limits) = match wire.tenants.or(of_queue) {
        Some(tenants) => tenants.check()?,
        None if bare => WireTenants::default().check()?,
        None => return Err(invalid("tenants", "is missing; say who may speak for which tenant")),
    };
    if tenant_policy.is_empty() && !bare {
        let text = "names nobody; list tenants under `queue` or `senders`, or `\"queue\": [\"*\"]`";
        return Err(invalid("tenants", text));
    }
    let Checked { servers, tools, offered, unusable, settled } = parts.check()?;
    let mut pins = Pins::default();
    for tool in tools.values() {
        tool.add_pins(&mut pins)?;
    }
    let of_usable = |target: &String| {
        target.split_once('/').is_none_or(|(server, _)| !unusable.servers.contains_key(server))
    };
    pins.section(wire.pins.into_iter().filter(|(target, _)| of_usable(target)).collect(), &servers)?;
    let is_unusable = |id: &str| unusable.servers.contains_key(id) || unusable.tools.contains_key(id);
    let published = {
        let stands_for_all = stands_for_all(&offered);
        let registered = Registered {
            tools: &tools,
            servers: &servers,
            stands_for_all: &stands_for_all,
            is_unusable: &is_unusable,
        };
        registered.published(wire.publish)?
    };
    let is_known = |name: &str| is_tool_of(name, &servers, &tools) || is_unusable(name);
    let mut remarks = settled.remarks;
    remarks.extend(tenant_limits.remarks(is_known));
    Ok(Catalog {
        published,
        offered,
        servers,
        tools,
        unusable,
        remarks,
        written: settled.secrets,
        left_out: settled.left_out,
        tenant_policy,
        sessions,
        tenant_limits,
        reply_queues: ReplyQueues::parse(wire.reply_queues)?,
        pins,
        digest: material.digest_with(text),
    })
}

/// Whether a tool can have that name: the id of a registered one, `id.function`, or `server/name`, of which the server alone is known.
fn is_tool_of(
    name: &str,
    servers: &HashMap<ServerId, Arc<Server>>,
    tools: &BTreeMap<ToolId, Arc<Tool>>,
) -> bool {
    let has_function = |(id, function): (&str, &str)| {
        tools.get(id).is_some_and(|tool| tool.open || tool.function(Some(function)).is_some())
    };
    let split = |(at, _): (usize, &str)| Some((name.get(..at)?, name.get(at + 1..)?));
    let of_function = || name.match_indices('.').filter_map(split).any(has_function);
    match name.split_once('/') {
        Some((server, _)) => servers.contains_key(server),
        None => tools.contains_key(name) || of_function(),
    }
}

/// The texts that the sections name. A text without the name of such a section, which may be large, is not parsed for it.
fn references(text: &str) -> Result<References, CatalogError> {
    if !["pika", "idp", "openapi", "penApiSchema", "\\u"].iter().any(|part| text.contains(part)) {
        return Ok(References::default());
    }
    let Sections { wire, imported, .. } = sections(text)?;
    let own = own_servers(wire.servers)?.into_iter().map(|(_, server)| server);
    let foreign = imported.servers.into_iter().filter_map(|entry| entry.value.ok());
    // An empty text is an error of its entry, which is named when the entry is read.
    let documents = own.chain(foreign).filter_map(|server| {
        let name = server.get("openapi").and_then(Value::as_str);
        name.filter(|name| !name.trim().is_empty()).map(str::to_owned)
    });
    let sections = [wire.pika, wire.idp].into_iter().flatten();
    let sections = sections.filter_map(|section| section.as_str().map(str::to_owned));
    Ok(References { sections: sorted(sections), documents: sorted(documents) })
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What a text holds.
#[derive(Debug, Default)]
struct Sections {
    wire: WireCatalog,
    /// Whether it is of a form that cannot say who may speak.
    bare: bool,
    imported: Imported,
}

/// The value of a text that is JSON or YAML. What it is otherwise is named.
pub(crate) fn value(text: &str) -> Result<Value, CatalogError> {
    let error = match json::value("the text", text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let Some(what) = unsupported::of_text(text) {
        return Err(invalid("the text", what));
    }
    if !unsupported::is_yaml(text) {
        return Err(error);
    }
    yaml::value("the text", text)
}

fn sections(text: &str) -> Result<Sections, CatalogError> {
    let value = value(text)?;
    let of_pika = |pika: Value| Sections {
        wire: WireCatalog { pika: Some(pika), ..WireCatalog::default() },
        bare: true,
        ..Sections::default()
    };
    if pika::is_whole(&value) {
        return Ok(of_pika(value));
    }
    let mut file = match value {
        Value::Object(file) => file,
        Value::Array(_) => {
            let of_idp = value.get(0).is_some_and(|item| item.get("mcp_url").is_some());
            if let Some(imported) = value.as_array().and_then(|items| import::take_list(items)) {
                return Ok(Sections { bare: true, imported, ..Sections::default() });
            }
            return match unsupported::of_value(&value).filter(|_| !of_idp) {
                Some(text) => Err(invalid("the text", text)),
                None if of_idp => Ok(Sections {
                    wire: WireCatalog { idp: Some(value), ..WireCatalog::default() },
                    bare: true,
                    ..Sections::default()
                }),
                None => Ok(of_pika(value)),
            };
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            let text = format!(
                "is {}; accepted is an object with `servers`, or a file with `mcpServers`",
                json::kind(&other)
            );
            return Err(invalid("the text", text));
        }
    };
    // It may have `servers`, too.
    if let Some(text) = unsupported::openapi(&file) {
        return Err(invalid("the text", text));
    }
    if let Some(what) = single(&file) {
        let text = format!("is a single object, {what}; put it into an array: [{{..}}]");
        return Err(invalid("the text", text));
    }
    let imported = import::take(&mut file);
    let is_foreign = imported.is_some();
    let own = |key: &String| mcp_servers::SECTIONS.contains(&key.as_str()) && key != "tools";
    if !is_foreign && !file.keys().any(own) {
        let value = Value::Object(std::mem::take(&mut file));
        if let Some(text) = unsupported::of_value(&value) {
            return Err(invalid("the text", text));
        }
        json::typed::<WireCatalog>("", value)?;
        let text =
            "is missing; give at least one of `servers`, `pika` and `idp`, or a file with `mcpServers`";
        return Err(invalid("servers", text));
    }
    let wire: WireCatalog = json::typed("", Value::Object(file))?;
    if !is_foreign && wire.servers.is_none() && wire.pika.is_none() && wire.idp.is_none() {
        return Err(invalid("servers", "is missing; give at least one of `servers`, `pika` and `idp`"));
    }
    let bare = is_foreign && wire.tenants.is_none();
    Ok(Sections { wire, bare, imported: imported.unwrap_or_default() })
}

/// What a file is that holds one entry of a form that is an array.
fn single(file: &Map<String, Value>) -> Option<&'static str> {
    if file.contains_key("mcp_url") {
        return Some("one agent of an external MCP agents secret");
    }
    file.contains_key("executionType").then_some("one Pika tool")
}

/// The servers of our own form: a list, or a map by id.
fn own_servers(servers: Option<Value>) -> Result<Vec<(String, Value)>, CatalogError> {
    match servers {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(servers)) => Ok(servers
            .into_iter()
            .enumerate()
            .map(|(i, server)| (entry_of("servers", i, &server), server))
            .collect()),
        Some(Value::Object(servers)) => servers
            .into_iter()
            .map(|(id, mut server)| {
                let entry = format!("servers.{id}");
                let Some(fields) = server.as_object_mut() else {
                    return Err(invalid(
                        &entry,
                        format!("is {}; accepted is an object", json::kind(&server)),
                    ));
                };
                match fields.get("id") {
                    Some(other) if other.as_str() != Some(&id) => Err(invalid(
                        &format!("{entry}.id"),
                        "differs from the key it stands under; leave it out",
                    )),
                    Some(_) | None => {
                        fields.insert("id".to_owned(), Value::String(id));
                        Ok((entry, server))
                    }
                }
            })
            .collect(),
        Some(other @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => {
            let text = format!("is {}; accepted is a list, or an object by id", json::kind(&other));
            Err(invalid("servers", text))
        }
    }
}

/// The place of an entry: its id, or its number where it has none.
fn entry_of(section: &str, i: usize, value: &Value) -> String {
    let id = value.get("id").and_then(Value::as_str);
    id.map_or_else(|| format!("{section}[{i}]"), |id| format!("{section}.{id}"))
}

/// The section itself, or the text it names, and whether that may write out secrets.
fn included(
    entry: &str,
    section: Value,
    material: &CatalogSources,
) -> Result<(Value, Literals), CatalogError> {
    let Value::String(name) = section else {
        return Ok((section, material.literals));
    };
    match material.included.get(&name) {
        Some(text) => json::value(&format!("{entry} ({name})"), text)
            .map(|value| (value, Literals::of_reference(&name))),
        None => Err(invalid(entry, format!("names `{name}`, which was not read along with the catalog"))),
    }
}
