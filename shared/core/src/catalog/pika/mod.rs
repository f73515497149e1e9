//! Owns the form of Pika's tool definitions: each becomes a tool, and a server of its own where it is an MCP tool.
//!
//! Unknown fields with a plain value are for display and pass; unknown objects and arrays are refused, because a misspelt
//! `accessRules` must not open a tool.
//!
//! **Invariant:** a rule or credential that is not understood is never passed over.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::json::{below, kind, typed};
use super::schema::compile;
use super::tool::{AccessRule, Draft, Function, LambdaArn, RunsOn};
use super::wire::{Literals, Parts};
use super::{CatalogError, Server, problem};
use crate::ids::{ServerId, ToolId};
use crate::redact::quoted;
use crate::shape::ShownArguments;

mod access;
mod authentication;
mod parameters;

/// Adds what an array of definitions says.
pub(super) fn read(parts: &mut Parts, section: Value, literals: Literals) -> Result<(), CatalogError> {
    let definitions = match section {
        Value::Array(definitions) => definitions,
        Value::Object(_) => {
            return Err(problem("pika", "is a single object; put it into an array: [{..}]"));
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            return Err(problem("pika", format!("is {}; accepted is an array of tools", kind(&other))));
        }
    };
    for (i, definition) in definitions.into_iter().enumerate() {
        let name = |field: &str| definition.get(field).and_then(Value::as_str);
        let id = name("toolId").or_else(|| name("name"));
        let entry = id.map_or_else(|| format!("pika[{i}]"), |id| format!("pika.{id}"));
        known_fields(&entry, &definition, &FIELDS)?;
        add(parts, &entry, typed(&entry, definition)?, literals)?;
    }
    Ok(())
}

const FIELDS: [&str; 14] = [
    "toolId",
    "name",
    "description",
    "executionType",
    "executionTimeout",
    "mcpServerUrl",
    "url",
    "lambdaArn",
    "functionSchema",
    "authentication",
    "auth",
    "accessRules",
    "lifecycle",
    // For display and for other frameworks, whatever stands in them.
    "tags",
];

const OTHER_LISTS: [&str; 1] = ["supportedAgentFrameworks"];

