//! The section `publish`: which tools, prompts and resources the gateway offers to MCP clients, and under which names.
//!
//! ```json
//! "publish": {"tools": {"weather": true, "orders/list": "list_orders"}, "servers": {"files": true, "crm": "sales"},
//!             "prompts": {"files": true}, "resources": {"files": true}, "subscriptions": ["files"]}
//! ```
//!
//! A tool with one function has one name; with several functions, and for all that a server lists, a name is a prefix: `prefix__function`.
//! `"publish": "*"` publishes all registered tools, and all of the servers that are open to what they list.
//!
//! **Invariant:** a name leads to one tool, and a client and a model can write it.

mod prefixes;
mod prompts;
mod resources;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{ServerId, ToolId};

use crate::error::{CatalogError, invalid};
use crate::json;
use crate::server::Server;
use crate::tool::Tool;

use prefixes::{SEPARATOR, clash};

pub use prompts::PublishedPrompts;
pub use resources::PublishedResources;

/// The longest name, in characters.
const MAX_CHARS: usize = 64;
/// How many digits of a digest stand at the end of a name that was cut to that length.
const MARK_CHARS: usize = 8;
/// The tools of the gateway itself.
const RESERVED: [&str; 2] = ["get_result", "search_tools"];

/// What is published.
#[derive(Debug, Clone, Default)]
pub struct Published {
    tools: BTreeMap<String, PublishedTool>,
    servers: BTreeMap<String, Arc<Server>>,
    prompts: PublishedPrompts,
    resources: PublishedResources,
}

/// A published function of a registered tool.
#[derive(Debug, Clone)]
pub struct PublishedTool {
    /// The tool.
    pub tool: Arc<Tool>,
    /// The function's name on the tool's server.
    pub function: String,
}

/// What a published name leads to.
#[derive(Debug, Clone)]
pub enum PublishedName {
    /// A function of a registered tool.
    Tool(PublishedTool),
    /// A tool of a server by the server's own name for it.
    OnServer {
        /// The server.
        server: Arc<Server>,
        /// The name there.
        name: String,
    },
}

/// Whether the name is as long as those that were cut.
pub const fn may_be_cut(name: &str) -> bool {
    name.len() == MAX_CHARS
}

