//! `tools/call`: sends the call to the fleet, waits for its end up to a bound, and answers with the tool's answer, a task, or a handle.
//!
//! **Invariant:** a client always gets an answer within the bound, and one that names the call if it goes on.

use std::time::Duration;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use toolfleet_catalog::{Catalog, PublishedName, may_be_cut};
use toolfleet_client::{AwsError, AwsErrorKind, CallResult, WaitError};
use toolfleet_core::outcome::{Code, Outcome, OutcomeKind};
use toolfleet_core::request::{CallRequest, Resume};
use toolfleet_mcp_protocol::error_code;

use crate::answer::{
    error_result, fleet_failed, lacks_capability, missing_capability, result_of, text_result,
    unreadable_result,
};
use crate::call_request::{CallName, check_key, tool_call};
use crate::definitions::Definition;
use crate::gateway::Gateway;
use crate::handle::{Handle, Purpose};
use crate::input::{Continued, Earlier, name_of_answers};
use crate::message::{Answer, Notifications, Request, RpcError, raw, shown};
use crate::param_headers;
use crate::progress::ProgressReporter;
use crate::questions::Asking;
use crate::uris::PublishedUris;

/// How long a call waits for its tool's definition, where that is not known yet.
const DEFINITION_WITHIN: Duration = Duration::from_secs(1);
/// The same for a call that needs it: with headers that repeat arguments, which are compared by it (nothing is routed by one value and run with
/// another), or by a name that was cut.
const WHOLE_WITHIN: Duration = Duration::from_secs(10);
/// The longest progress token that the id of a task holds, in bytes.
const MAX_HELD_TOKEN: usize = 256;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    name: String,
    #[serde(default)]
    arguments: Option<Box<RawValue>>,
    #[serde(default)]
    request_state: Option<String>,
    #[serde(default)]
    input_responses: Option<Box<RawValue>>,
    /// Asks for a task (2025-11-25).
    #[serde(default)]
    task: Option<Box<RawValue>>,
}

/// A call that is ready to be sent.
struct Prepared {
    request: CallRequest,
    tool: String,
    has_output_schema: bool,
    /// Whether no other request can lead to the same call.
    is_new: bool,
    /// Whether the client asks for a task at once.
    as_task: bool,
}

impl Gateway {
    /// Answers `tools/call`.
    pub(crate) async fn call_tool(&self, request: &Request, notifications: &Notifications) -> Answer {
        let params: Params = request.inbound.params()?;
        let arguments = params.arguments.unwrap_or_else(|| raw(&json!({})));
        if !arguments.get().starts_with('{') {
            return Err(RpcError::invalid_params("`arguments` is no object"));
        }
        let as_task = asks_for_task(request, params.task.as_deref())?;
        match params.name.as_str() {
            "get_result" | "search_tools" if as_task => {
                let text = format!("`{}` does not run as a task; call it without `task`", params.name);
                return Err(RpcError::new(StatusCode::OK, error_code::METHOD_NOT_FOUND, text));
            }
            "get_result" => return self.get_result(request, &arguments, notifications).await,
            "search_tools" => return self.search_tools(request, &arguments).await,
            _ => {}
        }
        let catalog = self.catalog();
        let within = if may_be_cut(&params.name) { WHOLE_WITHIN } else { DEFINITION_WITHIN };
        let until = (request.at + self.limits.wait).min(Instant::now() + within);
        let Some(target) = self.reader(&catalog, &request.caller, until).find(&params.name).await else {
            let text = format!(
                "Unknown tool: {}. Call `tools/list` for the tools that there are.",
                shown(&params.name)
            );
            return Err(RpcError::invalid_params(text));
        };
        let has_headers = request.is_modern() && !request.param_headers.is_empty();
        let within = if has_headers { WHOLE_WITHIN } else { DEFINITION_WITHIN };
        let until = (request.at + self.limits.wait).min(Instant::now() + within);
        let definition = self.reader(&catalog, &request.caller, until).one(&params.name).await;
        match &definition {
            Some(definition) if request.is_modern() => {
                param_headers::check(&definition.input_schema(), &arguments, &request.param_headers)?;
            }
            None if has_headers => {
                let text = "the headers Mcp-Param-* cannot be compared with the arguments: the tool's definition is not known now; send the \
                            request again";
                return Err(RpcError::internal(text));
            }
            Some(_) | None => {}
        }
        let (state, responses) = (params.request_state.as_deref(), params.input_responses.as_deref());
        let (resume, conversation) = match self.continued(request, state, responses, &params.name).await? {
            Continued::No => (None, request.caller.conversation.clone()),
            Continued::With(resume, conversation) => (Some(resume), conversation),
            Continued::AskAgain(earlier) => return self.ask(request, &earlier),
        };
        let name = match resume.as_ref().and_then(name_of_answers) {
            Some(name) => name,
            None => name_of(request)?,
        };
        let prepared =
            prepared(request, &target, &arguments, name, resume.as_ref(), &params.name, definition.as_ref())?;
        let mut prepared = Prepared { as_task, ..prepared };
        prepared.request.session = conversation;
        self.run(request, prepared, notifications).await
    }

