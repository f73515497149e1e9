//! `tools/list`: the gateway's own tools, then the published ones by name, a page at a time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;
use toolfleet_mcp_protocol::{cache_scope, result_type};

use crate::definitions::Definition;
use crate::gateway::Gateway;
use crate::message::{Answer, Members, Request, RpcError, finish_result, raw};
use crate::own_tools::{get_result_tool, search_tool};
use crate::tool_lists::LISTS_WITHIN;

/// The key of the servers whose tools are not listed because their own lists cannot be read, in `result._meta`.
const UNLISTED: &str = "toolfleet/unlistedServers";

#[derive(Deserialize)]
struct Params {
    #[serde(default)]
    cursor: Option<String>,
}

impl Gateway {
    /// Answers `tools/list`. A cursor is the last name of the page before, so a list that changes in between loses no other tool.
    pub(crate) async fn list_tools(&self, request: &Request) -> Answer {
        let after = match request.inbound.params::<Params>()?.cursor {
            None => None,
            Some(cursor) => Some(
                name_in(&cursor).ok_or_else(|| RpcError::invalid_params("`cursor` is none of this list"))?,
            ),
        };
        let catalog = self.catalog();
        let definitions = self.reader(&catalog, &request.caller, request.at + LISTS_WITHIN).all().await;
        let own = match after {
            Some(_) => Vec::new(),
            None if definitions.tools.len() > self.limits.search_above => {
                vec![get_result_tool(), search_tool()]
            }
            None => vec![get_result_tool()],
        };
        let rest =
            definitions.tools.values().filter(|one| after.as_ref().is_none_or(|after| one.name > *after));
        let rest: Vec<&Definition> = rest.collect();
        let page: Vec<&Definition> = rest.iter().copied().take(self.limits.page).collect();
        let mut members = Members::new();
        if let Some(last) = page.last().filter(|_| rest.len() > page.len()) {
            members.insert("nextCursor".to_owned(), raw(&URL_SAFE_NO_PAD.encode(&last.name)));
        }
        let tools: Vec<_> = own.iter().chain(page).map(|one| &one.entry).collect();
        members.insert("tools".to_owned(), raw(&tools));
        if request.is_modern() {
            // A list that lacks a server's tools is soon another one.
            let ttl = if definitions.unknown.is_empty() { self.limits.tools_ttl.as_millis() } else { 0 };
            members.insert("ttlMs".to_owned(), raw(&u64::try_from(ttl).unwrap_or_default()));
            members.insert("cacheScope".to_owned(), raw(&cache_scope::PRIVATE));
        }
        let unlisted = definitions.missing();
        let more = if unlisted.is_empty() { Vec::new() } else { vec![(UNLISTED, json!(unlisted))] };
        Ok(finish_result(members, result_type::COMPLETE, request, &more))
    }
}

fn name_in(cursor: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok().filter(|name| !name.is_empty())
}
