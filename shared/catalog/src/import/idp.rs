//! Imports the GenAI IDP accelerator's secret of external MCP agents: an array with one entry per server.
//!
//! Names follow the accelerator: `agent_name`, or `External MCP Agent {N}` with N counted from 1; the id is the name in small
//! letters with `_` for spaces, or `external-mcp-agent-{N}`.
//!
//! No error repeats a value of the secret.

use serde_json::{Map, Value};
use url::Url;

use crate::entry::Form;
use crate::error::CatalogError;
use crate::error::invalid;
use crate::json::{kind, typed};
use crate::parts::Parts;
use crate::permissions::Literals;
use crate::server::ServerEntry;
use toolfleet_core::credential::{Cognito, Credential, Secret, Sensitive, Setting};
use toolfleet_core::ids::{NameError, ServerId};
use toolfleet_core::redact::quoted;

const STANDARD_DESCRIPTION: &str =
    "Agent which connects to external MCP servers to provide additional tools and capabilities.";

/// Adds a server per agent; its tools are those it lists.
///
/// An agent that cannot be called does not refuse the others.
pub(crate) fn read(parts: &mut Parts<'_>, section: Value, literals: Literals) -> Result<(), CatalogError> {
    let agents = match section {
        Value::Array(agents) => agents,
        Value::Object(_) => {
            return Err(invalid(
                "idp",
                "is a single object; put it into an array, also if it is the only agent: [{..}]",
            ));
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            return Err(invalid(
                "idp",
                format!("is {}; accepted is an array of agents, or an empty one", kind(&other)),
            ));
        }
    };
    for (i, agent) in agents.into_iter().enumerate() {
        let entry = format!("idp[{i}]");
        let id = id(&agent, i + 1);
        match agent_server(parts, &entry, i + 1, agent, literals) {
            Ok(server) => parts.server(&entry, server, literals, Form::Foreign),
            Err(error) => parts.unusable.add(id.ok(), None, &entry, error.reason_below(&entry)),
        }
    }
    Ok(())
}

fn agent_server(
    parts: &mut Parts<'_>,
    entry: &str,
    number: usize,
    agent: Value,
    literals: Literals,
) -> Result<ServerEntry, CatalogError> {
    let Value::Object(mut agent) = agent else {
        return Err(invalid(entry, format!("is {}; accepted is an object", kind(&agent))));
    };
    let id = format!("external-mcp-agent-{number}");
    if literals == Literals::Refused
        && let Some(mut filling) = parts.filling(&id, entry)
    {
        filling.agent(&mut agent).map_err(|text| invalid(entry, text))?;
    }
    server(entry, number, &agent, literals)
}

/// The id of an agent: its name, or its number.
fn id(agent: &Value, number: usize) -> Result<ServerId, NameError> {
    let name = agent.get("agent_name").and_then(Value::as_str).filter(|name| !name.is_empty());
    ServerId::parse(name.map_or_else(|| format!("external-mcp-agent-{number}"), id_of))
}

fn server(
    entry: &str,
    number: usize,
    agent: &Map<String, Value>,
    literals: Literals,
) -> Result<ServerEntry, CatalogError> {
    let place = |field: &str| format!("{entry}.{field}");
    for (key, value) in agent {
        if !KNOWN.contains(&key.as_str()) && (value.is_array() || value.is_object()) {
            let text = format!("is not a field of an agent; known are {}", KNOWN.join(", "));
            return Err(invalid(&place(key), text));
        }
    }
    if let Some(transport) = agent.get("transport").filter(|t| t.as_str() != Some("http")) {
        let found = transport.as_str().map_or_else(|| kind(transport).to_owned(), quoted);
        let text = format!("is {found}; accepted is `http`, which is streamable HTTP");
        return Err(invalid(&place("transport"), text));
    }
    let url = text(entry, agent, "mcp_url")?;
    let url = Url::parse(&url).map_err(|e| invalid(&place("mcp_url"), format!("is not a URL: {e}")))?;
    let name = optional_text(entry, agent, "agent_name")?;
    let id = id(&Value::Object(agent.clone()), number)
        .map_err(|e| invalid(&place("agent_name"), e.to_string()))?;
    let description = optional_text(entry, agent, "agent_description")?;
    Ok(ServerEntry {
        discover: true,
        name: Some(name.unwrap_or_else(|| format!("External MCP Agent {number}"))),
        description: Some(description.unwrap_or_else(|| STANDARD_DESCRIPTION.to_owned())),
        auth: Credential::Cognito(Cognito {
            user_pool_id: Setting::Plain(pool(entry, agent)?),
            client_id: Setting::Secret(secret(entry, agent, "cognito_client_id")?),
            client_secret: None,
            username: Setting::Secret(secret(entry, agent, "cognito_username")?),
            password: kept(entry, "cognito_password", secret(entry, agent, "cognito_password")?, literals)?,
            endpoint: None,
        }),
        ..ServerEntry::at(id, url)
    })
}

const KNOWN: [&str; 8] = [
    "mcp_url",
    "cognito_user_pool_id",
    "cognito_client_id",
    "cognito_username",
    "cognito_password",
    "agent_name",
    "agent_description",
    "transport",
];

/// The pool's region is its first part, so a pool without one could not be asked.
fn pool(entry: &str, agent: &Map<String, Value>) -> Result<String, CatalogError> {
    let field = "cognito_user_pool_id";
    let pool = text(entry, agent, field)?;
    match pool.split_once('_') {
        Some((region, id)) if region.contains('-') && !id.is_empty() => Ok(pool),
        Some(_) | None => {
            Err(invalid(&format!("{entry}.{field}"), "is not a pool's id; accepted is `{region}_{id}`"))
        }
    }
}

fn id_of(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    name.to_lowercase().chars().map(fits).collect()
}

fn text(entry: &str, agent: &Map<String, Value>, field: &str) -> Result<String, CatalogError> {
    let place = format!("{entry}.{field}");
    optional_text(entry, agent, field)?.ok_or_else(|| invalid(&place, "is missing or empty"))
}

fn optional_text(
    entry: &str,
    agent: &Map<String, Value>,
    field: &str,
) -> Result<Option<String>, CatalogError> {
    match agent.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(other) => {
            Err(invalid(&format!("{entry}.{field}"), format!("is {}; accepted is a text", kind(other))))
        }
    }
}

/// The secret, unless it is written out where that is refused.
pub(crate) fn kept(
    entry: &str,
    field: &str,
    secret: Secret,
    literals: Literals,
) -> Result<Secret, CatalogError> {
    match (&secret, literals) {
        (Secret::Inline(_), Literals::Refused) => {
            let text = "holds the secret itself, which a catalog in a file may not; store it in Secrets Manager and write \
                        `secret://name` or `secret://name#key`, or keep the whole definition there";
            Err(invalid(&format!("{entry}.{field}"), text))
        }
        (Secret::Kept(_), _) | (Secret::Inline(_), Literals::Accepted) => Ok(secret),
    }
}

fn secret(entry: &str, agent: &Map<String, Value>, field: &str) -> Result<Secret, CatalogError> {
    let place = format!("{entry}.{field}");
    let value = agent.get(field).ok_or_else(|| invalid(&place, "is missing"))?;
    let value: Sensitive = typed(&place, value.clone())?;
    value.into_secret().map_err(|text| invalid(&place, text))
}
