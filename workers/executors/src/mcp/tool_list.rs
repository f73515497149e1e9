//! Reads a server's list of tools: from the cache, or by the one request that is under way for all calls of its tenant.
//!
//! A request that fails is one failure of the server, however many calls wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use toolfleet_core::failure::Failure;
use toolfleet_core::ids::{ServerId, SessionId, Tenant};
use toolfleet_mcp::{Endpoint, McpClient, ToolList};
use toolfleet_mcp::{Fault, NotSentCause};

use super::failure::failure_of;
use super::listing::{ListKey, Listing, Listings, time_to_live};
use crate::executor::{Invocation, ReadyLimits};
use crate::gate::{RequestGate, Stopped};
use crate::single_flight::SingleFlight;

/// Where a list of tools comes from.
pub(crate) trait ListSource: Clone + Send + Sync + 'static {
    /// Asks the server for its list.
    fn list(&self, deadline: Instant) -> impl Future<Output = Result<ToolList, Failure>> + Send;

    /// What is known of the server while its list does not come; empty where nothing is.
    fn state(&self) -> String;
}

/// The list of an MCP server that the client reaches itself.
#[derive(Debug, Clone)]
pub(crate) struct EndpointList {
    pub(crate) client: McpClient,
    pub(crate) endpoint: Endpoint,
    pub(crate) session: Option<SessionId>,
}

impl EndpointList {
    fn session(&self) -> Option<&str> {
        self.session.as_ref().map(SessionId::as_str)
    }
}

impl ListSource for EndpointList {
    async fn list(&self, deadline: Instant) -> Result<ToolList, Failure> {
        let listed = self.client.tool_list(&self.endpoint, self.session(), deadline).await;
        listed.map_err(|fault| failure_of(&fault))
    }

    fn state(&self) -> String {
        self.client.standing(&self.endpoint, self.session())
    }
}

/// The lists of tools that a worker reads.
#[derive(Debug)]
pub(crate) struct ToolLists<G> {
    shared: Arc<Shared<G>>,
    /// One call fetches for all.
    flights: SingleFlight<ListKey, Result<Arc<Listing>, Stopped>>,
}

/// What a request for a list needs, whichever calls wait for it.
#[derive(Debug)]
struct Shared<G> {
    gate: Arc<G>,
    cache: Listings,
}

impl<G: RequestGate> ToolLists<G> {
    pub(crate) fn new(gate: Arc<G>) -> Self {
        let shared = Shared { gate, cache: Listings::default() };
        Self { shared: Arc::new(shared), flights: SingleFlight::default() }
    }

    pub(crate) fn forget(&self) {
        self.shared.cache.clear();
    }

    /// The list that the call's server gives to its tenant.
    pub(super) async fn get(
        &self,
        call: &Invocation<'_>,
        source: &impl ListSource,
        limits: &ReadyLimits,
    ) -> Result<Arc<Listing>, Stopped> {
        if let Some(tools) = self.shared.cached(&call.server.id, call.tenant()) {
            return Ok(tools);
        }
        let now = Instant::now();
        let longest_wait = limits.longest_wait.min(Duration::from_millis(call.attempt_ms));
        let until = limits.until.min(limits.deadline).min(now + longest_wait);
        let fetch = || {
            let (shared, source, fetch_time) = (Arc::clone(&self.shared), source.clone(), limits.fetch_time);
            let (server, tenant) = (call.server.id.clone(), call.tenant().clone());
            async move { shared.fetch(&source, &server, &tenant, fetch_time).await }
        };
        let wait = until.saturating_duration_since(now);
        let own = (call.server.id.clone(), Some(call.tenant().clone()));
        match timeout(wait, self.flights.join(own, fetch)).await {
            Ok(Some(listed)) => listed,
            Ok(None) => Err(not_sent("the server's list of tools could not be read".to_owned())),
            Err(_) => {
                let late = "the server's list of tools did not come in time";
                let state = source.state();
                Err(not_sent(if state.is_empty() { late.to_owned() } else { format!("{late}; {state}") }))
            }
        }
    }
}

impl<G: RequestGate> Shared<G> {
    fn cached(&self, server: &ServerId, tenant: &Tenant) -> Option<Arc<Listing>> {
        let of = |tenant: Option<Tenant>| self.cache.get(&(server.clone(), tenant));
        of(Some(tenant.clone())).or_else(|| of(None))
    }

    /// Asks the server for its list, and caches it. `fetch_time` does not depend on the call that asked first.
    async fn fetch(
        &self,
        source: &impl ListSource,
        server: &ServerId,
        tenant: &Tenant,
        fetch_time: Duration,
    ) -> Result<Arc<Listing>, Stopped> {
        // Another one may have read it after this call had looked, and before it began this flight.
        if let Some(tools) = self.cached(server, tenant) {
            return Ok(tools);
        }
        // Shorter than the time of the waiting calls, so that they receive the failure.
        let request = async { source.list(Instant::now() + fetch_time).await };
        let list = self.gate.request(server, tenant, request).await?;
        let freshness = list.freshness;
        let read = Listings::read(list).await;
        let tools = Arc::new(read.map_err(|fault| Stopped::Failed(failure_of(&fault)))?);
        let key = (server.clone(), (!freshness.public).then(|| tenant.clone()));
        self.cache.keep(key, Arc::clone(&tools), time_to_live(freshness));
        Ok(tools)
    }
}

fn not_sent(detail: String) -> Stopped {
    Stopped::Failed(failure_of(&Fault::NotSent { detail, cause: NotSentCause::Time }))
}
