//! The state of the breakers: connections for each server, answers, time-outs of tools and pauses for each server and tenant.
//!
//! Only what differs from a new breaker is stored, and the number of entries is bounded.

use std::borrow::Cow;
use std::collections::HashMap;

use toolfleet_core::breaker::{Admission, Breaker, BreakerPolicy, Pause};
use toolfleet_core::call::HeldReason;
use toolfleet_core::control::ToolNames;
use toolfleet_core::failure::Refusal;
use toolfleet_core::fleet::{BreakerState, ServerSeen, TenantAtServer};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::time::Timestamp;

/// The most pairs of server and tenant; beyond it, those that refuse nothing now are forgotten.
pub(super) const MAX_PAIRS: usize = 10_000;

/// The most tools of a pair whose time-outs are counted.
const MAX_TOOLS: usize = 100;

/// The servers with a state.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) servers: HashMap<ServerId, OfServer>,
    pub(super) pairs: usize,
}

#[derive(Debug)]
pub(super) struct OfServer {
    pub(super) connections: Breaker,
    /// A summary without any word of the server, because other tenants and callers read it.
    pub(super) last_failure: Option<String>,
    pub(super) tenants: HashMap<Tenant, OfTenant>,
}

#[derive(Debug)]
pub(super) struct OfTenant {
    pub(super) answers: Breaker,
    pub(super) pause: Pause,
    pub(super) last_failure: Option<String>,
    /// The tools whose answers did not come in time.
    pub(super) tools: HashMap<Box<str>, Breaker>,
}

/// The name under which the time-outs of a tool count: tools that are registered for one function of a server may have other time-outs.
pub(super) fn tool_key<'a>(ToolNames { registered, name, .. }: ToolNames<'a>) -> Cow<'a, str> {
    registered.map_or(Cow::Borrowed(name), |id| Cow::Owned(format!("{id} {name}")))
}

impl OfServer {
    pub(super) fn peek(
        &self,
        tenant: &Tenant,
        tool: Option<ToolNames<'_>>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let refuse = |reason, retry_after_ms, last_failure: &Option<String>| {
            Err(Refusal { reason, retry_after_ms, last_failure: last_failure.clone(), detail: None })
        };
        if let Admission::Refused { retry_after_ms } = self.connections.peek(now) {
            return refuse(HeldReason::ServerUnreachable, retry_after_ms, &self.last_failure);
        }
        let Some(of_tenant) = self.tenants.get(tenant) else {
            return Ok(());
        };
        if let Some(left_ms) = of_tenant.pause.left_ms(now) {
            return refuse(HeldReason::ServerPause, left_ms, &of_tenant.last_failure);
        }
        let tool = tool.filter(|_| !of_tenant.tools.is_empty());
        let of_tool = tool.and_then(|tool| of_tenant.tools.get(tool_key(tool).as_ref()));
        for breaker in [Some(&of_tenant.answers), of_tool].into_iter().flatten() {
            if let Admission::Refused { retry_after_ms } = breaker.peek(now) {
                return refuse(HeldReason::ServerFailing, retry_after_ms, &of_tenant.last_failure);
            }
        }
        Ok(())
    }
}

impl OfServer {
    /// What operators see of it: the breaker of its connections, and the tenants for which it is not open, at most `most`.
    pub(super) fn seen(&self, now: Timestamp, most: usize) -> ServerSeen {
        let breaker = self.connections.state(now);
        let differing = self.tenants.iter().filter(|(_, of_tenant)| of_tenant.refuses(now)).take(most);
        let tenants = differing.map(|(tenant, of_tenant)| (tenant.clone(), of_tenant.seen(now))).collect();
        let last_failure = self.last_failure.clone().filter(|_| breaker != BreakerState::Closed);
        ServerSeen { breaker, last_failure, tenants, ..ServerSeen::default() }
    }
}

impl OfTenant {
    fn seen(&self, now: Timestamp) -> TenantAtServer {
        TenantAtServer {
            breaker: self.refusing(now).next().map_or(BreakerState::Closed, |breaker| breaker.state(now)),
            paused_until: self.pause.left_ms(now).map(|left_ms| now.plus_ms(left_ms)),
            last_failure: self.last_failure.clone(),
        }
    }