/// Refuses an unknown object or array: it may be a rule that is misspelt.
fn known_fields(entry: &str, value: &Value, known: &[&str]) -> Result<(), CatalogError> {
    let Value::Object(map) = value else {
        return Err(problem(entry, format!("is {}; accepted is an object", kind(value))));
    };
    let unknown = |(key, value): &(&String, &Value)| {
        let key = key.as_str();
        (value.is_array() || value.is_object()) && !known.contains(&key) && !OTHER_LISTS.contains(&key)
    };
    match map.iter().find(unknown) {
        None => Ok(()),
        Some((key, _)) => {
            let text = format!("is not a field that is understood here; known are {}", known.join(", "));
            Err(problem(&below(entry, key), text))
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    tool_id: Option<String>,
    name: Option<String>,
    description: Option<String>,
    execution_type: Option<String>,
    execution_timeout: Option<f64>,
    mcp_server_url: Option<Url>,
    url: Option<Url>,
    lambda_arn: Option<String>,
    function_schema: Option<Vec<Value>>,
    authentication: Option<Value>,
    auth: Option<Value>,
    access_rules: Option<Vec<Map<String, Value>>>,
    lifecycle: Option<Map<String, Value>>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Status {
    Enabled,
    Disabled,
    Retired,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireFunction {
    name: String,
    parameters: Option<Value>,
    require_confirmation: Option<String>,
}

fn add(
    parts: &mut Parts,
    entry: &str,
    definition: Definition,
    literals: Literals,
) -> Result<(), CatalogError> {
    let id = definition.id(entry)?;
    let runs_on = match definition.execution_type.as_deref() {
        Some("mcp") => RunsOn::Server(add_server(parts, entry, &id, &definition, literals)?),
        Some("lambda") => RunsOn::Lambda(definition.lambda(entry)?),
        other => {
            let found = other.map_or("missing".to_owned(), quoted);
            let text = format!("is {found}; accepted are `mcp` and `lambda`");
            return Err(problem(&below(entry, "executionType"), text));
        }
    };
    let functions = definition.functions(entry)?;
    let open = functions.is_none();
    if open && matches!(runs_on, RunsOn::Lambda(_)) {
        let text = "is missing; a Lambda function does not list its functions itself";
        return Err(problem(&below(entry, "functionSchema"), text));
    }
    let status = definition.status(entry)?;
    let draft = Draft {
        id,
        description: definition.description.clone(),
        runs_on,
        functions: functions.unwrap_or_default(),
        open,
        timeout_ms: definition.timeout_ms(entry)?,
        progress: None,
        max_attempts: None,
        paused: status != Status::Enabled,
        access: access::rules(&below(entry, "accessRules"), definition.access_rules.unwrap_or_default())?,
        shown: ShownArguments::default(),
        definition: vec![json!(definition.function_schema)],
    };
    parts.tools.push((entry.to_owned(), draft));
    Ok(())
}

/// Each tool has a server of its own, so that two tools at one address never share a credential.
fn add_server(
    parts: &mut Parts,
    entry: &str,
    id: &ToolId,
    definition: &Definition,
    literals: Literals,
) -> Result<ServerId, CatalogError> {
    let fits = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' };
    let server = id.as_str().chars().map(fits).collect::<String>();
    let server = ServerId::parse(server)
        .map_err(|e| problem(&below(entry, "toolId"), format!("as a server's id: {e}")))?;
    let mut server = Server::at(server, definition.address(entry)?);
    server.name.clone_from(&definition.name);
    server.description.clone_from(&definition.description);
    let (headers, credential) =
        authentication::read(entry, definition.authentication.as_ref(), definition.auth.as_ref(), literals)?;
    server.headers = headers;
    server.auth = credential;
    let id = server.id.clone();
    parts.servers.push((entry.to_owned(), server, literals));
    Ok(id)
}

impl Definition {
    /// The id, or the name, or the server's host: a definition may have no more than an address.
    fn id(&self, entry: &str) -> Result<ToolId, CatalogError> {
        let address = self.mcp_server_url.as_ref().or(self.url.as_ref());
        let host = address.and_then(|url| {
            let host = url.host_str()?;
            Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
        });
        let fields = [("toolId", &self.tool_id), ("name", &self.name), ("url", &host)];
        let Some((field, Some(id))) = fields.into_iter().find(|(_, id)| id.is_some()) else {
            return Err(problem(
                &below(entry, "toolId"),
                "is missing, and there is no name or address to call it by",
            ));
        };
        ToolId::parse(id.as_str()).map_err(|e| problem(&below(entry, field), e.to_string()))
    }

    /// Whether it is in use. A lifecycle without a status could be a misspelt one that was to stop the tool.
    fn status(&self, entry: &str) -> Result<Status, CatalogError> {
        let Some(lifecycle) = &self.lifecycle else {
            return Ok(Status::Enabled);
        };
        let place = below(entry, "lifecycle");
        let Some(status) = lifecycle.get("status") else {
            return Err(problem(
                &below(&place, "status"),
                "is missing; accepted are enabled, disabled and retired",
            ));
        };
        if let Some((key, _)) = lifecycle.iter().find(|(_, value)| value.is_object() || value.is_array()) {
            let known = "is not a field that is understood here; known is status";
            return Err(problem(&below(&place, key), known));
        }
        typed(&below(&place, "status"), status.clone())
    }

    fn address(&self, entry: &str) -> Result<Url, CatalogError> {
        match (&self.mcp_server_url, &self.url) {
            (Some(one), Some(other)) if one != other => {
                Err(problem(&below(entry, "url"), "differs from `mcpServerUrl`; give one of the two"))
            }
            (Some(url), _) | (None, Some(url)) => Ok(url.clone()),
            (None, None) => {
                Err(problem(&below(entry, "mcpServerUrl"), "is missing; give the server's address"))
            }
        }
    }

    fn lambda(&self, entry: &str) -> Result<LambdaArn, CatalogError> {
        if self.authentication.is_some() || self.auth.is_some() {
            let text = "has no meaning for a Lambda function, which the worker's role calls; leave it out";
            let field = if self.auth.is_some() { "auth" } else { "authentication" };
            return Err(problem(&below(entry, field), text));
        }
        self.lambda_arn.as_deref().and_then(LambdaArn::parse).ok_or_else(|| {
            let text =
                "is missing or no ARN of a function: arn:aws:lambda:{region}:{account}:function:{name}";
            problem(&below(entry, "lambdaArn"), text)
        })
    }

    /// `executionTimeout` is in seconds.
    fn timeout_ms(&self, entry: &str) -> Result<Option<u64>, CatalogError> {
        match self.execution_timeout {
            None => Ok(None),
            Some(seconds) if (0.001..=86_400.0).contains(&seconds) => {
                Ok(Some((seconds * 1000.0).round() as u64))
            }
            Some(seconds) => {
                let text = format!("is {seconds}; accepted are 0.001 to 86400 seconds");
                Err(problem(&below(entry, "executionTimeout"), text))
            }
        }
    }

    /// The functions, or none where the server's own list stands for them.
    fn functions(&self, entry: &str) -> Result<Option<Vec<Function>>, CatalogError> {
        let Some(schema) = self.function_schema.as_ref().filter(|schema| !schema.is_empty()) else {
            return Ok(None);
        };
        let read = |(i, value): (usize, &Value)| {
            let place = match value.get("name").and_then(Value::as_str) {
                Some(name) => format!("{entry}.functionSchema.{name}"),
                None => format!("{entry}.functionSchema[{i}]"),
            };
            known_fields(&place, value, &["name", "description", "parameters", "requireConfirmation"])?;
            function(&place, typed(&place, value.clone())?)
        };
        schema.iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
    }
}

fn function(place: &str, wire: WireFunction) -> Result<Function, CatalogError> {
    if wire.require_confirmation.as_deref().is_some_and(|word| word != "DISABLED") {
        let text = "asks a person before the tool runs, which the fleet cannot; leave it out or say DISABLED";
        return Err(problem(&below(place, "requireConfirmation"), text));
    }
    let place = below(place, "parameters");
    let schema = wire.parameters.map(|value| parameters::schema(&place, value)).transpose()?;
    let schema = compile(&place, schema.as_ref())?;
    Ok(Function { name: wire.name, schema, idempotent: false, pin: None })
}
