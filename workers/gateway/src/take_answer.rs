//! Takes the answers of clients before 2026-07-28 to what they were asked ([`crate::questions`]). The gateway that gets the last answer sends the
//! call that goes on; it need not be the one that asked.
//!
//! **Invariant:** the first answer stands. One that comes again, or after the call went on or was cancelled, changes nothing.

use axum::http::StatusCode;
use serde_json::value::RawValue;
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::InputKind;
use toolfleet_mcp_protocol::error_code;

use crate::answer::{ended_row, fleet_failed};
use crate::gateway::Gateway;
use crate::handle::{Handle, Purpose};
use crate::input::{ANSWERS_WITHIN_MS, Earlier};
use crate::message::{Members, Request, RpcError, raw};
use crate::questions::Question;
use crate::tasks::{next_of, unreadable};

/// Where an answer waits for the others of its call.
fn name_of(handle: &Handle, key: &str) -> String {
    let call = handle.call_id.as_str();
    Digest::of_text(&format!("{}:{call}{key}", call.len())).as_str().to_owned()
}

fn refused(text: &str) -> RpcError {
    RpcError::new(StatusCode::BAD_REQUEST, error_code::INVALID_REQUEST, text)
}

/// The client may send it again where the fleet did not take it.
fn as_response(error: RpcError) -> RpcError {
    let is_of_client = matches!(error.code, error_code::INVALID_PARAMS | error_code::INVALID_REQUEST);
    let status = if is_of_client { StatusCode::BAD_REQUEST } else { StatusCode::SERVICE_UNAVAILABLE };
    RpcError { status, ..error }
}

impl Gateway {
    /// Takes the answer to a question.
    pub(crate) async fn take_answer(&self, request: &Request) -> Result<(), RpcError> {
        let id = request.inbound.id.as_deref().and_then(|id| serde_json::from_str::<String>(id.get()).ok());
        let question =
            id.and_then(|id| self.sealer.open_as::<Question>(Purpose::Question, &request.caller, &id));
        let Some(Question { handle, key, can_answer }) = question else {
            return Err(refused("nobody has asked you this: the id is of no request of this gateway to you"));
        };
        if self.now().ms_since(handle.given_at()) > ANSWERS_WITHIN_MS {
            return Err(refused("the question is older than a day"));
        }
        // What the client can be asked is said where it waits: the request that brings the answer may be without a session, or in a batch.
        let can_answer = can_answer.unwrap_or_else(|| request.can_answer());
        Box::pin(self.go_on_with(request, handle, &key, can_answer)).await.map_err(as_response)
    }

    async fn go_on_with(
        &self,
        request: &Request,
        handle: Handle,
        key: &str,
        can_answer: Vec<InputKind>,
    ) -> Result<(), RpcError> {
        let next = next_of(request, &handle.key(&request.caller))?;
        let row = self.client.row_without_result(&next).await.map_err(|error| unreadable(&error, &next))?;
        if row.is_some() {
            return Ok(());
        }
        let is_error = request.inbound.error.as_deref().is_some_and(|error| error.get() != "null");
        let Some(result) = request.inbound.result.as_deref().filter(|_| !is_error) else {
            return self.end_call(&next).await;
        };
        if !result.get().starts_with('{') {
            return Err(RpcError::invalid_params("`result` is no object"));
        }
        let earlier = self.call_that_asks(request, &handle).await?;
        if !earlier.requests().contains_key(key) {
            return Err(RpcError::invalid_params("the call does not ask this"));
        }
        let given = [(key.to_owned(), result.to_owned())].into();
        let Some(answers) = self.with_others(request, &earlier, given).await? else { return Ok(()) };
        let sent = self.send_answers(request, &handle, raw(&answers), can_answer).await;
        if let Err(error) = &sent
            && error.code == error_code::INVALID_PARAMS
        {
            // It can never go on: who waits is told so.
            self.end_call(&next).await?;
        }
        sent
    }

    /// The call does not go on: the call that would is cancelled before it is sent.
    async fn end_call(&self, next: &CallKey) -> Result<(), RpcError> {
        self.client.cancel(next).await.map(drop).map_err(|error| unreadable(&error, next))
    }

