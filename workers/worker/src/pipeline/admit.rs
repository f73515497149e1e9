//! Owns the second step: whether a call may run at all. Sender, age, reply, tool, access, schema, session.
//!
//! **Invariant:** nothing is sent, and nothing written but the row of a conversation that is met first; a refusal says what to
//! change.

use std::sync::Arc;

use toolfleet_aws::AwsError;
use toolfleet_catalog::{
    Catalog, DEFAULT_ATTEMPT_MS, DEFAULT_MAX_ATTEMPTS, Executor, Function, NotExecutable, Pin, Server, Tool,
};
use toolfleet_core::grants;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::request::{CallRequest, OperationParams, Priority, Reply, Target, User};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::session::SessionRow;
use toolfleet_core::time::Timestamp;
use toolfleet_core::user_binding::bind;

use super::arguments::check_arguments;
use super::inbound::InboundCall;
use super::resume::{self, Resumed};
use crate::config::OLDEST_MESSAGE_MS;
use crate::context::WorkerContext;

pub(super) enum Admitted {
    Call(Box<AdmittedCall>),
    Refused { request: Box<CallRequest>, outcome: Outcome },
    Stranger { request: Box<CallRequest> },
}

/// A call that may run.
pub(super) struct AdmittedCall {
    pub(super) request: Box<CallRequest>,
    pub(super) ask: OperationParams,
    /// The call that it goes on with.
    pub(super) resumed: Option<Resumed>,
    pub(super) server: Arc<Server>,
    /// The registered tool, unless it is called by its name on a server that is open to that, or no tool is called.
    pub(super) tool: Option<Arc<Tool>>,
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
    /// Whether the server is asked how far it is.
    pub(super) progress: bool,
}

impl AdmittedCall {
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
        return Ok(Admitted::Stranger { request });
    }
    let deadline = request.deadline(inbound.enqueued_at, context.limits.default_deadline_ms());
    let now = context.now();
    let verdict = check_age(inbound, now)
        .and_then(|()| check_size(inbound, context.max_body_bytes))
        .and_then(|()| check_support(inbound.catalog(), &request))
        .and_then(|()| check_deadline(deadline, now));
    if let Err(outcome) = verdict {
        return Ok(Admitted::Refused { request, outcome });
    }
    let session = match act_as_bound(context, inbound, &mut request).await? {
        Ok(session) => session,
        Err(outcome) => return Ok(Admitted::Refused { request, outcome }),
    };
    let found = match find(inbound.catalog(), &request) {
        Ok(found) => found,
        Err(outcome) => return Ok(Admitted::Refused { request, outcome }),
    };
    if let Some(schema) = found.function.as_ref().and_then(|function| function.schema.as_ref())
        && let Err(outcome) = check_arguments(schema, &request).await
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
    let allowed = found.tool.as_ref().map_or(DEFAULT_MAX_ATTEMPTS, |t| t.max_attempts);
    let max_attempts = request.retry.map_or(allowed, |wish| wish.max_attempts.min(allowed));
    let attempt_ms =
        found.tool.as_ref().map(|t| t.timeout_ms).or(found.server.timeout_ms).unwrap_or(DEFAULT_ATTEMPT_MS);
    let progress = found.tool.as_ref().map_or(found.server.progress, |t| t.progress);
    // A server may take a state once: what is known of the tool says nothing of that, only the caller's promise does.
    let reads = found.ask.is_reading() || found.function.as_ref().is_some_and(|f| f.idempotent);
    let repeatable = request.idempotent || (resumed.is_none() && reads);
    Ok(Admitted::Call(Box::new(AdmittedCall {
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
    })))
}

/// The rows of older messages may have expired, so running one could run it twice.
pub(super) fn check_age(inbound: &InboundCall, now: Timestamp) -> Result<(), Outcome> {
    if now.ms_since(inbound.enqueued_at) <= OLDEST_MESSAGE_MS {
        return Ok(());
    }
    let text = format!(
        "The message was sent at {}, longer ago than the fleet remembers calls for (28 days). Send it again as a new call.",
        inbound.enqueued_at
    );
    Err(Outcome::refused(Code::TooOld, text))
}

/// Whether there is still time for the call.
pub(super) fn check_time(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: &CallRequest,
) -> Result<(), Outcome> {
    let (deadline, now) =
        (request.deadline(inbound.enqueued_at, context.limits.default_deadline_ms()), context.now());
    check_age(inbound, now).and_then(|()| check_deadline(deadline, now))
}

