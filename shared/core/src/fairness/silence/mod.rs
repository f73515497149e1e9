//! Which servers and tools answer nothing, and how many of a worker's slots their calls may hold.
//!
//! A server is silent when a request to it is under way for longer than its answers take, and no other was answered meanwhile. It stays
//! silent until it answers. The same is counted for each of its tools, so that a slow tool does not make its server silent. While the
//! worker is more than half full and calls of others were seen, calls of what is silent hold at most as many slots as the reserve. A
//! server that has never answered may hold twice as many until its first answer, because nobody knows yet whether one comes. Tenants
//! without a call at that server may have one beside those, again as many as the reserve, because calls of one tenant may hang alone.
//!
//! **Invariant:** what answers is never refused, and calls that nobody else competes with are never refused.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::Hash;

use super::accounts::SEEN_MS;
use crate::ids::ServerId;

/// The shortest time without an answer that is silence, in milliseconds.
pub const SILENT_MS: u64 = 1_000;
/// The longest time that one slow answer makes later silence wait for, in milliseconds.
const MOST_PATIENCE_MS: u64 = 600_000;
/// The longest answer counts less by this part with each answer.
const FADES: u64 = 64;
/// The most servers, and the most tools of a server, that are remembered.
const MANY: usize = 2_000;

/// The slots of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotUse {
    /// All of them.
    pub all: u64,
    /// The part that stays free for those below their share.
    pub reserve: u64,
    /// Those that no call holds.
    pub free: u64,
    /// Those that the tenant of the call holds at the call's server.
    pub of_tenant: u64,
}

/// How a call that was counted holds its slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placed {
    /// As the only one of its tenant, beside what calls to a silent server may hold.
    extra: bool,
    /// It has lent its slot.
    lent: bool,
}

/// Why a call may not have a slot now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silent {
    /// Nothing was answered for that many milliseconds.
    For {
        /// Milliseconds.
        ms: u64,
        /// Whether it is the tool that is silent, while its server answers to others.
        tool_only: bool,
        /// The slots that its calls hold.
        held: u64,
    },
    /// It has never answered, and its first requests are under way. For that long they may be answered.
    Unknown {
        /// Milliseconds.
        ask_again_ms: u64,
    },
}

/// The requests to one server, or to one of its tools.
#[derive(Debug, Default)]
struct Answers {
    /// Calls that hold a slot, or have lent it.
    held: u64,
    /// Those of them that have lent it.
    lent: u64,
    under_way: u64,
    /// When the first request was sent after the last answer.
    since_ms: Option<u64>,
    /// A request has ended without an answer after a silence.
    went_unanswered: bool,
    /// The time of the longest answer, which fades.
    longest_ms: Option<u64>,
    seen_ms: u64,
}

#[derive(Debug, Default)]
struct OfServer {
    own: Answers,
    tools: HashMap<Box<str>, Answers>,
}

/// What a worker knows of the answers of all servers. Times are milliseconds of a clock that does not go back.
#[derive(Debug, Default)]
pub struct Silences {
    servers: HashMap<ServerId, OfServer>,
    lent: u64,
    extra: u64,
}

impl Answers {
    fn patience_ms(&self) -> u64 {
        self.longest_ms.map_or(SILENT_MS, |ms| ms.saturating_mul(2).clamp(SILENT_MS, MOST_PATIENCE_MS))
    }

    fn silent_ms(&self, now_ms: u64) -> Option<u64> {
        let silent_ms = now_ms.saturating_sub(self.since_ms?);
        (self.went_unanswered || silent_ms >= self.patience_ms()).then_some(silent_ms)
    }

    fn sent(&mut self, now_ms: u64) {
        self.under_way = self.under_way.saturating_add(1);
        self.since_ms.get_or_insert(now_ms);
        self.seen_ms = now_ms;
    }

    fn ended(&mut self, answered: bool, took_ms: u64, now_ms: u64) {
        self.seen_ms = now_ms;
        if answered {
            let faded_ms = self.longest_ms.unwrap_or(0);
            self.longest_ms = Some(faded_ms.saturating_sub(faded_ms.div_ceil(FADES)).max(took_ms));
        } else if self.silent_ms(now_ms).is_some() {
            self.went_unanswered = true;
        }
        self.under_way = self.under_way.saturating_sub(1);
        if answered {
            self.went_unanswered = false;
            self.since_ms = (self.under_way > 0).then_some(now_ms);
        } else if self.under_way == 0 && !self.went_unanswered {
            self.since_ms = None;
        }
    }

