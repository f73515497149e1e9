//! A registered tool: its functions, who may call it, how long and how often it is tried. Its server is in the same catalog, and its
//! schemas are checked.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::defaults::DEFAULT_ATTEMPT_MS;
use crate::defaults::DEFAULT_MAX_ATTEMPTS;
use crate::error::CatalogError;
use crate::error::{batch_rule, cache_rule, invalid};
use crate::import::openapi::Operation;
use crate::pins::{Approved, Pin, Pins};
use crate::schema::{InputSchema, KnownSchemas};
use crate::server::Server;
use toolfleet_core::argument_shape::ShownArguments;
use toolfleet_core::batch::BatchRule;
use toolfleet_core::cache::CacheRule;
use toolfleet_core::definition::DefinitionDigest;
use toolfleet_core::ids::{ServerId, ToolId};
use toolfleet_core::limits::LimitRules;
use toolfleet_core::request::User;

/// A registered tool, checked.
#[derive(Debug)]
pub struct Tool {
    /// Its id.
    pub id: ToolId,
    /// What it is for.
    pub description: Option<String>,
    /// What executes it.
    pub server: Arc<Server>,
    /// Its functions by name; the first is meant when a request names none and there is but one.
    pub functions: Vec<Function>,
    /// Whether its functions are those its server lists, and `functions` is empty.
    pub open: bool,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// Whether workers ask its server how far a call is.
    pub progress: bool,
    /// What limits its calls, besides its server's limits.
    pub limits: LimitRules,
    /// Whether its answers may be stored, where the registration says so.
    pub cache: Option<CacheRule>,
    /// Whether its calls are sent in batches. It has one function then.
    pub batch: Option<BatchRule>,
    /// How many attempts a call has.
    pub max_attempts: u32,
    /// Whether an operator stopped it.
    pub paused: bool,
    /// Whether its calls are executed without a claim, which saves a write. All its functions are idempotent.
    pub claimless: bool,
    /// Whom it is open to.
    pub access: Vec<AccessRule>,
    /// The arguments whose values audit records may hold.
    pub shown: ShownArguments,
    /// The digest of its definition.
    pub definition: DefinitionDigest,
}

/// One function of a tool.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name on the server.
    pub name: String,
    /// What its arguments must fit. It is compiled when a call first needs it.
    pub schema: Option<InputSchema>,
    /// Whether running it twice does no harm.
    pub idempotent: bool,
    /// Its own pin; the catalog's section `pins` may hold one as well.
    pub pin: Option<Pin>,
}

/// Whom a tool is open to. A tool without rules is open to all; else one enabled rule must fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// Whether the rule counts.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// User types it opens the tool to; empty: all.
    #[serde(default)]
    pub user_types: Vec<String>,
    /// Roles of which the user needs one; empty: none needed.
    #[serde(default)]
    pub user_roles: Vec<String>,
}

const fn yes() -> bool {
    true
}

impl Tool {
    /// Whether one of the rules opens this tool to `user`.
    pub fn is_open_to(&self, user: Option<&User>) -> bool {
        self.access.is_empty() || self.access.iter().any(|rule| rule.enabled && rule.fits(user))
    }

    /// Adds the pins of its functions.
    pub(crate) fn add_pins(&self, pins: &mut Pins) -> Result<(), CatalogError> {
        for function in &self.functions {
            if let Some(pin) = &function.pin {
                let approved = Approved { pin: pin.clone(), entry: None };
                pins.add(&format!("tools.{}.pin", self.id), &self.server, &function.name, approved)?;
            }
        }
        Ok(())
    }

    /// The function a request means, unless the tool takes its functions from its server.
    pub fn function(&self, name: Option<&str>) -> Option<&Function> {
        match name {
            Some(name) => self.functions.iter().find(|f| f.name == name),
            None if self.functions.len() == 1 => self.functions.first(),
            None => None,
        }
    }
}

impl AccessRule {
    fn fits(&self, user: Option<&User>) -> bool {
        let kind = user.and_then(|u| u.kind.as_deref());
        let of_type =
            self.user_types.is_empty() || kind.is_some_and(|k| self.user_types.iter().any(|t| t == k));
        let roles = user.map(|u| u.roles.as_slice()).unwrap_or_default();
        let in_role = self.user_roles.is_empty() || roles.iter().any(|r| self.user_roles.contains(r));
        of_type && in_role
    }
}