    async fn run(&self, request: &Request, prepared: Prepared, notifications: &Notifications) -> Answer {
        let arguments = &prepared.request.arguments;
        let entry = self.in_flight.enter(request, &prepared.request.key, prepared.is_new);
        let sending = self.client.send_once(&prepared.request, request.meta.traceparent.as_deref());
        let sent = timeout_at(request.at + self.limits.wait, sending).await;
        let message_id = match sent.unwrap_or_else(|_| Err(AwsError::passing("no answer within the bound"))) {
            Ok(message_id) => message_id,
            Err(error) => {
                entry.ended();
                return self.not_sent(request, &prepared, &error);
            }
        };
        if prepared.as_task {
            entry.ended();
            let mut handle =
                Handle::new(&prepared.request, message_id.as_deref(), &prepared.tool, self.now());
            let token = request.meta.progress_token.as_deref().map(RawValue::get);
            handle.progress_token = token.filter(|token| token.len() <= MAX_HELD_TOKEN).map(str::to_owned);
            if request.may_be_asked() {
                handle = self.holding(request, handle, arguments).await;
            }
            return self.requested_task(request, &handle);
        }
        let bound = if request.takes_tasks() { self.limits.task_after } else { self.limits.wait };
        let left = (request.at + bound).saturating_duration_since(Instant::now());
        let mut progress = ProgressReporter::new(request, notifications);
        let waited = tokio::select! {
            waited = self.client.watch_request(&prepared.request, message_id.as_deref(), left, |row| progress.see(row)) => Some(waited),
            () = self.draining.cancelled() => None,
        };
        entry.ended();
        let handle = Handle::new(&prepared.request, message_id.as_deref(), &prepared.tool, self.now());
        match waited {
            Some(Ok(result))
                if result.outcome.kind == OutcomeKind::InputRequired && request.may_be_asked() =>
            {
                let handle = self.holding(request, handle, arguments).await;
                let asking = Asking { request, notifications, task: None };
                Box::pin(self.asked(&asking, handle, result, &mut progress)).await
            }
            Some(Ok(result)) => self.ended(request, &result, &handle),
            None => {
                let text = "The gateway stops, and does not wait longer.";
                self.goes_on(request, &prepared, handle, text).await
            }
            Some(Err(WaitError::TimeOut { .. })) => {
                let text = format!("The call has not ended within {} s.", bound.as_secs());
                self.goes_on(request, &prepared, handle, &text).await
            }
            Some(Err(WaitError::Unreadable(error))) => Ok(unreadable_result(&error, &handle, request)),
            Some(Err(WaitError::Aws(error))) => {
                fleet_failed(&error, &handle.call_id);
                let text = "The call was sent, and its result cannot be read now.";
                Ok(self.with_handle(request, &handle, text, true))
            }
        }
    }

    /// The answer of a call that has ended.
    pub(crate) fn ended(&self, request: &Request, result: &CallResult, handle: &Handle) -> Answer {
        if result.outcome.kind == OutcomeKind::InputRequired && request.is_modern() {
            return self.ask(request, &Earlier::of(handle.clone(), &result.outcome)?);
        }
        if request.is_modern() && lacks_capability(&result.outcome) {
            return Err(missing_capability(&result.outcome, request));
        }
        let catalog = self.catalog();
        self.note_stale_list(request, &catalog, &result.outcome, &handle.tool);
        Ok(result_of(
            &result.outcome,
            request,
            &PublishedUris::of_tool(&catalog, &request.caller, &handle.tool),
        ))
    }

    /// A refusal that proves that the server lists something else now makes its list be read again.
    fn note_stale_list(&self, request: &Request, catalog: &Catalog, outcome: &Outcome, tool: &str) {
        let code = outcome.error.as_ref().map(|error| error.code);
        if !matches!(code, Some(Code::UnknownTool | Code::DefinitionChanged)) {
            return;
        }
        let server = match catalog.published().find(tool) {
            Some(PublishedName::Tool(one)) => one.tool.server.id.clone(),
            Some(PublishedName::OnServer { server, .. }) => server.id.clone(),
            None => return,
        };
        self.lists.expire(&request.caller.tenant, &server);
    }

