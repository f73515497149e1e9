//! Owns the request's form on the wire: the fields, the rules between them, and the error for each rule.
//!
//! **Invariant:** a [`CallRequest`] is made here alone, after every rule has held.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::call_request::{
    CallRequest, Group, MAX_BODY_BYTES, Malformed, Operation, Priority, REQUEST_VERSION, Reply, RetryWish,
    Target, TimeLimit, User,
};
use super::envelope::{self, Found};
use super::error::{RequestError, invalid};
use super::resume::Resume;
use super::suggest::with_suggestion;
use super::target::target;
use super::{lenient, not_json};
use crate::canonical_json::Node;
use crate::digest::{Digest, RequestDigest};
use crate::error_text::{place, without_values};
use crate::ids::{CallId, CallKey, ServerId, SessionId, Tenant, ToolId};
use crate::json::kind;
use crate::payload::{ArgumentsRef, MAX_PAYLOAD_BYTES, ReferenceError};
use crate::time::Timestamp;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "toolfleet call request",
    description = "The body of an SQS message that asks for one tool call.",
    extend("allOf" = [
        {"oneOf": [{"required": ["call_id"], "properties": {"call_id": {"type": "string"}}}, {"required": ["idempotency_key"], "properties": {"idempotency_key": {"type": "string"}}}]},
        {"oneOf": [{"required": ["tool"], "properties": {"tool": {"type": "string"}}}, {"required": ["server"], "properties": {"server": {"type": "string"}}}]},
        {
            "if": {
                "properties": {"operation": {"not": {"enum": ["tools/call", null]}}},
                "required": ["operation"]
            },
            "then": {"allOf": [{"required": ["server"], "properties": {"server": {"type": "string"}}}, {"not": {"required": ["name"], "properties": {"name": {"type": "string"}}}}]}
        },
        {"if": {"required": ["name"], "properties": {"name": {"type": "string"}}}, "then": {"required": ["server"], "properties": {"server": {"type": "string"}}}},
        {"not": {"required": ["arguments", "arguments_ref"], "properties": {
            "arguments": {"not": {"type": "null"}},
            "arguments_ref": {"not": {"type": "null"}}
        }}},
        {"if": {"required": ["function"], "properties": {"function": {"type": "string"}}}, "then": {"required": ["tool"], "properties": {"tool": {"type": "string"}}}}
    ]),
    extend("not" = {"required": ["deadline", "timeout_ms"], "properties": {
        "deadline": {"not": {"type": "null"}},
        "timeout_ms": {"not": {"type": "null"}}
    }})
)]
struct WireRequest {
    /// The version of this contract: 1.
    #[serde(deserialize_with = "lenient::needed_whole")]
    #[schemars(range(min = 1, max = 1))]
    v: u32,
    /// The call's id, unique within the tenant. Give this or `idempotency_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
    /// Any text that names the call for the caller; the id is derived from it and the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    idempotency_key: Option<String>,
    /// Who the call is for.
    tenant: Tenant,
    /// The registered tool. Give this, or `server` and `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool: Option<ToolId>,
    /// The function of a tool that offers several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    /// The registered server; with `name` for `tools/call`, alone for every other operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<ServerId>,
    /// The tool's name on that server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// A JSON object, or the same as a JSON text; left out it is `{}`: the tool's arguments; `{"uri"}` for `resources/read`;
    /// `{"name", "arguments"}` for `prompts/get`; `{}` for all pages of a listing, or `{"cursor"}` for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "arguments_schema")]
    arguments: Option<Box<RawValue>>,
    /// The same in an S3 object, in place of `arguments`: for what is too large for a message. The fleet reads its own bucket below
    /// `TENANT/`, and those that its operator lists.
    #[serde(default, deserialize_with = "lenient::object", skip_serializing_if = "Option::is_none")]
    arguments_ref: Option<ArgumentsRef>,
    /// What to do; `tools/call` unless told.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "is_default")]
    #[schemars(with = "Option<Operation>")]
    operation: Operation,
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
    /// Who asks.
    #[serde(default, deserialize_with = "lenient::object", skip_serializing_if = "Option::is_none")]
    user: Option<User>,
    /// The agent that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    agent: Option<String>,
    /// The calls of one agent turn.
    #[serde(default, deserialize_with = "lenient::object", skip_serializing_if = "Option::is_none")]
    group: Option<Group>,
    /// The instant after which the call is worth nothing. Give this or `timeout_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<Timestamp>,
    /// The same as milliseconds after the message was sent.
    #[serde(default, deserialize_with = "lenient::whole", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    timeout_ms: Option<u64>,
    /// How urgent it is.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "is_default")]
    #[schemars(with = "Option<Priority>")]
    priority: Priority,
    /// A wish for fewer attempts than the tool allows.
    #[serde(default, deserialize_with = "lenient::object", skip_serializing_if = "Option::is_none")]
    retry: Option<RetryWish>,
    /// The caller's promise that running the call twice does no harm.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "is_default")]
    #[schemars(with = "Option<bool>")]
    idempotent: bool,
    /// Whether a stored answer of an equal call will do.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "is_default")]
    #[schemars(with = "Option<bool>")]
    cache: bool,
    /// Where the notice goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply: Option<Reply>,
    /// Goes on with a call that ended as `input_required`: the same request under an id of its own, with the answers.
    #[serde(default, deserialize_with = "lenient::object", skip_serializing_if = "Option::is_none")]
    resume: Option<Resume>,
}

