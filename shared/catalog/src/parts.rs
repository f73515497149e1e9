//! Collects the servers and tools that the forms of a catalog give, and checks them against each other.
//!
//! An entry of another program's form that cannot be called does not refuse the catalog: it is kept with the reason. A mistake in our own
//! form does.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::entry::{self, Form, NormalizedEntry};
use crate::error::CatalogError;
use crate::error::invalid;
use crate::import::mcp_servers::{self, Imported};
use crate::json::{below, kind, typed};
use crate::names;
use crate::permissions::{Literals, Programs};
use crate::placeholders::{EntryRemarks, LocalEnvironment, PlaceholderFiller};
use crate::schema::KnownSchemas;
use crate::server::{Server, ServerEntry};
use crate::snapshot::Offered;
use crate::sources::CatalogSources;
use crate::tool::Tool;
use crate::tool::{UnvalidatedTool, WireTool};
use crate::unusable::{Remark, Unusable};
use crate::written::Written;
use toolfleet_core::ids::{ServerId, ToolId};

/// What the sections give, each with its place for errors.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    servers: Vec<Part>,
    pub(crate) tools: Vec<(String, UnvalidatedTool)>,
    pub(crate) unusable: Unusable,
    pub(crate) settled: EntryRemarks,
    pub(crate) programs: Programs,
    pub(crate) local_environment: Option<&'a LocalEnvironment>,
    pub(crate) known: &'a KnownSchemas,
    /// The texts that entries name.
    sources: &'a CatalogSources,
    /// Where the servers are kept as they are written, if somebody asks.
    pub(crate) written: Option<&'a mut Written>,
}

/// A server and its place.
#[derive(Debug)]
struct Part {
    entry: String,
    server: ServerEntry,
    literals: Literals,
    form: Form,
}

type Servers = HashMap<ServerId, Arc<Server>>;
type Tools = BTreeMap<ToolId, Arc<Tool>>;

/// What is right of them.
pub(crate) struct Checked {
    pub(crate) servers: Servers,
    pub(crate) tools: Tools,
    pub(crate) offered: HashMap<ServerId, Offered>,
    pub(crate) unusable: Unusable,
    pub(crate) settled: EntryRemarks,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(material: &'a CatalogSources, written: Option<&'a mut Written>) -> Self {
        Self {
            servers: Vec::new(),
            tools: Vec::new(),
            unusable: Unusable::default(),
            settled: EntryRemarks::default(),
            programs: material.programs,
            local_environment: material.local_environment.as_ref(),
            known: &material.known,
            sources: material,
            written,
        }
    }

    /// A server of our own form.
    pub(crate) fn own_server(&mut self, entry: &str, value: Value) -> Result<(), CatalogError> {
        let Value::Object(fields) = value else {
            return typed::<ServerEntry>(entry, value).map(|_| ());
        };
        let id = fields.get("id").and_then(Value::as_str).and_then(|id| ServerId::parse(id).ok());
        let Some(id) = id else {
            return typed::<ServerEntry>(entry, Value::Object(fields)).map(|_| ());
        };
        let normal = entry::normal(entry, id.as_str(), fields, Form::Own);
        let (mut fields, _) = match self.normal(&id, entry, normal) {
            Some(normal) => normal,
            None => return Ok(()),
        };
        self.keep(&id, &fields);
        if let Err(reason) = self.fill(&id, entry, &mut fields) {
            self.unusable.add(Some(id), None, entry, reason);
            return Ok(());
        }
        if fields.contains_key("openapi") {
            // The document says what there is; nobody else is asked.
            fields.entry("discover").or_insert(Value::Bool(true));
        }
        let server: ServerEntry = typed(entry, Value::Object(fields))?;
        let mut server = server.with_one_transport(entry, self.programs, self.local_environment.is_some())?;
        match server.read_openapi(self.sources) {
            Ok(Some(remark)) => self.remark(&format!("{entry}.openapi"), remark),
            Ok(None) => {}
            Err(reason) => {
                self.unusable.add(Some(id), None, entry, reason);
                return Ok(());
            }
        }
        self.server(entry, server, Literals::Refused, Form::Own);
        Ok(())
    }

    /// The servers of another program's file.
    pub(crate) fn imported(&mut self, imported: Imported) {
        self.settled.remarks.extend(imported.remarks);
        let mut taken: Vec<String> = self.servers.iter().map(|part| part.server.id.to_string()).collect();
        for mcp_servers::Entry { section, name, value, remarks } in imported.servers {
            let id = entry::id_of(&name, &taken);
            taken.push(id.clone());
            let entry = if section.is_empty() { id.clone() } else { format!("{section}.{id}") };
            let Ok(id) = ServerId::parse(id) else {
                self.remark(&entry, "is left out: no id can be made of its name");
                continue;
            };
            for (field, text) in remarks {
                self.remark(&below(&entry, &field), text);
            }
            let read = value.and_then(|value| self.foreign_server(&entry, &id, &name, value));
            if let Err(reason) = read {
                self.unusable.add(Some(id), None, &entry, reason);
            }
        }
    }

