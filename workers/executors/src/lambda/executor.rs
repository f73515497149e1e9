//! [`LambdaExecutor`]: the executor of Lambda functions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{Instant, timeout, timeout_at};
use toolfleet_catalog::{AttributeScope, LambdaPayload, LambdaTransport, Server};
use toolfleet_core::answer::{Answer, Connection, Meaning, TaskStatus};
use toolfleet_core::digest::Digest;
use toolfleet_core::failure::Failure;
use toolfleet_core::function::{Event, FunctionAnswer, InvokeFault};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::request::{Operation, OperationParams};
use toolfleet_mcp::{ListBounds, SingleError, SingleForm, SingleList, admitted};
use url::Url;

use super::context::client_context;
use super::listing::FunctionList;
use super::ports::{AttributeStore, Attributes, AttributesOf, LambdaInvoke};
use super::sessions::{Owner, Sessions};
use super::{arguments_form, bedrock, failure, function_error, mcp_form};
use crate::arguments::makes_no_request;
use crate::compiled_schemas::CompiledSchemas;
use crate::executor::{Attempt, Executor, Invocation, NotReady, PolledTask, Ready, ReadyLimits};
use crate::gate::RequestGate;
use crate::mcp::failure::failure_of;
use crate::mcp::list_pages::{self, Place};
use crate::mcp::readiness;
use crate::mcp::tool_list::ToolLists;

/// The largest event that Lambda takes.
const MOST_EVENT_BYTES: usize = 6 * 1024 * 1024;
/// The most attributes of a session that are kept, as JSON: far below what an item of DynamoDB holds.
const MOST_ATTRIBUTE_BYTES: usize = 100_000;

/// A function that is ready for a call.
#[derive(Debug, Clone)]
pub struct LambdaTarget {
    /// Where it is invoked, for traces.
    pub url: Url,
}

/// The executor of Lambda functions.
pub struct LambdaExecutor<G> {
    lambda: Arc<dyn LambdaInvoke>,
    attributes: Arc<dyn AttributeStore>,
    sessions: Arc<Sessions>,
    lists: ToolLists<G>,
    schemas: CompiledSchemas,
    /// The largest answer that is read.
    max_answer_bytes: u64,
}

impl<G> fmt::Debug for LambdaExecutor<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LambdaExecutor")
            .field("max_answer_bytes", &self.max_answer_bytes)
            .finish_non_exhaustive()
    }
}

impl<G: RequestGate> LambdaExecutor<G> {
    /// An executor that invokes by `lambda` and keeps the attributes of sessions in `attributes`. Its requests for lists of tools pass the
    /// gate; the schemas that functions list are compiled into `schemas`.
    pub fn new(
        (lambda, attributes): (Arc<dyn LambdaInvoke>, Arc<dyn AttributeStore>),
        gate: Arc<G>,
        schemas: CompiledSchemas,
        max_answer_bytes: u64,
    ) -> Self {
        let (sessions, lists) = (Arc::default(), ToolLists::new(gate));
        Self { lambda, attributes, sessions, lists, schemas, max_answer_bytes }
    }

    pub(crate) fn forget_lists(&self) {
        self.lists.forget();
    }

    /// The list as an operation: the page at the cursor, or all pages.
    async fn listing(
        &self,
        lambda: &LambdaTransport,
        form: SingleForm,
        call: &Invocation<'_>,
        attempt: Attempt<'_>,
    ) -> Result<Answer, Failure> {
        let OperationParams::List { cursor } = call.params else {
            return Ok(ended(unsupported(call)));
        };
        let Attempt { traceparent, tracestate, .. } = attempt;
        let list = SingleList { form, server: &call.server.id, traceparent, tracestate };
        let until = Instant::now() + Duration::from_millis(call.attempt_ms);
        let bounds = ListBounds::of_tools(until.min(attempt.deadline), self.max_answer_bytes);
        let invoke = |payload| async move {
            let client_context = client_context(call, lambda, attempt);
            let event = Event { payload, client_context, durable_name: None };
            let answer = self.invoke(lambda, call, event, attempt).await.map_err(NoAnswer::Failed)?;
            match answer.function_error {
                Some(_) => Err(match function_error::meaning(&answer.payload) {
                    Ok(outcome) => NoAnswer::Reported(outcome),
                    Err(failure) => NoAnswer::Failed(failure),
                }),
                None => Ok(answer.payload),
            }
        };
        let owner = Owner::of(lambda, call.tenant(), call.session());
        let send = |event| self.sessions.carry(owner.clone(), form, event, &invoke);
        let place = Place::of(call, cursor.as_deref()).unwrap_or_default();
        match list.listing(bounds, place.theirs(), &send).await {
            Ok(answer) => mcp_form::meaning(answer),
            Err(SingleError::Fault(fault)) => Err(failure_of(&fault)),
            Err(SingleError::NotCarried(NoAnswer::Failed(failure))) => Err(failure),
            Err(SingleError::NotCarried(NoAnswer::Reported(outcome))) => Ok(ended(outcome)),
        }
    }

