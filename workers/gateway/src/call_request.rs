//! Makes the fleet's requests out of a client's: written as a text, so that arguments stay byte for byte as the client sent them.

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use toolfleet_catalog::PublishedName;
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, ServerId};
use toolfleet_core::request::{CallRequest, Operation, REQUEST_VERSION, RequestError, Resume, User};
use uuid::Uuid;

use crate::caller::Caller;

/// The longest request key in bytes.
const MAX_KEY_BYTES: usize = 256;

/// How the id of a call is chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CallName<'a> {
    /// A new call.
    New,
    /// The call that the user names so: the same for each request with that key.
    Key(&'a str),
    /// The call that answers what another one asks for, with those answers.
    Answers { earlier: &'a CallId, answers: &'a RawValue },
    /// The call by which a task goes on after another one asked for input.
    NextOfTask(&'a CallId),
}

#[derive(Serialize)]
struct Wire<'a> {
    v: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    tenant: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    arguments: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume: Option<&'a Resume>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

impl CallName<'_> {
    /// The text that names the call in the tenant; none for a new one. A key is the user's own: two users may choose the same.
    pub(crate) fn idempotency_key(self, caller: &Caller) -> Option<String> {
        match self {
            Self::New => None,
            Self::Key(key) => {
                let session = caller.session.as_ref().map_or("", |session| session.as_str());
                Some(derived("key", &[&caller.binding(), session, key]))
            }
            Self::Answers { earlier, answers } => {
                Some(derived("answers", &[earlier.as_str(), answers.get()]))
            }
            Self::NextOfTask(earlier) => Some(derived("task", &[earlier.as_str()])),
        }
    }
}

fn derived(kind: &str, parts: &[&str]) -> String {
    let parts: Vec<String> = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    format!("gateway-{kind}-{}", Digest::of_text(&parts.join("\n")).as_str())
}

/// Whether a client may name a call so.
pub(crate) fn check_key(key: &str) -> Result<(), String> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Ok(());
    }
    Err(format!("the request key has {} bytes; accepted are 1 to {MAX_KEY_BYTES}", key.len()))
}

/// The call of a published tool.
pub(crate) fn tool_call(
    caller: &Caller,
    target: &PublishedName,
    arguments: &RawValue,
    name: CallName<'_>,
    resume: Option<&Resume>,
) -> Result<CallRequest, RequestError> {
    let (tool, function, server, on_server) = match target {
        PublishedName::Tool(published) => {
            let several = published.tool.functions.len() > 1;
            (Some(published.tool.id.as_str()), several.then_some(published.function.as_str()), None, None)
        }
        PublishedName::OnServer { server, name } => {
            (None, None, Some(server.id.as_str()), Some(name.as_str()))
        }
    };
    let wire = Wire { tool, function, server, name: on_server, resume, ..wire(caller, arguments, name) };
    decode(&wire)
}

/// The request for what a server lists: all of it, or what follows a cursor.
pub(crate) fn listing(
    caller: &Caller,
    server: &ServerId,
    operation: Operation,
    cursor: Option<&str>,
    timeout_ms: u64,
) -> Result<CallRequest, RequestError> {
    let arguments = cursor.map_or_else(|| json!({}), |cursor| json!({ "cursor": cursor }));
    let asked = Asked { server, operation, arguments: &crate::message::raw(&arguments), timeout_ms };
    reading(caller, asked, CallName::New, None)
}

/// What is asked of a server itself.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) server: &'a ServerId,
    pub(crate) operation: Operation,
    pub(crate) arguments: &'a RawValue,
    pub(crate) timeout_ms: u64,
}

/// The request for what a server is asked itself: a list, a resource, a prompt, a completion.
pub(crate) fn reading(
    caller: &Caller,
    asked: Asked<'_>,
    name: CallName<'_>,
    resume: Option<&Resume>,
) -> Result<CallRequest, RequestError> {
    decode(&Wire {
        server: Some(asked.server.as_str()),
        operation: Some(asked.operation.as_str()),
        timeout_ms: Some(asked.timeout_ms),
        resume,
        ..wire(caller, asked.arguments, name)
    })
}

fn wire<'a>(caller: &'a Caller, arguments: &'a RawValue, name: CallName<'_>) -> Wire<'a> {
    let idempotency_key = name.idempotency_key(caller);
    Wire {
        v: REQUEST_VERSION,
        call_id: idempotency_key.is_none().then(|| Uuid::new_v4().to_string()),
        idempotency_key,
        tenant: caller.tenant.as_str(),
        tool: None,
        function: None,
        server: None,
        name: None,
        operation: None,
        arguments,
        session: caller.conversation.as_ref().map(|session| session.as_str()),
        user: caller.user.as_ref(),
        resume: None,
        timeout_ms: None,
    }
}

fn decode(wire: &Wire<'_>) -> Result<CallRequest, RequestError> {
    let text = serde_json::to_string(wire).unwrap_or_default();
    CallRequest::decode_large(&text).map_err(|malformed| malformed.error)
}

#[cfg(test)]
mod tests {
    use toolfleet_core::ids::Tenant;

    use super::*;

    fn caller(tenant: &str, user: &str) -> Caller {
        let user = User { id: user.to_owned(), ..User::default() };
        Caller {
            tenant: Tenant::parse(tenant).unwrap(),
            user: Some(user),
            session: None,
            conversation: None,
            expires: None,
        }
    }

    #[test]
    fn a_key_names_one_call_of_one_user() {
        let key = |caller: &Caller, key| CallName::Key(key).idempotency_key(caller).unwrap();
        let ann = caller("acme", "ann");
        assert_eq!(key(&ann, "k"), key(&ann, "k"));
        assert_ne!(key(&ann, "k"), key(&ann, "l"));
        assert_ne!(key(&ann, "k"), key(&caller("acme", "bob"), "k"));
        assert!(CallName::New.idempotency_key(&ann).is_none());
    }

    #[test]
    fn answers_to_one_question_are_one_call() {
        let (ann, earlier) = (caller("acme", "ann"), CallId::parse("c1").unwrap());
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let name = |answers: &RawValue| {
            CallName::Answers { earlier: &earlier, answers }.idempotency_key(&ann).unwrap()
        };
        assert_eq!(name(&raw("{}")), name(&raw("{}")));
        assert_ne!(name(&raw("{}")), name(&raw(r#"{"a":{}}"#)));
    }

    #[test]
    fn arguments_stay_as_they_were_written() {
        let arguments =
            RawValue::from_string(r#"{"n": 1.50, "big": 12345678901234567890123}"#.to_owned()).unwrap();
        let server = ServerId::parse("s").unwrap();
        let ann = caller("acme", "ann");
        let base =
            Wire { server: Some(server.as_str()), name: Some("t"), ..wire(&ann, &arguments, CallName::New) };
        assert_eq!(decode(&base).unwrap().arguments.get(), arguments.get());
        assert!(check_key("").is_err() && check_key(&"x".repeat(257)).is_err() && check_key("k").is_ok());
    }
}
