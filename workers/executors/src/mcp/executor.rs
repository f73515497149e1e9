//! [`McpExecutor`]: the executor of MCP servers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_catalog::Server;
use toolfleet_core::answer::{Answer, TaskStatus};
use toolfleet_core::failure::Failure;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::outcome::Outcome;
use toolfleet_core::request::{InputKind, OperationParams};
use toolfleet_mcp::Fault;
use toolfleet_mcp::{Endpoint, McpClient, Resume, TaskQuestion, ToolCall};
use url::Url;

use super::failure::failure_of;
use super::list_pages::{self, Place};
use super::outcome::answer_of;
use super::subscriptions::Subscriptions;
use super::tool_list::{EndpointList, ToolLists};
use super::{readiness, task};
use crate::compiled_schemas::CompiledSchemas;
use crate::executor::{Attempt, Executor, Invocation, NotReady, PolledTask, Ready, ReadyLimits};
use crate::gate::RequestGate;

/// How long before its deadline the call of a subscription ends.
const SUBSCRIPTION_ENDS_BEFORE: Duration = Duration::from_secs(1);

/// Gives the endpoint of a server as one tenant calls it. Secrets and tokens are not read yet.
pub type EndpointSource = Box<dyn Fn(&Arc<Server>, &Tenant) -> Result<Endpoint, Fault> + Send + Sync>;

/// The executor of MCP servers.
pub struct McpExecutor<G> {
    client: McpClient,
    endpoints: Arc<EndpointSource>,
    lists: ToolLists<G>,
    schemas: CompiledSchemas,
    subscriptions: Subscriptions,
}

impl<G> fmt::Debug for McpExecutor<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpExecutor").field("client", &self.client).finish_non_exhaustive()
    }
}

impl<G: RequestGate> McpExecutor<G> {
    /// An executor that calls these endpoints by `client`. Its requests for lists of tools pass the gate; the schemas that servers list
    /// are compiled into `schemas`. Of one tenant at one server, `most_subscriptions` run at once.
    pub fn new(
        client: McpClient,
        endpoints: EndpointSource,
        gate: Arc<G>,
        schemas: CompiledSchemas,
        most_subscriptions: usize,
    ) -> Self {
        let (lists, endpoints) = (ToolLists::new(gate), Arc::new(endpoints));
        Self { client, endpoints, lists, schemas, subscriptions: Subscriptions::new(most_subscriptions) }
    }

    /// The MCP client.
    pub const fn client(&self) -> &McpClient {
        &self.client
    }

    /// The server as this tenant calls it; secrets and tokens are not read yet.
    pub fn endpoint(&self, server: &Arc<Server>, tenant: &Tenant) -> Result<Endpoint, Fault> {
        (self.endpoints)(server, tenant)
    }

    /// Where it finds the endpoints of servers.
    pub(crate) const fn endpoints(&self) -> &Arc<EndpointSource> {
        &self.endpoints
    }

    /// The schemas that it has compiled.
    pub(crate) const fn schemas(&self) -> &CompiledSchemas {
        &self.schemas
    }

    /// Forgets all lists of tools: the catalog that they were asked under is another one now.
    pub(crate) fn forget_lists(&self) {
        self.lists.forget();
    }
}

impl<G: RequestGate> Executor for McpExecutor<G> {
    type Target = Endpoint;

    async fn ready(&self, call: &Invocation<'_>, limits: ReadyLimits) -> Result<Ready<Endpoint>, NotReady> {
        let endpoint = self.endpoint(call.server, call.tenant());
        let endpoint = endpoint.map_err(|fault| NotReady::Credential(failure_of(&fault)))?;
        readiness::obtain_credential(&endpoint, &limits)
            .await
            .map_err(|fault| NotReady::Credential(failure_of(&fault)))?;
        let session = call.request.session.clone();
        let list = EndpointList { client: self.client.clone(), endpoint: endpoint.clone(), session };
        readiness::check_definition((&self.lists, &self.schemas), call, (endpoint, &list), limits).await
    }

    fn check(&self, call: &Invocation<'_>) -> Result<(), Outcome> {
        match call.params {
            OperationParams::List { cursor } => Place::of(call, cursor.as_deref()).map(|_| ()),
            OperationParams::Tool
            | OperationParams::Resource { .. }
            | OperationParams::Subscription { .. }
            | OperationParams::Prompt { .. }
            | OperationParams::Completion { .. } => Ok(()),
        }
    }

