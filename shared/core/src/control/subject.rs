//! A call as switches see it.

use crate::digest::Digest;
use crate::ids::{ServerId, Tenant};

/// The names by which operators know the tool of a call.
#[derive(Debug, Clone, Copy)]
pub struct ToolNames<'a> {
    /// The registered id, where a registered tool is called.
    pub registered: Option<&'a str>,
    /// The server.
    pub server: &'a str,
    /// The tool's own name on its server.
    pub name: &'a str,
}

impl ToolNames<'_> {
    /// Whether `text` is one of them: the registered id, `id.function`, or `server/name`.
    pub fn include(&self, text: &str) -> bool {
        let of_server = |rest: &str| rest.strip_prefix('/') == Some(self.name);
        if text.strip_prefix(self.server).is_some_and(of_server) {
            return true;
        }
        let of_tool = |rest: &str| rest.is_empty() || rest.strip_prefix('.') == Some(self.name);
        self.registered.and_then(|id| text.strip_prefix(id)).is_some_and(of_tool)
    }

    /// All of them, from narrow to wide: `server/name`, and of a registered tool `id.function` and its id.
    pub fn all(&self) -> Vec<String> {
        let on_server = format!("{}/{}", self.server, self.name);
        let registered = self.registered.map(|id| [format!("{id}.{}", self.name), id.to_owned()]);
        std::iter::once(on_server).chain(registered.into_iter().flatten()).collect()
    }
}

/// What a switch can match of a call.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The server that runs it.
    pub server: &'a ServerId,
    /// Whose call it is.
    pub tenant: &'a Tenant,
    /// Its tool. Absent for other operations, and for requests of the worker's own such as `tools/list`.
    pub tool: Option<ToolNames<'a>>,
    /// The digest of what the call asks for.
    pub digest: Option<&'a Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_known_by_id_by_function_and_by_its_name_on_the_server() {
        let names = ToolNames { registered: Some("crm"), server: "srv", name: "find" };
        assert_eq!(names.all(), ["srv/find", "crm.find", "crm"]);
        assert!(names.all().iter().all(|name| names.include(name)));
        for text in ["", "crm.", "crm.fin", "crmfind", "srv", "srv/", "srv/finder", "find", "other/find"] {
            assert!(!names.include(text), "{text}");
        }
        let unregistered = ToolNames { registered: None, ..names };
        assert!(unregistered.include("srv/find") && !unregistered.include("crm"));
        assert_eq!(unregistered.all(), ["srv/find"]);
    }
}
