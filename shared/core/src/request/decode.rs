//! Decodes a message body into a request, or into the error that names the wrong field.
//!
//! A [`CallRequest`] is made by this decoder only, after every rule has held.

use serde::Deserialize;

use super::arguments::{arguments_of, check_reference, object};
use super::call_id::derive_call_id;
use super::call_request::{
    CallRequest, MAX_BODY_BYTES, Malformed, Operation, REQUEST_VERSION, RetryWish, TimeLimit, User,
};
use super::envelope::{self, Found};
use super::error::{RequestError, invalid};
use super::group::Group;
use super::not_json;
use super::resume::Resume;
use super::salvage::{Salvaged, salvage};
use super::suggest::with_suggestion;
use super::target::target;
use super::wire::WireRequest;
use crate::digest::{Digest, RequestDigest};
use crate::error_text::{place, without_values};
use crate::ids::{CallId, CallKey, Tenant};
use crate::json::kind;
use crate::payload::MAX_PAYLOAD_BYTES;
use crate::supersede::MAX_KEY_BYTES;
use crate::time::Timestamp;

impl CallRequest {
    /// Reads a message body, or the request that something on its way has wrapped.
    pub fn decode(body: &str) -> Result<Self, Box<Malformed>> {
        Self::decode_within(body, MAX_BODY_BYTES)
    }

    /// The same for a text that is larger than a message: one from S3, or one whose arguments will be stored there.
    pub fn decode_large(body: &str) -> Result<Self, Box<Malformed>> {
        Self::decode_within(body, usize::try_from(MAX_PAYLOAD_BYTES).unwrap_or(usize::MAX))
    }

    fn decode_within(body: &str, most: usize) -> Result<Self, Box<Malformed>> {
        let error = match Self::read(body, most) {
            Ok(request) => return Ok(request),
            Err(error) => error,
        };
        let found = if body.len() > most { Found::Nothing } else { envelope::open(body) };
        let mut pointer = None;
        let (error, salvaged) = match found {
            Found::Nothing => (error, salvage(body)),
            Found::Named(sentence) => (invalid("body", sentence), Salvaged::default()),
            Found::Elsewhere(at) => {
                pointer = Some(at);
                let text = "is the pointer of an SQS extended client to a body in S3 that this fleet does not read; let an operator list \
                            its bucket in TOOLFLEET_PAYLOAD_SOURCES, or send the request itself as the body";
                (invalid("body", text), Salvaged::default())
            }
            Found::Inside(text, through) => match Self::read(&text, most) {
                Ok(request) => return Ok(request),
                Err(RequestError { field, problem }) => {
                    (invalid(&field, envelope::within(&through, problem)), salvage(&text))
                }
            },
        };
        let Salvaged { addressed, reply, group } = salvaged;
        Err(Box::new(Malformed { error, addressed, reply, group, digest: Digest::of_text(body), pointer }))
    }

    fn read(body: &str, most: usize) -> Result<Self, RequestError> {
        if body.len() > most {
            let found = body.len();
            return Err(invalid("body", format!("has {found} bytes; accepted are at most {most}")));
        }
        check_version(body)?;
        // Where a field is wrong it is read again, for the field's place: following it costs a good request as much as reading it.
        let wire = match serde_json::from_str(body) {
            Ok(wire) => wire,
            Err(_) => Self::read_with_places(body)?,
        };
        Self::from_wire(wire)
    }

    fn read_with_places(body: &str) -> Result<WireRequest, RequestError> {
        let mut json = serde_json::Deserializer::from_str(body);
        let wire: WireRequest = serde_path_to_error::deserialize(&mut json).map_err(|e| {
            let place = place("", e.path());
            let field = if place.is_empty() { "body" } else { place.as_str() };
            // The text is JSON, as its version was read: only a choice of several fields stumbles over their number.
            if field == "reply" && e.inner().is_syntax() {
                let fields = "`sqs_queue_url`, `sns_topic_arn`, `event_bridge_bus`, `webhook_id`";
                return invalid(field, format!("takes exactly one of {fields}"));
            }
            invalid(field, with_suggestion(without_values(&e.inner().to_string())))
        })?;
        json.end().map_err(|e| invalid("body", e.to_string()))?;
        Ok(wire)
    }

