//! The published tools as MCP clients see them: which of them a caller may use, and their definitions.
//!
//! A definition is the entry of the server's list, as far as that can be read through the fleet, or the entry that an operator approved.
//! What the catalog registers (description, input schema) takes the place of the server's own.
//!
//! **Invariant:** what a call would be refused for is not listed: access rules, an operator's stop, a definition that was not approved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_catalog::{Approved, Catalog, Pin, PublishedName, PublishedTool, Server, Tool, may_be_cut};
use toolfleet_core::ids::ServerId;

use crate::caller::Caller;
use crate::lacking::Lacking;
use crate::may_read::{is_open, may_list};
use crate::message::{Members, Request, raw, shown};
use crate::search::Searched;
use crate::server_lists::{Entries, ListKind, Listed, ServerLists, Use};
use crate::uris::PublishedUris;

/// A published tool.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: String,
    /// Its entry of `tools/list`.
    pub(crate) entry: Box<RawValue>,
    /// Whether a client may call it as a task (2025-11-25): what the gateway answers itself is not a call of the fleet.
    pub(crate) takes_tasks: bool,
}

/// What a caller may use.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    /// By name.
    pub(crate) tools: BTreeMap<String, Definition>,
    /// Servers whose lists are not known, and why.
    pub(crate) unknown: BTreeMap<String, String>,
    /// Servers that have more than was read.
    pub(crate) cut: BTreeSet<String>,
    /// What servers list under names that clients cannot write.
    pub(crate) left_out: BTreeMap<String, BTreeSet<String>>,
}

/// What servers list, by server.
pub(crate) type Lists = BTreeMap<ServerId, Listed>;

/// Reads the definitions of a caller's tools.
pub(crate) struct DefinitionReader<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) lists: &'a Arc<ServerLists>,
    pub(crate) caller: &'a Caller,
    /// Until when a list is waited for.
    pub(crate) until: Instant,
}

