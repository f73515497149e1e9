//! Imports servers as the MCP registry describes them: a `server.json`, an answer of the registry's interface, or a list of either.
//!
//! A server with several ways to reach it is taken by the first that can be used: a streamable HTTP address, a package, an address of
//! the old HTTP+SSE transport. Field names of the revisions before 2025-09-16 (`registry_type`) are accepted.

mod inputs;
mod package;
mod remote;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::mcp_servers::{Entry, Imported, SECTIONS};
use crate::unusable::Remark;

/// Where the registry keeps what it says of a server itself.
const OFFICIAL: &str = "io.modelcontextprotocol.registry/official";

/// Takes the servers out of a file of that form. Sections of our own form stay.
pub(crate) fn take(file: &mut Map<String, Value>) -> Option<Imported> {
    if is_server(&Value::Object(file.clone())) || file.get("server").is_some_and(is_server) {
        let rest = |key: &String| SECTIONS.contains(&key.as_str()) && key != "servers";
        let own = file.clone().into_iter().filter(|(key, _)| rest(key)).collect();
        let document = Value::Object(std::mem::replace(file, own));
        return Some(imported(vec![document]));
    }
    let is_page = file.get("servers").and_then(Value::as_array).is_some_and(|items| is_list(items));
    if !is_page {
        return None;
    }
    let Some(Value::Array(items)) = file.remove("servers") else {
        return None;
    };
    let mut imported = imported(items);
    let metadata = file.remove("metadata").unwrap_or_default();
    if ["nextCursor", "next_cursor"].iter().any(|field| metadata.get(field).is_some_and(Value::is_string)) {
        let text = "is one page of a list: it has more servers, which are not in this file; get the next page with its `cursor`";
        imported.remarks.push(Remark { entry: "metadata".to_owned(), text: text.to_owned() });
    }
    Some(imported)
}

/// Takes a list of such servers by itself.
pub(crate) fn take_list(items: &[Value]) -> Option<Imported> {
    is_list(items).then(|| imported(items.to_vec()))
}

fn is_list(items: &[Value]) -> bool {
    !items.is_empty() && items.iter().all(|item| is_server(document(item)))
}

/// The description itself, which the registry's interface puts under `server`.
fn document(item: &Value) -> &Value {
    item.get("server").unwrap_or(item)
}

fn is_server(value: &Value) -> bool {
    let has_list = |field: &str| value.get(field).is_some_and(Value::is_array);
    let is_schema = value.get("$schema").and_then(Value::as_str).is_some_and(|schema| {
        schema.contains("modelcontextprotocol") && schema.ends_with("server.schema.json")
    });
    value.get("name").is_some_and(Value::is_string)
        && (has_list("packages") || has_list("remotes") || is_schema)
        && ["id", "command", "url"].iter().all(|field| value.get(field).is_none())
}

/// The servers of a file, each in its latest version.
fn imported(items: Vec<Value>) -> Imported {
    let scoped = items.len() > 1;
    let mut remarks = Vec::new();
    let mut order: Vec<String> = Vec::new();
    let mut latest: BTreeMap<String, Value> = BTreeMap::new();
    for item in items {
        let name = document(&item).get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let older = match latest.get(&name) {
            None => {
                order.push(name.clone());
                latest.insert(name, item);
                continue;
            }
            Some(known) if official(known, "isLatest").is_some_and(|value| value == &json!(true)) => item,
            Some(_) => latest.insert(name.clone(), item).unwrap_or_default(),
        };
        let version = document(&older).get("version").and_then(Value::as_str).unwrap_or("without a number");
        let text = format!("stands here in several versions; {version} is left out");
        remarks.push(Remark { entry: format!("servers.{name}"), text });
    }
    let servers =
        order.into_iter().filter_map(|name| Some(entry(latest.remove(&name)?, name, scoped))).collect();
    Imported { servers, remarks }
}

fn official<'a>(item: &'a Value, field: &str) -> Option<&'a Value> {
    item.get("_meta")?.get(OFFICIAL)?.get(field)
}

fn entry(item: Value, name: String, scoped: bool) -> Entry {
    let server = document(&item);
    let status = official(&item, "status").or_else(|| server.get("status")).and_then(Value::as_str);
    let mut remarks = Vec::new();
    if status == Some("deprecated") {
        remarks.push(("status".to_owned(), "is `deprecated` in the registry".to_owned()));
    }
    let value = if status == Some("deleted") {
        Err("is deleted in the registry; use another server".to_owned())
    } else {
        way(server, &name, scoped, &mut remarks).map(Value::Object)
    };
    Entry { section: "servers", name, value, remarks }
}

/// One way to reach a server: the place in the description, and what it says.
enum Way<'a> {
    Remote(usize, &'a Value),
    Package(usize, &'a Value),
}

impl Way<'_> {
    fn place(&self) -> String {
        match self {
            Self::Remote(i, _) => format!("remotes[{i}]"),
            Self::Package(i, _) => format!("packages[{i}]"),
        }
    }
}

/// The fields of the first way that can be used.
fn way(
    server: &Value,
    name: &str,
    scoped: bool,
    remarks: &mut Vec<(String, String)>,
) -> Result<Map<String, Value>, String> {
    let ways = ways(server);
    let count = ways.len();
    let mut wrong = Vec::new();
    for (tried, way) in ways.into_iter().enumerate() {
        let place = way.place();
        let mut asked = Asked::of(name);
        let fields = match way {
            Way::Remote(_, value) => remote::fields(value, &mut asked),
            Way::Package(_, value) => package::fields(value, scoped, &mut asked),
        };
        match fields {
            Err(reason) => wrong.push((place, reason)),
            Ok(mut fields) => {
                remarks.append(&mut asked.remarks);
                remarks.extend(
                    wrong.into_iter().map(|(place, reason)| (place, format!("{reason}; it is left out"))),
                );
                match count - tried - 1 {
                    0 => {}
                    others => {
                        remarks.push((place, format!("is used; {others} more in the description are not")))
                    }
                }
                for (field, of) in [("name", "title"), ("description", "description")] {
                    if let Some(text) = server.get(of).filter(|text| text.is_string()) {
                        fields.insert(field.to_owned(), text.clone());
                    }
                }
                return Ok(fields);
            }
        }
    }
    if wrong.is_empty() {
        return Err(
            "has neither `remotes` nor `packages`, so nothing says how to reach it; write `url` or `command`"
                .to_owned(),
        );
    }
    let wrong: Vec<_> = wrong.iter().map(|(place, reason)| format!("`{place}` {reason}")).collect();
    Err(wrong.join("; "))
}

/// The ways to reach a server, the best first.
fn ways(server: &Value) -> Vec<Way<'_>> {
    let list = |field: &str| server.get(field).and_then(Value::as_array).into_iter().flatten().enumerate();
    let is_old = |value: &Value| remote::kind(value) == Some("sse");
    let new = list("remotes").filter(|(_, value)| !is_old(value)).map(|(i, value)| Way::Remote(i, value));
    let packages = list("packages").map(|(i, value)| Way::Package(i, value));
    let old = list("remotes").filter(|(_, value)| is_old(value)).map(|(i, value)| Way::Remote(i, value));
    new.chain(packages).chain(old).collect()
}
