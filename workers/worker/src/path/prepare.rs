//! Owns the third step: what a call needs before it may claim: an open way to the server, credentials, the tool as the server lists it.
//!
//! **Invariant:** nothing of the call is written to the tables, so a crash or a Later here costs nothing.

use std::sync::Arc;
use std::time::Duration;

use toolfleet_aws::Trouble;
use toolfleet_core::breaker::Admission;
use toolfleet_core::call::HeldReason;
use toolfleet_core::catalog::Server;
use toolfleet_core::fault::{Fault, RetryClass};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::message::CallRequest;
use toolfleet_core::outcome::{Code, MayHaveRun, Outcome, Trouble as Why};
use toolfleet_mcp::Endpoint;

use super::admit::AdmittedCall;
use super::arguments::check_arguments;
use super::hold::{Wait, reason_of, unavailable, waits_until};
use super::resume;
use super::visit::Arrival;
use crate::backoff;
use crate::fleet::Fleet;
use crate::listing::{ListedTool, Listing, believed_for};

pub(super) enum Prepared {
    Ready(Box<ReadyCall>),
    Held { request: Box<CallRequest>, wait: Wait },
    Over { request: Box<CallRequest>, outcome: Outcome },
}

/// A call that has all it needs.
pub(super) struct ReadyCall {
    pub(super) call: AdmittedCall,
    pub(super) endpoint: Endpoint,
    pub(super) definition: Option<String>,
}

pub(super) async fn prepare(
    fleet: &Arc<Fleet>,
    arrival: &Arrival,
    mut call: AdmittedCall,
) -> Result<Prepared, Trouble> {
    if let Admission::Refused { retry_after_ms } = fleet.breakers.peek(&call.server.id, fleet.now()) {
        let wait = Wait::for_server(fleet, &call.server.id, HeldReason::ServerFailing, retry_after_ms);
        return Ok(wait_or_end(fleet, arrival, call, wait));
    }
    let endpoint = match ready_endpoint(fleet, &call).await {
        Ok(endpoint) => endpoint,
        Err(fault) => return Ok(no_credential(fleet, arrival, call, &fault)),
    };
    let mut definition = call.tool.as_ref().map(|t| t.definition.short(16).to_owned());
    if needs_listing(&call) {
        let tools = match listed(fleet, &call, &endpoint).await {
            Ok(tools) => tools,
            // A registered tool can do without its server's hints, but not without the definition it is pinned to.
            Err(fault)
                if call.registered
                    && call.pin.is_none()
                    && (arrival.tries() <= 1 || fault.retry_class() == RetryClass::Permanent) =>
            {
                Arc::default()
            }
            Err(fault) => return Ok(listing_failed(fleet, arrival, call, &fault)),
        };
        let tool = tools.tool(&call.name);
        if tool.is_none() && tools.is_cut() && (!call.registered || call.pin.is_some()) {
            return Ok(not_among_those_read(call, &tools));
        }
        if let Some(outcome) = changed(&call, tool) {
            return Ok(Prepared::Over { request: call.request, outcome });
        }
        match tool {
            None if !call.registered => return Ok(not_listed(call, &tools)),
            // A registered tool is called as it is registered, whatever its server lists.
            None => {}
            Some(tool) => {
                call.repeatable |= call.server.trusted && tool.repeatable && call.resumed.is_none();
                if !call.registered || call.pin.is_some() {
                    definition = Some(tool.definition.digest().short(16).to_owned());
                }
                if !call.registered
                    && let Some(schema) = &tool.schema
                    && let Err(outcome) = check_arguments(schema, &call.request).await
                {
                    return Ok(Prepared::Over { request: call.request, outcome });
                }
            }
        }
    }
    if let Some(outcome) = call.resumed.as_ref().and_then(|earlier| earlier.changed(definition.as_deref()))
        && resume::task_under_way(fleet, &call.request.key).await?.is_none()
    {
        return Ok(Prepared::Over { request: call.request, outcome });
    }
    Ok(Prepared::Ready(Box::new(ReadyCall { call, endpoint, definition })))
}