    async fn invoke(
        &self,
        lambda: &LambdaTransport,
        call: &Invocation<'_>,
        event: Event,
        attempt: Attempt<'_>,
    ) -> Result<FunctionAnswer, Failure> {
        if event.payload.len() > MOST_EVENT_BYTES {
            return Err(failure::event_too_large(event.payload.len(), MOST_EVENT_BYTES));
        }
        let until = Instant::now() + Duration::from_millis(call.attempt_ms);
        admitted(attempt.admit).await.map_err(|fault| failure_of(&fault))?;
        let invoked = timeout_at(until.min(attempt.deadline), self.lambda.invoke(lambda, event)).await;
        let answer = invoked.map_err(|_| failure::attempt_timed_out(call.attempt_ms))?;
        let answer = answer.map_err(|fault| failure::of_invoke(&fault))?;
        failure::check_size(&answer.payload, self.max_answer_bytes)?;
        Ok(answer)
    }

    /// The answer to an event that carries MCP. All invocations of an attempt share its time.
    async fn in_mcp_form(
        &self,
        lambda: &LambdaTransport,
        call: &Invocation<'_>,
        (form, event): (SingleForm, Vec<u8>),
        attempt: Attempt<'_>,
    ) -> Result<Vec<u8>, NoAnswer> {
        let until = Instant::now() + Duration::from_millis(call.attempt_ms);
        let attempt = Attempt { deadline: until.min(attempt.deadline), ..attempt };
        let send = |payload| async move {
            match self.answered(lambda, call, payload, attempt).await {
                Ok(answer) => answer.map_err(NoAnswer::Reported),
                Err(failure) => Err(NoAnswer::Failed(failure)),
            }
        };
        // The event of a durable execution has to be the same in every attempt.
        if lambda.durable {
            return send(event).await;
        }
        let owner = Owner::of(lambda, call.tenant(), call.session());
        self.sessions.carry(owner, form, event, &send).await
    }

    async fn in_bedrock_form(
        &self,
        lambda: &LambdaTransport,
        call: &Invocation<'_>,
        attempt: Attempt<'_>,
    ) -> Result<Outcome, Failure> {
        let session = call.request.session.as_ref().filter(|_| !lambda.durable);
        let known = match session {
            Some(session) => {
                let read = self.attributes.read(attributes_of(call, lambda, session)).await;
                read.map_err(|why| failure::no_attributes(&why))?
            }
            None => Attributes::default(),
        };
        let arguments = match bedrock::arguments(call) {
            Ok(arguments) => arguments,
            Err(problem) => return Ok(makes_no_request(&problem)),
        };
        let payload = bedrock::event(call, lambda, &arguments, &known);
        let answer = match self.answered(lambda, call, payload, attempt).await? {
            Ok(answer) => answer,
            Err(outcome) => return Ok(outcome),
        };
        let read = bedrock::read(&answer)?;
        if let Some(session) = session {
            let returned = Attributes {
                session: read.session.unwrap_or_else(|| known.session.clone()),
                prompt: bedrock::without_user(read.prompt.unwrap_or_else(|| known.prompt.clone()), lambda),
            };
            if returned != known {
                self.keep(call, attributes_of(call, lambda, session), (&known, &returned)).await;
            }
        }
        Ok(read.outcome)
    }

