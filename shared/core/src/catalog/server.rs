//! Owns a registered MCP server: where it is and how far it is believed.
//!
//! **Invariant:** a server's address carries no user or password.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{CatalogError, problem};
use crate::ids::ServerId;

/// A registered MCP server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Its streamable HTTP endpoint.
    pub url: Url,
    /// Whether its own annotations (`readOnlyHint`, `idempotentHint`) are believed.
    #[serde(default)]
    pub trusted: bool,
    /// Whether tools it lists may be called by name without being registered one by one.
    #[serde(default)]
    pub discover: bool,
    /// Headers sent with every request. A value may end in `secret://name` or `secret://name#key`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How long one attempt may take, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

impl Server {
    /// Refuses what could not be called; `entry` is the place to name.
    pub(super) fn check(&self, entry: &str) -> Result<(), CatalogError> {
        if !matches!(self.url.scheme(), "http" | "https") {
            let scheme = self.url.scheme();
            let text = format!("has the scheme `{scheme}`; accepted are http and https");
            return Err(problem(&format!("{entry}.url"), text));
        }
        if !self.url.username().is_empty() || self.url.password().is_some() {
            let text = "carries a user or password; name a secret in `headers` instead";
            return Err(problem(&format!("{entry}.url"), text));
        }
        if self.timeout_ms == Some(0) {
            return Err(problem(&format!("{entry}.timeout_ms"), "is 0; accepted is a whole number from 1"));
        }
        Ok(())
    }
}