/// What was approved is all that may be called.
fn changed(call: &AdmittedCall, tool: Option<&ListedTool>) -> Option<Outcome> {
    let pin = call.pin.as_ref()?;
    let what = match tool {
        Some(tool) if tool.definition == *pin => return None,
        Some(_) => "is not what was approved: its definition has changed",
        None => "is no longer listed, though it is pinned",
    };
    let text = format!(
        "Tool `{}` of server `{}` {what}. Nothing was sent. An operator must look at it (`toolfleet tools diff`) and approve it.",
        call.name, call.server.id
    );
    Some(Outcome::refused(Code::DefinitionChanged, text))
}

/// The server's own list is asked for when the tool is not registered or is pinned, or when its annotations may make it safe
/// to repeat.
fn needs_listing(call: &AdmittedCall) -> bool {
    let asks_a_tool = !call.ask.is_reading();
    asks_a_tool
        && (!call.registered
            || call.pin.is_some()
            || (call.server.discover && call.server.trusted && !call.repeatable && call.resumed.is_none()))
}

/// The server with the credential of that tenant, still to be obtained.
pub(crate) fn endpoint(fleet: &Fleet, server: &Arc<Server>, tenant: &Tenant) -> Result<Endpoint, Fault> {
    fleet.credentials.endpoint(server, Some(tenant))
}

/// The server with its credential at hand: secrets read and tokens obtained before anything is claimed.
async fn ready_endpoint(fleet: &Fleet, call: &AdmittedCall) -> Result<Endpoint, Fault> {
    let endpoint = endpoint(fleet, &call.server, &call.request.key.tenant)?;
    if endpoint.auth.is_some() || endpoint.program.is_some() {
        let most_ms = fleet.limits.lease_ms() / 4;
        let within = Duration::from_millis(call.deadline.ms_since(fleet.now()).min(most_ms));
        tokio::time::timeout(within, endpoint.ready()).await.map_err(|_| Fault::CredentialPending {
            detail: format!("it was not at hand within {} ms", within.as_millis()),
        })??;
    }
    Ok(endpoint)
}

/// A credential that is missing executed nothing: whatever may pass is waited for.
fn no_credential(fleet: &Fleet, arrival: &Arrival, call: AdmittedCall, fault: &Fault) -> Prepared {
    let after_ms = backoff::after_tries(arrival.tries());
    if fault.retry_class() != RetryClass::Permanent && fleet.now().plus_ms(after_ms) < call.deadline {
        let wait = Wait::for_server(fleet, &call.server.id, HeldReason::Credential, after_ms);
        return Prepared::Held { request: call.request, wait: wait.with_fault(fault) };
    }
    let text = format!("{fault}. An operator must mend the server's configuration.");
    let why = Why::new(fault.code(), text, MayHaveRun::No).retryable(None);
    Prepared::Over { request: call.request, outcome: Outcome::failed(why) }
}

/// The server's list, as it is kept or as the one fetch brings that is under way for all calls of its tenant.
async fn listed(
    fleet: &Arc<Fleet>,
    call: &AdmittedCall,
    endpoint: &Endpoint,
) -> Result<Arc<Listing>, Fault> {
    let own = (call.server.id.clone(), Some(call.request.key.tenant.clone()));
    let public = (call.server.id.clone(), None);
    if let Some(tools) = fleet.listings.get(&own).or_else(|| fleet.listings.get(&public)) {
        return Ok(tools);
    }
    let most_ms = call.attempt_ms.min(fleet.limits.lease_ms() / 4);
    let left = Duration::from_millis(call.deadline.ms_since(fleet.now()).min(most_ms));
    let fetch = || {
        let (fleet, endpoint) = (Arc::clone(fleet), endpoint.clone());
        let (tenant, session) = (call.request.key.tenant.clone(), call.request.session.clone());
        async move { fetched(&fleet, &endpoint, &tenant, session.as_ref()).await }
    };
    match tokio::time::timeout(left, fleet.listings.flights.join(own, fetch)).await {
        Ok(Some(listed)) => listed,
        Ok(None) => Err(Fault::Connect { detail: "the server's list of tools could not be read".to_owned() }),
        Err(_) => Err(Fault::Connect { detail: "the server's list of tools did not come in time".to_owned() }),
    }
}

