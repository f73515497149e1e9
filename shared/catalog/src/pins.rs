//! Pins: which definition of a server's tool was approved, so that no other one is called under the same name. A tool has one pin.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::CatalogError;
use crate::error::invalid;
use crate::json::kind;
use crate::server::Server;
use toolfleet_core::definition::DefinitionDigest;
use toolfleet_core::ids::ServerId;

const PREFIX: &str = "sha256:";

/// The digest of a tool's entry in its server's list, whatever the order of its keys: `sha256:` and 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin(DefinitionDigest);

impl Pin {
    /// The pin of an entry as the server lists it.
    pub fn of_listed(entry: &Value) -> Self {
        Self(DefinitionDigest::of(entry))
    }

    /// The digest without its prefix.
    pub const fn digest(&self) -> &DefinitionDigest {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        DefinitionDigest::parse(text.strip_prefix(PREFIX)?).map(Self)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format_args!("is not a pin; accepted is `{PREFIX}` and 64 hex digits"))
        })
    }
}

/// What was approved of one tool.
#[derive(Debug, Clone)]
pub struct Approved {
    /// The digest of its entry.
    pub pin: Pin,
    /// The entry itself, where the catalog keeps it.
    pub entry: Option<Value>,
}

/// The approved tools, by server and name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins(HashMap<ServerId, BTreeMap<String, Approved>>);

impl Pins {
    pub(crate) fn get(&self, server: &ServerId, name: &str) -> Option<&Approved> {
        self.0.get(server)?.get(name)
    }

    /// Every pinned name, in order.
    pub(crate) fn all(&self) -> Vec<(&ServerId, &str, &Approved)> {
        let mut all: Vec<_> = self
            .0
            .iter()
            .flat_map(|(server, names)| {
                names.iter().map(move |(name, approved)| (server, name.as_str(), approved))
            })
            .collect();
        all.sort_by_key(|(server, name, _)| (server.as_str(), *name));
        all
    }

    /// Adds a pin that stands at `entry`.
    pub(crate) fn add(
        &mut self,
        entry: &str,
        server: &Server,
        name: &str,
        approved: Approved,
    ) -> Result<(), CatalogError> {
        if !server.lists_tools() {
            let text = format!(
                "pins a tool of `{}`, a function whose payload has no list of tools to compare with; leave the pin out",
                server.id
            );
            return Err(invalid(entry, text));
        }
        let server = &server.id;
        let names = self.0.entry(server.clone()).or_default();
        match names.get(name) {
            Some(other) if other.pin != approved.pin => {
                let text = format!("differs from another pin of `{server}/{name}`; keep one of them");
                Err(invalid(entry, text))
            }
            Some(other) if other.entry.is_some() => Ok(()),
            Some(_) | None => {
                names.insert(name.to_owned(), approved);
                Ok(())
            }
        }
    }

    /// Adds the section `pins`: by `server/name`, a pin or the approved entry itself.
    pub(crate) fn section(
        &mut self,
        section: BTreeMap<String, Value>,
        servers: &HashMap<ServerId, Arc<Server>>,
    ) -> Result<(), CatalogError> {
        for (target, value) in section {
            let entry = format!("pins.{target}");
            let known = target.split_once('/').and_then(|(id, name)| Some((servers.get(id)?, name)));
            let Some((server, name)) = known.filter(|(_, name)| !name.is_empty()) else {
                return Err(invalid(&entry, "is not `{server}/{name}` of a server of this catalog"));
            };
            let approved = match value {
                Value::String(text) => {
                    let pin = Pin::parse(&text).ok_or_else(|| {
                        invalid(&entry, format!("is not a pin; accepted is `{PREFIX}` and 64 hex digits"))
                    })?;
                    Approved { pin, entry: None }
                }
                Value::Object(_) => Approved { pin: Pin::of_listed(&value), entry: Some(value) },
                other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
                    let text =
                        format!("is {}; accepted is a pin, or the entry that was approved", kind(&other));
                    return Err(invalid(&entry, text));
                }
            };
            self.add(&entry, server, name, approved)?;
        }
        Ok(())
    }
}