/// A tool as the forms of a catalog agree on it, before it is checked.
#[derive(Debug)]
pub(crate) struct UnvalidatedTool {
    pub(crate) id: ToolId,
    pub(crate) description: Option<String>,
    pub(crate) server: ServerId,
    pub(crate) functions: Vec<Function>,
    pub(crate) open: bool,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) progress: Option<bool>,
    pub(crate) limits: LimitRules,
    pub(crate) cache: Option<CacheRule>,
    pub(crate) batch: Option<BatchRule>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) paused: bool,
    pub(crate) claimless: bool,
    pub(crate) access: Vec<AccessRule>,
    pub(crate) shown: ShownArguments,
    /// What of it counts as its definition, besides the address of its server.
    pub(crate) definition: Vec<Value>,
}

impl UnvalidatedTool {
    /// Why it cannot be called, where its server is an HTTP interface without an operation that it names.
    pub(crate) fn without_operation(&self, servers: &HashMap<ServerId, Arc<Server>>) -> Option<String> {
        let interface = &servers.get(&self.server)?.openapi()?.interface;
        let lost = self.functions.iter().find(|function| interface.operation(&function.name).is_none())?;
        let names: Vec<&str> = interface.names().take(20).collect();
        Some(format!(
            "the OpenAPI document of `{}` has no operation `{}` that can be called; it has {}",
            self.server,
            lost.name,
            names.join(", ")
        ))
    }

    /// The tool, if it can be called; `entry` is the place to name.
    pub(crate) fn check(
        self,
        entry: &str,
        servers: &HashMap<ServerId, Arc<Server>>,
    ) -> Result<Tool, CatalogError> {
        let server = known(entry, &self.server, servers)?;
        let max_attempts = self.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS);
        if max_attempts == 0 || max_attempts > 100 {
            let text = format!("is {max_attempts}; accepted are 1 to 100");
            return Err(invalid(&format!("{entry}.max_attempts"), text));
        }
        let timeout_ms = self.timeout_ms.or(server.timeout_ms).unwrap_or(DEFAULT_ATTEMPT_MS);
        if timeout_ms == 0 {
            return Err(invalid(&format!("{entry}.timeout_ms"), "is 0; accepted is a whole number from 1"));
        }
        if self.claimless && !self.functions.iter().all(|function| function.idempotent) {
            let text = "is true for a function that is not `idempotent`; a call without a claim may be executed twice, so register it as \
                        `idempotent` or leave `claimless` out";
            return Err(invalid(&format!("{entry}.claimless"), text));
        }
        if self.batch.is_some() {
            check_batch(entry, &self.functions, &server)?;
        }
        let mut definition = vec![Value::from(server.address())];
        definition.extend(self.definition);
        if let Some(openapi) = server.openapi() {
            let operations = self.functions.iter().filter_map(|one| openapi.interface.operation(&one.name));
            definition.extend(operations.map(Operation::listed));
        }
        Ok(Tool {
            id: self.id,
            description: self.description,
            definition: DefinitionDigest::of(&Value::Array(definition)),
            functions: self.functions,
            open: self.open,
            timeout_ms,
            progress: self.progress.unwrap_or(server.progress),
            server,
            limits: self.limits,
            cache: self.cache,
            batch: self.batch,
            max_attempts,
            paused: self.paused,
            claimless: self.claimless,
            access: self.access,
            shown: self.shown,
        })
    }
}

/// A request for several calls may be repeated for one of them, and its list is in the arguments of one function.
fn check_batch(entry: &str, functions: &[Function], server: &Server) -> Result<(), CatalogError> {
    let place = format!("{entry}.batch");
    let [function] = functions else {
        let text = format!(
            "is set for a tool with {} functions; register each function that takes a list as a tool of its own",
            functions.len()
        );
        return Err(invalid(&place, text));
    };
    if let Some(text) = refuses_batches(server) {
        return Err(invalid(&place, text));
    }
    let says_itself = server.trusted && server.discover;
    if function.idempotent || says_itself {
        return Ok(());
    }
    let text = "is set for a tool that is not known to be read-only; register it as `idempotent`, or set `trusted` and `discover` of its \
                server, so that the annotations in its tool list count";
    Err(invalid(&place, text))
}