    fn foreign_server(&mut self, entry: &str, id: &ServerId, name: &str, value: Value) -> Result<(), String> {
        let Value::Object(mut fields) = value else {
            return Err(format!("it is {}; accepted is an object", kind(&value)));
        };
        // opencode's bounds the listing of tools.
        if entry.starts_with("mcp.")
            && !entry.starts_with("mcp.servers.")
            && fields.remove("timeout").is_some()
        {
            self.remark(&format!("{entry}.timeout"), "is not used here");
        }
        let normal = entry::normal(entry, id.as_str(), fields, Form::Foreign);
        let Some((mut fields, tools)) = self.normal(id, entry, normal) else {
            return Ok(());
        };
        fields.insert("id".to_owned(), Value::from(id.as_str()));
        if name != id.as_str() {
            fields.entry("name").or_insert_with(|| Value::from(name));
        }
        self.keep(id, &fields);
        if let Some(written) = &mut self.written {
            written.tools.extend(tools.iter().cloned());
        }
        let mut server = self.read(entry, id, fields)?;
        if let Some(remark) = server.read_openapi(self.sources)? {
            self.remark(&format!("{entry}.openapi"), remark);
        }
        let reason = |error: CatalogError| error.reason_below(entry);
        let mut drafts = Vec::new();
        for tool in tools {
            let tool: WireTool = typed(entry, tool).map_err(reason)?;
            drafts.push((entry.to_owned(), tool.draft(entry, self.known).map_err(reason)?));
        }
        self.tools.extend(drafts);
        self.server(entry, server, Literals::Refused, Form::Foreign);
        Ok(())
    }

    /// A server of another program's form, from the fields of our own.
    pub(crate) fn read(
        &mut self,
        entry: &str,
        id: &ServerId,
        mut fields: Map<String, Value>,
    ) -> Result<ServerEntry, String> {
        self.fill(id, entry, &mut fields)?;
        let server: ServerEntry =
            typed(entry, Value::Object(fields)).map_err(|error| error.reason_below(entry))?;
        server
            .with_one_transport(entry, self.programs, self.local_environment.is_some())
            .map_err(|error| error.reason_below(entry))
    }

    fn keep(&mut self, id: &ServerId, fields: &Map<String, Value>) {
        if let Some(written) = &mut self.written {
            written.servers.insert(id.clone(), fields.clone());
        }
    }

    /// Keeps the remarks of an entry and gives its fields, unless it cannot be called.
    fn normal(
        &mut self,
        id: &ServerId,
        entry: &str,
        normal: NormalizedEntry,
    ) -> Option<(Map<String, Value>, Vec<Value>)> {
        self.settled.remarks.extend(normal.remarks);
        match normal.not_callable {
            None => Some((normal.server, normal.tools)),
            Some(reason) => {
                self.unusable.add(Some(id.clone()), None, entry, reason);
                None
            }
        }
    }

    fn fill(&mut self, id: &ServerId, entry: &str, fields: &mut Map<String, Value>) -> Result<(), String> {
        self.filling(id.as_str(), entry).map_or(Ok(()), |mut filling| filling.server(fields))
    }

    /// What fills an entry in, where that is done.
    pub(crate) fn filling<'b>(&'b mut self, id: &'b str, entry: &'b str) -> Option<PlaceholderFiller<'b>> {
        self.local_environment.map(|local_environment| PlaceholderFiller {
            local_environment,
            entry,
            id,
            settled: &mut self.settled,
        })
    }

    pub(crate) fn server(&mut self, entry: &str, server: ServerEntry, literals: Literals, form: Form) {
        self.servers.push(Part { entry: entry.to_owned(), server, literals, form });
    }

    pub(crate) fn remark(&mut self, entry: &str, text: impl Into<String>) {
        self.settled.remarks.push(Remark { entry: entry.to_owned(), text: text.into() });
    }

    /// The servers and tools that can be called, and those that cannot.
    pub(crate) fn check(self) -> Result<Checked, CatalogError> {
        let mut unusable = self.unusable;
        let mut servers = Servers::new();
        for Part { entry, server, literals, form } in self.servers {
            let id = server.id.clone();
            let server = match (server.check(&entry, literals), form) {
                (Ok(server), _) => server,
                (Err(error), Form::Own) => return Err(error),
                (Err(error), Form::Foreign) => {
                    unusable.add(Some(id), None, &entry, error.reason_below(&entry));
                    continue;
                }
            };
            let twice = unusable.servers.contains_key(&server.id);
            if servers.insert(server.id.clone(), Arc::new(server)).is_some() || twice {
                return Err(invalid(&entry, "is duplicated; give each server an id of its own"));
            }
        }
        let mut tools = Tools::new();
        for (entry, draft) in self.tools {
            if let Some(found) = unusable.servers.get(&draft.server).cloned() {
                let id = &draft.server;
                let reason = format!("its server `{id}` cannot be called: {}", found.reason);
                let reason = if found.entry == entry { found.reason.clone() } else { reason };
                unusable.add(None, Some(draft.id), &entry, reason);
                continue;
            }
            if let Some(reason) = draft.without_operation(&servers) {
                unusable.add(None, Some(draft.id), &entry, reason);
                continue;
            }
            let tool = draft.check(&entry, &servers)?;
            let twice = unusable.tools.contains_key(&tool.id);
            if tools.insert(tool.id.clone(), Arc::new(tool)).is_some() || twice {
                return Err(invalid(&entry, "is duplicated; give each tool an id of its own"));
            }
        }
        names::check(tools.values(), &servers)?;
        Ok(Checked { offered: offered(&tools), servers, tools, unusable, settled: self.settled })
    }
}

/// Which tool a server's own name stands for. Where several offer it, the first by id: the same on every worker.
fn offered(tools: &Tools) -> HashMap<ServerId, Offered> {
    let mut offered: HashMap<ServerId, Offered> = HashMap::new();
    for tool in tools.values() {
        let names = offered.entry(tool.server.id.clone()).or_default();
        if tool.open {
            names.open.get_or_insert_with(|| tool.clone());
        }
        for function in &tool.functions {
            names.by_name.entry(function.name.clone()).or_insert_with(|| tool.clone());
        }
    }
    offered
}