/// A call that has to wait becomes a message with attributes beside its body.
fn check_size(inbound: &InboundCall, most: usize) -> Result<(), Outcome> {
    let bytes = inbound.body().len();
    if bytes <= most {
        return Ok(());
    }
    let text = format!(
        "The message has {bytes} bytes; accepted are at most {most}, because a call that waits carries attributes beside its body. \
         Nothing was sent to the tool. Send large arguments by reference (`arguments_ref`) in a new call."
    );
    Err(Outcome::refused(Code::RequestTooLarge, text))
}

fn check_deadline(deadline: Timestamp, now: Timestamp) -> Result<(), Outcome> {
    if now < deadline {
        return Ok(());
    }
    let text =
        format!("The call's deadline ({deadline}) passed before it could run. Nothing was sent to the tool.");
    let why = CallError::new(Code::DeadlineExceeded, text, MayHaveRun::No).retryable(None);
    Err(Outcome::ended(OutcomeKind::Expired, why))
}

/// What the contract can say but this fleet does not do is refused by name, not passed over.
fn check_support(catalog: &Catalog, request: &CallRequest) -> Result<(), Outcome> {
    let unsupported = |text: String| Err(Outcome::refused(Code::Unsupported, text));
    if request.priority != Priority::Normal {
        return unsupported(
            "priority: only `normal` is supported on this queue; leave the field out.".into(),
        );
    }
    match &request.reply {
        None => Ok(()),
        Some(Reply::SqsQueueUrl(url)) if catalog.allows_reply_queue(&request.key.tenant, url) => Ok(()),
        Some(Reply::SqsQueueUrl(url)) => {
            let text = format!(
                "reply.sqs_queue_url: `{url}` is not on the list of reply queues of tenant `{}`; ask an operator to add it, or poll \
                 for the result.",
                request.key.tenant
            );
            Err(Outcome::refused(Code::ReplyNotAllowed, text))
        }
        Some(Reply::SnsTopicArn(_) | Reply::EventBridgeBus(_) | Reply::WebhookId(_)) => {
            let text =
                "reply: only `sqs_queue_url` is supported; name a reply queue, or poll for the result.";
            Err(Outcome::refused(Code::ReplyNotAllowed, text))
        }
    }
}

struct Found {
    ask: OperationParams,
    server: Arc<Server>,
    tool: Option<Arc<Tool>>,
    function: Option<Function>,
    name: String,
}

impl Found {
    /// What the tool's definition has to be, where it is pinned.
    fn pin(&self, catalog: &Catalog) -> Option<Pin> {
        let pinned = || catalog.approved(&self.server.id, &self.name).map(|approved| approved.pin.clone());
        matches!(self.ask, OperationParams::Tool).then(pinned).flatten()
    }
}

fn find(catalog: &Catalog, request: &CallRequest) -> Result<Found, Outcome> {
    let known = || catalog.suggestions(&request.target);
    match &request.target {
        Target::Tool { id, function } => {
            let Some(tool) = catalog.tool(id) else {
                if let Some(found) = catalog.not_executable_tool(id) {
                    return Err(not_executable(&format!("Tool `{id}`"), found));
                }
                return Err(Outcome::refused(
                    Code::UnknownTool,
                    format!("No tool `{id}` is registered; {}.", known()),
                ));
            };
            match (tool.function(function.as_deref()), function) {
                (Some(found), _) => registered(tool, Some(found), &found.name, request),
                (None, Some(name)) if tool.open => registered(tool, None, name, request),
                (None, _) => {
                    let names: Vec<_> = tool.functions.iter().map(|f| f.name.as_str()).collect();
                    let names =
                        if tool.open { "the tools its server lists".to_owned() } else { names.join(", ") };
                    let text = format!("Tool `{id}` needs `function`, one of: {names}.");
                    Err(Outcome::refused(Code::UnknownTool, text))
                }
            }
        }
        Target::OnServer { server: id, name } => {
            let Some(server) = catalog.server(id) else {
                if let Some(found) = catalog.not_executable_server(id) {
                    return Err(not_executable(&format!("Server `{id}`"), found));
                }
                let text = format!("No server `{id}` is registered; {}.", known());
                return Err(Outcome::refused(Code::UnknownServer, text));
            };
            if let Some(tool) = catalog.tool_on(id, name) {
                return registered(tool, tool.function(Some(name)), name, request);
            }
            if !server.discover {
                let text = format!(
                    "No tool `{name}` of server `{id}` is registered, and the server is not open to discovered tools."
                );
                return Err(Outcome::refused(Code::UnknownTool, text));
            }
            let (server, name) = (server.clone(), name.clone());
            Ok(Found { ask: OperationParams::Tool, server, tool: None, function: None, name })
        }
        Target::Server { server: id } => {
            let Some(server) = catalog.server(id) else {
                if let Some(found) = catalog.not_executable_server(id) {
                    return Err(not_executable(&format!("Server `{id}`"), found));
                }
                let text = format!("No server `{id}` is registered; {}.", known());
                return Err(Outcome::refused(Code::UnknownServer, text));
            };
            of_server(catalog, server, request)
        }
    }
}