/// Asks the server for its list, and keeps it. The time does not depend on who asked first.
async fn fetched(
    fleet: &Fleet,
    endpoint: &Endpoint,
    tenant: &Tenant,
    session: Option<&SessionId>,
) -> Result<Arc<Listing>, Fault> {
    let server = &endpoint.server;
    if let Admission::Refused { retry_after_ms } = fleet.breakers.ask(server, fleet.now()) {
        return Err(Fault::RateLimited { retry_after_ms: Some(retry_after_ms) });
    }
    let deadline = tokio::time::Instant::now() + Duration::from_millis(fleet.limits.lease_ms() / 4);
    let listed = fleet.mcp.tool_list(endpoint, session.map(SessionId::as_str), deadline).await;
    fleet.reachable.learn(server, &listed, fleet.now());
    match &listed {
        Ok(_) => fleet.breakers.answered(server, fleet.now()),
        Err(fault) => fleet.breakers.failed(server, fault, fleet.now()),
    }
    let list = listed?;
    let freshness = list.freshness;
    let tools = Arc::new(fleet.listings.read(server, list).await?);
    let key = (server.clone(), (!freshness.public).then(|| tenant.clone()));
    fleet.listings.keep(key, Arc::clone(&tools), believed_for(freshness));
    Ok(tools)
}

/// A list that cannot be had executed nothing: whatever may pass is waited for.
fn listing_failed(fleet: &Fleet, arrival: &Arrival, call: AdmittedCall, fault: &Fault) -> Prepared {
    let (reason, after_ms) = match fault.retry_class() {
        RetryClass::Permanent => {
            let text =
                format!("The server's tools could not be listed: {fault}. Nothing was sent to the tool.");
            let outcome = Outcome::failed(Why::new(fault.code(), text, MayHaveRun::No));
            return Prepared::Over { request: call.request, outcome };
        }
        RetryClass::Pause { after_ms: Some(ms) } => (HeldReason::ServerPause, ms),
        RetryClass::Pause { after_ms: None } => {
            (HeldReason::ServerPause, backoff::after_tries(arrival.tries()))
        }
        RetryClass::NotExecuted => (reason_of(fault), backoff::unreachable(arrival.tries(), 1)),
        RetryClass::Ambiguous => (HeldReason::ServerFailing, backoff::after_tries(arrival.tries())),
    };
    let wait = Wait::for_server(fleet, &call.server.id, reason, after_ms);
    wait_or_end(fleet, arrival, call, wait.with_fault(fault))
}

fn not_listed(call: AdmittedCall, tools: &Listing) -> Prepared {
    let names = tools.names(30).join(", ");
    let text = format!("Server `{}` has no tool `{}`; it lists {names}.", call.server.id, call.name);
    Prepared::Over { request: call.request, outcome: Outcome::refused(Code::UnknownTool, text) }
}

/// The server may have the tool all the same: its list was not read to its end.
fn not_among_those_read(call: AdmittedCall, tools: &Listing) -> Prepared {
    let text = format!(
        "Server `{}` gives a list of tools that is too long or does not end, and `{}` is not among the {} tools that were read. Nothing \
         was sent. An operator can register the tool, or have the server's list mended.",
        call.server.id,
        call.name,
        tools.len()
    );
    let why = Why::new(Code::InvalidAnswer, text, MayHaveRun::No);
    Prepared::Over { request: call.request, outcome: Outcome::failed(why) }
}

/// Waits, unless the call could not go on in time.
fn wait_or_end(fleet: &Fleet, arrival: &Arrival, call: AdmittedCall, wait: Wait) -> Prepared {
    let server = &call.server.id;
    // A call that lay in a backlog has not been tried yet: its wait begins with the first failure that was seen.
    let since = fleet.reachable.failing_since(server).unwrap_or_else(|| fleet.now()).max(arrival.enqueued_at);
    if fleet.now().plus_ms(wait.after_ms) < waits_until(fleet, server, since, call.deadline) {
        return Prepared::Held { request: call.request, wait };
    }
    let outcome = unavailable(fleet, server, MayHaveRun::No, wait.after_ms);
    Prepared::Over { request: call.request, outcome }
}