    fn from_wire(wire: WireRequest) -> Result<Self, RequestError> {
        let call_id = call_id_of(wire.call_id, wire.idempotency_key.as_deref(), &wire.tenant)?;
        let target = target(wire.tool, wire.function, wire.server, wire.name, wire.operation)?;
        let referred = wire.arguments_ref.map(Box::new);
        if let Some(reference) = &referred {
            check_reference(reference, wire.arguments.is_some())?;
        }
        let given = arguments_of(wire.arguments)?;
        // A reference stands for its arguments until they are loaded.
        let stand_in = referred.as_ref().map(serde_json::to_string).transpose();
        let stand_in = stand_in.map_err(|e| invalid("arguments_ref", without_values(&e.to_string())))?;
        let arguments = object("arguments", stand_in.as_deref().unwrap_or(given.get()))?;
        if let Some(resume) = &wire.resume {
            check_resume(resume, &call_id, wire.operation)?;
        }
        let time_limit = time_limit_of(wire.deadline, wire.timeout_ms)?;
        check_not_before(wire.not_before, time_limit)?;
        check_supersede(wire.supersede.as_deref())?;
        if wire.can_answer.as_ref().is_some_and(|kinds| kinds.len() > 16) {
            return Err(invalid("can_answer", "has more than 16 entries"));
        }
        check_bounds(wire.retry, wire.group.as_deref(), wire.agent.as_deref(), wire.user.as_ref())?;
        let resume = wire.resume.as_ref().map(serde_json::to_string).transpose();
        let resume = resume.map_err(|e| invalid("resume", without_values(&e.to_string())))?;
        let resume = resume.as_deref().map(|text| object("resume", text)).transpose()?;
        let RequestDigest { digest, earlier } =
            RequestDigest::of(wire.operation.as_str(), &target.to_string(), &arguments, resume.as_ref());
        let request = Self {
            key: CallKey { tenant: wire.tenant, call_id },
            idempotency_key: wire.idempotency_key,
            target,
            operation: wire.operation,
            arguments: given,
            arguments_ref: referred,
            session: wire.session,
            user: wire.user,
            agent: wire.agent,
            group: wire.group,
            not_before: wire.not_before,
            supersede: wire.supersede,
            time_limit,
            priority: wire.priority,
            retry: wire.retry,
            idempotent: wire.idempotent,
            cache: wire.cache,
            reply: wire.reply,
            resume: wire.resume,
            can_answer: wire.can_answer,
            digest,
            earlier_digest: earlier,
        };
        if request.arguments_ref.is_none() {
            request.ask()?;
        }
        Ok(request)
    }
}

/// The call's id, given or derived from its idempotency key.
fn call_id_of(
    given: Option<CallId>,
    idempotency_key: Option<&str>,
    tenant: &Tenant,
) -> Result<CallId, RequestError> {
    match (given, idempotency_key) {
        (Some(id), None) => Ok(id),
        (None, Some(key)) => derive_call_id(tenant, key),
        (None, None) => Err(invalid("call_id", "is missing: give `call_id` or `idempotency_key`")),
        (Some(_), Some(_)) => {
            Err(invalid("idempotency_key", "is given beside `call_id`: give one of the two"))
        }
    }
}

fn time_limit_of(
    deadline: Option<Timestamp>,
    timeout_ms: Option<u64>,
) -> Result<Option<TimeLimit>, RequestError> {
    match (deadline, timeout_ms) {
        (None, None) => Ok(None),
        (Some(at), None) => Ok(Some(TimeLimit::Deadline(at))),
        (None, Some(0)) => Err(invalid("timeout_ms", "is 0; accepted is a whole number from 1")),
        (None, Some(ms)) => Ok(Some(TimeLimit::TimeoutMs(ms))),
        (Some(_), Some(_)) => Err(invalid("timeout_ms", "is given beside `deadline`: give one of the two")),
    }
}

/// A call that may start only when its time is over could never run.
fn check_not_before(not_before: Option<Timestamp>, limit: Option<TimeLimit>) -> Result<(), RequestError> {
    match (not_before, limit) {
        (Some(at), Some(TimeLimit::Deadline(deadline))) if at >= deadline => Err(invalid(
            "not_before",
            format!("is {at}, not before `deadline` ({deadline}); give an earlier one"),
        )),
        (_, Some(TimeLimit::Deadline(_) | TimeLimit::TimeoutMs(_)) | None) => Ok(()),
    }
}

