//! Asks clients before 2026-07-28 for input: by requests of the gateway on the event stream of the response that the client waits for. Its answers
//! come by POSTs of their own, to any gateway ([`crate::take_answer`]), which sends the call that goes on with them. The gateway that asked sees
//! that call by its row, and answers the client with its end.
//!
//! **Invariant:** the id of a question holds all that its answer needs, and opens for the caller alone that was asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_client::{CallResult, Cancelled, WaitError};
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::InputKind;
use toolfleet_mcp_protocol::{ProtocolVersion, Request as Notification, meta_key, method};

use crate::answer::{described, error_result, fleet_failed, not_asked, unreadable_result};
use crate::gateway::Gateway;
use crate::handle::{Handle, Purpose};
use crate::input::Earlier;
use crate::message::{Answer, Members, Notifications, Request, RpcError, raw};
use crate::per_caller::MOST_LASTING;
use crate::progress::ProgressReporter;
use crate::tasks::{MAX_ROUNDS, next_of, unreadable};
use crate::wait::Waited;

/// What the id of a question holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Question {
    /// The call that asks.
    #[serde(rename = "h")]
    pub(crate) handle: Handle,
    /// Which of its questions it is.
    #[serde(rename = "k")]
    pub(crate) key: String,
    /// What the client can answer that waits for the call's end.
    #[serde(rename = "i", default)]
    pub(crate) can_answer: Option<Vec<InputKind>>,
}

/// Where a client is asked: within the response to its request.
pub(crate) struct Asking<'a> {
    pub(crate) request: &'a Request,
    pub(crate) notifications: &'a Notifications,
    /// The id of the task that asks, where it is one.
    pub(crate) task: Option<&'a str>,
}

