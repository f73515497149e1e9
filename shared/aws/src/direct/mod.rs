//! Requests that are sent without the SDK's orchestrator, which takes five sixths of the CPU of a small request.
//!
//! The few operations that every call needs are sent here first. The SDK shows how: an interceptor keeps the address, headers and credentials of
//! its last request of the operation ([`template`]), and the next requests are made after it. Whatever is not a plain success (no template yet,
//! an error, a time-out, an answer that cannot be read) is the SDK's work again: the caller repeats the request there, where retries, errors and
//! corrections of the clock are. After a failure no request is sent here for a while ([`rest`]).
//!
//! **Invariant:** an answer of this module is one of status 200 that was read whole. A request that was sent counts as the first attempt of its
//! caller.

mod rest;
mod template;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

pub(crate) use self::template::Learner;

use self::rest::Rest;
use self::template::Template;
use crate::retry_pause::retry_pause;
use crate::usage::Usage;

/// After this time a request goes through the SDK, so that a changed address or setting is seen.
const MAX_AGE: Duration = Duration::from_secs(300);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Nothing was sent.
    NotSent,
    /// The request may have been executed.
    Failed,
}

/// What the requests of one SDK client share.
#[derive(Debug, Clone)]
pub(crate) struct Direct(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    service: &'static str,
    /// The time-out of an attempt.
    attempt: Duration,
    templates: Vec<(&'static str, ArcSwapOption<Template>)>,
    rest: Mutex<Rest>,
    usage: Usage,
}

/// The SDK clients of a service, and what is sent without them.
#[derive(Debug, Clone)]
pub(crate) struct Clients<C> {
    first: C,
    /// The same with an attempt less.
    repeat: C,
    direct: Direct,
}

impl<C> Clients<C> {
    /// `repeat` makes an attempt less than `first`; both have the learner of `direct`.
    pub(crate) const fn new(first: C, repeat: C, direct: Direct) -> Self {
        Self { first, repeat, direct }
    }

    /// The SDK's client.
    pub(crate) const fn first(&self) -> &C {
        &self.first
    }

    /// What sends without the SDK.
    pub(crate) const fn direct(&self) -> &Direct {
        &self.direct
    }

    /// The SDK's client for a request that has no answer yet.
    pub(crate) const fn sdk(&self, why: NoAnswer) -> &C {
        match why {
            NoAnswer::NotSent => &self.first,
            NoAnswer::Failed => &self.repeat,
        }
    }
}

impl Direct {
    /// For those operations of a service.
    pub(crate) fn new(
        service: &'static str,
        attempt: Duration,
        operations: &[&'static str],
        usage: Usage,
    ) -> Self {
        let templates = operations.iter().map(|name| (*name, ArcSwapOption::empty())).collect();
        Self(Arc::new(Inner { service, attempt, templates, rest: Mutex::default(), usage }))
    }

    /// The interceptor that the SDK client needs.
    pub(crate) fn learner(&self) -> Learner {
        Learner(self.clone())
    }

    /// The answer to a request with that body, which is only made if it is sent.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        operation: &str,
        body: impl FnOnce() -> Result<Vec<u8>, serde_json::Error> + Send,
    ) -> Result<T, NoAnswer> {
        let template = self.template(operation).ok_or(NoAnswer::NotSent)?;
        let body = body().map_err(|_| NoAnswer::NotSent)?;
        if self.0.usage.is_on() {
            self.0.usage.sent(self.0.service, operation);
        }
        let answer = match timeout(self.0.attempt, template.send(body)).await {
            Ok(Some((200, body))) => serde_json::from_slice(&body).ok(),
            Ok(Some((_, _))) => {
                tokio::time::sleep(retry_pause(0)).await;
                None
            }
            Ok(None) | Err(_) => None,
        };
        let mut rest = self.0.rest.lock().unwrap_or_else(PoisonError::into_inner);
        match &answer {
            Some(_) => rest.succeeded(),
            None => rest.failed(Instant::now()),
        }
        answer.ok_or(NoAnswer::Failed)
    }

    /// Whether units are asked for.
    pub(crate) fn usage(&self) -> &Usage {
        &self.0.usage
    }

    fn slot(&self, operation: &str) -> Option<&ArcSwapOption<Template>> {
        self.0.templates.iter().find(|(name, _)| *name == operation).map(|(_, slot)| slot)
    }

    fn template(&self, operation: &str) -> Option<Arc<Template>> {
        let now = Instant::now();
        let template = self.slot(operation)?.load_full()?;
        let is_usable = template.age(now) < MAX_AGE
            && !self.0.rest.lock().unwrap_or_else(PoisonError::into_inner).rests(now);
        is_usable.then_some(template)
    }
}
