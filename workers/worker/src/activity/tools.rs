//! The calls of each tool that ended here, by minute.
//!
//! A call belongs to the minute of its end, as in its audit record. The minutes are kept for a while after their rollups are written, so
//! that a call that is stored late makes the same rollup larger.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use toolfleet_catalog::Catalog;
use toolfleet_core::fleet::{Minute, OTHER_TOOLS, Rollup, ToolSeen, WINDOW_MS};
use toolfleet_core::ids::{ServerId, ToolId};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::Target;
use toolfleet_core::time::Timestamp;

use super::lock::lock;

/// The most tools; the calls of others are counted together, and so are those of tools that are not registered.
const MOST_TOOLS: usize = 1_000;
/// Minutes after which a call counts in the current minute instead of that of its end.
const LATEST_MINUTES: i64 = 10;
/// For how many minutes those are kept whose rollups are written. It is more than [`LATEST_MINUTES`].
pub(super) const KEPT_MINUTES: i64 = 15;

/// The tools of a worker.
#[derive(Debug)]
pub(crate) struct Tools {
    names: RwLock<Names>,
    pub(super) others: Arc<OfTool>,
}

/// Tools by the parts of their names, so that a known one is found without making its name.
#[derive(Debug, Default)]
struct Names {
    tools: HashMap<ToolId, Name>,
    servers: HashMap<ServerId, Name>,
    count: usize,
}

#[derive(Debug, Default)]
struct Name {
    alone: Option<Arc<OfTool>>,
    parts: HashMap<String, Arc<OfTool>>,
}

/// One tool.
#[derive(Debug)]
pub(super) struct OfTool {
    /// As audit records name it.
    pub(super) name: String,
    pub(super) server: Option<ServerId>,
    pub(super) minutes: Mutex<Vec<OfMinute>>,
}

/// The calls of one tool in one minute.
#[derive(Debug)]
pub(super) struct OfMinute {
    pub(super) minute: Minute,
    pub(super) rollup: Rollup,
    /// How many of the calls the written rollup has.
    pub(super) written: u64,
}

impl OfMinute {
    /// Calls that are in no written rollup.
    pub(super) fn pending(&self) -> u64 {
        self.rollup.calls.total().saturating_sub(self.written)
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) outcome: OutcomeKind,
    pub(super) attempts: u32,
    pub(super) duration_us: Option<u64>,
    /// Whether it was given a stored answer, if it asked for one.
    pub(super) cached: Option<bool>,
    /// If it was sent in a batch, whether it led that.
    pub(super) batched: Option<bool>,
    pub(super) at: Timestamp,
    pub(super) now: Timestamp,
}

impl Default for Tools {
    fn default() -> Self {
        let others = OfTool { name: OTHER_TOOLS.to_owned(), server: None, minutes: Mutex::default() };
        Self { names: RwLock::default(), others: Arc::new(others) }
    }
}

impl Tools {
    /// A call of that target has ended.
    pub(super) fn ended(&self, catalog: &Catalog, target: &Target, ended: Ended) {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(tool) = names.find(target) {
            return tool.ended(ended);
        }
        drop(names);
        self.add(catalog, target).ended(ended);
    }

    /// The calls and failures of each tool in the last minutes.
    pub(crate) fn seen(&self, now: Timestamp) -> BTreeMap<String, ToolSeen> {
        let tools = self.all().into_iter().map(|tool| (tool.name.clone(), tool.seen(now)));
        tools.filter(|(_, seen)| seen.calls > 0).collect()
    }

    /// Forgets minutes whose rollups were written long ago, and tools without any minute.
    pub(crate) fn forget(&self, now: Timestamp) {
        let oldest = Minute::of(now).plus(-KEPT_MINUTES);
        // A rollup of several tools together is written again as a whole.
        let oldest = self.pending().map_or(oldest, |(first, _)| oldest.min(first));
        let is_over = |tool: &Arc<OfTool>| {
            let mut minutes = lock(&tool.minutes);
            minutes.retain(|one| one.minute >= oldest);
            minutes.is_empty()
        };
        is_over(&self.others);
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let Names { tools, servers, count } = &mut *names;
        for name in tools.values_mut().chain(servers.values_mut()) {
            name.alone = name.alone.take().filter(|tool| !is_over(tool));
            name.parts.retain(|_, tool| !is_over(tool));
        }
        tools.retain(|_, name| name.count() > 0);
        servers.retain(|_, name| name.count() > 0);
        *count = tools.values().chain(servers.values()).map(Name::count).sum();
    }

