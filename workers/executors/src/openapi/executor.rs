//! [`OpenApiExecutor`]: the executor of HTTP interfaces that an OpenAPI document describes.
//!
//! **Invariant:** nothing but the call itself is sent, and one attempt sends it once, save after a status or redirect that proves that
//! nothing ran.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::value::RawValue;
use tokio::time::Instant;
use toolfleet_catalog::openapi::Operation;
use toolfleet_catalog::{OpenApiTransport, Server};
use toolfleet_core::answer::{Answer, Connection, Meaning, TaskStatus};
use toolfleet_core::digest::Digest;
use toolfleet_core::failure::Failure;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::request;
use toolfleet_core::request::OperationParams;
use toolfleet_mcp::{Endpoint, Fault, McpClient, PlainAnswer, PlainRequest};
use url::Url;

use super::answer::outcome_of;
use super::encode::{Encoded, encode};
use super::listing;
use crate::arguments::{SchemaOf, check_arguments, makes_no_request};
use crate::compiled_schemas::CompiledSchemas;
use crate::executor::{Attempt, Executor, Invocation, NotReady, PolledTask, Ready, ReadyLimits};
use crate::mcp::executor::EndpointSource;
use crate::mcp::failure::failure_of;
use crate::mcp::list_pages::{self, Place};
use crate::mcp::readiness::obtain_credential;

/// How many names of operations an error gives.
const NAMED: usize = 30;
/// How many characters of a digest make the key of one tenant's call another one than that of another tenant's.
const MARK_CHARS: usize = 8;

/// The executor of HTTP interfaces.
pub(crate) struct OpenApiExecutor {
    client: McpClient,
    endpoints: Arc<EndpointSource>,
    schemas: CompiledSchemas,
}

impl fmt::Debug for OpenApiExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenApiExecutor").finish_non_exhaustive()
    }
}

impl OpenApiExecutor {
    pub(crate) const fn new(
        client: McpClient,
        endpoints: Arc<EndpointSource>,
        schemas: CompiledSchemas,
    ) -> Self {
        Self { client, endpoints, schemas }
    }

    async fn send(
        &self,
        target: &Endpoint,
        call: &Invocation<'_>,
        attempt: Attempt<'_>,
    ) -> Result<PlainAnswer, Fault> {
        let (operation, transport) = operation_of(call).ok_or_else(|| gone(call))?;
        let encoded = encode(operation, &call.request.arguments);
        let Encoded { url, headers, body } = encoded.map_err(|problem| unwritable(&problem))?;
        let mut named = header_map(headers)?;
        if let Some((name, value)) = key_of(call, operation, transport) {
            named.insert(name, value);
        }
        let method = Method::from_bytes(operation.method.as_str().as_bytes());
        let until = Instant::now() + Duration::from_millis(call.attempt_ms);
        let request = PlainRequest {
            endpoint: target,
            method: method.map_err(|error| unwritable(&error.to_string()))?,
            url: &url,
            headers: named,
            body: body.map(Into::into),
            traceparent: attempt.traceparent,
            tracestate: attempt.tracestate,
            deadline: until.min(attempt.deadline),
            admit: attempt.admit,
        };
        let has_key = transport.idempotency_key.is_some() && !operation.method.is_safe();
        let answer = self.client.plain_request(request).await?;
        if has_key && is_key_in_use(&answer) {
            let detail =
                "an earlier request with the same key is still being processed (HTTP 409)".to_owned();
            return Err(Fault::AnswerLost { detail });
        }
        Ok(answer)
    }

    /// Whether the arguments fit the operation's schema, and the operation is what was approved.
    async fn check_operation(&self, call: &Invocation<'_>) -> Result<Checked, Outcome> {
        let Some((operation, transport)) = operation_of(call) else {
            return Err(unknown(call));
        };
        let definition = || operation.definition();
        if let Some(pin) = call.pin
            && definition() != pin.digest()
        {
            let text = format!(
                "Tool `{}` of server `{}` is not what was approved: its definition has changed. Nothing was sent. An operator must look at \
                 it (`toolfleet tools diff`) and approve it.",
                call.name, call.server.id
            );
            return Err(Outcome::refused(Code::DefinitionChanged, text));
        }
        check_arguments(&self.schemas, operation.input_schema(), SchemaOf::Listing, call.request).await?;
        let by_method =
            operation.method.is_safe() || (call.server.trusted && operation.method.is_idempotent());
        let is_open = !call.registered || call.pin.is_some();
        Ok(Checked {
            repeatable: by_method || transport.idempotency_key.is_some(),
            definition: is_open.then(|| definition().short()),
        })
    }
}

