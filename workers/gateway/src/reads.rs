//! `resources/read`, `prompts/get` and `completion/complete`: each is a call of the fleet, as a tool's. Such a call only reads, so workers may
//! repeat it, and a client that was not answered sends its request again.
//!
//! **Invariant:** whose a name or an address is, says the catalog alone; what the caller may not ask is answered as what does not exist.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use toolfleet_catalog::{Catalog, Server};
use toolfleet_client::{AwsError, CallResult, WaitError};
use toolfleet_core::outcome::{Code, Outcome, OutcomeKind};
use toolfleet_core::request::Operation;
use toolfleet_mcp_protocol::{cache_scope, error_code, result_type};

use crate::answer::{NO_SESSION, described, fleet_failed, lacks_capability, missing_capability, sentence};
use crate::call_request::{Asked as Target, CallName, reading};
use crate::gateway::Gateway;
use crate::handle::Handle;
use crate::input::{Continued, Earlier, name_of_answers};
use crate::message::{Answer, Members, Notifications, OUTCOME, Request, RpcError, finish_result, raw, shown};
use crate::progress::ProgressReporter;
use crate::questions::{Asked, Asking};
use crate::uris::PublishedUris;

#[derive(Deserialize)]
struct ReadParams {
    uri: String,
}

#[derive(Deserialize)]
struct PromptParams {
    name: String,
    #[serde(default)]
    arguments: Option<Value>,
}

