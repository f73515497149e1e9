//! A call that asked for input goes on as another call, which brings the answers. Whichever gateway gets them sends it: what the handle of the
//! earlier call holds, the arguments too, is all that it needs.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};
use toolfleet_catalog::Catalog;
use toolfleet_client::{AwsError, PayloadError};
use toolfleet_core::request::{InputKind, Operation, Resume};

use crate::answer::fleet_failed;
use crate::call_request::{Asked, CallName, reading, tool_call};
use crate::gateway::Gateway;
use crate::handle::Handle;
use crate::message::{Request, RpcError};

/// The longest arguments that the id of a task or a question holds, so that the call can go on with them. Longer ones are in the bucket.
const MAX_HELD_ARGUMENTS: usize = 2_000;
/// How long the bucket may take for those.
const HELD_WITHIN: Duration = Duration::from_secs(5);

impl Gateway {
    /// Sends the call by which the call of that handle goes on with the answers to what it asked. `can_answer` is what the client can answer
    /// that waits for its end.
    pub(crate) async fn send_answers(
        &self,
        request: &Request,
        handle: &Handle,
        answers: Box<RawValue>,
        can_answer: Vec<InputKind>,
    ) -> Result<(), RpcError> {
        let earlier = &handle.call_id;
        let arguments = self.held_arguments(handle).await?;
        let catalog = self.catalog();
        let resume = Resume { call_id: earlier.clone(), input_responses: Some(answers) };
        let name = CallName::NextOfTask(earlier);
        let gone = || RpcError::invalid_params(format!("`{}` is not published any more.", handle.tool));
        let made = match self.read_again(request, &catalog, handle, &arguments) {
            Some(asked) => reading(&request.caller, asked, name, Some(&resume)),
            None => {
                let until = Instant::now() + self.limits.wait;
                let target = self.reader(&catalog, &request.caller, until).find(&handle.tool).await;
                let target = target.ok_or_else(gone)?;
                tool_call(&request.caller, &target, &arguments, name, Some(&resume))
            }
        };
        let mut call = made.map_err(|error| RpcError::invalid_params(error.to_string()))?;
        call.can_answer = Some(can_answer);
        call.session = handle.conversation(&request.caller);
        let sent = self.client.send_once(&call, request.meta.traceparent.as_deref()).await;
        sent.map(|_| self.sent_answers.note(call.key.clone())).map_err(|error| {
            let why = fleet_failed(&error, &call.key.call_id);
            match error.is_permanent() {
                true => {
                    RpcError::invalid_params("The fleet does not accept the answers; they may be too large.")
                }
                false => {
                    RpcError::internal(format!("The answers cannot be sent now: {why}. Send them again."))
                }
            }
        })
    }

    /// The handle with the arguments of its call, for the case that it goes on; without them where they are long and there is no bucket.
    pub(crate) async fn holding(
        &self,
        request: &Request,
        mut handle: Handle,
        arguments: &RawValue,
    ) -> Handle {
        if arguments.get().len() <= MAX_HELD_ARGUMENTS {
            handle.arguments = Some(arguments.get().to_owned());
        } else if self.client.payload_bucket().is_some() {
            let storing = self.client.store_arguments(arguments, &request.caller.tenant);
            let stored = timeout(HELD_WITHIN, storing).await;
            match stored.unwrap_or_else(|_| Err(AwsError::passing("no answer within the bound"))) {
                Ok(stored) => handle.arguments_ref = Some(stored),
                Err(error) => {
                    fleet_failed(&error, &handle.call_id);
                }
            }
        }
        handle
    }

    async fn held_arguments(&self, handle: &Handle) -> Result<Box<RawValue>, RpcError> {
        if let Some(stored) = &handle.arguments_ref {
            return self.client.arguments(stored).await.map_err(|error| {
                let why = fleet_failed(&error, &handle.call_id);
                match error {
                    PayloadError::Aws(_) => RpcError::internal(format!(
                        "The arguments of the call cannot be read now: {why}. Send the answers again."
                    )),
                    PayloadError::Missing(_)
                    | PayloadError::Altered { .. }
                    | PayloadError::TooLarge { .. } => {
                        RpcError::invalid_params("The arguments of the call are not stored any more.")
                    }
                }
            });
        }
        let held = handle.arguments.clone().and_then(|text| RawValue::from_string(text).ok());
        held.ok_or_else(|| {
            RpcError::invalid_params(
                "The arguments of this call are too long for it to go on; cancel it, and send the request again.",
            )
        })
    }

    /// What is asked of a server itself by the request of that handle, whose name begins with the operation; none where it calls a tool.
    fn read_again<'a>(
        &self,
        request: &Request,
        catalog: &'a Catalog,
        handle: &Handle,
        arguments: &'a RawValue,
    ) -> Option<Asked<'a>> {
        let (operation, name) = handle.tool.split_once(' ')?;
        let published = catalog.published();
        let is = |one: Operation| one.as_str() == operation;
        let (operation, found) = match () {
            () if is(Operation::PromptsGet) => {
                (Operation::PromptsGet, published.prompts().find(name).map(|(server, _)| server))
            }
            () if is(Operation::ResourcesRead) => {
                (Operation::ResourcesRead, published.resources().find(name).map(|(server, _)| server))
            }
            () => return None,
        };
        let server = found.filter(|server| self.may_ask(request, catalog, server))?;
        let timeout_ms = u64::try_from(self.limits.wait.as_millis()).unwrap_or(u64::MAX);
        Some(Asked { server: &server.id, operation, arguments, timeout_ms })
    }
}