/// Why the server's requests cannot be those of several calls.
fn refuses_batches(server: &Server) -> Option<&'static str> {
    if server.lambda().is_some_and(|lambda| lambda.durable) {
        return Some(
            "is set for a tool of a durable function, which runs once for each call; remove `batch`, or `durable` of its server",
        );
    }
    server.openapi().map(|_| {
        "is set for an operation of an HTTP interface, whose document says what the request of one call has; remove it"
    })
}

fn known(
    entry: &str,
    id: &ServerId,
    servers: &HashMap<ServerId, Arc<Server>>,
) -> Result<Arc<Server>, CatalogError> {
    servers.get(id).cloned().ok_or_else(|| {
        let mut known: Vec<_> = servers.keys().map(ServerId::as_str).collect();
        known.sort_unstable();
        let text = format!("`{id}` is not among the servers ({})", known.join(", "));
        invalid(&format!("{entry}.server"), text)
    })
}

/// A tool as a catalog's own form writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireTool {
    pub(crate) id: ToolId,
    server: ServerId,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    functions: Vec<WireFunction>,
    #[serde(default)]
    input_schema: Option<Value>,
    #[serde(default)]
    idempotent: bool,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    progress: Option<bool>,
    #[serde(default)]
    limits: LimitRules,
    #[serde(default)]
    cache: Value,
    #[serde(default)]
    batch: Value,
    #[serde(default)]
    max_attempts: Option<u32>,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    claimless: bool,
    #[serde(default)]
    access: Vec<AccessRule>,
    #[serde(default)]
    audit_arguments: Vec<String>,
    #[serde(default)]
    pin: Option<Pin>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFunction {
    name: String,
    #[serde(default)]
    input_schema: Option<Value>,
    #[serde(default)]
    idempotent: Option<bool>,
    #[serde(default)]
    pin: Option<Pin>,
}

impl WireTool {
    pub(crate) fn draft(self, entry: &str, known: &KnownSchemas) -> Result<UnvalidatedTool, CatalogError> {
        let shown = ShownArguments::parse(&self.audit_arguments)
            .map_err(|(i, text)| invalid(&format!("{entry}.audit_arguments[{i}]"), text))?;
        let cache = cache_rule(entry, &self.cache)?;
        let batch = batch_rule(entry, &self.batch)?;
        Ok(UnvalidatedTool {
            definition: self.definition(),
            functions: self.functions(entry, known)?,
            id: self.id,
            description: self.description,
            server: self.server,
            open: false,
            timeout_ms: self.timeout_ms,
            progress: self.progress,
            limits: self.limits,
            cache,
            batch,
            max_attempts: self.max_attempts,
            paused: self.paused,
            claimless: self.claimless,
            access: self.access,
            shown,
        })
    }

    fn definition(&self) -> Vec<Value> {
        let functions: Vec<_> =
            self.functions.iter().map(|f| json!([f.name, f.input_schema, f.idempotent])).collect();
        vec![json!(self.name), json!(self.input_schema), json!(self.idempotent), Value::Array(functions)]
    }

    fn functions(&self, entry: &str, known: &KnownSchemas) -> Result<Vec<Function>, CatalogError> {
        if self.functions.is_empty() {
            let schema = known.read(&format!("{entry}.input_schema"), self.input_schema.as_ref())?;
            let name = self.name.clone().unwrap_or_else(|| self.id.to_string());
            return Ok(vec![Function { name, schema, idempotent: self.idempotent, pin: self.pin.clone() }]);
        }
        if self.name.is_some() || self.input_schema.is_some() || self.pin.is_some() {
            return Err(invalid(
                entry,
                "has `functions` beside `name`, `input_schema` or `pin`; give one of the two",
            ));
        }
        let check = |f: &WireFunction| {
            let place = format!("{entry}.functions.{}.input_schema", f.name);
            let schema = known.read(&place, f.input_schema.as_ref())?;
            let idempotent = f.idempotent.unwrap_or(self.idempotent);
            Ok(Function { name: f.name.clone(), schema, idempotent, pin: f.pin.clone() })
        };
        self.functions.iter().map(check).collect()
    }
}