/// What the catalog names but cannot have called.
fn not_executable(what: &str, found: &NotExecutable) -> Outcome {
    let text = format!(
        "{what} is registered but cannot be called: {}. Nothing was sent. An operator must mend `{}` of the catalog.",
        found.reason, found.entry
    );
    Outcome::refused(Code::NotExecutable, text)
}

/// What is asked of a server itself is open where all it lists is: who registers single tools has opened those alone. A tool
/// that stands for all of them lends its rules.
fn of_server(catalog: &Catalog, server: &Arc<Server>, request: &CallRequest) -> Result<Found, Outcome> {
    let operation = request.operation.as_str();
    if let Some(tool) = catalog.tool_of_all(&server.id) {
        usable(tool, request)?;
    } else if !server.discover {
        let text = format!(
            "Server `{}` is open to its registered tools alone, so `{operation}` is refused; an operator opens it with `discover`.",
            server.id
        );
        return Err(Outcome::refused(Code::AccessDenied, text));
    }
    let ask = request.ask().map_err(|error| Outcome::refused(Code::InvalidArguments, error.to_string()))?;
    let name = match &ask {
        OperationParams::Resource { uri } => uri.clone(),
        OperationParams::Prompt { name, .. } => name.clone(),
        OperationParams::Tool | OperationParams::List { .. } => String::new(),
    };
    Ok(Found { ask, server: server.clone(), tool: None, function: None, name })
}

/// `function` is none where the tool's functions are those its server lists.
fn registered(
    tool: &Arc<Tool>,
    function: Option<&Function>,
    name: &str,
    request: &CallRequest,
) -> Result<Found, Outcome> {
    usable(tool, request)?;
    match &tool.executor {
        Executor::Mcp(server) => Ok(Found {
            ask: OperationParams::Tool,
            server: server.clone(),
            tool: Some(tool.clone()),
            function: function.cloned(),
            name: name.to_owned(),
        }),
        Executor::Lambda(_) => {
            let text = format!(
                "Tool `{}` is a Lambda function, which this fleet does not run yet. Nothing was sent.",
                tool.id
            );
            Err(Outcome::refused(Code::NoExecutor, text))
        }
    }
}

/// Whether its access rules open the tool to who asks, and no operator has paused it.
fn usable(tool: &Tool, request: &CallRequest) -> Result<(), Outcome> {
    if !tool.is_open_to(request.user.as_ref()) {
        let who =
            request.user.as_ref().map_or("a call without `user`".to_owned(), |u| format!("user `{}`", u.id));
        let text = format!(
            "Tool `{}` is not open to {who}: its access rules ask for another type or role.",
            tool.id
        );
        return Err(Outcome::refused(Code::AccessDenied, text));
    }
    if tool.paused {
        let why = CallError::new(
            Code::Paused,
            format!("Tool `{}` is paused by an operator.", tool.id),
            MayHaveRun::No,
        );
        return Err(Outcome::ended(OutcomeKind::Refused, why.retryable(None)));
    }
    Ok(())
}

/// Makes the request's user the one that its sender and its session are bound to; refuses it where it names another one, or has no
/// session although its tenant wants one. Gives the session, if it exists.
async fn act_as_bound(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: &mut CallRequest,
) -> Result<Result<Option<Arc<SessionRow>>, Outcome>, AwsError> {
    let catalog = inbound.catalog();
    if let Some(bound) = catalog.bound_user(inbound.sender.as_deref())
        && let Err(outcome) = bind_to(bound, "the message's sender", request)
    {
        return Ok(Err(outcome));
    }
    let tenant = &request.key.tenant;
    let Some(id) = request.session.clone() else {
        if !catalog.requires_session(tenant) {
            return Ok(Ok(None));
        }
        let text = format!(
            "session: is missing, and every call of tenant `{tenant}` needs one. Send the call anew with the session you were given."
        );
        return Ok(Err(Outcome::refused(Code::SessionInvalid, text)));
    };
    let key = (tenant.clone(), id.clone());
    let session = match context.session_cache.get(&key) {
        Some(session) => Some(session),
        None => {
            let read = async { Ok(context.sessions.read(&key.0, &id).await?.map(Arc::new)) };
            Box::pin(context.session_cache.learn(&key, read)).await?
        }
    };
    if let Some(bound) = session.as_ref().and_then(|session| session.user.as_ref())
        && let Err(outcome) = bind_to(bound, &format!("session `{id}`"), request)
    {
        return Ok(Err(outcome));
    }
    Ok(Ok(session))
}

