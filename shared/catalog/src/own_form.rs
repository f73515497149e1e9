//! Writes a catalog of any form in our own form, with placeholders in the place of the secrets that it writes out: `toolfleet tools import`.

mod secrets;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::error::CatalogError;
use crate::import::pika;
use crate::parse::{parse, value};
use crate::permissions::{Literals, Programs};
use crate::placeholders::{LocalEnvironment, names_in};
use crate::snapshot::Catalog;
use crate::sources::CatalogSources;
use crate::unusable::{NotExecutable, Remark};
use crate::written::Written;
pub use secrets::MovedSecret;
use secrets::SecretMover;
use toolfleet_core::literal_secret::is_secret_name;

/// A catalog in our own form.
#[derive(Debug)]
pub struct OwnForm {
    /// The catalog. It writes out no secret.
    pub catalog: Value,
    /// What is not used, or used differently.
    pub remarks: Vec<Remark>,
    /// The servers and tools that cannot be called and are left out, each with its id.
    pub left_out: Vec<(String, NotExecutable)>,
    /// The secrets in whose place a placeholder stands.
    pub secrets: Vec<MovedSecret>,
}

/// The fields of a server and of its credentials that hold an address.
const ADDRESSES: [&str; 7] =
    ["url", "mcpServerUrl", "mcp_url", "issuer", "token_url", "tokenUrl", "endpoint"];
/// An address for a placeholder that stands for a whole address.
const SOME_ADDRESS: &str = "https://placeholder.invalid";

impl Catalog {
    /// The catalog of a text of any form, in our own form. Placeholders stay, and no variable needs to be set.
    ///
    /// # Errors
    /// The text is no catalog, or has a mistake in our own form.
    pub fn own_form(text: &str, included: &BTreeMap<String, String>) -> Result<OwnForm, CatalogError> {
        let sources = |variables| CatalogSources {
            included: included.clone(),
            tenants: Some(vec!["*".to_owned()]),
            programs: Programs::Allowed,
            literals: Literals::Refused,
            local_environment: Some(LocalEnvironment { variables }),
            ..CatalogSources::default()
        };
        let mut written = Written::default();
        parse(text, &sources(BTreeMap::new()), Some(&mut written))?;
        let mut variables = BTreeMap::new();
        written.each_text(&mut |field, text| add_variables(&mut variables, field, text));
        let taken: Vec<String> = variables.keys().cloned().collect();
        let mut written = Written::default();
        let read = parse(text, &sources(variables), Some(&mut written))?;
        let mut mover = SecretMover::new(taken);
        let mut catalog = sections(text, written, &read, &mut mover)?;
        let mut remarks: Vec<_> = read
            .remarks()
            .iter()
            .filter(|remark| !remark.text.starts_with("holds a secret itself"))
            .cloned()
            .collect();
        if !catalog.contains_key("tenants") {
            catalog.insert("tenants".to_owned(), json!({"queue": ["*"]}));
            let text = "are missing, so every sender may send for every tenant; name them before workers read the catalog";
            remarks.push(Remark { entry: "tenants".to_owned(), text: text.to_owned() });
        }
        Ok(OwnForm {
            catalog: Value::Object(catalog),
            remarks,
            left_out: left_out(&read),
            secrets: mover.moved,
        })
    }
}

/// Some value for each variable that a text names, so that only what is wrong whatever is set is left out.
fn add_variables(variables: &mut BTreeMap<String, String>, field: &str, text: &str) {
    let is_address = ADDRESSES.contains(&field);
    for (i, name) in names_in(text).into_iter().enumerate() {
        if name.starts_with("input:") || name.starts_with("file:") {
            continue;
        }
        let begins = is_address && i == 0 && text.starts_with(['$', '{']);
        let some = match (begins, text.contains("}://")) {
            (true, true) => "https",
            (true, false) => SOME_ADDRESS,
            (false, _) if is_secret_name(field) || field == "value" => "placeholder",
            // It may be a port.
            (false, _) => "1",
        };
        variables.entry(name.to_owned()).or_insert_with(|| some.to_owned());
    }
}

/// The sections of the catalog, without what cannot be called.
fn sections(
    text: &str,
    written: Written,
    read: &Catalog,
    mover: &mut SecretMover,
) -> Result<Map<String, Value>, CatalogError> {
    let mut catalog = Map::new();
    let mut servers = Map::new();
    for (id, mut fields) in written.servers {
        if read.server(&id).is_some() {
            fields.remove("id");
            mover.server(id.as_str(), &mut fields);
            servers.insert(id.to_string(), Value::Object(fields));
        }
    }
    let unusable = |id: Option<&str>| read.not_executable_tools().any(|(tool, _)| Some(tool.as_str()) == id);
    let tools: Vec<_> =
        written.tools.into_iter().filter(|tool| !unusable(tool.get("id").and_then(Value::as_str))).collect();
    if !servers.is_empty() || written.pika.is_none() && written.idp.is_none() {
        catalog.insert("servers".to_owned(), Value::Object(servers));
    }
    if !tools.is_empty() {
        catalog.insert("tools".to_owned(), Value::Array(tools));
    }
    match written.pika {
        Some(Value::String(name)) => {
            catalog.insert("pika".to_owned(), Value::String(name));
        }
        Some(section) => {
            let mut kept = Vec::new();
            for mut definition in pika::definitions(section)? {
                let id = pika::id_of(&definition);
                if !unusable(id.as_ref().map(|id| id.as_str())) {
                    mover.definition(id.as_ref().map_or("pika", |id| id.as_str()), &mut definition);
                    kept.push(definition);
                }
            }
            catalog.insert("pika".to_owned(), Value::Array(kept));
        }
        None => {}
    }
    match written.idp {
        Some(Value::Array(agents)) => {
            let wrong: Vec<_> = read.not_executable_servers().map(|(_, found)| found.entry.clone()).collect();
            let mut kept = Vec::new();
            for (i, mut agent) in agents.into_iter().enumerate() {
                if wrong.contains(&format!("idp[{i}]")) {
                    continue;
                }
                // An agent without a name is called by its number, which changes with those before it.
                if let Some(fields) = agent.as_object_mut().filter(|_| kept.len() < i) {
                    fields
                        .entry("agent_name")
                        .or_insert_with(|| format!("external-mcp-agent-{}", i + 1).into());
                }
                mover.agent(i + 1, &mut agent);
                kept.push(agent);
            }
            catalog.insert("idp".to_owned(), Value::Array(kept));
        }
        Some(section) => {
            catalog.insert("idp".to_owned(), section);
        }
        None => {}
    }
    if let Value::Object(file) = value(text)? {
        let kept = file
            .into_iter()
            .filter(|(key, _)| ["tenants", "reply_queues", "pins", "publish"].contains(&key.as_str()));
        catalog.extend(kept);
    }
    Ok(catalog)
}

/// What cannot be called, each once.
fn left_out(read: &Catalog) -> Vec<(String, NotExecutable)> {
    let servers: Vec<_> =
        read.not_executable_servers().map(|(id, found)| (id.to_string(), found.clone())).collect();
    let tools = read
        .not_executable_tools()
        .filter(|(_, found)| servers.iter().all(|(_, server)| server.entry != found.entry));
    let tools: Vec<_> = tools.map(|(id, found)| (id.to_string(), found.clone())).collect();
    servers.into_iter().chain(tools).collect()
}
