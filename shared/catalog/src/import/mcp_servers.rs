//! Finds the servers in the configuration files of other programs: Claude, Cursor, VS Code, Cline, Windsurf, Gemini CLI, Zed, opencode
//! and others that keep a map of names and servers. docs/guides/configuration.md lists them.

use serde_json::{Map, Value};

use crate::unusable::Remark;
use toolfleet_core::redact::quoted;

/// The sections of a catalog in our own form.
pub(crate) const SECTIONS: [&str; 8] =
    ["servers", "tools", "pika", "idp", "tenants", "reply_queues", "pins", "publish"];

/// The servers of another program's file.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// By section and name, as the file has them.
    pub(crate) servers: Vec<Entry>,
    pub(crate) remarks: Vec<Remark>,
}

/// One server as another program's file has it.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where it stands.
    pub(crate) section: &'static str,
    /// What the file calls it.
    pub(crate) name: String,
    /// What stands there, or why it cannot be called.
    pub(crate) value: Result<Value, String>,
    /// What the reading says of its fields: the field, and the text.
    pub(crate) remarks: Vec<(String, String)>,
}

/// Sections that are a map of servers wherever they stand.
const MAPS: [&str; 6] =
    ["mcpServers", "context_servers", "mcp_servers", "amp.mcpServers", "mcp.servers", "mcp-servers"];

/// Takes the sections of other programs out of a file. What else stands in such a file is named and left out, unless it is a section of
/// our own.
pub(crate) fn take(file: &mut Map<String, Value>) -> Option<Imported> {
    let mut imported = Imported::default();
    let mut found = false;
    for section in MAPS {
        if let Some(value) = file.remove(section) {
            found = true;
            add(&mut imported, section, value);
        }
    }
    if let Some(Value::Object(mut mcp)) = file.remove("mcp") {
        found = true;
        match mcp.remove("servers") {
            // VS Code's settings.json.
            Some(servers) => {
                mcp.remove("inputs");
                add(&mut imported, "mcp.servers", servers);
                others(&mut imported, "mcp", &mcp);
            }
            // opencode's; other programs keep their options there.
            None => {
                mcp.retain(|_, value| value.is_object());
                add(&mut imported, "mcp", Value::Object(mcp));
            }
        }
    }
    if is_vs_codes(file)
        && let Some(servers) = file.remove("servers")
    {
        found = true;
        file.remove("inputs");
        add(&mut imported, "servers", servers);
    }
    if !found && is_a_bare_map(file) {
        found = true;
        add(&mut imported, "", Value::Object(std::mem::take(file)));
    }
    if !found {
        return None;
    }
    own_sections(&mut imported, file);
    Some(imported)
}

/// VS Code's `mcp.json` has a section `servers` as our own form does; its map stands with `inputs` or by itself.
fn is_vs_codes(file: &Map<String, Value>) -> bool {
    // `toolfleet tools approve` adds `pins` to it.
    let own = |key: &String| SECTIONS.contains(&key.as_str()) && key != "servers" && key != "pins";
    file.get("servers").is_some_and(Value::is_object)
        && (file.contains_key("inputs") || !file.keys().any(own))
}

/// A map of names and servers without anything around it, as LangChain's MCP adapters and Warp take it.
fn is_a_bare_map(file: &Map<String, Value>) -> bool {
    let is_server = |value: &Value| {
        let has = |field: &str| value.get(field).is_some_and(|value| value.is_string() || value.is_array());
        (has("command") || has("url") || has("serverUrl") || has("httpUrl"))
            && !["executionType", "mcp_url", "image", "build"].iter().any(|field| value.get(field).is_some())
    };
    let own = |key: &String| SECTIONS.contains(&key.as_str());
    !file.is_empty() && file.values().all(is_server) && !file.keys().any(own)
}

fn add(imported: &mut Imported, section: &'static str, value: Value) {
    match value {
        Value::Object(servers) => {
            let entries = servers.into_iter().map(|(name, value)| Entry {
                section,
                name,
                value: Ok(value),
                remarks: Vec::new(),
            });
            imported.servers.extend(entries);
        }
        // Continue's list of servers, each with a name.
        Value::Array(servers) => {
            for (i, mut value) in servers.into_iter().enumerate() {
                let name = value.as_object_mut().and_then(|server| {
                    let name = server.get("id").or_else(|| server.get("name"))?.as_str().map(str::to_owned);
                    server.remove("id");
                    name
                });
                let name = name.unwrap_or_else(|| format!("{section}-{}", i + 1));
                imported.servers.push(Entry { section, name, value: Ok(value), remarks: Vec::new() });
            }
        }
        Value::Null => {}
        other @ (Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            let text = format!("is {}; accepted is a map of names and servers", crate::json::kind(&other));
            imported.remarks.push(Remark { entry: section.to_owned(), text });
        }
    }
}

/// Leaves the sections of our own form, and names what else there was.
pub(super) fn own_sections(imported: &mut Imported, file: &mut Map<String, Value>) {
    // Amazon Q's agents and opencode say under `tools` which ones a model may use.
    let own_tools = file.get("tools").and_then(Value::as_array).is_some_and(|tools| {
        tools.iter().all(|tool| tool.get("server").is_some() && tool.get("id").is_some())
    });
    let mut rest = Map::new();
    for (key, value) in std::mem::take(file) {
        if SECTIONS.contains(&key.as_str()) && (key != "tools" || own_tools) {
            file.insert(key, value);
        } else {
            rest.insert(key, value);
        }
    }
    let elsewhere = rest.get("projects").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let elsewhere = elsewhere
        .filter(|project| {
            project.get("mcpServers").and_then(Value::as_object).is_some_and(|map| !map.is_empty())
        })
        .count();
    if elsewhere > 0 {
        let text = format!(
            "holds servers of {elsewhere} folders, which are left out; copy the ones you mean into `mcpServers`"
        );
        imported.remarks.push(Remark { entry: "projects".to_owned(), text });
        rest.remove("projects");
    }
    rest.remove("$schema");
    rest.remove("inputs");
    others(imported, "", &rest);
}

fn others(imported: &mut Imported, section: &str, rest: &Map<String, Value>) {
    if rest.is_empty() {
        return;
    }
    let names: Vec<String> = rest.keys().take(8).map(|key| quoted(key)).collect();
    let more = rest.len().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let entry = if section.is_empty() { "the file".to_owned() } else { section.to_owned() };
    let text = format!("has settings that are not used here: {}{more}", names.join(", "));
    imported.remarks.push(Remark { entry, text });
}