impl DefinitionReader<'_> {
    /// What the servers list whose tools the caller may use.
    pub(crate) async fn all_lists(&self) -> Lists {
        let published = self.catalog.published();
        let tools: Vec<_> = published.tools().filter(|(_, one)| self.is_open(&one.tool)).collect();
        let whole: Vec<_> = published.servers().filter(|(_, server)| self.may_list(server)).collect();
        let of_tools = tools.iter().map(|(_, one)| &one.tool.server).filter(|server| self.may_list(server));
        let servers: BTreeMap<_, _> = whole
            .iter()
            .map(|(_, server)| *server)
            .chain(of_tools)
            .map(|server| (server.id.clone(), server))
            .collect();
        let read = servers
            .values()
            .map(|server| async move { (server.id.clone(), self.listed(server, Use::Shown).await) });
        futures::future::join_all(read).await.into_iter().collect()
    }

    /// All that the caller may use, of servers that list this.
    pub(crate) fn of_lists(&self, lists: &Lists) -> Definitions {
        let published = self.catalog.published();
        let tools = published.tools().filter(|(_, one)| self.is_open(&one.tool));
        let whole = published.servers().filter(|(_, server)| self.may_list(server));
        let mut found = Definitions::default();
        for (name, one) in tools {
            let listed = lists.get(&one.tool.server.id).and_then(|listed| listed.as_ref().ok());
            let listed = listed.and_then(|entries| entries.by_name.get(&one.function)).map(AsRef::as_ref);
            found.add(self.of_tool(name, one, listed));
        }
        for (prefix, server) in whole {
            match lists.get(&server.id) {
                Some(Ok(entries)) => {
                    for (name, entry) in entries.by_name.iter() {
                        if self.is_left_out(prefix, server, name) {
                            found.left_out.entry(prefix.to_owned()).or_default().insert(shown(name));
                        }
                        found.add(self.of_listed(prefix, server, name, entry));
                    }
                    if entries.is_cut {
                        found.cut.insert(prefix.to_owned());
                    }
                }
                Some(Err(why)) => {
                    found.unknown.insert(prefix.to_owned(), why.clone());
                }
                None => {}
            }
        }
        found
    }

    /// The definition of one name; none if the caller may not use it or nothing is known of it.
    pub(crate) async fn one(&self, name: &str) -> Option<Definition> {
        match self.find(name).await? {
            PublishedName::Tool(one) => {
                let listed = match self.may_list(&one.tool.server) {
                    true => self.listed_one(&one.tool.server, &one.function).await,
                    false => None,
                };
                self.is_open(&one.tool).then(|| self.of_tool(name, &one, listed.as_deref()))?
            }
            PublishedName::OnServer { server, name: listed } => {
                if !self.may_list(&server) {
                    return None;
                }
                let entry = self.listed_one(&server, &listed).await?;
                let (prefix, _) = self.catalog.published().server_of(name)?;
                self.of_listed(prefix, &server, &listed, &entry)
            }
        }
    }

    /// What a published name leads to. A name that was cut is looked for in the list of its server.
    pub(crate) async fn find(&self, name: &str) -> Option<PublishedName> {
        let published = self.catalog.published();
        match published.find(name)? {
            PublishedName::OnServer { server, name: listed }
                if may_be_cut(name) && server.openapi().is_none() && self.may_list(&server) =>
            {
                let entries = self.listed(&server, Use::OfCall).await.ok();
                let names = entries.iter().flat_map(|entries| entries.by_name.keys().map(String::as_str));
                let own = published.uncut(name, names).map_or(listed, str::to_owned);
                Some(PublishedName::OnServer { server, name: own })
            }
            found @ (PublishedName::OnServer { .. } | PublishedName::Tool(_)) => Some(found),
        }
    }

    fn is_open(&self, tool: &Tool) -> bool {
        is_open(self.caller, tool)
    }

    /// Whether the caller may ask the server for its list.
    pub(crate) fn may_list(&self, server: &Server) -> bool {
        may_list(self.catalog, self.caller, server)
    }

    /// Whether what the server lists so has no name here, and is published under no other one.
    fn is_left_out(&self, prefix: &str, server: &Server, listed: &str) -> bool {
        let published = self.catalog.published();
        let mut tools = published.tools();
        published.name_of(prefix, server, listed).is_none()
            && !tools.any(|(_, one)| one.tool.server.id == server.id && one.function == listed)
            && self.catalog.tool_on(&server.id, listed).is_none_or(|tool| self.is_open(tool))
    }

    async fn listed(&self, server: &Arc<Server>, use_of: Use) -> Listed {
        match server.openapi() {
            // The document is in the catalog.
            Some(openapi) => {
                let interface = Arc::clone(&openapi.interface);
                // It is written once, which takes long for a large document.
                let written = tokio::task::spawn_blocking(move || Arc::clone(interface.listed())).await;
                let by_name = written.map_err(|_| "the list of its document cannot be written".to_owned())?;
                Ok(Arc::new(Entries { by_name, ..Entries::default() }))
            }
            None => self.lists.of(self.caller, server, (ListKind::Tools, use_of), self.until).await,
        }
    }

    /// The entry of one tool.
    async fn listed_one(&self, server: &Arc<Server>, name: &str) -> Option<Box<RawValue>> {
        match server.openapi() {
            Some(openapi) => openapi.interface.operation(name).map(|operation| raw(&operation.listed())),
            None => self.listed(server, Use::OfCall).await.ok()?.by_name.get(name).cloned(),
        }
    }

    fn of_tool(&self, name: &str, one: &PublishedTool, listed: Option<&RawValue>) -> Option<Definition> {
        let tool = &one.tool;
        let approved = self.catalog.approved(&tool.server.id, &one.function);
        if approved.zip(listed).is_some_and(|(approved, listed)| !is_approved(approved, listed)) {
            return None;
        }
        let openapi = tool.server.openapi().and_then(|openapi| openapi.interface.operation(&one.function));
        let kept = approved.and_then(|approved| approved.entry.as_ref()).map(raw);
        let kept = kept.or_else(|| openapi.map(|operation| raw(&operation.listed())));
        let mut members = members_of(listed.or(kept.as_deref()));
        if let Some(description) = &tool.description {
            members.insert("description".to_owned(), raw(description));
        }
        if let Some(schema) = tool.function(Some(&one.function)).and_then(|function| function.schema.as_ref())
        {
            members.insert("inputSchema".to_owned(), raw(&schema.value()));
        }
        PublishedUris::of_server(self.catalog, self.caller, &tool.server).publish_in_definition(&mut members);
        Some(named(name, members))
    }

    fn of_listed(
        &self,
        prefix: &str,
        server: &Arc<Server>,
        listed: &str,
        entry: &RawValue,
    ) -> Option<Definition> {
        let name = self.catalog.published().name_of(prefix, server, listed)?;
        let approved = self.catalog.approved(&server.id, listed);
        if approved.is_some_and(|approved| !is_approved(approved, entry)) {
            return None;
        }
        if self.catalog.tool_on(&server.id, listed).is_some_and(|tool| !self.is_open(tool)) {
            return None;
        }
        let mut members = members_of(Some(entry));
        PublishedUris::of_server(self.catalog, self.caller, server).publish_in_definition(&mut members);
        Some(named(&name, members))
    }
}