    async fn attempt(
        &self,
        target: &Endpoint,
        call: &Invocation<'_>,
        attempt: Attempt<'_>,
    ) -> Result<Answer, Failure> {
        let patience = Duration::from_millis(call.attempt_ms);
        let until = Instant::now() + patience;
        let arguments = match call.params {
            OperationParams::Prompt { arguments, .. } => arguments,
            OperationParams::Tool
            | OperationParams::Resource { .. }
            | OperationParams::Subscription { .. }
            | OperationParams::Completion { .. }
            | OperationParams::List { .. } => &call.request.arguments,
        };
        let mut request = ToolCall {
            operation: call.request.operation,
            resume: resume_of(call),
            can_answer: answerable(call),
            conversation: call.session(),
            traceparent: attempt.traceparent,
            tracestate: attempt.tracestate,
            repeatable: call.repeatable,
            admit: attempt.admit,
            ..ToolCall::new(target, call.name, arguments, until.min(attempt.deadline))
        };
        if call.progress {
            // The attempt's time counts from the last progress then.
            let (on_note, deadline) = (attempt.on_progress, attempt.deadline);
            request = ToolCall { on_note, patience: Some(patience), deadline, ..request };
        }
        let answer = match call.params {
            OperationParams::List { cursor } => {
                let place = Place::of(call, cursor.as_deref()).unwrap_or_default();
                Box::pin(self.client.list(request, place.theirs())).await
            }
            OperationParams::Subscription { .. } => {
                let _running = self.subscriptions.begin(&call.server.id, call.tenant())?;
                // It lasts as long as its call, which is to end before its time is over.
                let ends = attempt.deadline.checked_sub(SUBSCRIPTION_ENDS_BEFORE).unwrap_or(attempt.deadline);
                let accepted_by = until.min(ends);
                let request = ToolCall {
                    on_note: attempt.on_progress,
                    patience: None,
                    deadline: accepted_by,
                    ..request
                };
                Box::pin(self.client.subscribe(request, ends)).await
            }
            OperationParams::Tool
            | OperationParams::Resource { .. }
            | OperationParams::Prompt { .. }
            | OperationParams::Completion { .. } => self.client.call_tool(request).await,
        };
        answer.map(answer_of).map_err(|fault| failure_of(&fault))
    }

    async fn poll(
        &self,
        target: &Endpoint,
        call: &Invocation<'_>,
        task: PolledTask<'_>,
        attempt: Attempt<'_>,
    ) -> Result<TaskStatus, Failure> {
        let until = Instant::now() + Duration::from_millis(call.attempt_ms);
        let attempt = Attempt { deadline: until.min(attempt.deadline), ..attempt };
        let question = question_of(target, call.session(), task.handle, attempt);
        let polled = task::poll(&self.client, call, task.input_pending, question).await;
        polled.map_err(|fault| failure_of(&fault))
    }

    async fn cancel(
        &self,
        server: &Arc<Server>,
        tenant: &Tenant,
        session: Option<&SessionId>,
        handle: &str,
        attempt: Attempt<'_>,
    ) -> Result<(), Failure> {
        let endpoint = self.endpoint(server, tenant).map_err(|fault| failure_of(&fault))?;
        let question = question_of(&endpoint, session.map(SessionId::as_str), handle, attempt);
        self.client.cancel_task(question).await.map_err(|fault| failure_of(&fault))
    }

    async fn cut<F, Fut>(&self, call: &Invocation<'_>, outcome: Outcome, unbounded: bool, fit: F) -> Outcome
    where
        F: Fn(Outcome) -> Fut + Send + Sync,
        Fut: Future<Output = Option<Outcome>> + Send,
    {
        list_pages::cut(call, outcome, unbounded, fit).await
    }

    fn address(target: &Endpoint) -> &Url {
        &target.url
    }
}

/// What whoever sent the call can answer.
pub(crate) fn answerable<'a>(call: &Invocation<'a>) -> &'a [InputKind] {
    call.request.can_answer.as_deref().unwrap_or(&InputKind::BY_DEFAULT)
}

/// The state to return to the server, from the call that this one resumes.
pub(crate) fn resume_of<'a>(call: &Invocation<'a>) -> Resume<'a> {
    match call.resumed {
        Some(earlier) => {
            Resume { request_state: earlier.request_state, input_responses: call.input_responses() }
        }
        None => Resume::default(),
    }
}

fn question_of<'a>(
    endpoint: &'a Endpoint,
    session: Option<&'a str>,
    handle: &'a str,
    attempt: Attempt<'a>,
) -> TaskQuestion<'a> {
    TaskQuestion {
        endpoint,
        conversation: session,
        task: handle,
        traceparent: attempt.traceparent,
        tracestate: attempt.tracestate,
        deadline: attempt.deadline,
    }
}
