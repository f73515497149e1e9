//! Finds the call that a request resumes (`resume`), which ended as `input_required`, and the state to return to its server.
//!
//! `admit` refuses a request that may not resume; the definition is compared once `prepare` knows it.
//!
//! **Invariant:** a state goes only to the request that it was given for: the same tenant, operation, target, arguments and definition.
//! The answers go with it and nowhere else.

use toolfleet_aws::AwsError;
use toolfleet_aws::payloads::PayloadError;
use toolfleet_core::call::CallRow;
use toolfleet_core::definition::ShortDefinitionDigest;
use toolfleet_core::ids::{CallId, CallKey};
use toolfleet_core::outcome::{Code, Outcome, OutcomeKind};
use toolfleet_core::request::{CallRequest, Resume};
use toolfleet_executors::{ResumedCall, questions_in};

use crate::context::WorkerContext;

/// An earlier call that waits for answers.
pub(super) struct Resumed {
    call_id: CallId,
    /// The task that asked; it continues once it has its answers.
    task: Option<String>,
    request_state: Option<String>,
    /// What the tool was when it asked.
    definition: Option<ShortDefinitionDigest>,
}

impl Resumed {
    /// What an executor needs of it.
    pub(super) fn as_ref(&self) -> ResumedCall<'_> {
        ResumedCall { task: self.task.as_deref(), request_state: self.request_state.as_deref() }
    }

    /// The task that waits for the answers, where it was a task that asked.
    pub(super) fn task(&self) -> Option<&str> {
        self.task.as_deref()
    }

    /// A refusal if the tool's definition has changed since it asked: the answers were meant for the other definition.
    pub(super) fn changed(&self, definition: Option<&ShortDefinitionDigest>) -> Option<Outcome> {
        (self.definition.as_ref() != definition).then(|| {
            refused(format!(
                "The tool's definition has changed since call `{}` asked. Send the call anew, without `resume`.",
                self.call_id
            ))
        })
    }
}

/// The call that the request resumes, if it names one and may.
pub(super) async fn of(
    context: &WorkerContext,
    request: &CallRequest,
) -> Result<Result<Option<Resumed>, Outcome>, AwsError> {
    let Some(resume) = &request.resume else {
        return Ok(Ok(None));
    };
    // A call of another tenant has another key: it cannot even be named.
    let key = CallKey { tenant: request.key.tenant.clone(), call_id: resume.call_id.clone() };
    let mut earlier = context.calls.read(&key).await?;
    if let Some(row) = &mut earlier {
        match context.payloads.fill(row).await {
            Ok(()) => {}
            Err(PayloadError::Aws(error)) => return Err(error),
            Err(error) => {
                let call = &key.call_id;
                return Ok(Err(refused(format!(
                    "What the server asked in call `{call}` cannot be read: {error}."
                ))));
            }
        }
    }
    let sentence = match judged(request, resume, earlier.as_ref()) {
        Ok(resumed) => return Ok(Ok(Some(resumed))),
        Err(sentence) => sentence,
    };
    Ok(match task_under_way(context, &request.key).await? {
        Some(task) => {
            let call_id = resume.call_id.clone();
            Ok(Some(Resumed { call_id, task: Some(task), request_state: None, definition: None }))
        }
        None => Err(refused(sentence)),
    })
}

/// The task that the call itself has become, or has given its answers to. The resumed call is not checked again then: the task
/// is only polled.
pub(super) async fn task_under_way(
    context: &WorkerContext,
    key: &CallKey,
) -> Result<Option<String>, AwsError> {
    let own = context.calls.read(key).await?;
    Ok(own.filter(|row| row.finished.is_none() && !row.input_pending).and_then(|row| row.task))
}

fn judged(request: &CallRequest, resume: &Resume, earlier: Option<&CallRow>) -> Result<Resumed, String> {
    let id = &resume.call_id;
    let anew = "Send the call anew, without `resume`.";
    let Some(row) = earlier else {
        let tenant = &request.key.tenant;
        return Err(format!("Tenant `{tenant}` has no call `{id}`, or it is no longer remembered. {anew}"));
    };
    let Some(finished) = &row.finished else {
        return Err(format!(
            "Call `{id}` has not ended. Wait for its outcome; only `input_required` can be resumed."
        ));
    };
    let kind = finished.outcome.kind;
    if kind != OutcomeKind::InputRequired {
        return Err(format!("Call `{id}` ended as `{kind}`; only `input_required` can be resumed. {anew}"));
    }
    if !row.digest.as_ref().is_some_and(|digest| request.has_question_of(digest, row.caller.as_deref())) {
        return Err(format!(
            "Call `{id}` asked something else. Resume it with its own operation, tool or server, and arguments."
        ));
    }
    let asked = finished.outcome.content().and_then(questions_in);
    let Some(asked) = asked else {
        return Err(format!(
            "What the server asked in call `{id}` cannot be read, so no later call can answer it. {anew}"
        ));
    };
    let answered = resume.answered().map_err(|error| error.to_string())?;
    fits(id, &asked.keys, &answered)?;
    let (request_state, definition) = (asked.request_state, row.definition.clone());
    Ok(Resumed { call_id: id.clone(), task: asked.task, request_state, definition })
}

/// Every question is answered and nothing else, as MCP requires of a client.
fn fits(id: &CallId, asked: &[String], answered: &[String]) -> Result<(), String> {
    let list = |keys: &[String]| {
        let shown: Vec<_> = keys.iter().take(20).map(|key| format!("`{key}`")).collect();
        if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
    };
    let without = |all: &[String], some: &[String]| -> Vec<String> {
        all.iter().filter(|key| !some.contains(key)).cloned().collect()
    };
    let (missing, strange) = (without(asked, answered), without(answered, asked));
    if missing.is_empty() && strange.is_empty() {
        return Ok(());
    }
    let wrong = if missing.is_empty() { "answers also" } else { "lacks" };
    let which = list(if missing.is_empty() { &strange } else { &missing });
    Err(format!(
        "In call `{id}` the server asks for {}; `resume.input_responses` {wrong} {which}. Answer each key and no other.",
        list(asked)
    ))
}

fn refused(sentence: String) -> Outcome {
    Outcome::refused(Code::NotResumable, sentence)
}