/// What became of a call that asked for input.
pub(crate) enum Asked {
    /// It went on, and has ended.
    Ended(Box<CallResult>, Handle),
    /// The client cannot be asked.
    Hindered(Box<CallResult>, String),
    /// It does not go on.
    Dismissed(Box<CallResult>, &'static str),
    /// It went on, or may still: nobody waits longer.
    Open(Handle, &'static str),
    /// Its end cannot be read.
    Failed(WaitError, Handle),
}

/// The answer of a question that ends the call instead of going on with it.
const NOT_ANSWERED: &str = "The tool asked for input, and the client answered with an error, or the call was cancelled. The call does not go on.";
const TOO_LATE: &str = "The tool asked for input, and no answer came in time. The call does not go on.";

impl Gateway {
    /// Asks the client, and answers a request for a tool's result with the end of the call that goes on.
    pub(crate) async fn asked(
        &self,
        asking: &Asking<'_>,
        handle: Handle,
        result: CallResult,
        progress: &mut ProgressReporter<'_>,
    ) -> Answer {
        let request = asking.request;
        match self.ask_and_wait(asking, handle, Box::new(result), progress).await? {
            Asked::Ended(result, handle) => self.ended(request, &result, &handle),
            Asked::Hindered(result, why) => Ok(not_asked(&why, &result.outcome, request)),
            Asked::Dismissed(result, text) => {
                let mut outcome = described(&result.outcome);
                if let Some(members) = outcome.as_object_mut() {
                    members.insert("outcome".to_owned(), json!(OutcomeKind::Cancelled));
                    members.remove("code");
                }
                Ok(error_result(text, outcome, request))
            }
            Asked::Open(handle, text) => Ok(self.with_handle(request, &handle, text, true)),
            Asked::Failed(WaitError::Unreadable(error), handle) => {
                Ok(unreadable_result(&error, &handle, request))
            }
            Asked::Failed(error @ (WaitError::Aws(_) | WaitError::TimeOut { .. }), handle) => {
                fleet_failed(&error, &handle.call_id);
                let text = "The call goes on with the client's answers, and its result cannot be read now.";
                Ok(self.with_handle(request, &handle, text, true))
            }
        }
    }

    /// Asks the client what the call asks, and waits for the call that goes on with its answers, as often as that asks again.
    pub(crate) async fn ask_and_wait(
        &self,
        asking: &Asking<'_>,
        mut handle: Handle,
        mut result: Box<CallResult>,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<Asked, RpcError> {
        let request = asking.request;
        // The wait for the result of a task is counted already.
        let is_counted = asking.task.is_some();
        let counted = if is_counted { None } else { self.lasting.count(&request.caller) };
        if counted.is_none() && !is_counted {
            return Ok(Asked::Hindered(result, format!("it has {MOST_LASTING} requests that last already")));
        }
        for _ in 0..MAX_ROUNDS {
            let earlier = Earlier::of(handle.clone(), &result.outcome)?;
            if let Some(why) = self.hindrance(asking, &handle, &earlier) {
                return Ok(Asked::Hindered(result, why));
            }
            let next = next_of(request, &handle.key(&request.caller))?;
            let entry = self.in_flight.enter(request, &next, false);
            let going_on = handle.clone().next(next.call_id.clone(), self.now());
            let questions = self.ask_unless_answered(asking, &handle, &earlier, &next).await?;
            let until = Instant::now() + self.limits.answered_within;
            let until = self.ends_for(&request.caller).map_or(until, |ends| ends.min(until));
            let once_received = Some(self.limits.wait);
            let waited = self.wait_until(request, &going_on, until, once_received, progress).await;
            entry.ended();
            match waited {
                Ok(Waited::Ended(ended)) if ended.outcome.kind == OutcomeKind::InputRequired => {
                    (handle, result) = (going_on, ended);
                }
                Ok(Waited::Ended(ended)) => return Ok(Asked::Ended(ended, going_on)),
                Ok(Waited::NeverRuns) => {
                    questions.withdraw(asking);
                    return Ok(Asked::Dismissed(result, NOT_ANSWERED));
                }
                Ok(Waited::Open) => {
                    return Ok(Asked::Open(going_on, "The call has its answers, and goes on."));
                }
                Ok(Waited::NotReceived) if self.draining.is_cancelled() => {
                    let text = "The gateway stops. The tool has asked for input; the call goes on when that is given.";
                    return Ok(Asked::Open(handle, text));
                }
                Ok(Waited::NotReceived) => {
                    questions.withdraw(asking);
                    return Ok(self.give_up(handle, result, going_on, &next).await);
                }
                Err(error) => return Ok(Asked::Failed(error, going_on)),
            }
        }
        Ok(Asked::Hindered(result, format!("it was asked {MAX_ROUNDS} times")))
    }

    /// Why the client cannot be asked.
    fn hindrance(&self, asking: &Asking<'_>, handle: &Handle, earlier: &Earlier) -> Option<String> {
        if asking.notifications.is_none() {
            return Some("it takes no event stream".to_owned());
        }
        if handle.arguments.is_none() && handle.arguments_ref.is_none() {
            return Some("the arguments are too long for the call to go on".to_owned());
        }
        if !earlier.is_of_known_methods() {
            return Some("its protocol version has no such question".to_owned());
        }
        if let Some(missing) = earlier.missing_capabilities(asking.request) {
            return Some(format!("it did not declare what that needs ({missing})"));
        }
        (earlier.requests().len() > 1 && self.client.payload_bucket().is_none()).then(|| {
            "several things are asked at once, and the fleet has no bucket for the answers".to_owned()
        })
    }

    /// Sends what the call asks, unless it went on before.
    async fn ask_unless_answered(
        &self,
        asking: &Asking<'_>,
        handle: &Handle,
        earlier: &Earlier,
        next: &CallKey,
    ) -> Result<Questions, RpcError> {
        let request = asking.request;
        let mut questions = Questions::default();
        let row = self.client.row_without_result(next).await.map_err(|error| unreadable(&error, next))?;
        if row.is_some() {
            return Ok(questions);
        }
        if earlier.requests().is_empty() {
            // Only its state is to come back.
            self.send_answers(request, handle, raw(&json!({})), request.can_answer()).await?;
        }
        for (key, asked) in earlier.requests() {
            let can_answer = Some(request.can_answer());
            let question = Question { handle: handle.clone(), key: key.clone(), can_answer };
            let id = self.sealer.seal_as(Purpose::Question, &request.caller, &question);
            let id = id.ok_or_else(|| RpcError::internal("the id of a question cannot be encrypted"))?;
            asking.send(&message(&id, asked, request.version, asking.task));
            questions.0.push(id);
        }
        Ok(questions)
    }

    /// Nobody has answered: what still comes is too late, unless it has come just now.
    async fn give_up(
        &self,
        handle: Handle,
        result: Box<CallResult>,
        going_on: Handle,
        next: &CallKey,
    ) -> Asked {
        match self.client.cancel(next).await {
            Ok(Cancelled::Ahead | Cancelled::Ended) => Asked::Dismissed(result, TOO_LATE),
            Ok(Cancelled::Noted | Cancelled::TooLate) => {
                Asked::Open(going_on, "The call has its answers, and was not waited for longer.")
            }
            Err(error) => {
                fleet_failed(&error, &next.call_id);
                Asked::Open(handle, "The tool asked for input, and no answer came in time.")
            }
        }
    }
}

impl Asking<'_> {
    fn send(&self, message: &impl Serialize) {
        if let Some(notifications) = self.notifications {
            // Nobody listens any more: the request is dropped soon.
            let _gone = notifications.unbounded_send(raw(message).get().replace(['\n', '\r'], " "));
        }
    }
}

/// The ids of what was asked.
#[derive(Default)]
struct Questions(Vec<String>);

impl Questions {
    /// Tells the client that nobody waits for the answers.
    fn withdraw(&self, asking: &Asking<'_>) {
        for id in &self.0 {
            let params = json!({"requestId": id, "reason": "the call does not go on"});
            asking.send(&Notification::notification(method::CANCELLED, Some(params)));
        }
    }
}

/// A question as a request of its version.
fn message(
    id: &str,
    asked: &RawValue,
    version: ProtocolVersion,
    task: Option<&str>,
) -> BTreeMap<&'static str, Box<RawValue>> {
    let mut asked: Members = serde_json::from_str(asked.get()).unwrap_or_default();
    let params = asked.remove("params").and_then(|params| serde_json::from_str::<Members>(params.get()).ok());
    let mut params = params.unwrap_or_default();
    if version < ProtocolVersion::V2025_11_25 {
        // Forms are the only mode there.
        params.remove("mode");
    }
    if let Some(task) = task {
        let meta = params.get("_meta").and_then(|meta| serde_json::from_str::<Members>(meta.get()).ok());
        let mut meta = meta.unwrap_or_default();
        meta.insert(meta_key::RELATED_TASK.to_owned(), raw(&json!({ "taskId": task })));
        params.insert("_meta".to_owned(), raw(&meta));
    }
    let method = asked.remove("method").unwrap_or_else(|| raw(&Value::Null));
    [("jsonrpc", raw(&"2.0")), ("id", raw(&id)), ("method", method), ("params", raw(&params))].into()
}
