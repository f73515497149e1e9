//! Reads one page of a server's tool list, and caches which tools mirror arguments into headers. An invalid tool does not affect the others.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use toolfleet_core::ids::ServerId;
use toolfleet_core::surrogate::replace_lone_surrogates;

use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::fault::invalid;
use crate::protocol::frame::text_in;
use crate::protocol::param_headers::Mirrors;

/// Pages followed, and tools kept, of one server.
pub(crate) const MAX_PAGES: usize = 100;
pub(crate) const MAX_TOOLS: usize = 10_000;
/// A schema that is longer is not looked at: only its server judges by it.
const MAX_SCHEMA_BYTES: usize = 256 * 1024;

/// A tool as its server lists it.
#[derive(Debug, Clone)]
pub struct RemoteTool {
    /// Its name at the server.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The JSON schema of its arguments; null where it has none, or one that is too long or too deep to be looked at.
    pub input_schema: Value,
    /// `annotations.readOnlyHint`; false where the server says nothing.
    pub read_only: bool,
    /// `annotations.idempotentHint`; false where the server says nothing.
    pub idempotent: bool,
    /// The whole entry byte for byte, except that half a surrogate pair is U+FFFD.
    pub raw: Box<RawValue>,
}

/// What a server says of keeping its list (2026-07-28); one of the older versions says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// How long the list is fresh (`ttlMs`).
    pub for_ms: Option<u64>,
    /// Whether it is the same for every caller (`cacheScope` is `public`).
    pub public: bool,
}

impl Freshness {
    /// Of two pages: the shorter time, and public where both are.
    pub(crate) fn and(self, other: Self) -> Self {
        let for_ms = [self.for_ms, other.for_ms].into_iter().flatten().min();
        Self { for_ms, public: self.public && other.public }
    }
}

/// A server's tools, and how long they may be believed.
#[derive(Debug)]
pub struct ToolList {
    /// The tools.
    pub tools: Vec<RemoteTool>,
    /// What the server says of keeping them.
    pub freshness: Freshness,
    /// Whether it has no others: a list that is too long, or does not end, is used as far as it was read.
    pub whole: bool,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nowhere.
    None,
    /// At this cursor.
    Cursor(String),
    /// The server names something that is no cursor.
    Unusable,
}

impl Next {
    /// What the member `nextCursor` says.
    pub(crate) fn of(member: Option<&RawValue>) -> Self {
        match member.map(RawValue::get) {
            None | Some("null") => Self::None,
            Some(text) => serde_json::from_str(text).map_or(Self::Unusable, Self::Cursor),
        }
    }

    /// In 2026-07-28 an empty text is a cursor like any other; older servers end their lists with one.
    pub(crate) fn in_speech(self, is_modern: bool) -> Self {
        match self {
            Self::Cursor(cursor) if cursor.is_empty() && !is_modern => Self::None,
            next @ (Self::None | Self::Cursor(_) | Self::Unusable) => next,
        }
    }
}

/// One page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) tools: Vec<RemoteTool>,
    pub(crate) next: Next,
    pub(crate) freshness: Freshness,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageWire<'a> {
    #[serde(borrow)]
    tools: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    next_cursor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cache_scope: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolWire<'a> {
    name: String,
    #[serde(borrow, default)]
    description: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input_schema: Option<&'a RawValue>,
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
    let text = replace_lone_surrogates(result.get());
    let wire: PageWire<'_> =
        serde_json::from_str(&text).map_err(|error| invalid("a tools/list result", &error.to_string()))?;
    let tools = wire.tools.into_iter().filter_map(|raw| match tool(raw) {
        Ok(tool) => Some(tool),
        Err(error) => {
            // serde repeats what it did not want, which may be anything.
            tracing::warn!(kind = ?error.classify(), column = error.column(), "a listed tool cannot be read");
            None
        }
    });
    let freshness = Freshness {
        for_ms: wire.ttl_ms.and_then(|ms| serde_json::from_str(ms.get()).ok()),
        public: wire.cache_scope.is_some_and(|scope| scope.get() == "\"public\""),
    };
    Ok(Page { tools: tools.collect(), next: Next::of(wire.next_cursor), freshness })
}

fn tool(raw: &RawValue) -> Result<RemoteTool, serde_json::Error> {
    let wire: ToolWire<'_> = serde_json::from_str(raw.get())?;
    let hints: Hints =
        wire.annotations.and_then(|hints| serde_json::from_str(hints.get()).ok()).unwrap_or_default();
    let schema = wire.input_schema.filter(|schema| schema.get().len() <= MAX_SCHEMA_BYTES);
    let input_schema = schema.and_then(|schema| serde_json::from_str(schema.get()).ok()).unwrap_or_default();
    Ok(RemoteTool {
        name: wire.name,
        description: wire.description.and_then(text_in).map(Cow::into_owned),
        input_schema,
        read_only: hints.read_only_hint.unwrap_or(false),
        idempotent: hints.idempotent_hint.unwrap_or(false),
        raw: raw.to_owned(),
    })
}

