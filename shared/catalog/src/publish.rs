//! The section `publish`: which tools the gateway offers to MCP clients, and under which names.
//!
//! ```json
//! "publish": {"tools": {"weather": true, "orders/list": "list_orders"}, "servers": {"files": true, "crm": "sales"}}
//! ```
//!
//! A tool with one function has one name; with several functions, and for all that a server lists, a name is a prefix: `prefix__function`.
//! `"publish": "*"` publishes all registered tools, and all servers that are open to what they list.
//!
//! **Invariant:** a name leads to one tool, and a client and a model can write it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};
use toolfleet_core::ids::{ServerId, ToolId};

use crate::error::{CatalogError, invalid};
use crate::json;
use crate::server::Server;
use crate::tool::Tool;

/// Between the prefix of a published name and a function's own name.
const SEPARATOR: &str = "__";
/// The longest name, in characters.
const MAX_CHARS: usize = 64;
/// The tools of the gateway itself.
const RESERVED: [&str; 2] = ["get_result", "search_tools"];

/// What is published.
#[derive(Debug, Clone, Default)]
pub struct Published {
    tools: BTreeMap<String, PublishedTool>,
    servers: BTreeMap<String, Arc<Server>>,
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

/// Why a name is none that every client accepts; `None` if it is one.
fn wrong_name(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let fits = (1..=MAX_CHARS).contains(&name.len()) && name.chars().all(allowed);
    (!fits).then(|| {
        format!("cannot be a published name; accepted are 1 to {MAX_CHARS} characters of A-Z a-z 0-9 _ . -")
    })
}

impl Published {
    /// Whether nothing is published.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty() && self.servers.is_empty()
    }

    /// The published functions of registered tools, by name.
    pub fn tools(&self) -> impl Iterator<Item = (&str, &PublishedTool)> {
        self.tools.iter().map(|(name, tool)| (name.as_str(), tool))
    }

    /// The servers of which all that they list is published, by the prefix of their names.
    pub fn servers(&self) -> impl Iterator<Item = (&str, &Arc<Server>)> {
        self.servers.iter().map(|(prefix, server)| (prefix.as_str(), server))
    }

