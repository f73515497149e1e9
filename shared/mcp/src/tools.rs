//! Owns the listing of a server's tools, page by page, and which of them mirror arguments into headers.
//!
//! **Invariant:** a listing ends: pages, tools and cursors are bounded, and a cursor that comes back is an invalid answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use toolfleet_core::fault::Fault;
use toolfleet_core::ids::ServerId;

use crate::answer::invalid;
use crate::endpoint::Endpoint;
use crate::mirror::Mirrors;

/// Pages followed, and tools kept, of one server.
pub(crate) const MAX_PAGES: usize = 100;
pub(crate) const MAX_TOOLS: usize = 10_000;

/// A tool as its server lists it.
#[derive(Debug, Clone)]
pub struct RemoteTool {
    /// Its name at the server.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    pub input_schema: Value,
    /// `annotations.readOnlyHint`; false where the server says nothing.
    pub read_only: bool,
    /// `annotations.idempotentHint`; false where the server says nothing.
    pub idempotent: bool,
    /// The whole entry byte for byte.
    pub raw: Box<RawValue>,
}

/// One page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) tools: Vec<RemoteTool>,
    pub(crate) next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageWire<'a> {
    #[serde(borrow)]
    tools: Vec<&'a RawValue>,
    #[serde(default)]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolWire<'a> {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    input_schema: Value,
    #[serde(borrow, default)]
    annotations: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Hints {
    read_only_hint: Option<bool>,
    idempotent_hint: Option<bool>,
}

/// Reads one page. A tool that cannot be read is left out; its neighbours stay.
pub(crate) fn page(result: &RawValue) -> Result<Page, Fault> {
    let wire: PageWire<'_> = serde_json::from_str(result.get())
        .map_err(|error| invalid("a tools/list result", &error.to_string()))?;
    let tools = wire.tools.into_iter().filter_map(|raw| match tool(raw) {
        Ok(tool) => Some(tool),
        Err(error) => {
            // serde repeats what it did not want, which may be anything.
            tracing::warn!(kind = ?error.classify(), column = error.column(), "a listed tool cannot be read");
            None
        }
    });
    Ok(Page { tools: tools.collect(), next_cursor: wire.next_cursor.filter(|cursor| !cursor.is_empty()) })
}

fn tool(raw: &RawValue) -> Result<RemoteTool, serde_json::Error> {
    let wire: ToolWire<'_> = serde_json::from_str(raw.get())?;
    let hints: Hints =
        wire.annotations.and_then(|hints| serde_json::from_str(hints.get()).ok()).unwrap_or_default();
    Ok(RemoteTool {
        name: wire.name,
        description: wire.description,
        input_schema: wire.input_schema,
        read_only: hints.read_only_hint.unwrap_or(false),
        idempotent: hints.idempotent_hint.unwrap_or(false),
        raw: raw.to_owned(),
    })
}

type PerTool = Arc<HashMap<String, Mirrors>>;

/// The header mirrors of every server whose tools ask for any.
#[derive(Debug, Default)]
pub(crate) struct Mirrored(Mutex<HashMap<(ServerId, String), PerTool>>);

impl Mirrored {
    /// Keeps what a whole listing says, and leaves out the tools whose annotations are impossible.
    pub(crate) fn learn(&self, endpoint: &Endpoint, tools: Vec<RemoteTool>) -> Vec<RemoteTool> {
        let mut known = HashMap::new();
        let usable = tools.into_iter().filter(|tool| match Mirrors::of_schema(&tool.input_schema) {
            Ok(mirrors) => {
                if !mirrors.is_empty() {
                    known.insert(tool.name.clone(), mirrors);
                }
                true
            }
            Err(reason) => {
                let reason = crate::words::shorten(&endpoint.text_without_echo(reason));
                tracing::warn!(server = %endpoint.server, %reason, "a tool with an invalid x-mcp-header is left out");
                false
            }
        });
        let usable = usable.collect();
        let key = (endpoint.server.clone(), endpoint.url.as_str().to_owned());
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            servers.remove(&key)
        } else {
            servers.insert(key, Arc::new(known))
        };
        usable
    }

    /// The headers for one call, as far as the tool's schema is known.
    pub(crate) fn headers(
        &self,
        endpoint: &Endpoint,
        tool: &str,
        arguments: &RawValue,
    ) -> Vec<(http::HeaderName, http::HeaderValue)> {
        let known = {
            let servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if servers.is_empty() {
                return Vec::new();
            }
            servers.get(&(endpoint.server.clone(), endpoint.url.as_str().to_owned())).cloned()
        };
        known.and_then(|tools| tools.get(tool).map(|mirrors| mirrors.headers(arguments))).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_cannot_be_read_does_not_hide_its_neighbours() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        let text = format!(
            r#"{{"tools":[{{"name":"a","annotations":{{"readOnlyHint":true}}}},{{"name":3}},
            {{"name":"bomb","inputSchema":{deep}}},{{"name":"b","annotations":7}}],"nextCursor":""}}"#
        );
        let page = page(&RawValue::from_string(text).unwrap()).unwrap();
        let names: Vec<_> = page.tools.iter().map(|tool| (tool.name.as_str(), tool.read_only)).collect();
        assert_eq!(names, [("a", true), ("b", false)]);
        assert_eq!(page.next_cursor, None);
    }
}
