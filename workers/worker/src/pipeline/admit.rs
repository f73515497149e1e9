//! The step `admit`: whether a call may run at all. It checks sender, age, user, tool, access, arguments and session.
//!
//! Nothing is sent, and nothing is written but the row of a new session. A refusal says what to change.

use std::sync::Arc;

use toolfleet_aws::AwsError;
use toolfleet_catalog::{DEFAULT_ATTEMPT_MS, DEFAULT_MAX_ATTEMPTS, InputSchema, Pin, Server, Tool};
use toolfleet_core::batch::BatchRule;
use toolfleet_core::cache::{CacheRule, CacheScope};
use toolfleet_core::control::{CallFacts, CancelRule, Subject, ToolNames};
use toolfleet_core::execution::cancelled_by_operator;
use toolfleet_core::outcome::Outcome;
use toolfleet_core::request::{CallRequest, Operation, OperationParams};
use toolfleet_core::time::Timestamp;
use toolfleet_executors::Invocation;
use toolfleet_executors::arguments::{SchemaOf, check_arguments};

use super::check_session::{act_as_bound, refused_by_session};
use super::checks::{check, check_batch_argument};
use super::find_target::{Found, find_target};
use super::inbound::InboundCall;
use super::resume::{self, Resumed};
use crate::context::WorkerContext;

pub(super) enum Admitted {
    Call(Box<AdmittedCall>),
    Refused { request: Box<CallRequest>, outcome: Outcome },
    TenantNotAllowed { request: Box<CallRequest> },
}

/// A call that may run.
pub(super) struct AdmittedCall {
    pub(super) request: Box<CallRequest>,
    pub(super) ask: OperationParams,
    /// The call that it resumes.
    pub(super) resumed: Option<Resumed>,
    pub(super) server: Arc<Server>,
    /// The registered tool, unless it is called by its name on a server that is open to that, or no tool is called.
    pub(super) tool: Option<Arc<Tool>>,
    /// `server/name`, where no registered tool is called.
    pub(super) unregistered: Option<String>,
    /// Whether the function itself is registered; else it has to be on the server's own list.
    pub(super) registered: bool,
    /// The tool's or prompt's name on the server, or the resource's address; empty for listings.
    pub(super) name: String,
    /// What its definition has to be, where it is pinned.
    pub(super) pin: Option<Pin>,
    pub(super) deadline: Timestamp,
    pub(super) attempt_ms: u64,
    pub(super) max_attempts: u32,
    pub(super) repeatable: bool,
    /// Whether the server is asked for progress.
    pub(super) progress: bool,
}

impl AdmittedCall {
    /// What the catalog says about storing its answer. The answer of a server that is told who calls is for that user alone, whatever scope is
    /// registered.
    pub(super) fn cache_rule(&self) -> Option<CacheRule> {
        let rule = self.tool.as_ref().and_then(|tool| tool.cache).or(self.server.cache)?;
        Some(if self.server.learns_user() { CacheRule { scope: CacheScope::User, ..rule } } else { rule })
    }

    /// How it is sent with others, where its tool is registered so. A call that resumes another is sent by itself.
    pub(super) fn batch(&self) -> Option<&BatchRule> {
        let in_batches = self.resumed.is_none() && self.request.operation == Operation::ToolsCall;
        self.tool.as_ref().filter(|_| in_batches)?.batch.as_ref()
    }

    /// The call as switches and limits match it.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            server: &self.server.id,
            tenant: &self.request.key.tenant,
            tool: self.tool_names(),
            digest: Some(&self.request.digest),
        }
    }

    /// The registered id of the tool, else `server/name`; none for an operation that calls no tool.
    pub(super) fn tool_name(&self) -> Option<&str> {
        self.tool.as_ref().map(|tool| tool.id.as_str()).or(self.unregistered.as_deref())
    }

    /// Whether the worker's open requests adapt to the answers of its tool.
    pub(super) fn adapts(&self) -> bool {
        self.server.limits.adaptive || self.tool.as_ref().is_some_and(|tool| tool.limits.adaptive)
    }

    /// Whether a request may last longer than the time of an attempt: with progress that time begins anew, and a subscription lasts as long as
    /// its call.
    pub(super) fn outlasts_attempt(&self) -> bool {
        self.progress || matches!(self.ask, OperationParams::Subscription { .. })
    }

    /// All names of the tool; none for an operation that calls no tool.
    fn tool_names(&self) -> Option<ToolNames<'_>> {
        names(&self.server, self.tool.as_deref(), &self.name, &self.request)
    }

    /// The call as the filters of cancel rules match it.
    pub(super) fn facts(&self, enqueued_at: Timestamp) -> CallFacts<'_> {
        CallFacts {
            tenant: &self.request.key.tenant,
            tool: self.tool_names(),
            session: self.request.session.as_ref(),
            enqueued_at,
        }
    }

    /// What the arguments have to fit, where the catalog says so.
    fn schema(&self) -> Option<&InputSchema> {
        self.tool.as_ref()?.function(Some(&self.name))?.schema.as_ref()
    }

    /// The call as its executor sees it.
    pub(super) fn invocation(&self) -> Invocation<'_> {
        Invocation {
            server: &self.server,
            request: &self.request,
            params: &self.ask,
            name: &self.name,
            registered: self.registered,
            schema: self.schema(),
            pin: self.pin.as_ref(),
            resumed: self.resumed.as_ref().map(Resumed::as_ref),
            repeatable: self.repeatable,
            progress: self.progress,
            attempt_ms: self.attempt_ms,
        }
    }

    /// Whether it brings a task what that asked for, and is not sent itself.
    pub(super) fn answers_a_task(&self) -> bool {
        self.resumed.as_ref().is_some_and(|earlier| earlier.task().is_some())
    }
}

