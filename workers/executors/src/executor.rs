//! The trait that each kind of target implements, and what the pipeline hands to it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;
use toolfleet_catalog::{InputSchema, Pin, Server};
use toolfleet_core::answer::{Answer, TaskStatus};
use toolfleet_core::definition::ShortDefinitionDigest;
use toolfleet_core::failure::{Failure, Refusal};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::outcome::Outcome;
use toolfleet_core::progress::ProgressNote;
use toolfleet_core::request::{CallRequest, OperationParams};
use toolfleet_mcp::Admit;
use url::Url;

/// Receives the progress that a target reports while a call runs.
pub type OnProgress<'a> = &'a (dyn Fn(ProgressNote) + Send + Sync);

/// A call as the pipeline has admitted it.
#[derive(Clone, Copy)]
pub struct Invocation<'a> {
    /// The server that executes it.
    pub server: &'a Arc<Server>,
    /// The request.
    pub request: &'a CallRequest,
    /// Its operation, with what the operation needs.
    pub params: &'a OperationParams,
    /// The tool's or prompt's name on the server, or the resource's address; empty for listings.
    pub name: &'a str,
    /// Whether the catalog registers the function; else the server has to list it.
    pub registered: bool,
    /// What the arguments have to fit, where the catalog says so.
    pub schema: Option<&'a InputSchema>,
    /// What the tool's definition has to be, where it is pinned.
    pub pin: Option<&'a Pin>,
    /// The earlier call that it resumes.
    pub resumed: Option<ResumedCall<'a>>,
    /// Whether running it twice does no harm.
    pub repeatable: bool,
    /// Whether the server is asked for progress. The attempt's time then counts from the last progress.
    pub progress: bool,
    /// How long one attempt may take, in milliseconds.
    pub attempt_ms: u64,
}

impl<'a> Invocation<'a> {
    /// The tenant that calls.
    pub const fn tenant(&self) -> &'a Tenant {
        &self.request.key.tenant
    }

    /// The orchestrator's session, as a text.
    pub fn session(&self) -> Option<&'a str> {
        self.request.session.as_ref().map(SessionId::as_str)
    }

    /// What the caller answers to the questions of the earlier call.
    pub fn input_responses(&self) -> Option<&'a RawValue> {
        self.request.resume.as_ref()?.input_responses.as_deref()
    }

    /// Whether it brings a task the answers that the task asked for, and is not sent as a call itself.
    pub fn answers_a_task(&self) -> bool {
        self.resumed.is_some_and(|earlier| earlier.task.is_some())
    }
}

/// What an earlier call that ended as `input_required` left for the one that resumes it.
#[derive(Debug, Clone, Copy)]
pub struct ResumedCall<'a> {
    /// The task that asked, where a task did.
    pub task: Option<&'a str>,
    /// The state to return to the server.
    pub request_state: Option<&'a str>,
}

/// How long `ready` may take.
#[derive(Debug, Clone, Copy)]
pub struct ReadyLimits {
    /// Its end.
    pub until: Instant,
    /// The call's deadline.
    pub deadline: Instant,
    /// The longest wait for a credential, or for a list of tools.
    pub longest_wait: Duration,
    /// How long a request for a list of tools may take, whichever calls wait for it.
    pub fetch_time: Duration,
    /// Whether the call may go on without hints of its server that cannot be had now.
    pub first_try: bool,
}

/// A target that is ready for a call.
#[derive(Debug)]
pub struct Ready<T> {
    /// The target, with its credentials.
    pub target: T,
    /// The short digest of the tool's definition, where the target's own definition counts.
    pub definition: Option<ShortDefinitionDigest>,
    /// Whether the target is trusted and says that running the call twice does no harm.
    pub repeatable: bool,
}

impl<T> Ready<T> {
    /// The same with another name of the target.
    pub(crate) fn map<U>(self, target: impl FnOnce(T) -> U) -> Ready<U> {
        Ready { target: target(self.target), definition: self.definition, repeatable: self.repeatable }
    }
}

/// Why a target is not ready for a call.
#[derive(Debug)]
pub enum NotReady {
    /// Its gate is closed.
    Refused(Refusal),
    /// Its credential is missing.
    Credential(Failure),
    /// The definition of its tools could not be read.
    Definition(Failure),
    /// The call ends.
    Ended(Outcome),
}

/// What an attempt, or a request about a task, goes out with.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// When it ends, whatever the target does.
    pub deadline: Instant,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// The vendor's part of the trace context.
    pub tracestate: Option<&'a str>,
    /// Receives progress.
    pub on_progress: Option<OnProgress<'a>>,
    /// Asked right before each request is sent.
    pub admit: Option<Admit<'a>>,
}

/// The task that a call has become.
#[derive(Debug, Clone, Copy)]
pub struct PolledTask<'a> {
    /// The target's name for it.
    pub handle: &'a str,
    /// Whether the answers that it waits for have still to be given.
    pub input_pending: bool,
}

/// How calls to one kind of target are executed.
pub trait Executor {
    /// A target that is ready.
    type Target: Send + Sync;

    /// Obtains what a call needs before it is claimed: credentials, and the tool as the target lists it. Nothing of the call is sent.
    fn ready(
        &self,
        call: &Invocation<'_>,
        limits: ReadyLimits,
    ) -> impl Future<Output = Result<Ready<Self::Target>, NotReady>> + Send;

    /// Checks what can be checked of the call's own parameters before an attempt.
    fn check(&self, call: &Invocation<'_>) -> Result<(), Outcome>;

    /// One attempt. It ends by its deadline; dropping it cancels the request.
    fn attempt(
        &self,
        target: &Self::Target,
        call: &Invocation<'_>,
        attempt: Attempt<'_>,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send;

    /// Gives the call's task the answers that it still waits for, or polls it. It may be repeated.
    fn poll(
        &self,
        target: &Self::Target,
        call: &Invocation<'_>,
        task: PolledTask<'_>,
        attempt: Attempt<'_>,
    ) -> impl Future<Output = Result<TaskStatus, Failure>> + Send;

    /// Asks the target to stop a task. The target decides whether it does.
    fn cancel(
        &self,
        server: &Arc<Server>,
        tenant: &Tenant,
        session: Option<&SessionId>,
        handle: &str,
        attempt: Attempt<'_>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The part of an outcome that a record can hold, where the target's answer can be given in parts. `fit` gives an outcome back if a
    /// record holds it. Without a bound (`unbounded`), only what an earlier part has given is left out.
    fn cut<F, Fut>(
        &self,
        call: &Invocation<'_>,
        outcome: Outcome,
        unbounded: bool,
        fit: F,
    ) -> impl Future<Output = Outcome> + Send
    where
        F: Fn(Outcome) -> Fut + Send + Sync,
        Fut: Future<Output = Option<Outcome>> + Send;

    /// Where requests to the target go, for traces.
    fn address(target: &Self::Target) -> &Url;
}