    /// All tools, the others together last.
    pub(super) fn all(&self) -> Vec<Arc<OfTool>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let all = names.tools.values().chain(names.servers.values());
        let mut tools: Vec<_> =
            all.flat_map(|name| name.alone.iter().chain(name.parts.values())).cloned().collect();
        tools.push(self.others.clone());
        tools
    }

    fn add(&self, catalog: &Catalog, target: &Target) -> Arc<OfTool> {
        let Some(server) = registered(catalog, target) else {
            return self.others.clone();
        };
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.find(target) {
            return known.clone();
        }
        if names.count >= MOST_TOOLS {
            return self.others.clone();
        }
        let minutes = Mutex::default();
        let tool = Arc::new(OfTool { name: target.to_string(), server: Some(server), minutes });
        names.insert(target, tool.clone());
        tool
    }
}

/// The server of a target, if the target is registered. What a caller invents is not counted under its name.
fn registered(catalog: &Catalog, target: &Target) -> Option<ServerId> {
    match target {
        Target::Tool { id, .. } => Some(catalog.tool(id)?.server.id.clone()),
        Target::OnServer { server, .. } | Target::Server { server } => {
            catalog.server(server).map(|server| server.id.clone())
        }
    }
}

impl Names {
    fn find(&self, target: &Target) -> Option<&Arc<OfTool>> {
        match target {
            Target::Tool { id, function: None } => self.tools.get(id)?.alone.as_ref(),
            Target::Tool { id, function: Some(function) } => self.tools.get(id)?.parts.get(function),
            Target::OnServer { server, name } => self.servers.get(server)?.parts.get(name),
            Target::Server { server } => self.servers.get(server)?.alone.as_ref(),
        }
    }

    fn insert(&mut self, target: &Target, tool: Arc<OfTool>) {
        self.count = self.count.saturating_add(1);
        let (name, part) = match target {
            Target::Tool { id, function } => (self.tools.entry(id.clone()).or_default(), function.as_ref()),
            Target::OnServer { server, name } => {
                (self.servers.entry(server.clone()).or_default(), Some(name))
            }
            Target::Server { server } => (self.servers.entry(server.clone()).or_default(), None),
        };
        match part {
            Some(part) => {
                name.parts.insert(part.clone(), tool);
            }
            None => name.alone = Some(tool),
        }
    }
}

impl Name {
    fn count(&self) -> usize {
        self.parts.len().saturating_add(usize::from(self.alone.is_some()))
    }
}

impl OfTool {
    fn ended(&self, ended: Ended) {
        let Ended { outcome, attempts, duration_us, cached, batched, at, now } = ended;
        let (minute, current) = (Minute::of(at), Minute::of(now));
        // A much older minute may have been forgotten; counting it anew would replace its rollup.
        let minute = if minute < current.plus(-LATEST_MINUTES) { current } else { minute };
        let mut minutes = lock(&self.minutes);
        if !minutes.iter().any(|one| one.minute == minute) {
            minutes.push(OfMinute { minute, rollup: Rollup::default(), written: 0 });
        }
        if let Some(one) = minutes.iter_mut().rev().find(|one| one.minute == minute) {
            one.rollup.add(outcome, attempts, duration_us);
            if let Some(given) = cached {
                one.rollup.add_cache_use(given);
            }
            if let Some(led) = batched {
                one.rollup.add_batched(led);
            }
        }
    }

    fn seen(&self, now: Timestamp) -> ToolSeen {
        let mut seen = ToolSeen::default();
        for one in lock(&self.minutes).iter().filter(|one| now.ms_since(one.minute.start()) < WINDOW_MS) {
            seen.calls = seen.calls.saturating_add(one.rollup.calls.total());
            seen.failures = seen.failures.saturating_add(one.rollup.calls.failures());
        }
        seen
    }
}
