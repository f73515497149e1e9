//! The circuit breakers of a worker, and the pauses that servers ask for.
//!
//! Connections count for each server: all tenants share its address. Answers count for each server and tenant, because one tenant's calls
//! may fail where another's succeed. Time-outs count for each server, tenant and tool: a slow tool closes neither its server nor its other
//! tools. Failures of credentials or of the call's arguments move no breaker.
//!
//! **Invariant:** a call that was let through as a probe is reported or released, also when its future is dropped.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use toolfleet_core::breaker::{Admission, BreakerPolicy};
use toolfleet_core::control::ToolNames;
use toolfleet_core::failure::{Evidence, Failure, Refusal};
use toolfleet_core::fleet::{BreakerState, ServerSeen};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::time::Timestamp;

use super::memory::{Memory, OfServer, tool_key};

/// The breakers and pauses of a worker.
#[derive(Debug, Default)]
pub struct Breakers {
    policy: BreakerPolicy,
    known: Mutex<Memory>,
}

/// The right to ask a server once. Dropped without a report, it releases the probe.
#[derive(Debug)]
#[must_use]
pub struct Permit<'a> {
    breakers: &'a Breakers,
    server: &'a ServerId,
    tenant: &'a Tenant,
    tool: Option<ToolNames<'a>>,
    at: Timestamp,
    probes_connection: bool,
    probes_answer: bool,
    probes_tool: bool,
}

