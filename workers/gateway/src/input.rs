//! Calls that ask for input before they go on: what they ask, and for clients of 2026-07-28 the question and the call that brings the answers.
//!
//! The state that a client carries is a handle of the earlier call. The server's own state stays in the call's row.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use toolfleet_client::WaitError;
use toolfleet_core::ids::{CallId, SessionId};
use toolfleet_core::outcome::{Outcome, OutcomeKind};
use toolfleet_core::request::Resume;
use toolfleet_mcp_protocol::result_type;

use crate::answer::{ended_row, fleet_failed};
use crate::call_request::CallName;
use crate::gateway::Gateway;
use crate::handle::{Handle, Purpose};
use crate::message::{Answer, Members, Request, RpcError, finish_result, raw};

/// How long the answers may take, in milliseconds.
pub(crate) const ANSWERS_WITHIN_MS: u64 = 24 * 60 * 60 * 1000;

/// A call that asks for input.
#[derive(Debug)]
pub(crate) struct Earlier {
    handle: Handle,
    /// What it asks, by key.
    requests: Members,
}

impl Earlier {
    /// The call of that handle, which has ended so.
    pub(crate) fn of(handle: Handle, outcome: &Outcome) -> Result<Self, RpcError> {
        let members =
            outcome.content().and_then(|content| serde_json::from_str::<Members>(content.get()).ok());
        let requests = members.as_ref().and_then(|members| members.get("inputRequests"));
        let requests = requests
            .map_or_else(|| Some(Members::new()), |requests| serde_json::from_str(requests.get()).ok());
        let requests = requests.ok_or_else(|| RpcError::internal("what the tool asks for cannot be read"))?;
        Ok(Self { handle, requests })
    }

    const fn call_id(&self) -> &CallId {
        &self.handle.call_id
    }

    /// The handle of the call.
    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What it asks, by key.
    pub(crate) const fn requests(&self) -> &Members {
        &self.requests
    }

    /// The answers to what it asks, without any others; none if one is missing.
    pub(crate) fn answers(&self, given: Option<&RawValue>) -> Result<Option<Box<RawValue>>, RpcError> {
        let kept = self.known(given)?;
        Ok((kept.len() == self.requests.len()).then(|| raw(&kept)))
    }

    /// Those of the answers that are to what it asks.
    pub(crate) fn known(&self, given: Option<&RawValue>) -> Result<Members, RpcError> {
        let given = given.map_or_else(|| Ok(Members::new()), |given| serde_json::from_str(given.get()));
        let given: Members = given.map_err(|_| RpcError::invalid_params("`inputResponses` is no object"))?;
        let kept: Members = given.into_iter().filter(|(key, _)| self.requests.contains_key(key)).collect();
        if let Some((key, _)) = kept.iter().find(|(_, answer)| !answer.get().starts_with('{')) {
            return Err(RpcError::invalid_params(format!(
                "`inputResponses.{}` is no object",
                crate::message::shown(key)
            )));
        }
        Ok(kept)
    }

    /// The capabilities that the client lacks for what is asked.
    pub(crate) fn missing_capabilities(&self, request: &Request) -> Option<Value> {
        let mut missing = serde_json::Map::new();
        for asked in self.requests.values() {
            let Some(needed) = needed_by(asked) else { continue };
            if !needed.is_declared_by(request) {
                missing.insert(needed.name.to_owned(), needed.declared());
            }
        }
        (!missing.is_empty()).then_some(Value::Object(missing))
    }

    /// Whether all that is asked can be a request of a server before 2026-07-28.
    pub(crate) fn is_of_known_methods(&self) -> bool {
        self.requests.values().all(|asked| needed_by(asked).is_some())
    }
}

/// The capability that a question needs, and the part of it, if it needs one.
struct Needed {
    name: &'static str,
    part: Option<&'static str>,
}

impl Needed {
    fn is_declared_by(&self, request: &Request) -> bool {
        let part = self.part.map(|part| format!("/{part}")).unwrap_or_default();
        request.declares(&format!("/{}{part}", self.name))
    }

    /// The capability as a client declares it.
    fn declared(&self) -> Value {
        self.part.map_or_else(|| json!({}), |part| json!({ part: {} }))
    }
}