impl Definitions {
    fn add(&mut self, found: Option<Definition>) {
        if let Some(found) = found {
            self.tools.insert(found.name.clone(), found);
        }
    }

    /// What the list of them lacks; what it is made of is used until then.
    pub(crate) fn lacking(&self, until: Option<Instant>) -> Lacking {
        let unlisted = self.unknown.keys().cloned().collect();
        Lacking { unlisted, cut: self.cut.clone(), left_out: self.left_out.clone(), until }
    }
}

fn is_approved(approved: &Approved, listed: &RawValue) -> bool {
    serde_json::from_str::<Value>(listed.get()).is_ok_and(|entry| Pin::of_listed(&entry) == approved.pin)
}

fn members_of(entry: Option<&RawValue>) -> Members {
    entry.and_then(|entry| serde_json::from_str(entry.get()).ok()).unwrap_or_default()
}

/// The entry under its published name. Clients need an input schema, and what a server says of its own tasks is not the gateway's.
fn named(name: &str, mut members: Members) -> Definition {
    members.insert("name".to_owned(), raw(&name));
    members.remove("execution");
    let is_object = members.get("inputSchema").is_some_and(|schema| schema.get().starts_with('{'));
    if !is_object {
        members.insert("inputSchema".to_owned(), raw(&json!({"type": "object"})));
    }
    Definition { name: name.to_owned(), entry: raw(&members), takes_tasks: true }
}

impl Definition {
    fn value(&self) -> Value {
        serde_json::from_str(self.entry.get()).unwrap_or_default()
    }

    /// The schema of its arguments.
    pub(crate) fn input_schema(&self) -> Value {
        self.value().get_mut("inputSchema").map(Value::take).unwrap_or_default()
    }

    /// Its entry as a client of that request reads it.
    pub(crate) fn entry_for(&self, request: &Request) -> Box<RawValue> {
        if !(self.takes_tasks && request.has_task_requests()) {
            return self.entry.clone();
        }
        let mut members = members_of(Some(&self.entry));
        members.insert("execution".to_owned(), raw(&json!({"taskSupport": "optional"})));
        raw(&members)
    }

    /// Whether clients check its results against a schema.
    pub(crate) fn has_output_schema(&self) -> bool {
        members_of(Some(&self.entry)).contains_key("outputSchema")
    }

    /// As it is searched.
    pub(crate) fn searched(&self) -> Searched {
        let value = self.value();
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let properties = value.pointer("/inputSchema/properties").and_then(Value::as_object);
        let parameters = properties.into_iter().flat_map(|properties| properties.keys()).map(String::as_str);
        let description = format!("{} {}", text("title"), text("description"));
        Searched::of(&self.name, &description, parameters)
    }
}