    /// Keeps what the function returned for the session's next call. The call itself has ended, whether that works or not.
    async fn keep(
        &self,
        call: &Invocation<'_>,
        of: AttributesOf<'_>,
        (known, returned): (&Attributes, &Attributes),
    ) {
        let size = |map: &Map<String, Value>| Value::Object(map.clone()).to_string().len();
        let bytes = size(&returned.session) + size(&returned.prompt);
        let kept = if bytes > MOST_ATTRIBUTE_BYTES {
            Err(format!("they have {bytes} bytes, and {MOST_ATTRIBUTE_BYTES} are kept"))
        } else {
            self.attributes.change(of, known, returned).await
        };
        if let Err(why) = kept {
            tracing::warn!(
                call = %call.request.key, server = %call.server.id, code = "attributes_not_stored", error = why,
                "the attributes that a function returned are not kept for the session's next call"
            );
        }
    }

    /// The function's answer, or the outcome that its own error means.
    async fn answered(
        &self,
        lambda: &LambdaTransport,
        call: &Invocation<'_>,
        payload: Vec<u8>,
        attempt: Attempt<'_>,
    ) -> Result<Result<Vec<u8>, Outcome>, Failure> {
        let answer = self.invoke(lambda, call, event(call, lambda, attempt, payload), attempt).await?;
        match answer.function_error {
            Some(_) => function_error::meaning(&answer.payload).map(Err),
            None => Ok(Ok(answer.payload)),
        }
    }
}

/// Why an answer did not come.
enum NoAnswer {
    Failed(Failure),
    /// The function's own error.
    Reported(Outcome),
}

impl<G: RequestGate> Executor for LambdaExecutor<G> {
    type Target = LambdaTarget;

    async fn ready(
        &self,
        call: &Invocation<'_>,
        limits: ReadyLimits,
    ) -> Result<Ready<LambdaTarget>, NotReady> {
        let lambda = function(call)?;
        let within = limits.deadline.saturating_duration_since(Instant::now()).min(limits.longest_wait);
        let keys = timeout(within, self.lambda.ready(lambda)).await.unwrap_or_else(|_| {
            let detail = format!("they were not at hand within {} ms", within.as_millis());
            Err(InvokeFault::Credentials { detail, permanent: false })
        });
        keys.map_err(|fault| NotReady::Credential(failure::of_invoke(&fault)))?;
        let target = LambdaTarget { url: url_of(lambda).map_err(NotReady::Ended)? };
        let Some(form) = mcp_form::form_of(lambda.payload) else {
            return Ok(Ready { target, definition: None, repeatable: false });
        };
        let list = FunctionList {
            lambda: Arc::clone(&self.lambda),
            server: Arc::clone(call.server),
            function: lambda.clone(),
            form,
            tenant: call.tenant().clone(),
            sessions: Arc::clone(&self.sessions),
            owner: Owner::of(lambda, call.tenant(), call.session()),
            most_bytes: self.max_answer_bytes,
        };
        readiness::check_definition((&self.lists, &self.schemas), call, (target, &list), limits).await
    }

    fn check(&self, call: &Invocation<'_>) -> Result<(), Outcome> {
        match call.params {
            OperationParams::Tool if is_bedrock(call) => {
                bedrock::arguments(call).map(|_| ()).map_err(|problem| makes_no_request(&problem))
            }
            OperationParams::Tool => Ok(()),
            OperationParams::List { cursor }
                if call.server.lists_tools() && call.request.operation == Operation::ToolsList =>
            {
                Place::of(call, cursor.as_deref()).map(|_| ())
            }
            OperationParams::Resource { .. }
            | OperationParams::Prompt { .. }
            | OperationParams::Completion { .. }
            | OperationParams::Subscription { .. }
            | OperationParams::List { .. } => Err(unsupported(call)),
        }
    }

