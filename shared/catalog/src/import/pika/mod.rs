//! Imports Pika's tool definitions: each becomes a tool and a server of its own.
//!
//! Unknown fields with a plain value are for display and pass; a definition with an unknown object or array is not executable, because a
//! misspelt `accessRules` must not open a tool. One definition that cannot be called does not refuse the others.
//!
//! A tool whose rule or credential is not understood cannot be called.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use crate::entry::{self, Form};
use crate::error::CatalogError;
use crate::error::invalid;
use crate::json::{below, kind, typed};
use crate::parts::Parts;
use crate::permissions::Literals;
use crate::schema::KnownSchemas;
use crate::server::{AttributeScope, LambdaArn, LambdaPayload, NO_FUNCTION, ServerEntry};
use crate::tool::{Function, UnvalidatedTool};
use toolfleet_core::argument_shape::ShownArguments;
use toolfleet_core::credential::Credential;
use toolfleet_core::ids::{ServerId, ToolId};
use toolfleet_core::limits::LimitRules;
use toolfleet_core::redact::quoted;

mod access;
mod authentication;
mod forms;
mod parameters;

pub(crate) use forms::{definitions, is_whole};

/// Adds what the definitions say.
pub(crate) fn read(parts: &mut Parts<'_>, section: Value, literals: Literals) -> Result<(), CatalogError> {
    for (i, definition) in definitions(section)?.into_iter().enumerate() {
        let name = |field: &str| definition.get(field).and_then(Value::as_str);
        let id = name("toolId").or_else(|| name("name"));
        let entry = id.map_or_else(|| format!("pika[{i}]"), |id| format!("pika.{id}"));
        let id = id_of(&definition);
        if let Err(error) = add(parts, &entry, definition, literals) {
            let reason = error.reason_below(&entry);
            match id {
                Some(id) => parts.unusable.add(server_id(&id).ok(), Some(id), &entry, reason),
                None => parts.remark(&entry, format!("is left out: {reason}")),
            }
        }
    }
    Ok(())
}

/// The id under which a definition that cannot be called is known.
pub(crate) fn id_of(definition: &Value) -> Option<ToolId> {
    let text = |field: &str| definition.get(field).and_then(Value::as_str);
    let address = text("mcpServerUrl").or_else(|| text("url")).and_then(|url| Url::parse(url).ok());
    let id = text("toolId").or_else(|| text("name")).map(str::to_owned);
    ToolId::parse(id.or_else(|| host(&address?))?).ok()
}

fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

