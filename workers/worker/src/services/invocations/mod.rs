//! Takes messages from invocations of a Lambda function, in place of the intake: Lambda receives them, and deletes those that the response
//! does not name. It asks Lambda's runtime API for the next invocation, as often at once as the environment may have invocations.
//!
//! Where Lambda manages instances, the environment has several invocations at once and is never frozen: the worker's other services run, too.
//! Elsewhere it has one, and is frozen as soon as that is answered: no service runs, and what must not be lost or outdated is done before and
//! after the calls of an invocation (`between`).

mod between;
mod invocation;
mod runtime_api;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use toolfleet_config::catalog::CatalogConfig;

use super::Service;
use super::intake::Calls;
use crate::backoff;
use crate::config::LambdaConfig;
use crate::context::WorkerContext;
use crate::shutdown::Shutdown;
use crate::telemetry::Flush;
use between::Between;
use runtime_api::Invoked;
pub use runtime_api::{RuntimeApi, RuntimeApiError};

/// The service that runs the calls of invocations.
pub struct Invocations {
    context: Arc<WorkerContext>,
    calls: Calls,
    api: RuntimeApi,
    at_once: u32,
    /// What is done between invocations of an environment that is frozen there.
    between: Option<Between>,
}

impl Invocations {
    /// The invocations of that function. `catalog` is read again where no service does.
    ///
    /// # Errors
    /// The client of the runtime API cannot be built.
    pub fn new(
        context: &Arc<WorkerContext>,
        config: &LambdaConfig,
        catalog: Option<CatalogConfig>,
        flush: Option<Flush>,
    ) -> Result<Self, RuntimeApiError> {
        let frozen = config.at_once.is_none();
        if frozen {
            // Nobody else's write comes while one invocation waits, and its time is paid for.
            context.send_at_once();
        }
        Ok(Self {
            calls: Calls::new(context),
            api: RuntimeApi::at(&config.runtime_api)?,
            at_once: config.at_once.unwrap_or(1),
            between: frozen.then(|| Between::new(context, catalog, flush)),
            context: Arc::clone(context),
        })
    }

    /// Whether nothing runs between two invocations.
    pub const fn is_frozen_between(&self) -> bool {
        self.between.is_some()
    }

    /// One invocation after the other, until the worker drains.
    async fn take(&self, shutdown: &Shutdown) {
        let mut failures = 0;
        loop {
            let next = tokio::select! {
                biased;
                () = shutdown.draining() => return,
                next = self.api.next() => next,
            };
            match next {
                Ok(invoked) => {
                    failures = 0;
                    self.answer(&invoked).await;
                }
                Err(error) => {
                    failures += 1;
                    tracing::error!(%error, failures, code = "runtime_api_failed", "no invocation can be taken; trying again");
                    let pause = Duration::from_millis(backoff::after_tries(failures).min(10_000));
                    tokio::select! {
                        () = shutdown.draining() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Runs the calls of an invocation and answers it.
    async fn answer(&self, invoked: &Invoked) {
        if let Some(between) = &self.between {
            between.before().await;
        }
        let ran = Box::pin(invocation::run(&self.calls, &self.context, invoked)).await;
        if let Some(between) = &self.between {
            between.after().await;
        }
        let answered = match &ran {
            Ok(response) => self.api.respond(&invoked.id, response).await,
            Err(error) => {
                tracing::error!(%error, request_id = invoked.id, code = "invocation_failed", "an invocation fails; its messages stay in their queue");
                self.api.fail(&invoked.id, error.kind(), &error.to_string()).await
            }
        };
        if let Err(error) = answered {
            // Lambda takes it for failed: its messages are received again, and the rows of their calls say that they have ended.
            tracing::error!(%error, request_id = invoked.id, code = "runtime_api_failed", "the response to an invocation is lost");
        }
    }
}

impl Service for Invocations {
    fn name(&self) -> &'static str {
        "invocations"
    }

    async fn run(&self, shutdown: &Shutdown) {
        join_all((0..self.at_once).map(|_| self.take(shutdown))).await;
    }
}