/// What is known of a call whose operation was found.
struct Checked {
    repeatable: bool,
    definition: Option<toolfleet_core::definition::ShortDefinitionDigest>,
}

impl Executor for OpenApiExecutor {
    type Target = Endpoint;

    async fn ready(&self, call: &Invocation<'_>, limits: ReadyLimits) -> Result<Ready<Endpoint>, NotReady> {
        let checked = match call.params {
            OperationParams::Tool => self.check_operation(call).await.map_err(NotReady::Ended)?,
            OperationParams::List { .. } => Checked { repeatable: true, definition: None },
            OperationParams::Resource { .. }
            | OperationParams::Prompt { .. }
            | OperationParams::Subscription { .. }
            | OperationParams::Completion { .. } => {
                return Err(NotReady::Ended(not_here(call)));
            }
        };
        let credential = |fault: Fault| NotReady::Credential(failure_of(&fault));
        let endpoint = (self.endpoints)(call.server, call.tenant()).map_err(credential)?;
        if matches!(call.params, OperationParams::Tool) {
            obtain_credential(&endpoint, &limits).await.map_err(credential)?;
        }
        Ok(Ready { target: endpoint, definition: checked.definition, repeatable: checked.repeatable })
    }

    fn check(&self, call: &Invocation<'_>) -> Result<(), Outcome> {
        match call.params {
            OperationParams::Tool => {
                let (operation, _) = operation_of(call).ok_or_else(|| unknown(call))?;
                let encoded = encode(operation, &call.request.arguments);
                encoded.map(|_| ()).map_err(|problem| makes_no_request(&problem))
            }
            OperationParams::List { cursor } => {
                let place = Place::of(call, cursor.as_deref())?;
                begin_of(call, place.theirs()).map(|_| ())
            }
            OperationParams::Resource { .. }
            | OperationParams::Prompt { .. }
            | OperationParams::Subscription { .. }
            | OperationParams::Completion { .. } => Err(not_here(call)),
        }
    }

    async fn attempt(
        &self,
        target: &Endpoint,
        call: &Invocation<'_>,
        attempt: Attempt<'_>,
    ) -> Result<Answer, Failure> {
        let outcome = match call.params {
            OperationParams::List { cursor } => {
                let left = attempt.deadline.saturating_duration_since(Instant::now());
                let within = left.min(Duration::from_millis(call.attempt_ms));
                listed(call, cursor.as_deref(), within).await.map_err(|fault| failure_of(&fault))?
            }
            OperationParams::Tool => {
                let answer = self.send(target, call, attempt).await.map_err(|fault| failure_of(&fault))?;
                outcome_of(call.name, &answer)
            }
            OperationParams::Resource { .. }
            | OperationParams::Prompt { .. }
            | OperationParams::Subscription { .. }
            | OperationParams::Completion { .. } => not_here(call),
        };
        Ok(Answer { meaning: Meaning::Ended(outcome), connection: Connection::default() })
    }

    async fn poll(
        &self,
        _: &Endpoint,
        _: &Invocation<'_>,
        _: PolledTask<'_>,
        _: Attempt<'_>,
    ) -> Result<TaskStatus, Failure> {
        // A call of an interface becomes no task; one that was a task was so under another registration.
        Ok(TaskStatus::Unknown {
            message: "the server is an HTTP interface now, which has no tasks".to_owned(),
        })
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

    fn address(target: &Endpoint) -> &Url {
        &target.url
    }
}

/// The operation that a call names.
fn operation_of<'a>(call: &Invocation<'a>) -> Option<(&'a Operation, &'a OpenApiTransport)> {
    let transport = call.server.openapi()?;
    Some((transport.interface.operation(call.name)?, transport))
}

/// The key of a call that changes something, where the interface honours it: the same at each attempt and delivery, and another one for
/// each tenant, because tenants may choose equal call ids.
fn key_of(
    call: &Invocation<'_>,
    operation: &Operation,
    transport: &OpenApiTransport,
) -> Option<(HeaderName, HeaderValue)> {
    if operation.method.is_safe() {
        return None;
    }
    let name = HeaderName::from_bytes(transport.idempotency_key.as_ref()?.as_bytes()).ok()?;
    let key = &call.request.key;
    let mark = Digest::of_text(&key.to_string());
    let value = format!("{}.{}", key.call_id, mark.short(MARK_CHARS));
    Some((name, HeaderValue::from_str(&value).ok()?))
}