    /// The answer of a call that goes on: a task where the client takes such, else a handle.
    async fn goes_on(&self, request: &Request, prepared: &Prepared, handle: Handle, why: &str) -> Answer {
        if request.takes_tasks() {
            let handle = self.holding(request, handle, &prepared.request.arguments).await;
            return self.new_task(request, &handle);
        }
        Ok(self.with_handle(request, &handle, &format!("{why} It goes on."), prepared.has_output_schema))
    }

    /// A result with a handle. Where clients check results against a schema only an error may lack what that wants.
    pub(crate) fn with_handle(
        &self,
        request: &Request,
        handle: &Handle,
        text: &str,
        is_error: bool,
    ) -> Box<RawValue> {
        let Some(sealed) = self.sealer.seal(Purpose::Result, &request.caller, &handle.bare()) else {
            return error_result(text, Value::Null, request);
        };
        let text = format!(
            "{text} Call the tool `get_result` with {{\"handle\": \"{sealed}\"}} for its result. Do not call `{}` again for it.",
            handle.tool
        );
        text_result(&text, is_error, json!({"outcome": "pending", "handle": sealed}), request)
    }

    /// A call of which it is not known whether it was sent. Its handle tells.
    fn not_sent(&self, request: &Request, prepared: &Prepared, error: &AwsError) -> Answer {
        tracing::warn!(%error, call_id = %prepared.request.key.call_id, code = "gateway_send_failed", "a call cannot be sent");
        // Only of a new call is it sure that no earlier request has sent it.
        if error.is_permanent() && prepared.is_new {
            let why = match error.kind() {
                AwsErrorKind::Rejection => {
                    "The fleet does not accept this request; its arguments may be too large."
                }
                AwsErrorKind::Passing
                | AwsErrorKind::Unreachable
                | AwsErrorKind::Credentials
                | AwsErrorKind::Region
                | AwsErrorKind::Permission
                | AwsErrorKind::Configuration => "The call cannot be sent: the fleet is not set up for it.",
            };
            let outcome = json!({"outcome": "refused", "mayHaveRun": "no", "retryable": false});
            let result = error_result(&format!("{why} The tool did not run."), outcome, request);
            return if prepared.as_task { Err(as_error(&result)) } else { Ok(result) };
        }
        let handle = Handle::new(&prepared.request, None, &prepared.tool, self.now());
        let text = "The fleet did not answer, so it is not known whether the call was sent.";
        let result = self.with_handle(request, &handle, text, true);
        // There is no task of a call that may not exist.
        if prepared.as_task { Err(as_error(&result)) } else { Ok(result) }
    }
}

/// Whether the client asks for a task, in a version that has such requests. Others pass the member over, as that version wants it.
fn asks_for_task(request: &Request, task: Option<&RawValue>) -> Result<bool, RpcError> {
    let Some(task) = task.filter(|_| request.has_task_requests()) else { return Ok(false) };
    let members = serde_json::from_str::<serde_json::Map<String, Value>>(task.get()).ok();
    // A task is kept as long as its call's row, whatever is asked for.
    match members.is_some_and(|members| members.get("ttl").is_none_or(Value::is_number)) {
        true => Ok(true),
        false => Err(RpcError::invalid_params("`task` is no object whose `ttl` is a number")),
    }
}

/// The text of a result, as an error.
fn as_error(result: &RawValue) -> RpcError {
    let result: Value = serde_json::from_str(result.get()).unwrap_or_default();
    let text = result.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default();
    RpcError { data: result.get("_meta").cloned(), ..RpcError::internal(text) }
}

/// How the client names the call.
fn name_of(request: &Request) -> Result<CallName<'_>, RpcError> {
    match request.request_key() {
        None => Ok(CallName::New),
        Some(key) => check_key(key).map(|()| CallName::Key(key)).map_err(RpcError::invalid_params),
    }
}

fn prepared(
    request: &Request,
    target: &PublishedName,
    arguments: &RawValue,
    name: CallName<'_>,
    resume: Option<&Resume>,
    tool: &str,
    definition: Option<&Definition>,
) -> Result<Prepared, RpcError> {
    let made = tool_call(&request.caller, target, arguments, name, resume);
    let mut call = made.map_err(|error| RpcError::invalid_params(error.to_string()))?;
    call.can_answer = Some(request.can_answer());
    let has_output_schema = definition.is_some_and(Definition::has_output_schema);
    let is_new = matches!(name, CallName::New);
    Ok(Prepared { request: call, tool: tool.to_owned(), has_output_schema, is_new, as_task: false })
}