    /// How many slots its calls may hold, and why no more; none where it answers.
    fn limit(&self, slots: SlotUse, tool_only: bool, now_ms: u64) -> Option<(u64, Silent)> {
        let reserve = slots.reserve.max(1);
        if let Some(ms) = self.silent_ms(now_ms) {
            return Some((reserve, Silent::For { ms, tool_only, held: self.held }));
        }
        let first = self.longest_ms.is_none();
        let until_ms = self.since_ms.unwrap_or(now_ms).saturating_add(SILENT_MS);
        let unknown = Silent::Unknown { ask_again_ms: until_ms.saturating_sub(now_ms).max(1) };
        first.then_some((reserve.saturating_mul(2), unknown))
    }

    const fn is_seen(&self, now_ms: u64) -> bool {
        self.held > 0 || now_ms.saturating_sub(self.seen_ms) < SEEN_MS
    }

    const fn is_used(&self) -> bool {
        self.held > 0 || self.under_way > 0
    }
}

impl OfServer {
    /// Whether calls of another tool were seen lately.
    fn other_tools(&self, tool: &str, now_ms: u64) -> bool {
        self.tools.iter().any(|(name, other)| **name != *tool && other.is_seen(now_ms))
    }
}

impl Silences {
    /// Counts a call that wants a slot, unless its server or its tool is silent and holds what it may.
    ///
    /// # Errors
    /// What is silent, and for how long.
    pub fn enter(
        &mut self,
        server: &ServerId,
        tool: &str,
        slots: SlotUse,
        now_ms: u64,
    ) -> Result<Placed, Silent> {
        let mut placed = Placed::default();
        if let Some(silent) = self.refuses(server, tool, slots, now_ms) {
            // Calls of one tenant may hang where those of another are answered.
            placed.extra = slots.of_tenant == 0 && self.extra < slots.reserve.max(1);
            if !placed.extra {
                return Err(silent);
            }
            self.extra = self.extra.saturating_add(1);
        }
        let of_server = entry(&mut self.servers, server, now_ms);
        if of_server.tools.len() >= MANY && !of_server.tools.contains_key(tool) {
            forget(&mut of_server.tools, |answers| answers);
        }
        let of_tool = match of_server.tools.get_mut(tool) {
            Some(answers) => answers,
            None => of_server.tools.entry(tool.into()).or_default(),
        };
        for answers in [&mut of_server.own, of_tool] {
            answers.held = answers.held.saturating_add(1);
            answers.seen_ms = now_ms;
        }
        Ok(placed)
    }

    /// Counts a call no longer that [`Silences::enter`] has counted.
    pub fn leave(&mut self, server: &ServerId, tool: &str, placed: Placed, now_ms: u64) {
        for answers in self.of(server, Some(tool)).into_iter().flatten() {
            answers.held = answers.held.saturating_sub(1);
            answers.lent = answers.lent.saturating_sub(u64::from(placed.lent));
            answers.seen_ms = now_ms;
        }
        self.lent = self.lent.saturating_sub(u64::from(placed.lent));
        self.extra = self.extra.saturating_sub(u64::from(placed.extra));
    }

    /// Whether a call lends its slot to others while it waits for an answer: its server or tool is silent, calls of others were seen, and
    /// fewer calls than twice the reserve have lent theirs.
    pub fn lend(
        &mut self,
        server: &ServerId,
        tool: &str,
        placed: &mut Placed,
        reserve: u64,
        now_ms: u64,
    ) -> bool {
        let is_room = self.lent < reserve.max(1).saturating_mul(2);
        let lends = !placed.lent && is_room && self.is_silent_to_others(server, tool, now_ms);
        if lends {
            self.lent = self.lent.saturating_add(1);
            placed.lent = true;
            for answers in self.of(server, Some(tool)).into_iter().flatten() {
                answers.lent = answers.lent.saturating_add(1);
            }
        }
        lends
    }

    /// A request is sent.
    pub fn sent(&mut self, server: &ServerId, tool: Option<&str>, now_ms: u64) {
        entry(&mut self.servers, server, now_ms);
        for answers in self.of(server, tool).into_iter().flatten() {
            answers.sent(now_ms);
        }
    }

    /// The server reported progress of a request under way: it is not silent.
    pub fn heard(&mut self, server: &ServerId, tool: Option<&str>, now_ms: u64) {
        for answers in self.of(server, tool).into_iter().flatten() {
            answers.went_unanswered = false;
            answers.since_ms = (answers.under_way > 0).then_some(now_ms);
        }
    }