/// What a question needs; none if it is of no method that is known.
fn needed_by(asked: &RawValue) -> Option<Needed> {
    let asked: Value = serde_json::from_str(asked.get()).unwrap_or_default();
    let has = |pointer: &str| asked.pointer(pointer).is_some();
    let (name, part) = match asked.get("method").and_then(Value::as_str)? {
        "elicitation/create" if asked.pointer("/params/mode").is_some_and(|mode| mode == "url") => {
            ("elicitation", Some("url"))
        }
        "elicitation/create" => ("elicitation", Some("form")),
        "sampling/createMessage" if has("/params/tools") || has("/params/toolChoice") => {
            ("sampling", Some("tools"))
        }
        "sampling/createMessage" => ("sampling", None),
        "roots/list" => ("roots", None),
        _ => return None,
    };
    Some(Needed { name, part })
}

/// What a request goes on from.
pub(crate) enum Continued {
    /// It is a new one.
    No,
    /// The answers to what an earlier call asked, in the session of that call.
    With(Resume, Option<SessionId>),
    /// Something is missing: the same question again.
    AskAgain(Box<Earlier>),
}

/// How the call of a request that goes on is named: by what it answers.
pub(crate) fn name_of_answers(resume: &Resume) -> Option<CallName<'_>> {
    let answers = resume.input_responses.as_deref()?;
    Some(CallName::Answers { earlier: &resume.call_id, answers })
}

impl Gateway {
    /// What the request goes on from; `name` is what its state was given for.
    pub(crate) async fn continued(
        &self,
        request: &Request,
        state: Option<&str>,
        responses: Option<&RawValue>,
        name: &str,
    ) -> Result<Continued, RpcError> {
        let Some(state) = state else { return Ok(Continued::No) };
        let earlier = self.earlier(request, state, name).await?;
        Ok(match earlier.answers(responses)? {
            None => Continued::AskAgain(Box::new(earlier)),
            answers => {
                let conversation = earlier.handle.conversation(&request.caller);
                let resume = Resume { call_id: earlier.call_id().clone(), input_responses: answers };
                Continued::With(resume, conversation)
            }
        })
    }

    /// The result that asks the client.
    pub(crate) fn ask(&self, request: &Request, earlier: &Earlier) -> Answer {
        if let Some(missing) = earlier.missing_capabilities(request) {
            return Err(RpcError::missing_capability(missing));
        }
        let state = self.sealer.seal(Purpose::Input, &request.caller, &earlier.handle);
        let state =
            state.ok_or_else(|| RpcError::internal("the state of the request cannot be encrypted"))?;
        let mut members = Members::new();
        if !earlier.requests.is_empty() {
            members.insert("inputRequests".to_owned(), raw(&earlier.requests));
        }
        members.insert("requestState".to_owned(), raw(&state));
        Ok(finish_result(members, result_type::INPUT_REQUIRED, request, &[]))
    }

    /// The earlier call of a request state.
    async fn earlier(&self, request: &Request, state: &str, name: &str) -> Result<Earlier, RpcError> {
        let invalid = |why: &str| {
            RpcError::invalid_params(format!("`requestState` {why}; send the request anew, without it"))
        };
        let handle = self
            .sealer
            .open(Purpose::Input, &request.caller, state)
            .ok_or_else(|| invalid("is none of this gateway for you"))?;
        if handle.tool != name {
            return Err(invalid("is of another request"));
        }
        if self.now().ms_since(handle.given_at()) > ANSWERS_WITHIN_MS {
            return Err(invalid("is older than a day"));
        }
        let unread = |error: &dyn std::fmt::Display| {
            let why = fleet_failed(error, &handle.call_id);
            RpcError::internal(format!("the earlier call cannot be read now: {why}; send the request again"))
        };
        let Some(row) = self.row_of(&handle, request).await.map_err(|error| unread(&error))? else {
            return Err(invalid("is of a call that is not known any more"));
        };
        let row = match self.filled(row).await {
            Ok(row) => row,
            Err(WaitError::Unreadable(error)) => {
                fleet_failed(&error, &handle.call_id);
                return Err(invalid("is of a call whose question cannot be read any more"));
            }
            Err(error @ (WaitError::Aws(_) | WaitError::TimeOut { .. })) => return Err(unread(&error)),
        };
        match ended_row(row) {
            Some(result) if result.outcome.kind == OutcomeKind::InputRequired => {
                Earlier::of(handle, &result.outcome)
            }
            Some(_) | None => Err(invalid("is of a call that does not ask for input")),
        }
    }
}
