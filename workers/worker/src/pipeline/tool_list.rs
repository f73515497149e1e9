//! Gets a server's list of tools: as it is kept, or by the one fetch that is under way for all calls of its tenant.
//!
//! **Invariant:** a fetch that fails is one failure of the server, however many calls waited for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use toolfleet_core::failure::{Failure, Refusal};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_executors::mcp::failure_of;
use toolfleet_mcp::{Endpoint, Fault, NotSentCause};

use super::admit::AdmittedCall;
use crate::context::WorkerContext;
use crate::listing::{Listing, believed_for};

/// Why there is no list.
#[derive(Debug, Clone)]
pub(crate) enum Unlisted {
    /// The server is not asked now.
    Refused(Refusal),
    /// It was asked.
    Failed(Failure),
}

impl Unlisted {
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Failed(failure) => failure.is_permanent(),
        }
    }

    fn away(detail: &str) -> Self {
        Self::Failed(failure_of(&Fault::NotSent { detail: detail.to_owned(), cause: NotSentCause::Time }))
    }
}

pub(super) async fn listed(
    context: &Arc<WorkerContext>,
    call: &AdmittedCall,
    endpoint: &Endpoint,
    until: Instant,
) -> Result<Arc<Listing>, Unlisted> {
    let own = (call.server.id.clone(), Some(call.request.key.tenant.clone()));
    let public = (call.server.id.clone(), None);
    if let Some(tools) = context.listings.get(&own).or_else(|| context.listings.get(&public)) {
        return Ok(tools);
    }
    let most_ms = call.attempt_ms.min(context.limits.lease_ms() / 4);
    let left = Duration::from_millis(call.deadline.ms_since(context.now()).min(most_ms));
    let fetch = || {
        let (context, endpoint) = (Arc::clone(context), endpoint.clone());
        let (tenant, session) = (call.request.key.tenant.clone(), call.request.session.clone());
        async move { fetched(&context, &endpoint, &tenant, session.as_ref()).await }
    };
    let left = left.min(until.saturating_duration_since(Instant::now()));
    match timeout(left, context.listings.flights.join(own, fetch)).await {
        Ok(Some(listed)) => listed,
        Ok(None) => Err(Unlisted::away("the server's list of tools could not be read")),
        Err(_) => {
            let session = call.request.session.as_ref().map(SessionId::as_str);
            let standing = context.mcp.standing(endpoint, session);
            let late = "the server's list of tools did not come in time";
            let told = if standing.is_empty() { late.to_owned() } else { format!("{late}; {standing}") };
            Err(Unlisted::away(&told))
        }
    }
}

/// Asks the server for its list, and keeps it. Its time does not depend on who asked first.
async fn fetched(
    context: &WorkerContext,
    endpoint: &Endpoint,
    tenant: &Tenant,
    session: Option<&SessionId>,
) -> Result<Arc<Listing>, Unlisted> {
    let server = &endpoint.server;
    let permit = context.breakers.ask(server, tenant, context.now()).map_err(Unlisted::Refused)?;
    // Earlier than who waits gives up, so that they hear what it met.
    let deadline = Instant::now() + Duration::from_millis(context.limits.lease_ms() / 5);
    let listed = context.mcp.tool_list(endpoint, session.map(SessionId::as_str), deadline).await;
    let listed = listed.map_err(|fault| failure_of(&fault));
    context.reachable.learn(server, &listed, context.now());
    let pause_ms = permit.record(&listed, context.now());
    let list = listed.map_err(|failure| Unlisted::Failed(failure.paused_for(pause_ms)))?;
    let freshness = list.freshness;
    let read = context.listings.read(server, list).await;
    let tools = Arc::new(read.map_err(|fault| Unlisted::Failed(failure_of(&fault)))?);
    let key = (server.clone(), (!freshness.public).then(|| tenant.clone()));
    context.listings.keep(key, Arc::clone(&tools), believed_for(freshness));
    Ok(tools)
}