fn has_allowed_characters(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Why a name is none that every client accepts; `None` if it is one.
fn wrong_name(name: &str) -> Option<String> {
    let fits = (1..=MAX_CHARS).contains(&name.len()) && has_allowed_characters(name);
    (!fits).then(|| {
        format!("cannot be a published name; accepted are 1 to {MAX_CHARS} characters of A-Z a-z 0-9 _ . -")
    })
}

/// A name that is too long, cut; none where nothing of the listed name would be left.
fn cut(whole: &str, prefix: &str, server: &Server, listed: &str) -> Option<String> {
    let kept = MAX_CHARS - MARK_CHARS - 1;
    let start = whole.get(..kept).filter(|_| prefix.len() + SEPARATOR.len() < kept)?;
    let mark = Digest::of_text(&format!("{}\n{listed}", server.id));
    has_allowed_characters(whole).then(|| format!("{start}_{}", mark.short(MARK_CHARS)))
}

impl Published {
    /// Whether nothing is published.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
            && self.servers.is_empty()
            && self.prompts.is_empty()
            && self.resources.is_empty()
    }

    /// The published prompts.
    pub const fn prompts(&self) -> &PublishedPrompts {
        &self.prompts
    }

    /// The published resources.
    pub const fn resources(&self) -> &PublishedResources {
        &self.resources
    }

    /// The published functions of registered tools, by name.
    pub fn tools(&self) -> impl Iterator<Item = (&str, &PublishedTool)> {
        self.tools.iter().map(|(name, tool)| (name.as_str(), tool))
    }

    /// The servers of which all that they list is published, by the prefix of their names.
    pub fn servers(&self) -> impl Iterator<Item = (&str, &Arc<Server>)> {
        self.servers.iter().map(|(prefix, server)| (prefix.as_str(), server))
    }

    /// The published name of what a server lists as `listed`, unless clients cannot write it or the tool is published by itself. A long name is cut,
    /// and ends with a part of the digest of server and name: it is the same whatever else is listed.
    pub fn name_of(&self, prefix: &str, server: &Server, listed: &str) -> Option<String> {
        let whole = format!("{prefix}{SEPARATOR}{listed}");
        if listed.is_empty() {
            return None;
        }
        let name = if whole.len() > MAX_CHARS { cut(&whole, prefix, server, listed)? } else { whole };
        let by_itself = |one: &PublishedTool| one.tool.server.id == server.id && one.function == listed;
        (wrong_name(&name).is_none() && !self.tools.values().any(by_itself)).then_some(name)
    }

    /// Whether no name can be of a server and of something else too. What a server lists is not known here: its names are all that begin so.
    fn check_prefixes(&self) -> Result<(), CatalogError> {
        for (prefix, server) in &self.servers {
            let beginning = format!("{prefix}{SEPARATOR}");
            let tools =
                self.tools.iter().map(|(name, one)| (name.clone(), format!("tool `{}`", one.tool.id)));
            let others = self.servers.iter().filter(|(other, _)| *other != prefix);
            let others = others
                .map(|(other, server)| (format!("{other}{SEPARATOR}"), format!("server `{}`", server.id)));
            if let Some((name, other)) = tools.chain(others).find(|(name, _)| name.starts_with(&beginning)) {
                let text = format!(
                    "the name `{name}` of {other} begins as the names of the server `{}` with the prefix `{prefix}`; give one of them \
                     another name",
                    server.id
                );
                return Err(invalid("publish", text));
            }
        }
        Ok(())
    }

    /// What the name leads to. A cut name of a server whose tools the catalog does not know leads to that server, and to whatever
    /// [`Published::uncut`] finds in its list.
    pub fn find(&self, name: &str) -> Option<PublishedName> {
        if let Some(tool) = self.tools.get(name) {
            return Some(PublishedName::Tool(tool.clone()));
        }
        let (prefix, server) = self.server_of(name)?;
        let listed = name.strip_prefix(prefix)?.strip_prefix(SEPARATOR)?;
        self.name_of(prefix, server, listed)?;
        let interface = server.openapi().map(|openapi| &openapi.interface).filter(|_| may_be_cut(name));
        let uncut = interface.and_then(|interface| self.uncut(name, interface.names()));
        let listed = uncut.unwrap_or(listed);
        Some(PublishedName::OnServer { server: Arc::clone(server), name: listed.to_owned() })
    }

    /// The server whose published names begin as this one, and their prefix.
    pub fn server_of(&self, name: &str) -> Option<(&str, &Arc<Server>)> {
        let is_of = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(SEPARATOR));
        self.servers().find(|(prefix, _)| is_of(prefix))
    }

    /// Which of the names that its server lists was cut to this one; none if it is no cut name.
    pub fn uncut<'n>(&self, name: &str, mut listed: impl Iterator<Item = &'n str>) -> Option<&'n str> {
        let (prefix, server) = self.server_of(name).filter(|_| may_be_cut(name))?;
        let is_long = |one: &str| prefix.len() + SEPARATOR.len() + one.len() > MAX_CHARS;
        listed.find(|one| is_long(one) && self.name_of(prefix, server, one).as_deref() == Some(name))
    }
}

/// What a catalog registers, which the section may name.
pub(crate) struct Registered<'a> {
    pub(crate) tools: &'a BTreeMap<ToolId, Arc<Tool>>,
    pub(crate) servers: &'a HashMap<ServerId, Arc<Server>>,
    /// Whether a registered tool stands for all that the server lists.
    pub(crate) stands_for_all: &'a dyn Fn(&ServerId) -> bool,
    /// Whether the catalog names the tool or server, and it cannot be called.
    pub(crate) is_unusable: &'a dyn Fn(&str) -> bool,
}

impl Registered<'_> {
    fn is_open(&self, server: &Server) -> bool {
        (server.discover || (self.stands_for_all)(&server.id)) && server.lists_tools()
    }

    /// Whether it may have prompts and resources, and is open to them.
    fn is_readable(&self, server: &Server) -> bool {
        self.is_open(server) && server.is_mcp_endpoint()
    }

    /// Reads and checks the section.
    pub(crate) fn published(&self, section: Option<Value>) -> Result<Published, CatalogError> {
        let mut builder = Builder { registered: self, published: Published::default() };
        match section {
            None | Some(Value::Null) => {}
            Some(Value::String(all)) if all == "*" => builder.all()?,
            Some(Value::Object(mut section)) => {
                let tools = part(&mut section, "tools")?;
                let servers = part(&mut section, "servers")?;
                let prompts = part(&mut section, "prompts")?;
                let resources = part(&mut section, "resources")?;
                let subscriptions = section.remove("subscriptions");
                if let Some(other) = section.keys().next() {
                    let text = "is unknown; accepted are `tools`, `servers`, `prompts`, `resources` and `subscriptions`";
                    return Err(invalid(&format!("publish.{other}"), text));
                }
                for (id, name) in servers {
                    builder.server(&id, &name)?;
                }
                for (id, name) in tools {
                    builder.tool(&id, &name)?;
                }
                builder.readable(&Readable::Prompts, &prompts)?;
                builder.readable(&Readable::Resources, &resources)?;
                builder.subscriptions(subscriptions.unwrap_or_default())?;
            }
            Some(other) => {
                let text = format!(
                    "is {}; accepted is \"*\", or an object with `tools`, `servers`, `prompts` and `resources`",
                    json::kind(&other)
                );
                return Err(invalid("publish", text));
            }
        }
        builder.published.check_prefixes()?;
        builder.published.prompts.check()?;
        Ok(builder.published)
    }
}