type PerTool = Arc<HashMap<String, Mirrors>>;

/// The header mirrors of every server whose tools ask for any.
#[derive(Debug, Default)]
pub(crate) struct Mirrored(Mutex<HashMap<(ServerId, String), PerTool>>);

/// The tools that can be used, with what they mirror into headers.
///
/// Left out are tools with impossible annotations, and those whose names or definitions hold our credential: names are told to
/// callers, definitions to operators.
pub(crate) fn sifted(
    endpoint: &Endpoint,
    mut tools: Vec<RemoteTool>,
) -> (Vec<RemoteTool>, HashMap<String, Mirrors>) {
    let listed = tools.len();
    tools.retain(|tool| {
        !endpoint.leaks_into(&tool.name) && endpoint.json_without_echo(tool.raw.get()).is_none()
    });
    let left_out = listed.saturating_sub(tools.len());
    if left_out > 0 {
        tracing::warn!(server = %endpoint.server, tools = left_out, "tools are left out: their definitions hold the server's credential");
    }
    let mut known = HashMap::new();
    tools.retain(|tool| match Mirrors::of_schema(&tool.input_schema) {
        Ok(mirrors) => {
            if !mirrors.is_empty() {
                known.insert(tool.name.clone(), mirrors);
            }
            true
        }
        Err(reason) => {
            let reason = toolfleet_egress::sanitize_text(&endpoint.text_without_echo(reason));
            tracing::warn!(server = %endpoint.server, %reason, "a tool with an invalid x-mcp-header is left out");
            false
        }
    });
    (tools, known)
}

impl Mirrored {
    /// Keeps what a whole listing says.
    pub(crate) fn keep(&self, endpoint: &Endpoint, known: HashMap<String, Mirrors>) {
        let key = (endpoint.server.clone(), endpoint.url.as_str().to_owned());
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            servers.remove(&key)
        } else {
            servers.insert(key, Arc::new(known))
        };
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
        assert_eq!(names, [("a", true), ("bomb", false), ("b", false)]);
        assert!(page.tools[1].input_schema.is_null(), "its server judges alone");
        assert_eq!(page.next, Next::Cursor(String::new()));
        assert_eq!(page.next.in_speech(false), Next::None);
        assert_eq!(page.freshness, Freshness { for_ms: None, public: false });
    }

    #[test]
    fn half_a_surrogate_pair_in_a_description_takes_no_tool_away() {
        let text = r#"{"tools":[{"name":"a","description":"x\ud83d","inputSchema":{"type":"object","title":"\udc00"}}],"nextCursor":null}"#;
        let page = page(&RawValue::from_string(text.to_owned()).unwrap()).unwrap();
        assert_eq!(page.tools[0].description.as_deref(), Some("x\u{fffd}"));
        assert_eq!(page.tools[0].input_schema["title"], "\u{fffd}");
        assert_eq!(page.next, Next::None);
    }

    #[test]
    fn what_a_list_names_as_its_cursor_is_told_apart() {
        let of = |text: &str| Next::of(Some(&RawValue::from_string(text.to_owned()).unwrap()));
        assert_eq!(of("\"a\""), Next::Cursor("a".to_owned()));
        assert_eq!((of("null"), Next::of(None)), (Next::None, Next::None));
        for odd in ["0", "20", "false", "{}", "[\"a\"]"] {
            assert_eq!(of(odd), Next::Unusable, "{odd}");
        }
        assert_eq!(of("\"\"").in_speech(true), Next::Cursor(String::new()));
        assert_eq!(of("\"\"").in_speech(false), Next::None);
    }

    #[test]
    fn a_list_is_as_fresh_as_its_stalest_page_and_public_where_all_pages_are() {
        let of = |text: &str| page(&RawValue::from_string(text.to_owned()).unwrap()).unwrap().freshness;
        let long = of(r#"{"tools":[],"ttlMs":60000,"cacheScope":"public"}"#);
        let short = of(r#"{"tools":[],"ttlMs":5000,"cacheScope":"private"}"#);
        assert_eq!(long, Freshness { for_ms: Some(60_000), public: true });
        assert_eq!(long.and(short), Freshness { for_ms: Some(5_000), public: false });
        // What cannot be read spoils no list.
        let odd = of(r#"{"tools":[],"ttlMs":"soon","cacheScope":["public"]}"#);
        assert_eq!(odd, Freshness { for_ms: None, public: false });
    }
}