/// Interfaces answer 409 to a second request while the first with its key runs; the body says so, for 409 has other meanings too.
fn is_key_in_use(answer: &PlainAnswer) -> bool {
    answer.status == 409 && String::from_utf8_lossy(&answer.body).to_ascii_lowercase().contains("idempoten")
}

fn header_map(headers: Vec<(String, String)>) -> Result<HeaderMap, Fault> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let bad = |_| unwritable(&format!("the header `{name}` cannot be written"));
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| unwritable(&format!("`{name}` is no header")))?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(bad)?;
        map.append(header, value);
    }
    Ok(map)
}

/// A request that cannot be written; `check` finds these before an attempt.
fn unwritable(problem: &str) -> Fault {
    Fault::ClientStatus { status: 400, detail: format!("not sent: {problem}") }
}

fn gone(call: &Invocation<'_>) -> Fault {
    unwritable(&format!("the document has no operation `{}` any more", call.name))
}

fn unknown(call: &Invocation<'_>) -> Outcome {
    let names: Vec<&str> = call
        .server
        .openapi()
        .map(|openapi| openapi.interface.names().take(NAMED).collect())
        .unwrap_or_default();
    let text = format!(
        "Server `{}` has no tool `{}`; the tools of its OpenAPI document are {}.",
        call.server.id,
        call.name,
        names.join(", ")
    );
    Outcome::refused(Code::UnknownTool, text)
}

fn not_here(call: &Invocation<'_>) -> Outcome {
    let text = format!(
        "Server `{}` is an HTTP interface, which has neither resources nor prompts. Nothing was sent.",
        call.server.id
    );
    Outcome::refused(Code::Unsupported, text)
}

/// Where the page of that cursor begins.
fn begin_of(call: &Invocation<'_>, cursor: Option<&str>) -> Result<usize, Outcome> {
    let is_of_tools = call.request.operation == request::Operation::ToolsList;
    let interface = call.server.openapi().map(|openapi| &openapi.interface).filter(|_| is_of_tools);
    let begin = match (interface, cursor) {
        (Some(interface), cursor) => listing::begin(interface, cursor),
        (None, None) => Some(0),
        (None, Some(_)) => None,
    };
    begin.ok_or_else(|| {
        let text = "`arguments.cursor` is none that this list gave, or the document has changed since. List again without a cursor.";
        Outcome::refused(Code::InvalidArguments, text)
    })
}

/// The operations as an MCP server lists its tools.
async fn listed(call: &Invocation<'_>, cursor: Option<&str>, within: Duration) -> Result<Outcome, Fault> {
    let place = match Place::of(call, cursor) {
        Ok(place) => place,
        Err(refused) => return Ok(refused),
    };
    let begin = match begin_of(call, place.theirs()) {
        Ok(begin) => begin,
        Err(refused) => return Ok(refused),
    };
    let result = match (call.request.operation, call.server.openapi()) {
        (request::Operation::ToolsList, Some(openapi)) => {
            let late = || Fault::AnswerLost { detail: "the list was not written in time".to_owned() };
            let page = listing::listed(&openapi.interface, begin, within).await;
            return page.map(Outcome::succeeded).ok_or_else(late);
        }
        (request::Operation::ToolsList, None) => serde_json::json!({ "tools": [] }),
        (request::Operation::ResourcesList, _) => serde_json::json!({ "resources": [] }),
        (request::Operation::ResourceTemplatesList, _) => serde_json::json!({ "resourceTemplates": [] }),
        (request::Operation::PromptsList, _) => serde_json::json!({ "prompts": [] }),
        (
            request::Operation::ToolsCall
            | request::Operation::ResourcesRead
            | request::Operation::PromptsGet
            | request::Operation::ResourcesSubscribe
            | request::Operation::CompletionComplete,
            _,
        ) => return Ok(not_here(call)),
    };
    let raw = serde_json::value::to_raw_value(&result);
    Ok(Outcome::succeeded(raw.unwrap_or_else(|_| RawValue::NULL.to_owned())))
}
