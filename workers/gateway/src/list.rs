//! `tools/list`: the gateway's own tools, then the published ones by name, a page at a time.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use serde_json::{Value, json};
use toolfleet_mcp_protocol::{cache_scope, result_type};

use crate::gateway::Gateway;
use crate::message::{Answer, Members, Request, finish_result, raw};
use crate::own_tools::{get_result_tool, search_tool};
use crate::pages::{after, page};
use crate::server_lists::LISTS_WITHIN;

/// The keys of the servers that lists lack because their own lists cannot be read, and of those that have more than is read, in
/// `result._meta`.
const UNLISTED: &str = "toolfleet/unlistedServers";
const CUT: &str = "toolfleet/cutServers";

impl Gateway {
    /// Answers `tools/list`.
    pub(crate) async fn list_tools(&self, request: &Request) -> Answer {
        let after = after(request)?;
        let catalog = self.catalog();
        let definitions = self.reader(&catalog, &request.caller, request.at + LISTS_WITHIN).all().await;
        let own = match after {
            Some(_) => Vec::new(),
            None if definitions.tools.len() > self.limits.search_above => {
                vec![get_result_tool(), search_tool()]
            }
            None => vec![get_result_tool()],
        };
        let begin = after.as_deref().map_or(Unbounded, Excluded);
        let rest = definitions.tools.range::<str, _>((begin, Unbounded));
        let rest = rest.map(|(name, one)| (name.as_str(), one.entry.as_ref()));
        let (page, mut members) = page(request, rest, self.limits.page);
        let tools: Vec<_> = own.iter().map(|one| one.entry.as_ref()).chain(page).collect();
        members.insert("tools".to_owned(), raw(&tools));
        Ok(self.finish_list(members, request, &definitions.missing(), &definitions.cut))
    }

    /// The result of a listing, with what it lacks.
    pub(crate) fn finish_list(
        &self,
        mut members: Members,
        request: &Request,
        unlisted: &BTreeSet<&str>,
        cut: &BTreeSet<String>,
    ) -> Box<serde_json::value::RawValue> {
        if request.is_modern() {
            // A list that lacks what a server has is soon another one.
            let ttl = if unlisted.is_empty() { self.limits.tools_ttl.as_millis() } else { 0 };
            members.insert("ttlMs".to_owned(), raw(&u64::try_from(ttl).unwrap_or_default()));
            members.insert("cacheScope".to_owned(), raw(&cache_scope::PRIVATE));
        }
        let mut more: Vec<(&str, Value)> = Vec::new();
        if !unlisted.is_empty() {
            more.push((UNLISTED, json!(unlisted)));
        }
        if !cut.is_empty() {
            more.push((CUT, json!(cut)));
        }
        finish_result(members, result_type::COMPLETE, request, &more)
    }
}