    /// The published name of what a server lists as `listed`, unless clients cannot write it or the tool is published by itself.
    pub fn name_of(&self, prefix: &str, server: &Server, listed: &str) -> Option<String> {
        let name = format!("{prefix}{SEPARATOR}{listed}");
        if listed.is_empty() {
            return None;
        }
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

    /// What the name leads to.
    pub fn find(&self, name: &str) -> Option<PublishedName> {
        if let Some(tool) = self.tools.get(name) {
            return Some(PublishedName::Tool(tool.clone()));
        }
        self.servers.iter().find_map(|(prefix, server)| {
            let listed = name.strip_prefix(prefix.as_str())?.strip_prefix(SEPARATOR)?;
            self.name_of(prefix, server, listed)?;
            Some(PublishedName::OnServer { server: Arc::clone(server), name: listed.to_owned() })
        })
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

    /// Reads and checks the section.
    pub(crate) fn published(&self, section: Option<Value>) -> Result<Published, CatalogError> {
        let mut builder = Builder { registered: self, published: Published::default() };
        match section {
            None | Some(Value::Null) => {}
            Some(Value::String(all)) if all == "*" => builder.all()?,
            Some(Value::Object(mut section)) => {
                let tools = part(&mut section, "tools")?;
                let servers = part(&mut section, "servers")?;
                if let Some(other) = section.keys().next() {
                    let text = "is unknown; accepted are `tools` and `servers`";
                    return Err(invalid(&format!("publish.{other}"), text));
                }
                for (id, name) in servers {
                    builder.server(&id, &name)?;
                }
                for (id, name) in tools {
                    builder.tool(&id, &name)?;
                }
            }
            Some(other) => {
                let text = format!(
                    "is {}; accepted is \"*\", or an object with `tools` and `servers`",
                    json::kind(&other)
                );
                return Err(invalid("publish", text));
            }
        }
        builder.published.check_prefixes()?;
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
        self.publish_server(&place, &prefix, server)
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
            return self.publish_server(&place, &name, &tool.server);
        }
        for function in &tool.functions {
            let name = match tool.functions.len() {
                1 => name.clone(),
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

fn clash(place: &str, name: &str, other: &str) -> CatalogError {
    invalid(place, format!("has the name `{name}`, which {other} has already; give one of them another name"))
}

/// The name that is chosen for `id`; none where it is not published.
fn chosen(place: &str, id: &str, name: &Value) -> Result<Option<String>, CatalogError> {
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
        None => Ok(Some(name.to_owned())),
        Some(wrong) => Err(invalid(place, format!("`{name}` {wrong}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::PublishedName;
    use crate::Catalog;

    fn catalog(publish: &serde_json::Value) -> Result<Catalog, String> {
        let catalog = json!({
            "servers": [
                {"id": "crm", "url": "https://crm.example.com/mcp"},
                {"id": "files", "url": "https://files.example.com/mcp", "discover": true},
                {"id": "mail", "url": "https://mail.example.com/mcp", "discover": true},
            ],
            "tools": [
                {"id": "orders/list", "server": "crm", "name": "orders"},
                {"id": "weather", "server": "crm"},
                {"id": "geo", "server": "crm", "functions": [{"name": "find"}, {"name": "name"}]},
            ],
            "tenants": {"queue": ["*"]},
            "publish": publish,
        });
        Catalog::parse(&catalog.to_string()).map_err(|error| error.to_string())
    }

    fn names(publish: &serde_json::Value) -> Vec<String> {
        let catalog = catalog(publish).unwrap();
        catalog.published().tools().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn nothing_is_published_unless_the_catalog_says_so() {
        assert!(catalog(&json!(null)).unwrap().published().is_empty());
        assert!(catalog(&json!({})).unwrap().published().is_empty());
        assert!(names(&json!({"tools": {"weather": false}})).is_empty());
    }

    #[test]
    fn a_tool_has_its_id_or_the_name_it_is_given() {
        let published = json!({"tools": {"weather": true, "orders/list": "list_orders", "geo": "geo"}});
        assert_eq!(names(&published), ["geo__find", "geo__name", "list_orders", "weather"]);
    }

    #[test]
    fn a_name_of_a_server_leads_to_what_it_lists() {
        let catalog = catalog(&json!({"servers": {"files": "fs"}})).unwrap();
        match catalog.published().find("fs__read_file") {
            Some(PublishedName::OnServer { server, name }) => {
                assert_eq!((server.id.as_str(), name.as_str()), ("files", "read_file"));
            }
            other => panic!("{other:?}"),
        }
        for name in ["fs", "fs__", "files__read_file", "read_file"] {
            assert!(catalog.published().find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn all_is_published_by_a_star() {
        assert_eq!(names(&json!("*")), ["geo__find", "geo__name", "weather"]);
    }

    #[test]
    fn an_error_names_the_place_and_the_remedy() {
        let refused = |publish: serde_json::Value, parts: &[&str]| {
            let error = catalog(&publish).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        };
        refused(json!({"tools": {"nothing": true}}), &["publish.tools.nothing", "no tool"]);
        refused(json!({"tools": {"orders/list": true}}), &["publish.tools.orders/list", "A-Z a-z 0-9 _ . -"]);
        refused(json!({"tools": {"weather": "get_result"}}), &["the gateway itself"]);
        refused(json!({"tools": {"weather": "x", "orders/list": "x"}}), &["`x`", "already"]);
        refused(json!({"servers": {"crm": true}}), &["publish.servers.crm", "discover"]);
        refused(json!({"servers": {"files": true}, "tools": {"weather": "files__x"}}), &["prefix `files`"]);
        refused(json!({"servers": {"files": "a", "mail": "a__b"}}), &["`a__b__`", "prefix `a`"]);
        refused(json!({"servers": {"files": "a", "mail": "a_"}}), &["`a___`", "prefix `a`"]);
        refused(
            json!({"servers": {"files": "geo"}, "tools": {"geo": true}}),
            &["`geo__find`", "prefix `geo`"],
        );
        refused(json!({"tool": {}}), &["publish.tool", "accepted are `tools`"]);
        refused(json!(["weather"]), &["publish: is an array"]);
        refused(json!({"tools": {"weather": 1}}), &["accepted are true, false and a name"]);
    }
}