fn part(section: &mut Map<String, Value>, name: &str) -> Result<Map<String, Value>, CatalogError> {
    match section.remove(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(part)) => Ok(part),
        Some(other) => {
            let text = format!(
                "is {}; accepted is an object: an id of the catalog, and `true` or a name",
                json::kind(&other)
            );
            Err(invalid(&format!("publish.{name}"), text))
        }
    }
}

/// What a server has beside tools.
enum Readable {
    Prompts,
    Resources,
}

impl Readable {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Prompts => "prompts",
            Self::Resources => "resources",
        }
    }
}

struct Builder<'a> {
    registered: &'a Registered<'a>,
    published: Published,
}

impl Builder<'_> {
    /// All that is registered. An id that is no published name is left out: nobody chose it to be one.
    fn all(&mut self) -> Result<(), CatalogError> {
        let open: Vec<_> =
            self.registered.servers.values().filter(|one| self.registered.is_open(one)).collect();
        for server in open.into_iter().filter(|server| wrong_name(server.id.as_str()).is_none()) {
            self.server(server.id.as_str(), &Value::Bool(true))?;
        }
        let tools: Vec<_> = self.registered.tools.values().filter(|tool| !tool.open).collect();
        for tool in tools.into_iter().filter(|tool| wrong_name(tool.id.as_str()).is_none()) {
            self.tool(tool.id.as_str(), &Value::Bool(true))?;
        }
        let readable = self.registered.servers.values().filter(|one| self.registered.is_readable(one));
        let named = readable.filter(|server| wrong_name(server.id.as_str()).is_none());
        let all: Map<_, _> = named.map(|server| (server.id.to_string(), Value::Bool(true))).collect();
        self.readable(&Readable::Prompts, &all)?;
        self.readable(&Readable::Resources, &all)
    }

    /// Lets clients subscribe to the resources of the servers in this list.
    fn subscriptions(&mut self, list: Value) -> Result<(), CatalogError> {
        let servers = match list {
            Value::Null => return Ok(()),
            Value::Array(servers) => servers,
            other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
                let text = format!("is {}; accepted is a list of ids of servers", json::kind(&other));
                return Err(invalid("publish.subscriptions", text));
            }
        };
        for (place, id) in servers.iter().enumerate() {
            let place = format!("publish.subscriptions[{place}]");
            let Some(id) = id.as_str() else {
                let text = format!("is {}; accepted is the id of a server", json::kind(id));
                return Err(invalid(&place, text));
            };
            let server = self.published.resources.servers.servers().find(|server| server.id.as_str() == id);
            match server.map(|server| server.id.clone()) {
                Some(id) => {
                    self.published.resources.subscribable.insert(id);
                }
                None if (self.registered.is_unusable)(id) => {}
                None => {
                    let text =
                        format!("`{id}` is no server of `publish.resources`; add it there, or leave it out");
                    return Err(invalid(&place, text));
                }
            }
        }
        Ok(())
    }

    /// Publishes the prompts or the resources of these servers.
    fn readable(&mut self, what: &Readable, servers: &Map<String, Value>) -> Result<(), CatalogError> {
        let place_of = |id: &str| format!("publish.{}.{id}", what.as_str());
        let mut chosen = Vec::new();
        for (id, name) in servers {
            let place = place_of(id);
            let Some(prefix) = chosen_prefix(&place, id, name)? else { continue };
            let Some(server) = self.registered.servers.get(id.as_str()) else {
                self.unknown(&place, id, "server")?;
                continue;
            };
            if !self.registered.is_readable(server) {
                let text = format!(
                    "has no {} to publish: it is no MCP server that workers reach themselves, or it is open to its registered tools alone; \
                     set `discover` of the server, or leave it out",
                    what.as_str()
                );
                return Err(invalid(&place, text));
            }
            chosen.push((place, prefix, Arc::clone(server), name == &Value::Bool(true)));
        }
        // One that cannot be called counts: else the addresses of the other would change with it.
        let is_only_one = servers.values().filter(|name| **name != Value::Bool(false)).count() == 1;
        for (place, prefix, server, is_default) in chosen {
            match what {
                Readable::Prompts => self.published.prompts.0.add(&place, prefix, &server)?,
                // The addresses of the only server need nothing to tell them from those of others.
                Readable::Resources if is_only_one && is_default => {
                    self.published.resources.servers.add(&place, "", &server)?;
                }
                Readable::Resources => self.published.resources.servers.add(&place, prefix, &server)?,
            }
        }
        Ok(())
    }

    fn server(&mut self, id: &str, name: &Value) -> Result<(), CatalogError> {
        let place = format!("publish.servers.{id}");
        let Some(prefix) = chosen(&place, id, name)? else { return Ok(()) };
        let Some(server) = self.registered.servers.get(id) else {
            return self.unknown(&place, id, "server");
        };
        if !self.registered.is_open(server) {
            let text = "is open to its registered tools alone; publish those under `publish.tools`, or set `discover` of the server";
            return Err(invalid(&place, text));
        }
        self.publish_server(&place, prefix, server)
    }

    fn publish_server(
        &mut self,
        place: &str,
        prefix: &str,
        server: &Arc<Server>,
    ) -> Result<(), CatalogError> {
        if let Some(other) = self.published.servers.insert(prefix.to_owned(), Arc::clone(server)) {
            return Err(clash(place, prefix, &format!("server `{}`", other.id)));
        }
        Ok(())
    }

    fn tool(&mut self, id: &str, name: &Value) -> Result<(), CatalogError> {
        let place = format!("publish.tools.{id}");
        let Some(name) = chosen(&place, id, name)? else { return Ok(()) };
        let Some(tool) = self.registered.tools.get(id) else {
            return self.unknown(&place, id, "tool");
        };
        if tool.open {
            return self.publish_server(&place, name, &tool.server);
        }
        for function in &tool.functions {
            let name = match tool.functions.len() {
                1 => name.to_owned(),
                _ => format!("{name}{SEPARATOR}{}", function.name),
            };
            self.add(
                &place,
                name,
                PublishedTool { tool: Arc::clone(tool), function: function.name.clone() },
            )?;
        }
        Ok(())
    }

    fn add(&mut self, place: &str, name: String, tool: PublishedTool) -> Result<(), CatalogError> {
        if let Some(wrong) = wrong_name(&name) {
            return Err(invalid(place, format!("`{name}` {wrong}")));
        }
        if RESERVED.contains(&name.as_str()) {
            let text = format!("`{name}` is a tool of the gateway itself; give another name");
            return Err(invalid(place, text));
        }
        match self.published.tools.insert(name.clone(), tool) {
            None => Ok(()),
            Some(other) => Err(clash(place, &name, &format!("tool `{}`", other.tool.id))),
        }
    }

    /// What cannot be called is not published, and is no error: the catalog says elsewhere why it cannot be called.
    fn unknown(&self, place: &str, id: &str, what: &str) -> Result<(), CatalogError> {
        if (self.registered.is_unusable)(id) {
            return Ok(());
        }
        Err(invalid(place, format!("is no {what} of the catalog")))
    }
}

/// The name that is chosen for `id`; none where it is not published.
fn chosen<'a>(place: &str, id: &'a str, name: &'a Value) -> Result<Option<&'a str>, CatalogError> {
    let name = match name {
        Value::Bool(false) => return Ok(None),
        Value::Bool(true) => id,
        Value::String(name) => name.as_str(),
        other @ (Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            let text = format!("is {}; accepted are true, false and a name", json::kind(other));
            return Err(invalid(place, text));
        }
    };
    match wrong_name(name) {
        None => Ok(Some(name)),
        Some(wrong) => Err(invalid(place, format!("`{name}` {wrong}"))),
    }
}

/// The prefix that is chosen for what a server has beside tools. It may be empty.
fn chosen_prefix<'a>(place: &str, id: &'a str, name: &'a Value) -> Result<Option<&'a str>, CatalogError> {
    match name.as_str() {
        Some("") => Ok(Some("")),
        Some(_) | None => chosen(place, id, name),
    }
}

#[cfg(test)]
mod tests;
