//! What a limit applies to, and its text: `server:crm`, `tool:crm.search`, `tenant:acme`, `tenant:acme/tool:crm.search`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{ServerId, Tenant, ToolId};

const SERVER: &str = "server:";
const TOOL: &str = "tool:";
const TENANT: &str = "tenant:";
const SLASH_TOOL: &str = "/tool:";

/// What a limit applies to. The order is from narrow to wide.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitKey {
    /// The calls of one tenant to one tool.
    TenantTool(Tenant, String),
    /// All calls to one tool: a registered tool's id, or `server/name`.
    Tool(String),
    /// All calls of one tenant.
    Tenant(Tenant),
    /// All calls to one server.
    Server(ServerId),
}

/// A text that names nothing that a limit can apply to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not the name of a limit: {why}; accepted are server:ID, tool:ID, tool:SERVER/NAME, tenant:ID and tenant:ID/tool:ID"
)]
pub struct LimitKeyError {
    why: String,
}

impl LimitKey {
    /// The limit as people name it: with the tenant's name as it is, where the text of a key (`Display`) escapes `/` and `%`. A tenant's name
    /// goes up to the last `/tool:`.
    ///
    /// # Errors
    /// The text names none.
    pub fn named(text: &str) -> Result<Self, LimitKeyError> {
        let Some(tenant) = text.strip_prefix(TENANT) else { return text.parse() };
        let parsed = |name: &str| Tenant::parse(name).map_err(|error| wrong(format!("the tenant {error}")));
        match tenant.rsplit_once(SLASH_TOOL) {
            Some((tenant, tool)) => Ok(Self::TenantTool(parsed(tenant)?, tool_of(tool)?)),
            None => parsed(tenant).map(Self::Tenant),
        }
    }

    /// The limit of a stored text: that of a key, or what an earlier version stored as people wrote it.
    ///
    /// # Errors
    /// The text names none.
    pub fn stored(text: &str) -> Result<Self, LimitKeyError> {
        text.parse().or_else(|_| Self::named(text))
    }

    /// The limit as people name it.
    pub fn name(&self) -> String {
        match self {
            Self::Server(_) | Self::Tool(_) => self.to_string(),
            Self::Tenant(tenant) => format!("{TENANT}{tenant}"),
            Self::TenantTool(tenant, tool) => format!("{TENANT}{tenant}{SLASH_TOOL}{tool}"),
        }
    }

    /// What of the limit people name; a text that names none, such as the `tenant:*` of a catalog, as it is.
    pub fn name_of(text: &str) -> String {
        Self::stored(text).map_or_else(|_| text.to_owned(), |key| key.name())
    }

    /// Whether calls of several tenants share the limit.
    pub const fn is_shared(&self) -> bool {
        match self {
            Self::Tool(_) | Self::Server(_) => true,
            Self::TenantTool(..) | Self::Tenant(_) => false,
        }
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(server) => write!(f, "{SERVER}{server}"),
            Self::Tool(tool) => write!(f, "{TOOL}{tool}"),
            Self::Tenant(tenant) => write!(f, "{TENANT}{}", escaped(tenant)),
            Self::TenantTool(tenant, tool) => write!(f, "{TENANT}{}{SLASH_TOOL}{tool}", escaped(tenant)),
        }
    }
}

/// A tenant's name may have a slash, which separates it from the tool here.
fn escaped(tenant: &Tenant) -> String {
    tenant.as_str().replace('%', "%25").replace('/', "%2F")
}

fn tenant_of(text: &str) -> Result<Tenant, LimitKeyError> {
    let name = text.replace("%2F", "/").replace("%25", "%");
    Tenant::parse(name).map_err(|error| wrong(format!("the tenant {error}")))
}

fn wrong(why: impl Into<String>) -> LimitKeyError {
    LimitKeyError { why: why.into() }
}

impl FromStr for LimitKey {
    type Err = LimitKeyError;

