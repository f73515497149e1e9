//! Owns the third step: what a call needs before it may claim: an open way to the server, credentials, the tool as the server lists it.
//!
//! **Invariant:** nothing of the call is written to the tables, so a crash or a Later here costs nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_catalog::{Catalog, Server};
use toolfleet_core::definition::ShortDefinitionDigest;
use toolfleet_core::failure::{Failure, RetryClass};
use toolfleet_core::ids::Tenant;
use toolfleet_core::message::CallRequest;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome};
use toolfleet_executors::mcp::failure_of;
use toolfleet_mcp::{Endpoint, Fault};

use super::admit::AdmittedCall;
use super::arguments::check_arguments;
use super::hold::{Wait, within};
use super::inbound::InboundCall;
use super::resume;
use super::tool_list::{Unlisted, listed};
use crate::backoff;
use crate::context::WorkerContext;
use crate::listing::{ListedTool, Listing};

pub(super) enum Prepared {
    Ready(Box<ReadyCall>),
    Held { request: Box<CallRequest>, wait: Wait },
    Over { request: Box<CallRequest>, outcome: Outcome },
}

/// A call that has all it needs.
pub(super) struct ReadyCall {
    pub(super) call: AdmittedCall,
    pub(super) endpoint: Endpoint,
    pub(super) definition: Option<ShortDefinitionDigest>,
}

pub(super) async fn prepare(
    context: &Arc<WorkerContext>,
    inbound: &InboundCall,
    mut call: AdmittedCall,
) -> Result<Prepared, AwsError> {
    // Less than the step may take, so that a call whose credential and list are both slow is held with a reason.
    let until = Instant::now() + Duration::from_millis(context.limits.lease_ms() * 3 / 10);
    let tenant = &call.request.key.tenant;
    if let Err(refusal) = context.breakers.peek(&call.server.id, tenant, context.now()) {
        let wait = Wait::refused(context, &call.server.id, refusal);
        return Ok(wait_or_end(context, inbound, call, wait));
    }
    let endpoint = match ready_endpoint(context, &call).await {
        Ok(endpoint) => endpoint,
        Err(fault) => return Ok(no_credential(context, inbound, call, &failure_of(&fault))),
    };
    let mut definition = call.tool.as_ref().map(|t| t.definition.short());
    if needs_listing(&call) {
        let tools = match listed(context, &call, &endpoint, until).await {
            Ok(tools) => tools,
            // A registered tool can do without its server's hints, but not without the definition it is pinned to.
            Err(unlisted)
                if call.registered
                    && call.pin.is_none()
                    && (inbound.tries() <= 1 || unlisted.is_permanent()) =>
            {
                Arc::default()
            }
            Err(Unlisted::Refused(refusal)) => {
                let wait = Wait::refused(context, &call.server.id, refusal);
                return Ok(wait_or_end(context, inbound, call, wait));
            }
            Err(Unlisted::Failed(failure)) => return Ok(listing_failed(context, inbound, call, &failure)),
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
                    definition = Some(tool.definition.digest().short());
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
    if let Some(outcome) = call.resumed.as_ref().and_then(|earlier| earlier.changed(definition.as_ref()))
        && resume::task_under_way(context, &call.request.key).await?.is_none()
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
pub(crate) fn endpoint(
    context: &WorkerContext,
    server: &Arc<Server>,
    tenant: &Tenant,
) -> Result<Endpoint, Fault> {
    context.credentials.endpoint(server, Some(tenant))
}

/// The server with its credential at hand: secrets read and tokens obtained before anything is claimed.
async fn ready_endpoint(context: &WorkerContext, call: &AdmittedCall) -> Result<Endpoint, Fault> {
    let endpoint = endpoint(context, &call.server, &call.request.key.tenant)?;
    if endpoint.auth.is_some() || endpoint.program.is_some() {
        let most_ms = context.limits.lease_ms() / 4;
        let within = Duration::from_millis(call.deadline.ms_since(context.now()).min(most_ms));
        tokio::time::timeout(within, endpoint.ready()).await.map_err(|_| Fault::CredentialPending {
            detail: format!("it was not at hand within {} ms", within.as_millis()),
        })??;
    }
    Ok(endpoint)
}

/// A credential that is missing executed nothing: whatever may pass is waited for.
fn no_credential(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: AdmittedCall,
    failure: &Failure,
) -> Prepared {
    let after_ms = backoff::after_tries(inbound.tries());
    if !failure.is_permanent() && context.now().plus_ms(after_ms) < call.deadline {
        let wait = Wait::after_failure(context, &call.server.id, failure, after_ms);
        return Prepared::Held { request: call.request, wait };
    }
    let text = format!("{failure}. An operator must mend the server's configuration.");
    let why = CallError::new(failure.code, text, MayHaveRun::No).retryable(None);
    Prepared::Over { request: call.request, outcome: Outcome::failed(why) }
}

/// A server that does not let a call in, whose credential the catalog could not fill in: the sentence says so.
pub(super) fn with_what_was_left_out(catalog: &Catalog, server: &Server, mut outcome: Outcome) -> Outcome {
    if let Some(why) = &mut outcome.error
        && matches!(why.code, Code::Unauthorized | Code::Forbidden)
        && let Some(left_out) = catalog.left_out(&server.id)
    {
        why.message.push_str(&format!(" The catalog's credential was left out: {left_out}."));
    }
    outcome
}

/// A list that cannot be had executed nothing: whatever may pass is waited for.
fn listing_failed(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: AdmittedCall,
    failure: &Failure,
) -> Prepared {
    let after_ms = match failure.class {
        RetryClass::Permanent => {
            let text =
                format!("The server's tools could not be listed: {failure}. Nothing was sent to the tool.");
            let outcome = Outcome::failed(CallError::new(failure.code, text, MayHaveRun::No));
            let outcome = with_what_was_left_out(inbound.catalog(), &call.server, outcome);
            return Prepared::Over { request: call.request, outcome };
        }
        RetryClass::Pause { after_ms: Some(ms) } => ms,
        RetryClass::Pause { after_ms: None } | RetryClass::Ambiguous => backoff::after_tries(inbound.tries()),
        RetryClass::NotExecuted => backoff::unreachable(inbound.tries(), 1),
    };
    let wait = Wait::after_failure(context, &call.server.id, failure, after_ms);
    wait_or_end(context, inbound, call, wait)
}

fn not_listed(call: AdmittedCall, tools: &Listing) -> Prepared {
    let names = match tools.names(30) {
        names if names.is_empty() => "no tools".to_owned(),
        names => names.join(", "),
    };
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
    let why = CallError::new(Code::InvalidAnswer, text, MayHaveRun::No);
    Prepared::Over { request: call.request, outcome: Outcome::failed(why) }
}

/// Waits, unless the call could not go on in time.
fn wait_or_end(context: &WorkerContext, inbound: &InboundCall, call: AdmittedCall, wait: Wait) -> Prepared {
    let server = &call.server.id;
    // A call that lay in a backlog has not been tried yet: its wait begins with the first failure that was seen.
    let since =
        context.reachable.failing_since(server).unwrap_or_else(|| context.now()).max(inbound.enqueued_at);
    match within(context, server, wait, since, call.deadline, MayHaveRun::No) {
        Ok(wait) => Prepared::Held { request: call.request, wait },
        Err(outcome) => Prepared::Over { request: call.request, outcome },
    }
}