const FIELDS: [&str; 15] = [
    "toolId",
    "name",
    "description",
    "executionType",
    "executionTimeout",
    "mcpServerUrl",
    "url",
    "mcpServerConfig",
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
        return Err(invalid(entry, format!("is {}; accepted is an object", kind(value))));
    };
    let unknown = |(key, value): &(&String, &Value)| {
        let key = key.as_str();
        (value.is_array() || value.is_object()) && !known.contains(&key) && !OTHER_LISTS.contains(&key)
    };
    match map.iter().find(unknown) {
        None => Ok(()),
        Some((key, _)) => {
            let text = format!("is not a field that is understood here; known are {}", known.join(", "));
            Err(invalid(&below(entry, key), text))
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
    mcp_server_config: Option<Map<String, Value>>,
    lambda_arn: Option<String>,
    function_schema: Option<Value>,
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

fn add(parts: &mut Parts<'_>, entry: &str, mut value: Value, literals: Literals) -> Result<(), CatalogError> {
    known_fields(entry, &value, &FIELDS)?;
    if literals == Literals::Refused {
        fill(parts, entry, &mut value)?;
    }
    let definition: Definition = typed(entry, value)?;
    let id = definition.id(entry)?;
    let server = match definition.execution_type.as_deref() {
        Some("mcp") => definition.server(parts, entry, &id, literals)?,
        Some("lambda") => definition.lambda(entry, &id)?,
        other => {
            let found = match other {
                None => "is missing".to_owned(),
                Some("inline") => "is `inline`, code that Pika runs itself".to_owned(),
                Some("http") => "is `http`, an HTTP interface without MCP".to_owned(),
                Some(other) => format!("is {}", quoted(other)),
            };
            let text = format!("{found}; accepted are `mcp` and `lambda`");
            return Err(invalid(&below(entry, "executionType"), text));
        }
    };
    let functions = definition.functions(entry, parts.known)?;
    let open = functions.is_none();
    if open && server.lambda.is_some() {
        let text = "is missing; a Lambda function does not list its functions itself";
        return Err(invalid(&below(entry, "functionSchema"), text));
    }
    let status = definition.status(entry)?;
    let draft = UnvalidatedTool {
        id,
        description: definition.description.clone(),
        server: server.id.clone(),
        functions: functions.unwrap_or_default(),
        open,
        timeout_ms: definition.timeout_ms(entry)?,
        progress: None,
        limits: LimitRules::none(),
        cache: None,
        batch: None,
        max_attempts: None,
        paused: status != Status::Enabled,
        claimless: false,
        access: access::rules(&below(entry, "accessRules"), definition.access_rules.unwrap_or_default())?,
        shown: ShownArguments::default(),
        definition: vec![json!(definition.function_schema)],
    };
    parts.server(entry, server, literals, Form::Foreign);
    parts.tools.push((entry.to_owned(), draft));
    Ok(())
}

/// Fills in the placeholders of an address and of a credential, where that is done.
fn fill(parts: &mut Parts<'_>, entry: &str, value: &mut Value) -> Result<(), CatalogError> {
    let Some(Ok(id)) = id_of(value).map(|id| server_id(&id)) else {
        return Ok(());
    };
    let (Some(mut filling), Value::Object(definition)) = (parts.filling(id.as_str(), entry), value) else {
        return Ok(());
    };
    for field in ["mcpServerUrl", "url"] {
        if let Some(Value::String(text)) = definition.get_mut(field) {
            *text = filling
                .local_environment
                .fill(text)
                .map_err(|unfilled| invalid(&below(entry, field), unfilled.to_string()))?;
        }
    }
    filling.credential(definition, "authentication");
    filling.credential(definition, "auth");
    Ok(())
}

/// Each tool has a server of its own, so that two tools at one address never share a credential.
fn server_id(id: &ToolId) -> Result<ServerId, String> {
    let fits = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' };
    ServerId::parse(id.as_str().chars().map(fits).collect::<String>()).map_err(|error| error.to_string())
}

fn own_server(entry: &str, id: &ToolId) -> Result<ServerId, CatalogError> {
    server_id(id).map_err(|error| invalid(&below(entry, "toolId"), format!("as a server's id: {error}")))
}

impl Definition {
    /// The server that runs it.
    fn server(
        &self,
        parts: &mut Parts<'_>,
        entry: &str,
        id: &ToolId,
        literals: Literals,
    ) -> Result<ServerEntry, CatalogError> {
        let id = own_server(entry, id)?;
        let mut server = match &self.mcp_server_config {
            None => ServerEntry::at(id, self.address(entry)?),
            Some(config) if self.mcp_server_url.is_some() || self.url.is_some() => {
                let field = if config.is_empty() { "mcpServerConfig" } else { "url" };
                return Err(invalid(
                    &below(entry, field),
                    "is given beside another address; give one of them",
                ));
            }
            Some(config) => configured(parts, &below(entry, "mcpServerConfig"), &id, config.clone())?,
        };
        server.name.clone_from(&self.name);
        server.description.clone_from(&self.description);
        let (headers, credential) =
            authentication::read(entry, self.authentication.as_ref(), self.auth.as_ref(), literals)?;
        if server.command.is_some() && (!headers.is_empty() || credential != Credential::None) {
            let field = if self.auth.is_some() { "auth" } else { "authentication" };
            let text =
                "belongs to a server with an address; give a program its secrets in `mcpServerConfig.env`";
            return Err(invalid(&below(entry, field), text));
        }
        server.headers.extend(headers);
        if credential != Credential::None {
            server.auth = credential;
        }
        Ok(server)
    }

    /// The id, or the name, or the server's host: a definition may have no more than an address.
    fn id(&self, entry: &str) -> Result<ToolId, CatalogError> {
        let address = self.mcp_server_url.as_ref().or(self.url.as_ref());
        let host = address.and_then(host);
        let fields = [("toolId", &self.tool_id), ("name", &self.name), ("url", &host)];
        let Some((field, Some(id))) = fields.into_iter().find(|(_, id)| id.is_some()) else {
            return Err(invalid(
                &below(entry, "toolId"),
                "is missing, and there is no name or address to call it by",
            ));
        };
        ToolId::parse(id.as_str()).map_err(|e| invalid(&below(entry, field), e.to_string()))
    }

    /// Whether it is in use. A lifecycle without a status could be a misspelt one that was to stop the tool.
    fn status(&self, entry: &str) -> Result<Status, CatalogError> {
        let Some(lifecycle) = &self.lifecycle else {
            return Ok(Status::Enabled);
        };
        let place = below(entry, "lifecycle");
        let Some(status) = lifecycle.get("status") else {
            return Err(invalid(
                &below(&place, "status"),
                "is missing; accepted are enabled, disabled and retired",
            ));
        };
        if let Some((key, _)) = lifecycle.iter().find(|(_, value)| value.is_object() || value.is_array()) {
            let known = "is not a field that is understood here; known is status";
            return Err(invalid(&below(&place, key), known));
        }
        typed(&below(&place, "status"), status.clone())
    }

    fn address(&self, entry: &str) -> Result<Url, CatalogError> {
        match (&self.mcp_server_url, &self.url) {
            (Some(one), Some(other)) if one != other => {
                Err(invalid(&below(entry, "url"), "differs from `mcpServerUrl`; give one of the two"))
            }
            (Some(url), _) | (None, Some(url)) => Ok(url.clone()),
            (None, None) => {
                Err(invalid(&below(entry, "mcpServerUrl"), "is missing; give the server's address"))
            }
        }
    }

    /// The function that executes it.
    fn lambda(&self, entry: &str, id: &ToolId) -> Result<ServerEntry, CatalogError> {
        if self.authentication.is_some() || self.auth.is_some() {
            let text = "has no meaning for a Lambda function, which the worker's role calls; leave it out";
            let field = if self.auth.is_some() { "auth" } else { "authentication" };
            return Err(invalid(&below(entry, field), text));
        }
        let arn = self.lambda_arn.as_deref().and_then(LambdaArn::parse);
        let arn = arn.ok_or_else(|| invalid(&below(entry, "lambdaArn"), NO_FUNCTION))?;
        let mut server = ServerEntry::function(own_server(entry, id)?, &arn, LambdaPayload::Bedrock);
        // In Bedrock they are the session's; each definition is a server of its own here.
        server.attributes = Some(AttributeScope::Session);
        server.name.clone_from(&self.name);
        server.description.clone_from(&self.description);
        Ok(server)
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
                Err(invalid(&below(entry, "executionTimeout"), text))
            }
        }
    }

    /// The definitions of functions: a list, one of them by itself, or either as a JSON text.
    fn schemas(&self, entry: &str) -> Result<Vec<Value>, CatalogError> {
        let place = below(entry, "functionSchema");
        let parsed = match &self.function_schema {
            Some(Value::String(text)) => Some(crate::json::value(&place, text)?),
            other => other.clone(),
        };
        match parsed {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(schemas)) => Ok(schemas),
            Some(schema @ Value::Object(_)) => Ok(vec![schema]),
            Some(other @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => {
                Err(invalid(&place, format!("is {}; accepted is an array of functions", kind(&other))))
            }
        }
    }

    /// The functions, or none where the server's own list stands for them.
    fn functions(&self, entry: &str, known: &KnownSchemas) -> Result<Option<Vec<Function>>, CatalogError> {
        let schemas = self.schemas(entry)?;
        if schemas.is_empty() {
            return Ok(None);
        }
        let read = |(i, value): (usize, &Value)| {
            let place = match value.get("name").and_then(Value::as_str) {
                Some(name) => format!("{entry}.functionSchema.{name}"),
                None => format!("{entry}.functionSchema[{i}]"),
            };
            known_fields(&place, value, &["name", "description", "parameters", "requireConfirmation"])?;
            function(&place, typed(&place, value.clone())?, known)
        };
        schemas.iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
    }
}