/// What a request brings that goes on from an earlier one.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContinuedParams {
    #[serde(default)]
    request_state: Option<String>,
    #[serde(default)]
    input_responses: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct CompletionParams {
    #[serde(rename = "ref")]
    reference: Reference,
    argument: Value,
    #[serde(default)]
    context: Option<Value>,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Reference {
    #[serde(rename = "ref/prompt")]
    Prompt { name: String },
    #[serde(rename = "ref/resource")]
    Resource { uri: String },
}

/// A request to a server.
struct Reading {
    server: Arc<Server>,
    operation: Operation,
    arguments: Value,
    /// The published name or address.
    name: String,
}

/// How it ended.
enum Read {
    Outcome(Box<Outcome>),
    /// The server asks for input; the result that asks the client.
    Question(Box<RawValue>),
}

impl Gateway {
    /// Answers `resources/read`.
    pub(crate) async fn read_resource(&self, request: &Request, notifications: &Notifications) -> Answer {
        let ReadParams { uri } = request.inbound.params()?;
        let catalog = self.catalog();
        let found = catalog.published().resources().find(&uri);
        let found = found.filter(|(server, _)| self.may_ask(request, &catalog, server));
        let Some((server, own)) = found else {
            let text = "Unknown resource. Call `resources/list` and `resources/templates/list` for those that there are.";
            return Err(no_resource(request, &uri, text));
        };
        let reading = Reading {
            server: Arc::clone(server),
            operation: Operation::ResourcesRead,
            arguments: json!({ "uri": own }),
            name: uri.clone(),
        };
        let outcome = match self.read(request, &reading, request.inbound.params()?, notifications).await? {
            Read::Question(question) => return Ok(question),
            Read::Outcome(outcome) => outcome,
        };
        let mut members = match members_with(&outcome, "contents") {
            Some(members) => members,
            None if refuses_name(&outcome) => return Err(no_resource(request, &uri, &sentence(&outcome))),
            None => return Err(failed(&outcome, request)),
        };
        PublishedUris::of_server(&catalog, &request.caller, server).publish_in(&mut members);
        let ttl = members.remove("ttlMs").filter(|_| request.is_modern());
        members.remove("cacheScope");
        if request.is_modern() {
            // Another caller may not be allowed it.
            members.insert("cacheScope".to_owned(), raw(&cache_scope::PRIVATE));
            let ttl = ttl.filter(|ttl| serde_json::from_str::<u64>(ttl.get()).is_ok());
            members.insert("ttlMs".to_owned(), ttl.unwrap_or_else(|| raw(&0)));
        }
        Ok(finish_result(members, result_type::COMPLETE, request, &[]))
    }

    /// Answers `prompts/get`.
    pub(crate) async fn get_prompt(&self, request: &Request, notifications: &Notifications) -> Answer {
        let PromptParams { name, arguments } = request.inbound.params()?;
        let catalog = self.catalog();
        let found = catalog.published().prompts().find(&name);
        let found = found.filter(|(server, _)| self.may_ask(request, &catalog, server));
        let Some((server, own)) = found else { return Err(no_prompt(&name)) };
        let arguments = arguments.unwrap_or_else(|| json!({}));
        let reading = Reading {
            server: Arc::clone(server),
            operation: Operation::PromptsGet,
            arguments: json!({"name": own, "arguments": arguments}),
            name: name.clone(),
        };
        let outcome = match self.read(request, &reading, request.inbound.params()?, notifications).await? {
            Read::Question(question) => return Ok(question),
            Read::Outcome(outcome) => outcome,
        };
        let Some(mut members) = members_with(&outcome, "messages") else {
            return Err(match is_no_such_method(&outcome) {
                true => no_prompt(&name),
                false => failed(&outcome, request),
            });
        };
        PublishedUris::of_server(&catalog, &request.caller, server).publish_in(&mut members);
        Ok(finish_result(members, result_type::COMPLETE, request, &[]))
    }

    /// Answers `completion/complete`. A server that completes nothing has no suggestions.
    pub(crate) async fn complete(&self, request: &Request) -> Answer {
        let CompletionParams { reference, argument, context } = request.inbound.params()?;
        let catalog = self.catalog();
        let published = catalog.published();
        let (name, found) = match &reference {
            Reference::Prompt { name } => {
                let found = published.prompts().find(name);
                let own = |own| json!({"type": "ref/prompt", "name": own});
                (name, found.map(|(server, name)| (server, own(name))))
            }
            Reference::Resource { uri } => {
                let found = published.resources().find(uri);
                (uri, found.map(|(server, uri)| (server, json!({"type": "ref/resource", "uri": uri}))))
            }
        };
        let found = found.filter(|(server, _)| self.may_ask(request, &catalog, server));
        let Some((server, own)) = found else {
            let text = format!("Unknown prompt or resource template: {}", shown(name));
            return Err(RpcError::invalid_params(text));
        };
        let mut arguments = json!({"ref": own, "argument": argument});
        if let (Some(members), Some(context)) = (arguments.as_object_mut(), context) {
            members.insert("context".to_owned(), context);
        }
        let reading = Reading {
            server: Arc::clone(server),
            operation: Operation::CompletionComplete,
            arguments,
            name: name.clone(),
        };
        let members = match self.read(request, &reading, ContinuedParams::default(), &None).await? {
            Read::Question(question) => return Ok(question),
            Read::Outcome(outcome) => match members_with(&outcome, "completion") {
                Some(members) => members,
                None if is_no_such_method(&outcome) => {
                    [("completion".to_owned(), raw(&json!({"values": []})))].into()
                }
                None => return Err(failed(&outcome, request)),
            },
        };
        Ok(finish_result(members, result_type::COMPLETE, request, &[]))
    }

    pub(crate) fn may_ask(&self, request: &Request, catalog: &Catalog, server: &Server) -> bool {
        self.reader(catalog, &request.caller, request.at).may_list(server)
    }

    /// Sends the request to the fleet and waits for its end, up to the bound. Beyond that nobody needs it: the call expires.
    async fn read(
        &self,
        request: &Request,
        what: &Reading,
        continued: ContinuedParams,
        notifications: &Notifications,
    ) -> Result<Read, RpcError> {
        let ContinuedParams { request_state, input_responses } = continued;
        // No tool has such a name.
        let name = format!("{} {}", what.operation.as_str(), what.name);
        let (state, responses) = (request_state.as_deref(), input_responses.as_deref());
        let continued = self.continued(request, state, responses, &name).await?;
        let (resume, conversation) = match continued {
            Continued::No => (None, request.caller.conversation.clone()),
            Continued::With(resume, conversation) => (Some(resume), conversation),
            Continued::AskAgain(earlier) => return self.ask(request, &earlier).map(Read::Question),
        };
        let until = request.at + self.limits.wait;
        let left = until.saturating_duration_since(Instant::now());
        let asked = Target {
            server: &what.server.id,
            operation: what.operation,
            arguments: &raw(&what.arguments),
            timeout_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1),
        };
        let call_name = resume.as_ref().and_then(name_of_answers).unwrap_or(CallName::New);
        let call = reading(&request.caller, asked, call_name, resume.as_ref());
        let mut call = call.map_err(|error| RpcError::invalid_params(error.to_string()))?;
        call.can_answer = Some(request.can_answer());
        call.session = conversation;
        let entry = self.in_flight.enter(request, &call.key, resume.is_none());
        let sending = self.client.send_once(&call, request.meta.traceparent.as_deref());
        let sent = timeout_at(until, sending).await;
        let sent = sent.unwrap_or_else(|_| Err(AwsError::passing("no answer within the bound")));
        let message_id = match sent {
            Ok(message_id) => message_id,
            Err(error) => {
                entry.ended();
                return Err(unanswered(fleet_failed(&error, &call.key.call_id)));
            }
        };
        let left = until.saturating_duration_since(Instant::now());
        let waited = tokio::select! {
            waited = self.client.watch_request(&call, message_id.as_deref(), left, |_| ()) => Some(waited),
            () = self.draining.cancelled() => None,
        };
        match waited {
            Some(Ok(result))
                if result.outcome.kind == OutcomeKind::InputRequired && request.may_be_asked() =>
            {
                entry.ended();
                let handle = Handle::new(&call, message_id.as_deref(), &name, self.now());
                let handle = self.holding(request, handle, &call.arguments).await;
                let asking = Asking { request, notifications, task: None };
                Box::pin(self.read_with_input(&asking, handle, result)).await
            }
            Some(Ok(CallResult { outcome, .. })) => {
                entry.ended();
                if outcome.kind == OutcomeKind::InputRequired && request.is_modern() {
                    let handle = Handle::new(&call, message_id.as_deref(), &name, self.now());
                    let earlier = Earlier::of(handle, &outcome)?;
                    return self.ask(request, &earlier).map(Read::Question);
                }
                Ok(Read::Outcome(Box::new(outcome)))
            }
            None => Err(unanswered("the gateway stops")),
            Some(Err(WaitError::TimeOut { .. })) => {
                let text = format!("the server has not answered within {} s", self.limits.wait.as_secs());
                Err(unanswered(&text))
            }
            Some(Err(error @ (WaitError::Unreadable(_) | WaitError::Aws(_)))) => {
                Err(unanswered(fleet_failed(&error, &call.key.call_id)))
            }
        }
    }
}