fn check_supersede(key: Option<&str>) -> Result<(), RequestError> {
    match key.map(str::len) {
        Some(bytes) if bytes == 0 || bytes > MAX_KEY_BYTES => {
            let text = format!("has {bytes} bytes; accepted is a text of 1 to {MAX_KEY_BYTES}");
            Err(invalid("supersede", text))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_bounds(
    retry: Option<RetryWish>,
    group: Option<&Group>,
    agent: Option<&str>,
    user: Option<&User>,
) -> Result<(), RequestError> {
    bounded("retry.max_attempts", retry.map(|r| r.max_attempts), 100)?;
    group.map_or(Ok(()), Group::check)?;
    if agent.is_some_and(|a| a.len() > 256) {
        return Err(invalid("agent", "is longer than 256 bytes"));
    }
    if let Some(user) = user {
        check_user(user)?;
    }
    Ok(())
}

fn bounded(field: &str, value: Option<u32>, max: u32) -> Result<(), RequestError> {
    match value {
        Some(n) if n == 0 || n > max => Err(invalid(field, format!("is {n}; accepted are 1 to {max}"))),
        Some(_) | None => Ok(()),
    }
}

fn check_user(user: &User) -> Result<(), RequestError> {
    let too_long = |text: &str| text.len() > 256;
    if too_long(&user.id) {
        return Err(invalid("user.id", "is longer than 256 bytes"));
    }
    if user.kind.as_deref().is_some_and(too_long) {
        return Err(invalid("user.type", "is longer than 256 bytes"));
    }
    if user.roles.len() > 64 || user.roles.iter().any(|role| role.len() > 128) {
        return Err(invalid("user.roles", "are more than 64, or one is longer than 128 bytes"));
    }
    Ok(())
}

fn check_resume(resume: &Resume, call_id: &CallId, operation: Operation) -> Result<(), RequestError> {
    match operation {
        Operation::ToolsCall | Operation::ResourcesRead | Operation::PromptsGet => {}
        Operation::ToolsList
        | Operation::ResourcesList
        | Operation::ResourceTemplatesList
        | Operation::ResourcesSubscribe
        | Operation::PromptsList
        | Operation::CompletionComplete => {
            let text = format!(
                "belongs to `tools/call`, `resources/read` and `prompts/get`; `{}` asks nothing back",
                operation.as_str()
            );
            return Err(invalid("resume", text));
        }
    }
    if resume.call_id == *call_id {
        let text =
            "names this very call; give the request an id of its own, and here that of the earlier call";
        return Err(invalid("resume.call_id", text));
    }
    resume.answered().map(drop)
}

/// A wrong version is said first, because everything else may differ in another version.
fn check_version(body: &str) -> Result<(), RequestError> {
    #[derive(Deserialize)]
    struct Version {
        v: Option<serde_json::Value>,
    }
    if !body.trim_start().starts_with('{') {
        let found = match body.trim_start().chars().next() {
            None => "is empty",
            Some('[') => "is an array",
            Some('"') => "is a text",
            Some(_) => "is not a JSON object",
        };
        return Err(invalid("body", format!("{found}; accepted is a JSON object, which starts with `{{`")));
    }
    let not_json = |e: serde_json::Error| {
        let habit = not_json::likely_cause(body, &e).map_or_else(String::new, |habit| format!("; {habit}"));
        invalid("body", format!("is not valid JSON: {}{habit}", without_values(&e.to_string())))
    };
    let version: Version = serde_json::from_str(body).map_err(not_json)?;
    match version.v {
        Some(v) if v.as_f64() == Some(REQUEST_VERSION.into()) => Ok(()),
        Some(serde_json::Value::String(_)) => {
            Err(invalid("v", format!("is a text; write the number without quotes: {REQUEST_VERSION}")))
        }
        Some(v) => {
            let found =
                v.as_u64().filter(|v| *v < 1_000).map_or_else(|| kind(&v).to_owned(), |v| v.to_string());
            Err(invalid("v", format!("is {found}; this fleet accepts {REQUEST_VERSION}")))
        }
        None => Err(invalid("v", format!("is missing; this fleet accepts {REQUEST_VERSION}"))),
    }
}