/// The server of an `mcpServerConfig`: a program, or an address with its headers.
fn configured(
    parts: &mut Parts<'_>,
    place: &str,
    id: &ServerId,
    config: Map<String, Value>,
) -> Result<ServerEntry, CatalogError> {
    let normal = entry::normal(place, id.as_str(), config, Form::Foreign);
    parts.settled.remarks.extend(normal.remarks);
    if let Some(reason) = normal.not_callable {
        return Err(invalid(place, reason));
    }
    let mut fields = normal.server;
    fields.insert("id".to_owned(), Value::from(id.as_str()));
    // Its tools are open through the definition, by the rules of the definition.
    fields.insert("discover".to_owned(), Value::Bool(false));
    parts.read(place, id, fields).map_err(|reason| invalid(place, reason))
}

fn function(place: &str, wire: WireFunction, known: &KnownSchemas) -> Result<Function, CatalogError> {
    if wire.require_confirmation.as_deref().is_some_and(|word| word != "DISABLED") {
        let text = "asks a person before the tool runs, which the fleet cannot; leave it out or say DISABLED";
        return Err(invalid(&below(place, "requireConfirmation"), text));
    }
    let place = below(place, "parameters");
    let schema = wire.parameters.map(|value| parameters::schema(&place, value)).transpose()?;
    let schema = known.read(&place, schema.as_ref())?;
    Ok(Function { name: wire.name, schema, idempotent: false, pin: None })
}