fn arguments_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["object", "string", "null"], "contentMediaType": "application/json"})
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl CallRequest {
    /// Reads a message body, or the request that something on its way has wrapped.
    pub fn decode(body: &str) -> Result<Self, Box<Malformed>> {
        Self::decode_within(body, MAX_BODY_BYTES)
    }

    /// The same for a text that is no message as it stands: one that was stored in S3, or whose arguments will be.
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
        let (error, (addressed, reply)) = match found {
            Found::Nothing => (error, salvage(body)),
            Found::Named(sentence) => (invalid("body", sentence), (None, None)),
            Found::Elsewhere(at) => {
                pointer = Some(at);
                let text = "is the pointer of an SQS extended client to a body in S3 that this fleet does not read; let an operator list \
                            its bucket in TOOLFLEET_PAYLOAD_SOURCES, or send the request itself as the body";
                (invalid("body", text), (None, None))
            }
            Found::Inside(text, through) => match Self::read(&text, most) {
                Ok(request) => return Ok(request),
                Err(RequestError { field, problem }) => {
                    (invalid(&field, envelope::within(&through, problem)), salvage(&text))
                }
            },
        };
        Err(Box::new(Malformed { error, addressed, reply, digest: Digest::of_text(body), pointer }))
    }

    fn read(body: &str, most: usize) -> Result<Self, RequestError> {
        if body.len() > most {
            let found = body.len();
            return Err(invalid("body", format!("has {found} bytes; accepted are at most {most}")));
        }
        check_version(body)?;
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
        Self::from_wire(wire)
    }

    fn from_wire(wire: WireRequest) -> Result<Self, RequestError> {
        let call_id = match (wire.call_id, &wire.idempotency_key) {
            (Some(id), None) => id,
            (None, Some(key)) => derive_call_id(&wire.tenant, key)?,
            (None, None) => {
                return Err(invalid("call_id", "is missing: give `call_id` or `idempotency_key`"));
            }
            (Some(_), Some(_)) => {
                return Err(invalid("idempotency_key", "stands beside `call_id`: give one of the two"));
            }
        };
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
        let time_limit = match (wire.deadline, wire.timeout_ms) {
            (None, None) => None,
            (Some(at), None) => Some(TimeLimit::Deadline(at)),
            (None, Some(0)) => return Err(invalid("timeout_ms", "is 0; accepted is a whole number from 1")),
            (None, Some(ms)) => Some(TimeLimit::TimeoutMs(ms)),
            (Some(_), Some(_)) => {
                return Err(invalid("timeout_ms", "stands beside `deadline`: give one of the two"));
            }
        };
        bounded("retry.max_attempts", wire.retry.map(|r| r.max_attempts), 100)?;
        bounded("group.size", wire.group.as_ref().map(|g| g.size), 1000)?;
        if wire.agent.as_ref().is_some_and(|a| a.len() > 256) {
            return Err(invalid("agent", "is longer than 256 bytes"));
        }
        if let Some(user) = &wire.user {
            check_user(user)?;
        }
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
            time_limit,
            priority: wire.priority,
            retry: wire.retry,
            idempotent: wire.idempotent,
            cache: wire.cache,
            reply: wire.reply,
            resume: wire.resume,
            digest,
            earlier_digest: earlier,
        };
        if request.arguments_ref.is_none() {
            request.ask()?;
        }
        Ok(request)
    }

    /// The same request with the arguments that its reference stands for.
    ///
    /// # Errors
    /// The text is not the arguments of such a request.
    pub fn with_arguments(self, text: String) -> Result<Self, RequestError> {
        let wrong =
            |error: RequestError| RequestError { field: format!("arguments_ref: {}", error.field), ..error };
        let not_json = |e: serde_json::Error| {
            invalid("arguments", format!("is not valid JSON: {}", without_values(&e.to_string())))
        };
        let given: Box<RawValue> = serde_json::from_str(&text).map_err(not_json).map_err(wrong)?;
        let resume = self.resume.as_ref().map(serde_json::to_string).transpose();
        let resume = resume.map_err(|e| invalid("resume", without_values(&e.to_string())))?;
        let resume = resume.as_deref().map(|text| object("resume", text)).transpose()?;
        let arguments = object("arguments", given.get()).map_err(wrong)?;
        let RequestDigest { digest, earlier } =
            RequestDigest::of(self.operation.as_str(), &self.target.to_string(), &arguments, resume.as_ref());
        let request = Self { arguments: given, arguments_ref: None, digest, earlier_digest: earlier, ..self };
        request.ask().map_err(wrong)?;
        Ok(request)
    }

    /// The message body of this request. Reading it gives an equal request.
    pub fn encode(&self) -> String {
        self.encoded(self.arguments_ref.as_deref())
    }

    /// The same with its arguments in an object.
    pub fn encode_by_reference(&self, arguments: &ArgumentsRef) -> String {
        self.encoded(Some(arguments))
    }

    fn encoded(&self, by_reference: Option<&ArgumentsRef>) -> String {
        let (tool, function, server, name) = match self.target.clone() {
            Target::Tool { id, function } => (Some(id), function, None, None),
            Target::OnServer { server, name } => (None, None, Some(server), Some(name)),
            Target::Server { server } => (None, None, Some(server), None),
        };
        let (deadline, timeout_ms) = match self.time_limit {
            None => (None, None),
            Some(TimeLimit::Deadline(at)) => (Some(at), None),
            Some(TimeLimit::TimeoutMs(ms)) => (None, Some(ms)),
        };
        let wire = WireRequest {
            v: REQUEST_VERSION,
            call_id: self.idempotency_key.is_none().then(|| self.key.call_id.clone()),
            idempotency_key: self.idempotency_key.clone(),
            tenant: self.key.tenant.clone(),
            tool,
            function,
            server,
            name,
            arguments: by_reference.is_none().then(|| self.arguments.clone()),
            arguments_ref: by_reference.cloned(),
            operation: self.operation,
            session: self.session.clone(),
            user: self.user.clone(),
            agent: self.agent.clone(),
            group: self.group.clone(),
            deadline,
            timeout_ms,
            priority: self.priority,
            retry: self.retry,
            idempotent: self.idempotent,
            cache: self.cache,
            reply: self.reply.clone(),
            resume: self.resume.clone(),
        };
        // Serialising owned strings, numbers and checked JSON has no way to fail.
        serde_json::to_string(&wire).unwrap_or_default()
    }

    /// The instant after which this call is worth nothing, for a message sent at `enqueued_at`.
    pub const fn deadline(&self, enqueued_at: Timestamp, default_ms: u64) -> Timestamp {
        match self.time_limit {
            Some(TimeLimit::Deadline(at)) => at,
            Some(TimeLimit::TimeoutMs(ms)) => enqueued_at.plus_ms(ms),
            None => enqueued_at.plus_ms(default_ms),
        }
    }
}

