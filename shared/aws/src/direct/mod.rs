//! Requests that are sent without the SDK's orchestrator, which takes five sixths of the CPU of a small request.
//!
//! The few operations that every call needs are sent here first. The SDK shows how: an interceptor keeps the address, headers and credentials of
//! its last request of the operation ([`template`]), and the next requests are made after it. Whatever is not a plain success (no template yet,
//! an error, a time-out, an answer that cannot be read) is the SDK's work again: the caller repeats the request there, where retries, errors and
//! corrections of the clock are. After a failure no request of the operation is sent here for a while ([`rest`]).
//!
//! **Invariant:** an answer of this module is one of status 200 that was read whole. A caller repeats a request as the SDK does: each of the
//! operations may be executed twice.

mod rest;
mod signer;
mod template;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::retry::RetryConfig;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use tracing::debug;

use self::rest::Rest;
use self::template::{Template, Unanswered};
use crate::time_outs::{ATTEMPTS, attempts};
use crate::usage::Usage;

/// After this time a request goes through the SDK, so that a changed address or setting is seen.
const MAX_AGE: Duration = Duration::from_secs(300);
/// The longest pause before a request that failed is repeated, as in the SDK.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Nothing was sent.
    NotSent,
    /// There was an answer that is not one of this module, or no connection.
    Failed,
    /// It took the time of an attempt, or the service has more requests than it takes: it counts as an attempt.
    Attempted,
}

impl NoAnswer {
    /// How the SDK repeats the request: in all, requests that time out or are throttled are sent [`ATTEMPTS`] times.
    pub(crate) fn retry_config(self) -> RetryConfig {
        match self {
            Self::NotSent | Self::Failed => attempts(ATTEMPTS),
            Self::Attempted => attempts(ATTEMPTS - 1),
        }
    }
}

/// An SDK client of a service, and what is sent without it.
#[derive(Debug, Clone)]
pub(crate) struct Clients<C> {
    /// The SDK's client, which has the learner of `direct`.
    pub(crate) sdk: C,
    pub(crate) direct: Direct,
}

/// What the requests of one SDK client share.
#[derive(Debug, Clone)]
pub(crate) struct Direct(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    service: &'static str,
    /// The time-out of an attempt.
    attempt: Duration,
    operations: Vec<Operation>,
    usage: Usage,
}

#[derive(Debug)]
struct Operation {
    name: &'static str,
    template: ArcSwapOption<Template>,
    rest: Mutex<Rest>,
}

impl Direct {
    /// For those operations of a service.
    pub(crate) fn new(
        service: &'static str,
        attempt: Duration,
        operations: &[&'static str],
        usage: Usage,
    ) -> Self {
        let operation = |name: &&'static str| Operation {
            name,
            template: ArcSwapOption::empty(),
            rest: Mutex::default(),
        };
        let operations = operations.iter().map(operation).collect();
        Self(Arc::new(Inner { service, attempt, operations, usage }))
    }

    /// The interceptor that the SDK client needs.
    pub(crate) fn learner(&self) -> Learner {
        Learner(Arc::downgrade(&self.0))
    }

    /// What the process uses; a body asks for its units where they are counted.
    pub(crate) fn usage(&self) -> &Usage {
        &self.0.usage
    }

    /// The answer to a request with that body, which is only made if it is sent.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        operation: &str,
        body: impl FnOnce() -> Result<Vec<u8>, serde_json::Error> + Send,
    ) -> Result<T, NoAnswer> {
        let operation = self.0.operation(operation).ok_or(NoAnswer::NotSent)?;
        let template = operation.template().ok_or(NoAnswer::NotSent)?;
        let body = body().map_err(|_| NoAnswer::NotSent)?;
        let count = || self.0.usage.sent(self.0.service, operation.name);
        let (no_answer, pause) = match timeout(self.0.attempt, template.send(body, count)).await {
            Ok(Ok((200, body))) => return operation.read(&body),
            Ok(Ok((status, body))) => {
                debug!(operation.name, status, "repeated through the SDK");
                match Rejection::of(status, &body) {
                    // So will it be through the SDK, which tells why.
                    Some(Rejection::Request) => return Err(NoAnswer::Failed),
                    // The SDK obtains others.
                    Some(Rejection::Credentials) => (NoAnswer::Failed, Duration::ZERO),
                    Some(Rejection::Rate) => (NoAnswer::Attempted, pause()),
                    None => (NoAnswer::Failed, pause()),
                }
            }
            Ok(Err(Unanswered::Unsigned)) => return Err(NoAnswer::NotSent),
            Ok(Err(Unanswered::Broken(error))) => {
                debug!(operation.name, error, "repeated through the SDK");
                (NoAnswer::Failed, pause())
            }
            Err(_) => {
                debug!(operation.name, "timed out, repeated through the SDK");
                (NoAnswer::Attempted, Duration::ZERO)
            }
        };
        operation.rest().failed(Instant::now(), pause);
        tokio::time::sleep(pause).await;
        Err(no_answer)
    }
}

/// How long to wait before a request is repeated.
fn pause() -> Duration {
    MAX_PAUSE.mul_f64(fastrand::f64())
}

/// What a service rejects with status 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rejection {
    /// The request as it is.
    Request,
    /// Requests at that rate; DynamoDB has no status of its own for them.
    Rate,
    /// Credentials whose time is over.
    Credentials,
}

impl Rejection {
    fn of(status: u16, body: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Error {
            #[serde(rename = "__type", default)]
            kind: String,
        }
        if status != 400 {
            return None;
        }
        let kind = serde_json::from_slice::<Error>(body).map(|error| error.kind).unwrap_or_default();
        Some(match kind.rsplit('#').next().unwrap_or_default() {
            "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "Throttling"
            | "ThrottledException"
            | "ThrottlingException"
            | "TooManyRequestsException" => Self::Rate,
            "ExpiredToken" | "ExpiredTokenException" => Self::Credentials,
            _ => Self::Request,
        })
    }
}

impl Inner {
    fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.name == name)
    }
}

impl Operation {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn template(&self) -> Option<Arc<Template>> {
        let now = Instant::now();
        let template = self.template.load_full()?;
        (template.age(now) < MAX_AGE && !self.rest().rests(now)).then_some(template)
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, NoAnswer> {
        // The SDK takes no body for an empty object.
        let body = if body.is_empty() { b"{}" } else { body };
        match serde_json::from_slice(body) {
            Ok(answer) => {
                self.rest().succeeded(Instant::now());
                Ok(answer)
            }
            Err(_) => {
                debug!(self.name, "an answer that cannot be read, repeated through the SDK");
                self.rest().unreadable(Instant::now());
                Err(NoAnswer::Failed)
            }
        }
    }
}

/// Keeps each request of the SDK as the template of its operation. A template has the interceptors, so an interceptor does not own the
/// templates.
#[derive(Debug, Clone)]
pub(crate) struct Learner(Weak<Inner>);

#[dyn_dispatch_hint]
impl Intercept for Learner {
    fn name(&self) -> &'static str {
        "toolfleet template"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = settings.load::<Metadata>().map(Metadata::name);
        if let (Some(templates), Some(operation)) = (self.0.upgrade(), operation)
            && let Some(operation) = templates.operation(operation)
        {
            operation.template.store(Template::of(context.request(), components, settings).map(Into::into));
        }
        Ok(())
    }
}
