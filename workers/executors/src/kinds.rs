//! All kinds of executors behind one: it sends each call to the executor of its target's kind.

use std::sync::Arc;

use toolfleet_catalog::{Server, Transport};
use toolfleet_core::answer::{Answer, TaskStatus};
use toolfleet_core::failure::Failure;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::outcome::Outcome;
use toolfleet_mcp::Endpoint;
use url::Url;

use crate::executor::{Attempt, Executor, Invocation, NotReady, PolledTask, Ready, ReadyLimits};
use crate::gate::RequestGate;
use crate::lambda::executor::{LambdaExecutor, LambdaTarget};
use crate::mcp::executor::McpExecutor;
use crate::openapi::executor::OpenApiExecutor;

/// A target that is ready, of any kind.
#[derive(Debug, Clone)]
pub enum Target {
    /// An MCP server.
    Mcp(Endpoint),
    /// A Lambda function.
    Lambda(LambdaTarget),
    /// An HTTP interface.
    OpenApi(Endpoint),
}

/// The executors of a worker.
pub struct Executors<G> {
    mcp: McpExecutor<G>,
    lambda: LambdaExecutor<G>,
    openapi: OpenApiExecutor,
}

impl<G: RequestGate> Executors<G> {
    /// One executor for each kind.
    pub fn new(mcp: McpExecutor<G>, lambda: LambdaExecutor<G>) -> Self {
        let (client, endpoints) = (mcp.client().clone(), Arc::clone(mcp.endpoints()));
        Self { openapi: OpenApiExecutor::new(client, endpoints, mcp.schemas().clone()), mcp, lambda }
    }

    /// The executor of MCP servers, for what only MCP has: its sessions, its programs.
    pub const fn mcp(&self) -> &McpExecutor<G> {
        &self.mcp
    }

    /// Forgets all lists of tools: the catalog that they were asked under is another one now.
    pub fn forget_lists(&self) {
        self.mcp.forget_lists();
        self.lambda.forget_lists();
    }
}

impl<G: RequestGate> Executor for Executors<G> {
    type Target = Target;

    async fn ready(&self, call: &Invocation<'_>, limits: ReadyLimits) -> Result<Ready<Target>, NotReady> {
        match &call.server.transport {
            Transport::Http(_) | Transport::Stream(_) | Transport::Stdio(_) => {
                self.mcp.ready(call, limits).await.map(|ready| ready.map(Target::Mcp))
            }
            Transport::Lambda(_) => {
                Box::pin(self.lambda.ready(call, limits)).await.map(|ready| ready.map(Target::Lambda))
            }
            Transport::OpenApi(_) => {
                self.openapi.ready(call, limits).await.map(|ready| ready.map(Target::OpenApi))
            }
        }
    }

    fn check(&self, call: &Invocation<'_>) -> Result<(), Outcome> {
        match &call.server.transport {
            Transport::Http(_) | Transport::Stream(_) | Transport::Stdio(_) => self.mcp.check(call),
            Transport::Lambda(_) => self.lambda.check(call),
            Transport::OpenApi(_) => self.openapi.check(call),
        }
    }

    async fn attempt(
        &self,
        target: &Target,
        call: &Invocation<'_>,
        attempt: Attempt<'_>,
    ) -> Result<Answer, Failure> {
        match target {
            Target::Mcp(endpoint) => self.mcp.attempt(endpoint, call, attempt).await,
            Target::Lambda(function) => Box::pin(self.lambda.attempt(function, call, attempt)).await,
            Target::OpenApi(endpoint) => Box::pin(self.openapi.attempt(endpoint, call, attempt)).await,
        }
    }

    async fn poll(
        &self,
        target: &Target,
        call: &Invocation<'_>,
        task: PolledTask<'_>,
        attempt: Attempt<'_>,
    ) -> Result<TaskStatus, Failure> {
        match target {
            Target::Mcp(endpoint) => self.mcp.poll(endpoint, call, task, attempt).await,
            Target::Lambda(function) => self.lambda.poll(function, call, task, attempt).await,
            Target::OpenApi(endpoint) => self.openapi.poll(endpoint, call, task, attempt).await,
        }
    }

    async fn cancel(
        &self,
        server: &Arc<Server>,
        tenant: &Tenant,
        session: Option<&SessionId>,
        handle: &str,
        attempt: Attempt<'_>,
    ) -> Result<(), Failure> {
        match &server.transport {
            Transport::Http(_) | Transport::Stream(_) | Transport::Stdio(_) => {
                self.mcp.cancel(server, tenant, session, handle, attempt).await
            }
            Transport::Lambda(_) => self.lambda.cancel(server, tenant, session, handle, attempt).await,
            Transport::OpenApi(_) => self.openapi.cancel(server, tenant, session, handle, attempt).await,
        }
    }

    async fn cut<F, Fut>(&self, call: &Invocation<'_>, outcome: Outcome, unbounded: bool, fit: F) -> Outcome
    where
        F: Fn(Outcome) -> Fut + Send + Sync,
        Fut: Future<Output = Option<Outcome>> + Send,
    {
        match &call.server.transport {
            Transport::Http(_) | Transport::Stream(_) | Transport::Stdio(_) => {
                self.mcp.cut(call, outcome, unbounded, fit).await
            }
            Transport::Lambda(_) => self.lambda.cut(call, outcome, unbounded, fit).await,
            Transport::OpenApi(_) => self.openapi.cut(call, outcome, unbounded, fit).await,
        }
    }

    fn address(target: &Target) -> &Url {
        match target {
            Target::Mcp(endpoint) => McpExecutor::<G>::address(endpoint),
            Target::Lambda(function) => LambdaExecutor::<G>::address(function),
            Target::OpenApi(endpoint) => OpenApiExecutor::address(endpoint),
        }
    }
}