fn bind_to(bound: &User, whom: &str, request: &mut CallRequest) -> Result<(), Outcome> {
    match bind(bound, request.user.as_ref()) {
        Ok(user) => {
            request.user = Some(user);
            Ok(())
        }
        Err(error) => {
            let text = format!(
                "{error}: {whom} is bound to one user. Leave `user` out, or name that user and no more roles than it has."
            );
            Err(Outcome::refused(Code::AccessDenied, text))
        }
    }
}

async fn refused_by_session(
    context: &WorkerContext,
    catalog: &Catalog,
    request: &CallRequest,
    session: Option<Arc<SessionRow>>,
    server: &Server,
) -> Result<Option<Outcome>, AwsError> {
    let Some(id) = &request.session else {
        return Ok(None);
    };
    let tenant = &request.key.tenant;
    let refuse = |text: String| Ok(Some(Outcome::refused(Code::SessionInvalid, text)));
    let session = match session {
        Some(session) => session,
        None if catalog.opens_sessions(tenant) => opened(context, tenant, id).await?,
        None => {
            return refuse(format!(
                "Session `{id}` is not registered, and tenant `{tenant}` opens none by itself. Use the session you were given, or let \
                 an operator create it (toolfleet sessions create)."
            ));
        }
    };
    let Some(refusal) = session_refuses(context, &session, request, server) else {
        return Ok(None);
    };
    // The cached row may be older than the operator's last change. Only a row that was just read refuses a call.
    let fresh = Box::pin(context.sessions.read(tenant, id)).await?.map(Arc::new);
    let refusal = match fresh {
        Some(row) => {
            let refusal = session_refuses(context, &row, request, server);
            context.session_cache.put((tenant.clone(), id.clone()), row);
            refusal
        }
        // A row is removed long after its session has ended.
        None => Some(refusal),
    };
    match refusal {
        Some(SessionRefusal::Ended { at }) => {
            context.ended_sessions.add(tenant.clone(), id.clone());
            refuse(format!("Session `{id}` ended at {at}. Open a new session."))
        }
        Some(SessionRefusal::NotGranted { grants }) => {
            refuse(format!("Session `{id}` does not grant `{}`; it grants {grants}.", request.target))
        }
        None => Ok(None),
    }
}

/// Why a session refuses a call.
enum SessionRefusal {
    Ended { at: Timestamp },
    NotGranted { grants: String },
}

fn session_refuses(
    context: &WorkerContext,
    session: &SessionRow,
    request: &CallRequest,
    server: &Server,
) -> Option<SessionRefusal> {
    if session.expires_at <= context.now() {
        return Some(SessionRefusal::Ended { at: session.expires_at });
    }
    if !grants::open(&session.grants, &request.target, &server.id) {
        return Some(SessionRefusal::NotGranted { grants: session.grants.join(", ") });
    }
    None
}

/// The row of a conversation that nobody registered: it grants all and lasts as long as its calls.
async fn opened(
    context: &WorkerContext,
    tenant: &Tenant,
    id: &SessionId,
) -> Result<Arc<SessionRow>, AwsError> {
    let key = (tenant.clone(), id.clone());
    let open = async {
        let expires_at = context.now().plus_ms(RETENTION_MS);
        let row = SessionRow { expires_at, grants: vec!["*".into()], user: None };
        Ok::<_, AwsError>(match context.sessions.create(tenant, id, &row).await? {
            true => Some(Arc::new(row)),
            // Another worker met the conversation at the same moment.
            false => context.sessions.read(tenant, id).await?.map(Arc::new),
        })
    };
    let session = Box::pin(context.session_cache.learn(&key, open)).await?;
    session.ok_or_else(|| AwsError::passing("a session's row went as it was read"))
}