    /// A request has ended after that time. `answered` says that its server answered anything.
    pub fn ended(
        &mut self,
        server: &ServerId,
        tool: Option<&str>,
        answered: bool,
        took_ms: u64,
        now_ms: u64,
    ) {
        for answers in self.of(server, tool).into_iter().flatten() {
            answers.ended(answered, took_ms, now_ms);
        }
    }

    /// Whether a server has answered, and answers.
    pub fn answers(&self, server: &ServerId, tool: &str, now_ms: u64) -> bool {
        let known = self.servers.get(server);
        let answers = |answers: &Answers| answers.longest_ms.is_some() && answers.silent_ms(now_ms).is_none();
        known.is_some_and(|known| answers(&known.own) && known.tools.get(tool).is_some_and(answers))
    }

    /// How many servers, and tools of them, are remembered.
    pub fn len(&self) -> usize {
        self.servers.values().map(|of_server| of_server.tools.len().saturating_add(1)).sum()
    }

    /// Whether no server is remembered.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Whether a call to a server or a tool waits for silence while calls of others may need its slot.
    fn is_silent_to_others(&self, server: &ServerId, tool: &str, now_ms: u64) -> bool {
        let Some(known) = self.servers.get(server) else { return false };
        let tool_is_silent =
            || known.tools.get(tool).is_some_and(|of_tool| of_tool.silent_ms(now_ms).is_some());
        let server_is_silent = known.own.silent_ms(now_ms).is_some();
        (server_is_silent || tool_is_silent()) && self.other_servers(server, now_ms)
            || !server_is_silent && tool_is_silent() && known.other_tools(tool, now_ms)
    }

    fn refuses(&self, server: &ServerId, tool: &str, slots: SlotUse, now_ms: u64) -> Option<Silent> {
        let known = self.servers.get(server)?;
        // Slots that its calls have lent are for calls of others.
        if known.own.lent == 0 && slots.free.saturating_sub(1) >= slots.all.div_ceil(2) {
            return None;
        }
        if let Some((most, silent)) = known.own.limit(slots, false, now_ms)
            && (known.own.held >= most
                || self.held_in_silence(now_ms) >= slots.reserve.max(1).saturating_mul(2))
        {
            return self.other_servers(server, now_ms).then_some(silent);
        }
        let of_tool = known.tools.get(tool)?;
        let (most, silent) = of_tool.limit(slots, true, now_ms)?;
        let others = || self.other_servers(server, now_ms) || known.other_tools(tool, now_ms);
        (of_tool.held >= most && others()).then_some(silent)
    }

    /// Whether calls of another server were seen lately.
    fn other_servers(&self, server: &ServerId, now_ms: u64) -> bool {
        self.servers.iter().any(|(id, other)| id != server && other.own.is_seen(now_ms))
    }

    /// The slots that calls of silent servers hold.
    fn held_in_silence(&self, now_ms: u64) -> u64 {
        let silent = self.servers.values().filter(|known| known.own.silent_ms(now_ms).is_some());
        silent.map(|known| known.own.held).sum()
    }

    fn of(&mut self, server: &ServerId, tool: Option<&str>) -> [Option<&mut Answers>; 2] {
        match self.servers.get_mut(server) {
            Some(OfServer { own, tools }) => [Some(own), tool.and_then(|tool| tools.get_mut(tool))],
            None => [None, None],
        }
    }
}

/// The entry of a server, which is made where there is none.
fn entry<'a>(
    servers: &'a mut HashMap<ServerId, OfServer>,
    server: &ServerId,
    now_ms: u64,
) -> &'a mut OfServer {
    if !servers.contains_key(server) {
        if servers.len() >= MANY {
            forget(servers, |of_server| &of_server.own);
        }
        let own = Answers { seen_ms: now_ms, ..Answers::default() };
        servers.insert(server.clone(), OfServer { own, tools: HashMap::new() });
    }
    servers.entry(server.clone()).or_default()
}

/// Forgets the older half of those without calls.
fn forget<K: Eq + Hash, V>(known: &mut HashMap<K, V>, answers: impl Fn(&V) -> &Answers) {
    let mut times: Vec<_> =
        known.values().map(&answers).filter(|a| !a.is_used()).map(|a| a.seen_ms).collect();
    if times.is_empty() {
        return;
    }
    let middle = times.len() / 2;
    let (_, cut, _) = times.select_nth_unstable(middle);
    let cut = *cut;
    known.retain(|_, value| answers(value).is_used() || answers(value).seen_ms > cut);
}
