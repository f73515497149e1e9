//! The tools that a function lists, in the payload forms that carry MCP.
//!
//! **Invariant:** no tool runs here, so no failure says that one may have.

use std::fmt;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use toolfleet_catalog::{LambdaTransport, Server};
use toolfleet_core::failure::Failure;
use toolfleet_core::function::Event;
use toolfleet_core::ids::Tenant;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_mcp::{Fault, NotSentCause, SingleError, SingleForm, SingleList, ToolList};

use super::context::list_context;
use super::ports::LambdaInvoke;
use super::sessions::{Owner, Sessions};
use super::{failure, function_error};
use crate::mcp::failure::failure_of;
use crate::mcp::tool_list::ListSource;

/// The list of a function, for one tenant.
#[derive(Clone)]
pub(super) struct FunctionList {
    pub(super) lambda: Arc<dyn LambdaInvoke>,
    pub(super) server: Arc<Server>,
    pub(super) function: LambdaTransport,
    pub(super) form: SingleForm,
    pub(super) tenant: Tenant,
    pub(super) sessions: Arc<Sessions>,
    /// Whose session it is, where the function asks for one.
    pub(super) owner: Owner,
    /// The largest answer that is read, and the most bytes of all pages.
    pub(super) most_bytes: u64,
}

impl fmt::Debug for FunctionList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionList").field("server", &self.server.id).finish_non_exhaustive()
    }
}

impl FunctionList {
    /// Invokes the function with an event that runs no tool.
    async fn send(&self, payload: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let event = Event { payload, client_context: Some(list_context(&self.tenant)), durable_name: None };
        let answer = self.lambda.invoke(&self.function, event).await;
        let answer = answer.map_err(|fault| failure::of_invoke(&fault))?;
        failure::check_size(&answer.payload, self.most_bytes)?;
        match answer.function_error {
            None => Ok(answer.payload),
            Some(_) => Err(match function_error::meaning(&answer.payload) {
                Err(failure) => failure,
                Ok(reported) => failure::list_refused(reported.error.as_ref().map_or("", |why| &why.message)),
            }),
        }
    }
}

impl ListSource for FunctionList {
    async fn list(&self, deadline: Instant) -> Result<ToolList, Failure> {
        let (form, server) = (self.form, &self.server.id);
        let list = SingleList { form, server, traceparent: None, tracestate: None };
        let invoke = |payload| self.send(payload);
        let send = |event| self.sessions.carry(self.owner.clone(), form, event, &invoke);
        match timeout_at(deadline, list.tools(self.most_bytes, &send)).await {
            Ok(Ok(list)) => Ok(list),
            Ok(Err(error)) => Err(failure_of_list(error)),
            Err(_) => Err(not_sent("its list of tools did not come in time", NotSentCause::Time)),
        }
    }

    fn state(&self) -> String {
        String::new()
    }
}

/// What a list that did not come means: whatever the function did, no tool ran.
fn failure_of_list(error: SingleError<Failure>) -> Failure {
    match error {
        SingleError::Fault(fault) => failure_of(&fault),
        SingleError::NotCarried(failure) if failure.may_have_run == MayHaveRun::No => failure,
        SingleError::NotCarried(failure) => {
            not_sent(&format!("while listing the server's tools: {}", failure.detail), NotSentCause::Answer)
        }
    }
}

fn not_sent(detail: &str, cause: NotSentCause) -> Failure {
    failure_of(&Fault::NotSent { detail: detail.to_owned(), cause })
}
