//! What a switch stops: a server, a tool, a tenant, or a whole queue.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::subject::Subject;
use crate::ids::{ServerId, Tenant};

/// The queues that can be paused, by priority.
const QUEUES: [&str; 3] = ["high", "default", "low"];
/// The longest name of a tool in a switch: a server's id, a slash and the server's own name for the tool.
const LONGEST_TOOL: usize = 256;

/// What a switch stops. Written as `server:crm`, `tool:crm.find`, `tenant:acme` or `queue:low`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SwitchTarget {
    /// All calls of a server.
    Server(ServerId),
    /// All calls of a tool, by one of its names: the registered id, `id.function`, or `server/name`.
    Tool(String),
    /// All calls of a tenant.
    Tenant(Tenant),
    /// Everything in a queue: `high`, `default` or `low`.
    Queue(String),
}

/// Why a text is not the target of a switch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no target of a switch: {0}; accepted are server:ID, tool:ID, tenant:ID and queue:high|default|low"
)]
pub struct TargetError(String);

impl SwitchTarget {
    /// Reads `kind:name`.
    ///
    /// # Errors
    /// The kind is unknown, or the name is not one of that kind.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let (kind, name) = text.split_once(':').ok_or_else(|| TargetError("it has no `:`".into()))?;
        Self::of(kind, name)
    }

    /// The target of that kind and name.
    ///
    /// # Errors
    /// The kind is unknown, or the name is not one of that kind.
    pub fn of(kind: &str, name: &str) -> Result<Self, TargetError> {
        let wrong = |e: crate::ids::NameError| TargetError(format!("the name {e}"));
        match kind {
            "server" => ServerId::parse(name).map(Self::Server).map_err(wrong),
            "tenant" => Tenant::parse(name).map(Self::Tenant).map_err(wrong),
            "tool" if is_tool(name) => Ok(Self::Tool(name.to_owned())),
            "tool" => {
                Err(TargetError("the tool's name is empty, too long or has a control character".into()))
            }
            "queue" if QUEUES.contains(&name) => Ok(Self::Queue(name.to_owned())),
            "queue" => Err(TargetError("the queue is none of high, default and low".into())),
            _ => Err(TargetError("the kind is none of server, tool, tenant and queue".into())),
        }
    }

    /// Whether it stops such a call. A queue is stopped where messages are received, so it matches no call.
    pub fn matches(&self, subject: Subject<'_>) -> bool {
        match self {
            Self::Server(server) => server == subject.server,
            Self::Tool(tool) => subject.tool.is_some_and(|names| names.include(tool)),
            Self::Tenant(tenant) => tenant == subject.tenant,
            Self::Queue(_) => false,
        }
    }
}

/// Whether a text can be the name of a tool.
pub fn is_tool(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_TOOL && !name.chars().any(|c| c.is_control() || c == '#')
}

impl fmt::Display for SwitchTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(server) => write!(f, "server:{server}"),
            Self::Tool(tool) => write!(f, "tool:{tool}"),
            Self::Tenant(tenant) => write!(f, "tenant:{tenant}"),
            Self::Queue(queue) => write!(f, "queue:{queue}"),
        }
    }
}

impl Serialize for SwitchTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SwitchTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_back_from_its_text() {
        for text in ["server:crm", "tool:crm.find", "tool:crm/find it", "tenant:acme:eu", "queue:low"] {
            assert_eq!(SwitchTarget::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_wrong_target_is_refused_with_what_is_accepted() {
        for text in ["crm", "host:crm", "server:", "queue:fast", "tool:", "tenant:_fleet", "tool:a#b"] {
            let error = SwitchTarget::parse(text).unwrap_err().to_string();
            assert!(error.contains("accepted are"), "{text}: {error}");
        }
    }
}