impl Breakers {
    /// Closed breakers of that policy.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, known: Mutex::default() }
    }

    /// Whether a call of that tenant would be let through, without becoming a probe.
    pub fn peek(
        &self,
        server: &ServerId,
        tenant: &Tenant,
        tool: Option<ToolNames<'_>>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        match self.known().servers.get(server) {
            Some(known) => known.peek(tenant, tool, now),
            None => Ok(()),
        }
    }

    /// Asks for one attempt.
    pub fn ask<'a>(
        &'a self,
        server: &'a ServerId,
        tenant: &'a Tenant,
        tool: Option<ToolNames<'a>>,
        now: Timestamp,
    ) -> Result<Permit<'a>, Refusal> {
        let mut permit = Permit {
            breakers: self,
            server,
            tenant,
            tool,
            at: now,
            probes_connection: false,
            probes_answer: false,
            probes_tool: false,
        };
        if let Some(known) = self.known().servers.get_mut(server) {
            known.peek(tenant, tool, now)?;
            permit.probes_connection = known.connections.ask(now) == Admission::Probe;
            if let Some(of_tenant) = known.tenants.get_mut(tenant) {
                permit.probes_answer = of_tenant.answers.ask(now) == Admission::Probe;
                if let Some(of_tool) = of_tenant.known_tool(tool) {
                    permit.probes_tool = of_tool.ask(now) == Admission::Probe;
                }
            }
        }
        Ok(permit)
    }

    /// How many breakers are open, those of single tenants included.
    pub fn open(&self, now: Timestamp) -> u64 {
        let of_server = |known: &OfServer| {
            let tenants = known.tenants.values().flat_map(|of_tenant| of_tenant.refusing(now));
            tenants.count().saturating_add(usize::from(known.connections.peek(now) != Admission::Through))
        };
        let open: usize = self.known().servers.values().map(of_server).sum();
        u64::try_from(open).unwrap_or(u64::MAX)
    }

    /// The servers that refuse calls now, or refuse those of some tenant, and what is known of them. At most `most` servers, and as many
    /// tenants of each.
    pub fn not_open(&self, now: Timestamp, most: usize) -> BTreeMap<ServerId, ServerSeen> {
        let known = self.known();
        let seen = known.servers.iter().map(|(server, known)| (server, known.seen(now, most)));
        let seen = seen.filter(|(_, seen)| seen.breaker != BreakerState::Closed || !seen.tenants.is_empty());
        seen.take(most).map(|(server, seen)| (server.clone(), seen)).collect()
    }

    fn known(&self) -> MutexGuard<'_, Memory> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Learns how the attempt ended. Gives the pause that the server asked for, in milliseconds.
    pub fn record<T>(mut self, ended: &Result<T, Failure>, now: Timestamp) -> Option<u64> {
        let failure = ended.as_ref().err();
        let evidence = failure.map(|failure| failure.evidence);
        let summary = || failure.map(|failure| failure.summary.clone());
        let mut known = self.breakers.known();
        if matches!(evidence, None | Some(Evidence::Reached)) && !known.servers.contains_key(self.server) {
            return None;
        }
        let mut pause_ms = None;
        match evidence {
            Some(Evidence::NotConnected) => {
                let of_server = known.server(self.server, self.breakers.policy);
                of_server.last_failure = summary();
                if of_server.connections.report(false, self.probes_connection, now) {
                    let fault = failure.map(|failure| failure.summary.as_str());
                    tracing::warn!(server = %self.server, fault, code = "breaker_opened", "connections to the server fail too often: its breaker is open for all tenants");
                }
                self.probes_connection = false;
            }
            Some(Evidence::AnswerFailed | Evidence::Overloaded) => {
                let of_tenant = known.pair(self.server, self.tenant, self.breakers.policy, now);
                of_tenant.last_failure = summary();
                if of_tenant.answers.report(false, self.probes_answer, now) {
                    let fault = failure.map(|failure| failure.summary.as_str());
                    tracing::warn!(server = %self.server, tenant = %self.tenant, fault, code = "breaker_opened", "the server fails a tenant's calls too often: its breaker is open for that tenant");
                }
                self.probes_answer = false;
            }
            Some(Evidence::TimedOut) => self.tool_was_late(&mut known, summary(), now),
            Some(Evidence::Paused(floor_ms)) => {
                let of_tenant = known.pair(self.server, self.tenant, self.breakers.policy, now);
                of_tenant.last_failure = summary();
                pause_ms = Some(of_tenant.pause.asked(floor_ms, now));
            }
            None => {
                if let Some(of_tenant) = known.known_pair(self.server, self.tenant) {
                    of_tenant.answers.report(true, self.probes_answer, now);
                    of_tenant.pause.answered();
                }
                self.probes_answer = false;
            }
            Some(Evidence::Reached | Evidence::Nothing) => {}
        }
        if !matches!(evidence, Some(Evidence::NotConnected | Evidence::Nothing | Evidence::TimedOut)) {
            known.reached(self.server, self.probes_connection, now);
            self.probes_connection = false;
            self.tool_was_in_time(&mut known, now);
        }
        known.forget_as_new(self.server, self.tenant, now);
        drop(known);
        pause_ms
    }

    fn tool_was_late(&mut self, known: &mut Memory, summary: Option<String>, now: Timestamp) {
        if let Some(tool) = self.tool {
            let of_tenant = known.pair(self.server, self.tenant, self.breakers.policy, now);
            of_tenant.last_failure = summary;
            if of_tenant.tool(tool).report(false, self.probes_tool, now) {
                tracing::warn!(server = %self.server, tenant = %self.tenant, tool = tool.name, code = "breaker_opened", "the tool does not answer a tenant's calls in time: its breaker is open for that tenant");
            }
        }
        self.probes_tool = false;
    }

    /// Whatever the server answered, it answered in time.
    fn tool_was_in_time(&mut self, known: &mut Memory, now: Timestamp) {
        if let Some(tool) = self.tool
            && let Some(of_tenant) = known.known_pair(self.server, self.tenant)
            && let Some(of_tool) = of_tenant.known_tool(Some(tool))
        {
            of_tool.report(true, self.probes_tool, now);
            if of_tool.is_as_new() {
                of_tenant.tools.remove(tool_key(tool).as_ref());
            }
            self.probes_tool = false;
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.probes_connection && !self.probes_answer && !self.probes_tool {
            return;
        }
        let mut known = self.breakers.known();
        if let Some(of_server) = known.servers.get_mut(self.server) {
            if self.probes_connection {
                of_server.connections.release_probe(self.at);
            }
            if let Some(of_tenant) = of_server.tenants.get_mut(self.tenant) {
                if self.probes_answer {
                    of_tenant.answers.release_probe(self.at);
                }
                let of_tool = of_tenant.known_tool(self.tool);
                if let Some(of_tool) = of_tool.filter(|_| self.probes_tool) {
                    of_tool.release_probe(self.at);
                }
            }
        }
    }
}
