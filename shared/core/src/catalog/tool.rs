//! Owns a registered tool: its functions, whom it is open to, how long and how often it is tried.
//!
//! **Invariant:** a tool's server is in the same catalog, and its schemas compile.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schema::{InputSchema, compile};
use super::{CatalogError, DEFAULT_ATTEMPT_MS, DEFAULT_MAX_ATTEMPTS, Server, problem};
use crate::digest::Digest;
use crate::ids::{ServerId, ToolId};
use crate::message::User;

/// A registered tool, checked.
#[derive(Debug)]
pub struct Tool {
    /// Its id.
    pub id: ToolId,
    /// Its server.
    pub server: Arc<Server>,
    /// Its functions by name; the first is meant when a request names none and there is but one.
    pub functions: Vec<Function>,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// How many attempts a call has.
    pub max_attempts: u32,
    /// Whether an operator stopped it.
    pub paused: bool,
    /// Whom it is open to.
    pub access: Vec<AccessRule>,
    /// The digest of its definition.
    pub definition: Digest,
}

/// One function of a tool.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name on the server.
    pub name: String,
    /// What its arguments must fit.
    pub schema: Option<InputSchema>,
    /// Whether running it twice does no harm.
    pub idempotent: bool,
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

    /// The function a request means.
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

/// A tool as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireTool {
    pub(super) id: ToolId,
    server: ServerId,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    functions: Vec<WireFunction>,
    #[serde(default)]
    input_schema: Option<Value>,
    #[serde(default)]
    idempotent: bool,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    max_attempts: Option<u32>,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    access: Vec<AccessRule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFunction {
    name: String,
    #[serde(default)]
    input_schema: Option<Value>,
    #[serde(default)]
    idempotent: Option<bool>,
}

impl WireTool {
    pub(super) fn check(self, servers: &HashMap<ServerId, Arc<Server>>) -> Result<Tool, CatalogError> {
        let entry = format!("tools.{}", self.id);
        let Some(server) = servers.get(&self.server) else {
            let mut known: Vec<_> = servers.keys().map(ServerId::as_str).collect();
            known.sort_unstable();
            let text = format!("`{}` is not among the servers ({})", self.server, known.join(", "));
            return Err(problem(&format!("{entry}.server"), text));
        };
        let max_attempts = self.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS);
        if max_attempts == 0 || max_attempts > 100 {
            let text = format!("is {max_attempts}; accepted are 1 to 100");
            return Err(problem(&format!("{entry}.max_attempts"), text));
        }
        let timeout_ms = self.timeout_ms.or(server.timeout_ms).unwrap_or(DEFAULT_ATTEMPT_MS);
        if timeout_ms == 0 {
            return Err(problem(&format!("{entry}.timeout_ms"), "is 0; accepted is a whole number from 1"));
        }
        Ok(Tool {
            definition: self.definition(server),
            functions: self.functions(&entry)?,
            id: self.id,
            server: server.clone(),
            timeout_ms,
            max_attempts,
            paused: self.paused,
            access: self.access,
        })
    }

    fn definition(&self, server: &Server) -> Digest {
        Digest::of_json(&serde_json::json!([
            server.url.as_str(),
            self.name,
            self.input_schema,
            self.idempotent,
            self.functions.iter().map(|f| (&f.name, &f.input_schema, f.idempotent)).collect::<Vec<_>>(),
        ]))
    }

    fn functions(&self, entry: &str) -> Result<Vec<Function>, CatalogError> {
        if self.functions.is_empty() {
            let schema = compile(&format!("{entry}.input_schema"), self.input_schema.as_ref())?;
            let name = self.name.clone().unwrap_or_else(|| self.id.to_string());
            return Ok(vec![Function { name, schema, idempotent: self.idempotent }]);
        }
        if self.name.is_some() || self.input_schema.is_some() {
            return Err(problem(
                entry,
                "has `functions` beside `name` or `input_schema`; give one of the two",
            ));
        }
        let check = |f: &WireFunction| {
            let place = format!("{entry}.functions.{}.input_schema", f.name);
            let schema = compile(&place, f.input_schema.as_ref())?;
            let idempotent = f.idempotent.unwrap_or(self.idempotent);
            Ok(Function { name: f.name.clone(), schema, idempotent })
        };
        self.functions.iter().map(check).collect()
    }
}