/// The JSON Schema of a message body, as committed in `docs/reference/call-request.schema.json`.
pub fn request_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(WireRequest).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".into(), "https://toolfleet.dev/schemas/call-request-v1.json".into());
    }
    schema
}

/// The id of a call that is named by an idempotency key: the same for the same tenant and key, nowhere else.
pub fn derive_call_id(tenant: &Tenant, key: &str) -> Result<CallId, RequestError> {
    if key.is_empty() || key.len() > 1024 {
        let found = key.len();
        return Err(invalid("idempotency_key", format!("has {found} bytes; accepted are 1 to 1024")));
    }
    let digest = Digest::of_text(&format!("{}#{tenant}#{key}", tenant.as_str().len()));
    CallId::parse(format!("ik-{}", digest.short(40))).map_err(|e| invalid("idempotency_key", e.to_string()))
}

fn check_resume(resume: &Resume, call_id: &CallId, operation: Operation) -> Result<(), RequestError> {
    match operation {
        Operation::ToolsCall | Operation::ResourcesRead | Operation::PromptsGet => {}
        Operation::ToolsList | Operation::ResourcesList | Operation::PromptsList => {
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

fn salvage(body: &str) -> (Option<CallKey>, Option<Reply>) {
    // Whoever wrote these names, or a number, looks for the answer under that very id.
    #[derive(Deserialize)]
    struct Address {
        tenant: Option<serde_json::Value>,
        #[serde(rename = "tenantId", alias = "tenant_id")]
        misspelt_tenant: Option<serde_json::Value>,
        call_id: Option<serde_json::Value>,
        #[serde(rename = "callId", alias = "callID")]
        misspelt_call_id: Option<serde_json::Value>,
        idempotency_key: Option<serde_json::Value>,
        #[serde(rename = "idempotencyKey")]
        misspelt_key: Option<serde_json::Value>,
        reply: Option<serde_json::Value>,
    }
    // serde reads a struct from an array, too.
    if !body.trim_start().starts_with('{') {
        return (None, None);
    }
    let mended = || not_json::nan_to_null(body).and_then(|text| serde_json::from_str(&text).ok());
    let Some(address) = serde_json::from_str::<Address>(body).ok().or_else(mended) else {
        return (None, None);
    };
    let text = |value: &Option<serde_json::Value>| match value {
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(serde_json::Value::Number(number)) => Some(number.to_string()),
        Some(
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_),
        )
        | None => None,
    };
    // The right name counts before another.
    let either = |right, misspelt| text(right).or_else(|| text(misspelt));
    let tenant = either(&address.tenant, &address.misspelt_tenant).and_then(|t| Tenant::parse(t).ok());
    let call_id = either(&address.call_id, &address.misspelt_call_id);
    let key = tenant.and_then(|tenant| {
        let call_id = match (call_id, either(&address.idempotency_key, &address.misspelt_key)) {
            (Some(id), _) => CallId::parse(id).ok()?,
            (None, Some(key)) => derive_call_id(&tenant, &key).ok()?,
            (None, None) => return None,
        };
        Some(CallKey { tenant, call_id })
    });
    (key, address.reply.and_then(|r| serde_json::from_value(r).ok()))
}

fn check_reference(reference: &ArgumentsRef, beside_arguments: bool) -> Result<(), RequestError> {
    if beside_arguments {
        return Err(invalid("arguments_ref", "stands beside `arguments`: give one of the two"));
    }
    let wrong = |error: ReferenceError| invalid(&format!("arguments_ref.{}", error.field), error.problem);
    reference.object().map(drop).map_err(wrong)
}

/// The arguments as an object: what was left out is an empty one, and a text is what it holds.
fn arguments_of(given: Option<Box<RawValue>>) -> Result<Box<RawValue>, RequestError> {
    let wrong = |problem: String| invalid("arguments", problem);
    let raw = |text: String| RawValue::from_string(text).map_err(|e| wrong(without_values(&e.to_string())));
    let Some(given) = given else {
        return raw("{}".to_owned());
    };
    if !given.get().starts_with('"') {
        return Ok(given);
    }
    let text: String =
        serde_json::from_str(given.get()).map_err(|e| wrong(without_values(&e.to_string())))?;
    let text = text.trim();
    if text.is_empty() || text == "null" {
        return raw("{}".to_owned());
    }
    if !text.starts_with('{') {
        return Err(wrong(
            "is a text without a JSON object; accepted is a JSON object, or one as a text".to_owned(),
        ));
    }
    RawValue::from_string(text.to_owned()).map_err(|e| {
        let habit = not_json::likely_cause(text, &e).map_or_else(String::new, |habit| format!("; {habit}"));
        wrong(format!("is a text that is not valid JSON: {}{habit}", without_values(&e.to_string())))
    })
}

/// The parts of a JSON object. What can be neither compared nor checked is refused: a text that is too deep, an exponent without end.
fn object<'a>(field: &str, text: &'a str) -> Result<Node<'a>, RequestError> {
    if !text.trim_start().starts_with('{') {
        return Err(invalid(field, "is not a JSON object; accepted is a JSON object"));
    }
    Node::parse(text).map_err(|problem| invalid(field, problem))
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