pub(super) async fn admit(
    context: &WorkerContext,
    inbound: &InboundCall,
    mut request: Box<CallRequest>,
) -> Result<Admitted, AwsError> {
    if !inbound.catalog().may_speak_for(inbound.sender.as_deref(), &request.key.tenant) {
        return Ok(Admitted::TenantNotAllowed { request });
    }
    let deadline = request.deadline(inbound.enqueued_at, context.limits.default_deadline_ms());
    let now = context.now();
    if let Err(outcome) = check(context, inbound, &request, deadline, now) {
        return Ok(Admitted::Refused { request, outcome });
    }
    let session = match act_as_bound(context, inbound, &mut request).await? {
        Ok(session) => session,
        Err(outcome) => return Ok(Admitted::Refused { request, outcome }),
    };
    let found = match find_target(inbound.catalog(), &request) {
        Ok(found) => found,
        Err(outcome) => return Ok(Admitted::Refused { request, outcome }),
    };
    if let Some(rule) = cancelled_by(context, inbound, &request, &found) {
        let outcome = cancelled_by_operator(&rule, false);
        return Ok(Admitted::Refused { request, outcome });
    }
    if let Some(schema) = found.function.as_ref().and_then(|function| function.schema.as_ref())
        && let Err(outcome) = check_arguments(&context.schemas, schema, SchemaOf::Catalog, &request).await
    {
        return Ok(Admitted::Refused { request, outcome });
    }
    if let Some(rule) = found.tool.as_ref().and_then(|tool| tool.batch.as_ref())
        && let Err(outcome) = check_batch_argument(rule, &request)
    {
        return Ok(Admitted::Refused { request, outcome });
    }
    let refused = refused_by_session(context, inbound.catalog(), &request, session, &found.server);
    if let Some(outcome) = refused.await? {
        return Ok(Admitted::Refused { request, outcome });
    }
    let resumed = match resume::of(context, &request).await? {
        Ok(resumed) => resumed,
        Err(outcome) => return Ok(Admitted::Refused { request, outcome }),
    };
    Ok(Admitted::Call(Box::new(admitted(inbound, request, found, resumed, deadline))))
}

/// All names of the tool that is called; none for an operation that calls no tool.
fn names<'a>(
    server: &'a Server,
    tool: Option<&'a Tool>,
    name: &'a str,
    request: &CallRequest,
) -> Option<ToolNames<'a>> {
    let registered = tool.map(|tool| tool.id.as_str());
    let names = ToolNames { registered, server: server.id.as_str(), name };
    (request.operation == Operation::ToolsCall).then_some(names)
}

/// The operator's rule that cancels the call, if there is one.
fn cancelled_by(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: &CallRequest,
    found: &Found,
) -> Option<String> {
    let control = context.gate.control().current()?;
    let facts = CallFacts {
        tenant: &request.key.tenant,
        tool: names(&found.server, found.tool.as_deref(), &found.name, request),
        session: request.session.as_ref(),
        enqueued_at: inbound.enqueued_at,
    };
    control.cancelled_by(&facts, context.now()).map(CancelRule::detail)
}

/// The call with the bounds of its tool and its server.
fn admitted(
    inbound: &InboundCall,
    request: Box<CallRequest>,
    found: Found,
    resumed: Option<Resumed>,
    deadline: Timestamp,
) -> AdmittedCall {
    let allowed = found.tool.as_ref().map_or(DEFAULT_MAX_ATTEMPTS, |t| t.max_attempts);
    let max_attempts = request.retry.map_or(allowed, |wish| wish.max_attempts.min(allowed));
    let attempt_ms =
        found.tool.as_ref().map(|t| t.timeout_ms).or(found.server.timeout_ms).unwrap_or(DEFAULT_ATTEMPT_MS);
    let progress = found.tool.as_ref().map_or(found.server.progress, |t| t.progress);
    // A server may accept the state of a question only once. The tool's registration does not cover that, only the caller's promise does.
    let reads = found.ask.is_reading() || found.function.as_ref().is_some_and(|f| f.idempotent);
    // Lambda gives a second invocation of one durable execution the first one's answer, to a call that answers a question as well.
    let durable = found.server.lambda().is_some_and(|lambda| lambda.durable);
    let repeatable = request.idempotent || durable || (resumed.is_none() && reads);
    let calls_a_tool = request.operation == Operation::ToolsCall;
    let unregistered = found.tool.is_none() && calls_a_tool;
    AdmittedCall {
        unregistered: unregistered.then(|| format!("{}/{}", found.server.id, found.name)),
        registered: found.function.is_some(),
        pin: found.pin(inbound.catalog()),
        ask: found.ask,
        resumed,
        name: found.name,
        server: found.server,
        tool: found.tool,
        request,
        deadline,
        attempt_ms,
        max_attempts,
        repeatable,
        progress,
    }
}