    fn from_str(text: &str) -> Result<Self, LimitKeyError> {
        if let Some(server) = text.strip_prefix(SERVER) {
            return ServerId::parse(server)
                .map(Self::Server)
                .map_err(|error| wrong(format!("the server {error}")));
        }
        if let Some(tool) = text.strip_prefix(TOOL) {
            return tool_of(tool).map(Self::Tool);
        }
        let Some(tenant) = text.strip_prefix(TENANT) else {
            return Err(wrong("it begins with none of server:, tool: and tenant:"));
        };
        match tenant.split_once('/') {
            None => tenant_of(tenant).map(Self::Tenant),
            Some((tenant, tool)) => {
                let Some(tool) = tool.strip_prefix(TOOL) else {
                    return Err(wrong("after the tenant's slash, tool: is missing"));
                };
                Ok(Self::TenantTool(tenant_of(tenant)?, tool_of(tool)?))
            }
        }
    }
}

/// A registered tool's id, or a server and the name of its tool, which may be any text of at most 256 bytes.
fn tool_of(text: &str) -> Result<String, LimitKeyError> {
    if ToolId::parse(text).is_ok() {
        return Ok(text.to_owned());
    }
    match text.split_once('/') {
        Some((server, name)) if ServerId::parse(server).is_ok() && !name.is_empty() && name.len() <= 256 => {
            Ok(text.to_owned())
        }
        Some(_) | None => Err(wrong("the tool is neither the id of a registered tool nor SERVER/NAME")),
    }
}

impl Serialize for LimitKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LimitKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_from_its_text() {
        for text in [
            "server:crm",
            "tool:crm.search",
            "tool:crm/any name",
            "tenant:acme",
            "tenant:acme/tool:crm.search",
            "tenant:a%2Fb%25/tool:crm/x",
        ] {
            let key: LimitKey = text.parse().expect(text);
            assert_eq!(key.to_string(), text);
        }
        let key = LimitKey::TenantTool(Tenant::parse("a/tool:b").unwrap(), "c".to_owned());
        assert_eq!(key.to_string().parse::<LimitKey>().unwrap(), key, "no other tenant's limit");
    }

    #[test]
    fn people_name_a_tenant_as_it_is() {
        for (name, key) in [
            ("tenant:org/team", "tenant:org%2Fteam"),
            ("tenant:org/team/tool:crm/find", "tenant:org%2Fteam/tool:crm/find"),
            ("tenant:a%23b", "tenant:a%2523b"),
            ("tenant:a%2Fb", "tenant:a%252Fb"),
            ("tenant:a/tool:b/tool:c", "tenant:a%2Ftool:b/tool:c"),
            ("server:crm", "server:crm"),
        ] {
            let named = LimitKey::named(name).expect(name);
            assert_eq!((named.to_string().as_str(), named.name().as_str()), (key, name));
            assert_eq!(LimitKey::stored(key), Ok(named));
        }
        assert_eq!(LimitKey::stored("tenant:org/team").unwrap().to_string(), "tenant:org%2Fteam");
        for text in ["tenant:acme/tool:", "tenant:_x/tool:crm.find", "tenant:a b", "crm", "queue:low"] {
            assert!(LimitKey::named(text).is_err(), "{text}");
        }
        assert_eq!(LimitKey::name_of("tenant:*"), "tenant:*");
    }

    #[test]
    fn a_wrong_text_is_explained_with_the_accepted_forms() {
        for (text, why) in [
            ("crm", "begins with none of"),
            ("server:", "the server is not a valid"),
            ("tool:", "neither the id"),
            ("tenant:_x", "starts with _"),
            ("tenant:acme/crm", "tool: is missing"),
        ] {
            let error = text.parse::<LimitKey>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("tenant:ID/tool:ID"), "{text}: {error}");
        }
    }

    #[test]
    fn keys_are_ordered_from_narrow_to_wide() {
        let mut keys: Vec<LimitKey> =
            ["server:s", "tenant:t", "tool:x", "tenant:t/tool:x"].map(|text| text.parse().unwrap()).into();
        keys.sort();
        let texts: Vec<_> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["tenant:t/tool:x", "tool:x", "tenant:t", "server:s"]);
    }
}