    /// Sends the call that goes on where all its answers are stored and it is not known: the gateway that stored the last one may have died
    /// before it sent the call. Says how the task is then, and why.
    pub(crate) async fn go_on_with_stored(
        &self,
        request: &Request,
        handle: &Handle,
        answers: Members,
    ) -> Result<(&'static str, String), RpcError> {
        let next = next_of(request, &handle.key(&request.caller))?;
        let goes_on = || Ok(("working", "The call goes on with the answers.".to_owned()));
        if self.sent_answers.has(&next) {
            return goes_on();
        }
        match self.send_answers(request, handle, raw(&answers), request.can_answer()).await {
            Ok(()) => goes_on(),
            Err(error) if error.code == error_code::INVALID_PARAMS => {
                self.end_call(&next).await?;
                Ok(("cancelled", error.message))
            }
            Err(_) => {
                Ok(("working", "The call goes on with the answers once the fleet takes it.".to_owned()))
            }
        }
    }

    async fn call_that_asks(&self, request: &Request, handle: &Handle) -> Result<Earlier, RpcError> {
        let unreadable = |error: &dyn std::fmt::Display| unreadable(error, &handle.key(&request.caller));
        let row = self.row_of(handle, request).await.map_err(|error| unreadable(&error))?;
        let row = row.ok_or_else(|| RpcError::invalid_params("the call that asked is not known any more"))?;
        let row = self.filled(row).await.map_err(|error| unreadable(&error))?;
        match ended_row(row) {
            Some(result) if result.outcome.kind == OutcomeKind::InputRequired => {
                Earlier::of(handle.clone(), &result.outcome)
            }
            Some(_) | None => Err(RpcError::invalid_params("the call does not ask for input")),
        }
    }

    /// All answers of the call, once there are all: those that came before are in the bucket, encrypted for their caller.
    pub(crate) async fn with_others(
        &self,
        request: &Request,
        earlier: &Earlier,
        given: Members,
    ) -> Result<Option<Members>, RpcError> {
        let asked = earlier.requests().len();
        if given.len() == asked {
            return Ok(Some(given));
        }
        for (key, answer) in &given {
            self.store_answer(request, earlier.handle(), key, answer).await?;
        }
        let answers = self.stored_answers(request, earlier).await?;
        Ok((answers.len() == asked).then_some(answers))
    }

    async fn store_answer(
        &self,
        request: &Request,
        handle: &Handle,
        key: &str,
        answer: &RawValue,
    ) -> Result<(), RpcError> {
        let sealed = self.sealer.seal_as(Purpose::Answer, &request.caller, &answer);
        let sealed = sealed.ok_or_else(|| RpcError::internal("the answer cannot be encrypted"))?;
        let stored = self.client.store_answer(&request.caller.tenant, &name_of(handle, key), sealed).await;
        stored.map_err(|error| unstored(&error, handle))
    }

    /// The answers to what the call asks that wait for others.
    pub(crate) async fn stored_answers(
        &self,
        request: &Request,
        earlier: &Earlier,
    ) -> Result<Members, RpcError> {
        let (handle, tenant) = (earlier.handle(), &request.caller.tenant);
        let mut answers = Members::new();
        if self.client.payload_bucket().is_none() || earlier.requests().len() <= 1 {
            return Ok(answers);
        }
        for key in earlier.requests().keys() {
            let stored = self.client.answer(tenant, &name_of(handle, key)).await;
            let Some(sealed) = stored.map_err(|error| unstored(&error, handle))? else { continue };
            let answer = self.sealer.open_long::<Box<RawValue>>(Purpose::Answer, &request.caller, &sealed);
            let answer = answer.ok_or_else(|| RpcError::internal("a stored answer cannot be read"))?;
            answers.insert(key.clone(), answer);
        }
        Ok(answers)
    }
}

fn unstored(error: &dyn std::fmt::Display, handle: &Handle) -> RpcError {
    RpcError::internal(format!(
        "the answer is not stored: {}; send it again",
        fleet_failed(error, &handle.call_id)
    ))
}