impl Gateway {
    /// The end of a request that goes on with what the client answers.
    async fn read_with_input(
        &self,
        asking: &Asking<'_>,
        handle: Handle,
        result: CallResult,
    ) -> Result<Read, RpcError> {
        let mut progress = ProgressReporter::new(asking.request, &None);
        match self.ask_and_wait(asking, handle, Box::new(result), &mut progress).await? {
            Asked::Ended(result, _) => Ok(Read::Outcome(Box::new(result.outcome))),
            Asked::Hindered(_, why) => Err(RpcError::internal(format!(
                "The server asks for input before it answers, and this client cannot be asked: {why}."
            ))),
            Asked::Dismissed(_, text) => Err(RpcError::internal(text)),
            Asked::Open(_, text) => Err(unanswered(text)),
            Asked::Failed(error, handle) => Err(unanswered(fleet_failed(&error, &handle.call_id))),
        }
    }
}

/// The members of a result, if the call has one with that member.
fn members_with(outcome: &Outcome, member: &str) -> Option<Members> {
    let content = outcome.content().filter(|_| outcome.kind == OutcomeKind::Succeeded)?;
    serde_json::from_str::<Members>(content.get()).ok().filter(|members| members.contains_key(member))
}

fn rpc_code(outcome: &Outcome) -> Option<i64> {
    outcome.error.as_ref().filter(|error| error.code == Code::RpcError)?.rpc_code.map(i64::from)
}

fn is_no_such_method(outcome: &Outcome) -> bool {
    rpc_code(outcome) == Some(error_code::METHOD_NOT_FOUND)
}

/// Whether the server says that it has no such resource.
fn refuses_name(outcome: &Outcome) -> bool {
    let codes = [error_code::RESOURCE_NOT_FOUND, error_code::INVALID_PARAMS, error_code::METHOD_NOT_FOUND];
    rpc_code(outcome).is_some_and(|code| codes.contains(&code))
}

fn no_resource(request: &Request, uri: &str, text: &str) -> RpcError {
    let error = match request.is_modern() {
        true => RpcError::invalid_params(text),
        false => RpcError::new(axum::http::StatusCode::OK, error_code::RESOURCE_NOT_FOUND, text),
    };
    RpcError { data: Some(json!({ "uri": uri })), ..error }
}

fn no_prompt(name: &str) -> RpcError {
    RpcError::invalid_params(format!(
        "Unknown prompt: {}. Call `prompts/list` for the prompts that there are.",
        shown(name)
    ))
}

/// Why there is no result. The codes that servers choose pass through, except those by which clients change how they speak.
fn failed(outcome: &Outcome, request: &Request) -> RpcError {
    if request.is_modern() && lacks_capability(outcome) {
        return missing_capability(outcome, request);
    }
    let reserved = |code: i64| {
        matches!(
            code,
            error_code::UNSUPPORTED_VERSION..=error_code::NO_SESSION | error_code::METHOD_NOT_FOUND
        )
    };
    let code = match (outcome.kind, outcome.error.as_ref().map(|error| error.code)) {
        (OutcomeKind::Refused, Some(Code::InvalidArguments)) => error_code::INVALID_PARAMS,
        (_, Some(Code::RpcError)) => {
            rpc_code(outcome).filter(|code| !reserved(*code)).unwrap_or(error_code::INTERNAL_ERROR)
        }
        (_, _) => error_code::INTERNAL_ERROR,
    };
    let text = match outcome.kind {
        OutcomeKind::Succeeded => "The server's answer is no result of this method.".to_owned(),
        OutcomeKind::InputRequired => {
            format!(
                "The server asks for input before it answers, and this client cannot be asked: {NO_SESSION}."
            )
        }
        OutcomeKind::ToolError
        | OutcomeKind::Failed
        | OutcomeKind::Refused
        | OutcomeKind::Expired
        | OutcomeKind::TimedOut
        | OutcomeKind::Cancelled
        | OutcomeKind::OutcomeUnknown => sentence(outcome),
    };
    let error = RpcError::new(axum::http::StatusCode::OK, code, text);
    RpcError { data: Some(json!({ OUTCOME: described(outcome) })), ..error }
}

/// The request has no answer, and reads only.
fn unanswered(why: &str) -> RpcError {
    RpcError::internal(format!("The request is not answered: {why}. Send it again."))
}
