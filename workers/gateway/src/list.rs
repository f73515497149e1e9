//! `tools/list`: the gateway's own tools, then the published ones by name, a page at a time.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_mcp_protocol::{cache_scope, result_type};

use crate::gateway::Gateway;
use crate::lacking::Lacking;
use crate::message::{Answer, Members, Request, finish_result, raw};
use crate::own_tools::{get_result_tool, search_tool};
use crate::pages::{after, page};
use crate::server_lists::LISTS_WITHIN;

/// The keys of what a list lacks, in `result._meta`: servers whose own lists cannot be read, servers that have more than is read, and names
/// that lead nowhere here.
const UNLISTED: &str = "toolfleet/unlistedServers";
const CUT: &str = "toolfleet/cutServers";
const LEFT_OUT: &str = "toolfleet/leftOut";
/// How many names of a server are told that are left out.
const MOST_LEFT_OUT: usize = 20;

impl Gateway {
    /// Answers `tools/list`.
    pub(crate) async fn list_tools(&self, request: &Request) -> Answer {
        let after = after(request)?;
        let catalog = self.catalog();
        let until = request.at + LISTS_WITHIN;
        let (known, used_until) = self.definitions(&catalog, &request.caller, until).await;
        let definitions = &known.definitions;
        let own = match after {
            Some(_) => Vec::new(),
            None if definitions.tools.len() > self.limits.search_above => {
                vec![get_result_tool(), search_tool()]
            }
            None => vec![get_result_tool()],
        };
        let begin = after.as_deref().map_or(Unbounded, Excluded);
        let rest = definitions.tools.range::<str, _>((begin, Unbounded));
        let rest = rest.map(|(name, one)| (name.as_str(), one.entry_for(request)));
        let (page, mut members) = page(request, rest, self.limits.page);
        let tools: Vec<_> = own.iter().map(|one| one.entry_for(request)).chain(page).collect();
        members.insert("tools".to_owned(), raw(&tools));
        Ok(self.finish_list(members, request, &definitions.lacking(used_until)))
    }

    /// The result of a listing, with what it lacks.
    pub(crate) fn finish_list(
        &self,
        mut members: Members,
        request: &Request,
        lacking: &Lacking,
    ) -> Box<RawValue> {
        let Lacking { unlisted, cut, left_out, until } = lacking;
        if request.is_modern() {
            // A list that lacks what a server has is soon another one.
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let ttl = left.map_or(self.limits.tools_ttl, |left| left.min(self.limits.tools_ttl));
            let ttl = if unlisted.is_empty() { ttl } else { Duration::ZERO };
            members.insert("ttlMs".to_owned(), raw(&u64::try_from(ttl.as_millis()).unwrap_or_default()));
            members.insert("cacheScope".to_owned(), raw(&cache_scope::PRIVATE));
        }
        let mut more: Vec<(&str, Value)> = Vec::new();
        if !unlisted.is_empty() {
            more.push((UNLISTED, json!(unlisted)));
        }
        if !cut.is_empty() {
            more.push((CUT, json!(cut)));
        }
        if !left_out.is_empty() {
            let some = left_out
                .iter()
                .map(|(server, names)| (server, names.iter().take(MOST_LEFT_OUT).collect::<Vec<_>>()));
            more.push((LEFT_OUT, json!(some.collect::<BTreeMap<_, _>>())));
        }
        finish_result(members, result_type::COMPLETE, request, &more)
    }
}