    /// The breaker of a tool's time-outs.
    pub(super) fn tool(&mut self, tool: ToolNames<'_>) -> &mut Breaker {
        let key = tool_key(tool);
        if self.tools.len() >= MAX_TOOLS && !self.tools.contains_key(key.as_ref()) {
            self.tools.clear();
        }
        self.tools.entry(key.into()).or_insert_with(|| Breaker::new(BreakerPolicy::TIME_OUTS))
    }

    /// The same, where time-outs of the tool were counted.
    pub(super) fn known_tool(&mut self, tool: Option<ToolNames<'_>>) -> Option<&mut Breaker> {
        if self.tools.is_empty() { None } else { self.tools.get_mut(tool_key(tool?).as_ref()) }
    }

    fn is_as_new(&self, now: Timestamp) -> bool {
        self.answers.is_as_new() && self.pause.is_as_new(now) && self.tools.is_empty()
    }

    /// Whether it refuses calls now, of one tool at least.
    fn refuses(&self, now: Timestamp) -> bool {
        self.refusing(now).next().is_some() || self.pause.left_ms(now).is_some()
    }

    /// The breakers that are not closed.
    pub(super) fn refusing(&self, now: Timestamp) -> impl Iterator<Item = &Breaker> {
        let all = std::iter::once(&self.answers).chain(self.tools.values());
        all.filter(move |breaker| breaker.peek(now) != Admission::Through)
    }
}

impl Memory {
    pub(super) fn server(&mut self, server: &ServerId, policy: BreakerPolicy) -> &mut OfServer {
        self.servers.entry(server.clone()).or_insert_with(|| OfServer {
            connections: Breaker::new(policy),
            last_failure: None,
            tenants: HashMap::new(),
        })
    }

    pub(super) fn known_pair(&mut self, server: &ServerId, tenant: &Tenant) -> Option<&mut OfTenant> {
        self.servers.get_mut(server)?.tenants.get_mut(tenant)
    }

    pub(super) fn pair(
        &mut self,
        server: &ServerId,
        tenant: &Tenant,
        policy: BreakerPolicy,
        now: Timestamp,
    ) -> &mut OfTenant {
        if self.known_pair(server, tenant).is_none() {
            if self.pairs >= MAX_PAIRS {
                self.make_room(now);
            }
            self.pairs = self.pairs.saturating_add(1);
        }
        let fresh = || OfTenant {
            answers: Breaker::new(policy),
            pause: Pause::default(),
            last_failure: None,
            tools: HashMap::new(),
        };
        self.server(server, policy).tenants.entry(tenant.clone()).or_insert_with(fresh)
    }

    /// Forgets the pairs that refuse nothing now; if all refuse, those of the server that has most.
    fn make_room(&mut self, now: Timestamp) {
        for of_server in self.servers.values_mut() {
            of_server.tenants.retain(|_, of_tenant| of_tenant.refuses(now));
        }
        let count = |servers: &HashMap<ServerId, OfServer>| servers.values().map(|s| s.tenants.len()).sum();
        self.pairs = count(&self.servers);
        if self.pairs >= MAX_PAIRS {
            if let Some(largest) = self.servers.values_mut().max_by_key(|s| s.tenants.len()) {
                largest.tenants.clear();
            }
            self.pairs = count(&self.servers);
        }
    }

    /// A connection to the server was made.
    pub(super) fn reached(&mut self, server: &ServerId, probe: bool, now: Timestamp) {
        if let Some(of_server) = self.servers.get_mut(server) {
            of_server.connections.report(true, probe, now);
        }
    }

    pub(super) fn forget_as_new(&mut self, server: &ServerId, tenant: &Tenant, now: Timestamp) {
        let Some(of_server) = self.servers.get_mut(server) else {
            return;
        };
        if of_server.tenants.get(tenant).is_some_and(|of_tenant| of_tenant.is_as_new(now)) {
            of_server.tenants.remove(tenant);
            self.pairs = self.pairs.saturating_sub(1);
        }
        if of_server.tenants.is_empty() && of_server.connections.is_as_new() {
            self.servers.remove(server);
        }
    }
}