    async fn attempt(
        &self,
        _: &LambdaTarget,
        call: &Invocation<'_>,
        attempt: Attempt<'_>,
    ) -> Result<Answer, Failure> {
        let Ok(lambda) = function(call) else {
            return Err(failure::invalid_answer("the server is no function"));
        };
        if let Some(form) = mcp_form::form_of(lambda.payload) {
            if call.params.is_reading() {
                return self.listing(lambda, form, call, attempt).await;
            }
            let event = mcp_form::event(form, call, attempt, lambda.durable);
            return match self.in_mcp_form(lambda, call, (form, event), attempt).await {
                Ok(payload) => mcp_form::answer(form, payload).await,
                Err(NoAnswer::Reported(outcome)) => Ok(ended(outcome)),
                Err(NoAnswer::Failed(failure)) => Err(failure),
            };
        }
        if lambda.payload == LambdaPayload::Bedrock {
            return self.in_bedrock_form(lambda, call, attempt).await.map(ended);
        }
        match self.answered(lambda, call, arguments_form::event(call), attempt).await? {
            Ok(payload) => arguments_form::outcome(&payload).map(ended),
            Err(outcome) => Ok(ended(outcome)),
        }
    }

    async fn poll(
        &self,
        _: &LambdaTarget,
        call: &Invocation<'_>,
        _: PolledTask<'_>,
        _: Attempt<'_>,
    ) -> Result<TaskStatus, Failure> {
        Ok(TaskStatus::Ended(unsupported(call)))
    }

    async fn cancel(
        &self,
        _: &Arc<Server>,
        _: &Tenant,
        _: Option<&SessionId>,
        _: &str,
        _: Attempt<'_>,
    ) -> Result<(), Failure> {
        Ok(())
    }

    async fn cut<F, Fut>(&self, call: &Invocation<'_>, outcome: Outcome, unbounded: bool, fit: F) -> Outcome
    where
        F: Fn(Outcome) -> Fut + Send + Sync,
        Fut: Future<Output = Option<Outcome>> + Send,
    {
        list_pages::cut(call, outcome, unbounded, fit).await
    }

    fn address(target: &LambdaTarget) -> &Url {
        &target.url
    }
}

fn ended(outcome: Outcome) -> Answer {
    Answer { meaning: Meaning::Ended(outcome), connection: Connection::default() }
}

fn event(call: &Invocation<'_>, lambda: &LambdaTransport, attempt: Attempt<'_>, payload: Vec<u8>) -> Event {
    let durable_name = lambda.durable.then(|| durable_name(call));
    Event { payload, client_context: client_context(call, lambda, attempt), durable_name }
}

/// The name of the call's durable execution: the same for every attempt of one call, and for no other.
fn durable_name(call: &Invocation<'_>) -> String {
    let key = format!("{}\n{}", call.tenant(), call.request.key.call_id);
    Digest::of_text(&key).short(64).to_owned()
}

/// Whose attributes a call is given.
fn attributes_of<'a>(
    call: &'a Invocation<'_>,
    lambda: &LambdaTransport,
    session: &'a SessionId,
) -> AttributesOf<'a> {
    let server = match lambda.attributes {
        AttributeScope::Server => Some(&call.server.id),
        AttributeScope::Session => None,
    };
    AttributesOf { tenant: call.tenant(), session, server }
}

fn is_bedrock(call: &Invocation<'_>) -> bool {
    call.server.lambda().is_some_and(|lambda| lambda.payload == LambdaPayload::Bedrock)
}

fn function<'a>(call: &Invocation<'a>) -> Result<&'a LambdaTransport, NotReady> {
    call.server.lambda().ok_or_else(|| NotReady::Ended(unsupported(call)))
}

/// Where Lambda is asked to invoke a function.
fn url_of(lambda: &LambdaTransport) -> Result<Url, Outcome> {
    let region = lambda.function.region();
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let arn = lambda.function.as_str();
    let text = format!("https://lambda.{region}.{domain}/2015-03-31/functions/{arn}/invocations");
    Url::parse(&text).map_err(|error| {
        Outcome::refused(Code::NotExecutable, format!("The function `{arn}` has no address: {error}."))
    })
}

fn unsupported(call: &Invocation<'_>) -> Outcome {
    let takes = if call.server.lists_tools() { "tool calls and `tools/list`" } else { "tool calls" };
    let text = format!(
        "Server `{}` is a Lambda function that takes {takes} alone, so `{}` is refused. Nothing was sent.",
        call.server.id,
        call.request.operation.as_str()
    );
    Outcome::refused(Code::Unsupported, text)
}
