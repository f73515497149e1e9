//! The options that describe a call, and the request that is made of them.
//!
//! The request is written as JSON and decoded as a worker decodes it, so a wrong option gets the error that a worker would give.

use std::io::Read;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use serde_json::value::RawValue;
use toolfleet_client::system_clock;
use toolfleet_core::ids::{CallId, GroupId, ServerId, SessionId, Tenant, ToolId};
use toolfleet_core::payload::MAX_PAYLOAD_BYTES;
use toolfleet_core::request::{
    CallRequest, Group, Operation, Priority, REQUEST_VERSION, Reply, Resume, RetryWish, User,
};
use toolfleet_core::time::Timestamp;

use super::which::given_or_default;
use crate::exit::CommandError;
use crate::span_of_time::parse_span;

/// The largest request, in bytes: arguments that do not fit a message are sent by reference.
const MAX_BYTES: u64 = MAX_PAYLOAD_BYTES;

/// The options of a request.
#[derive(Debug, Default, Args)]
pub(crate) struct RequestArgs {
    /// Who the call is for; unless given, TOOLFLEET_TENANT.
    #[arg(long, value_name = "TENANT")]
    pub(super) tenant: Option<Tenant>,
    /// The registered tool.
    #[arg(long, value_name = "ID", required_unless_present_any = ["body", "server"])]
    tool: Option<ToolId>,
    /// The function of a tool that has several.
    #[arg(long, value_name = "NAME", requires = "tool")]
    function: Option<String>,
    /// The registered server, for a tool by the name it has there, or for another operation.
    #[arg(long, value_name = "ID", conflicts_with = "tool")]
    server: Option<ServerId>,
    /// The tool's name on that server.
    #[arg(long, value_name = "NAME", requires = "server")]
    name: Option<String>,
    /// The operation: tools/call unless given; every other one needs --server.
    #[arg(long, value_name = "METHOD", value_parser = operation(), requires = "server", conflicts_with = "name")]
    operation: Option<Operation>,
    /// A JSON object, @FILE, or - for stdin: the tool's arguments, {"uri"} for resources/read, {"name", "arguments"} for
    /// prompts/get, {"ref", "argument"} for completion/complete, {} or {"cursor"} for a listing.
    #[arg(long, short, value_name = "JSON|@FILE|-", default_value = "{}")]
    arguments: String,
    /// Resumes an earlier call that ended as input_required: repeat its other options, and give the answers.
    #[arg(long, value_name = "CALL_ID")]
    resume: Option<CallId>,
    /// The answers for --resume, under the keys of the questions: a JSON object, @FILE, or - for stdin.
    #[arg(long, value_name = "JSON|@FILE|-", requires = "resume")]
    input_responses: Option<String>,
    /// The call's id; generated unless given. The same id runs once.
    #[arg(long, value_name = "ID", conflicts_with = "idempotency_key")]
    call_id: Option<CallId>,
    /// A text that identifies the call; the id is derived from it and the tenant.
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
    /// The session the call belongs to.
    #[arg(long, value_name = "ID")]
    pub(super) session: Option<SessionId>,
    /// The user, for the tool's access rules.
    #[arg(long, value_name = "ID[:TYPE[:ROLE,ROLE]]", value_parser = parse_user)]
    pub(super) user: Option<User>,
    /// The agent.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Its place in a group: ID/INDEX/SIZE[/POLICY], for example turn-7/0/3.
    #[arg(long, value_name = "GROUP", value_parser = parse_group)]
    group: Option<Group>,
    /// The time-out of the call, counted from when it was sent, for example 90s.
    #[arg(long, value_name = "SPAN", value_parser = parse_span, conflicts_with = "deadline")]
    timeout: Option<Duration>,
    /// The same in milliseconds: the name before 2026-11-29.
    #[arg(long, hide = true, value_name = "MS", conflicts_with_all = ["timeout", "deadline"])]
    timeout_ms: Option<u64>,
    /// The deadline of the call, for example 2026-11-21T09:30:00Z.
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
    deadline: Option<Timestamp>,
    /// The call is not started before this instant, for example 2026-11-21T09:30:00Z.
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
    not_before: Option<Timestamp>,
    /// The call is not started before that time has passed, for example 20m.
    #[arg(long = "in", value_name = "SPAN", value_parser = parse_span, conflicts_with = "not_before")]
    start_in: Option<Duration>,
    /// Replaces the tenant's earlier calls of this key that were not started yet.
    #[arg(long, value_name = "KEY")]
    supersede: Option<String>,
    /// How urgent it is: high and low have queues of their own.
    #[arg(long, value_name = "PRIORITY", value_parser = priority())]
    priority: Option<Priority>,
    /// At most this many attempts; the tool's own limit stays the upper bound.
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// The call is safe to repeat: running it twice does no harm.
    #[arg(long)]
    idempotent: bool,
    /// A stored answer of an equal call will do, where the tool or its server allows that.
    #[arg(long)]
    cache: bool,
    /// The URL of a queue that gets a notice when the call ends; the catalog must list it.
    #[arg(long, value_name = "URL")]
    reply_queue: Option<String>,
    /// A whole request instead of the options above: the JSON body, from a file or from stdin. It is checked before it is sent.
    #[arg(
        long,
        value_name = "FILE|-",
        conflicts_with_all = [
            "tenant", "tool", "function", "server", "name", "operation", "arguments", "call_id", "idempotency_key", "session", "user",
            "agent", "group", "timeout", "timeout_ms", "deadline", "not_before", "start_in", "supersede", "priority", "max_attempts", "idempotent", "cache", "reply_queue", "resume",
            "input_responses",
        ]
    )]
    body: Option<String>,
}

/// A request that a worker accepts, and its text as it is sent.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The request.
    pub(crate) request: CallRequest,
    /// The message body.
    pub(crate) body: String,
}

#[derive(Serialize)]
struct Body<'a> {
    v: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a Tenant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a ToolId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a ServerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<Operation>,
    arguments: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a Group>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supersede: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<RetryWish>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    idempotent: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cache: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Reply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume: Option<Resume>,
}

impl RequestArgs {
    /// Any operation but `tools/call`, of a server.
    pub(super) fn of_server(server: ServerId, operation: Operation, arguments: String) -> Self {
        Self { server: Some(server), operation: Some(operation), arguments, ..Self::default() }
    }

    /// The request that the options describe.
    pub(crate) fn request(&self) -> Result<Ready, CommandError> {
        if let Some(file) = &self.body {
            return checked(text_of("--body", file)?);
        }
        if let Some(deadline) = self.deadline.filter(|deadline| *deadline <= system_clock()()) {
            return Err(CommandError::usage(format!(
                "--deadline: {deadline} has passed, so the call could not run; give an instant in the future, or --timeout"
            )));
        }
        let tenant = given_or_default(self.tenant.as_ref())?;
        let generated = self.call_id.is_none() && self.idempotency_key.is_none();
        let call_id = if generated { Some(new_call_id()?) } else { self.call_id.clone() };
        let resume = self.resumed()?;
        let body = Body {
            v: REQUEST_VERSION,
            call_id,
            idempotency_key: self.idempotency_key.as_deref(),
            tenant: Some(&tenant),
            tool: self.tool.as_ref(),
            function: self.function.as_deref(),
            server: self.server.as_ref(),
            name: self.name.as_deref(),
            operation: self.operation,
            arguments: object("--arguments", &self.arguments)?,
            session: self.session.as_ref(),
            user: self.user.as_ref(),
            agent: self.agent.as_deref(),
            group: self.group.as_ref(),
            timeout_ms: self.timeout.map(ms).or(self.timeout_ms),
            deadline: self.deadline,
            not_before: self.not_before.or_else(|| self.start_in.map(after)),
            supersede: self.supersede.as_deref(),
            priority: self.priority,
            retry: self.max_attempts.map(|max_attempts| RetryWish { max_attempts }),
            idempotent: self.idempotent,
            cache: self.cache,
            reply: self.reply_queue.clone().map(Reply::SqsQueueUrl),
            resume,
        };
        let text = serde_json::to_string(&body).map_err(|e| CommandError::Unavailable(e.into()))?;
        checked(text)
    }

    fn resumed(&self) -> Result<Option<Resume>, CommandError> {
        let Some(call_id) = self.resume.clone() else {
            return Ok(None);
        };
        if self.arguments == "-" && self.input_responses.as_deref() == Some("-") {
            let text = "--input-responses: stdin is read once, and --arguments reads it; give one of the two as @FILE";
            return Err(CommandError::usage(text));
        }
        let responses = self.input_responses.as_deref();
        let input_responses = responses.map(|text| object("--input-responses", text)).transpose()?;
        Ok(Some(Resume { call_id, input_responses }))
    }
}

fn checked(body: String) -> Result<Ready, CommandError> {
    match CallRequest::decode_large(&body) {
        Ok(request) => Ok(Ready { request, body }),
        Err(malformed) => Err(CommandError::usage(format!("the request is not valid: {}", malformed.error))),
    }
}

fn after(span: Duration) -> Timestamp {
    system_clock()().plus_ms(ms(span))
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn new_call_id() -> Result<CallId, CommandError> {
    CallId::parse(uuid::Uuid::now_v7().to_string()).map_err(|e| CommandError::Unavailable(e.into()))
}

/// The JSON object that an option gives.
pub(super) fn object(option: &str, given: &str) -> Result<Box<RawValue>, CommandError> {
    let text = match given.strip_prefix('@') {
        Some(file) => text_of(option, file)?,
        None if given == "-" => text_of(option, "-")?,
        None => given.to_owned(),
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(CommandError::usage(format!(
            "{option}: is empty; accepted is a JSON object, for example {{}}"
        )));
    }
    let not_json = |e: serde_json::Error| {
        CommandError::usage(format!("{option}: is not valid JSON: {e}\n{}", pointed_out(text, &e)))
    };
    let value: Box<RawValue> = serde_json::from_str(text).map_err(not_json)?;
    if !text.starts_with('{') {
        let found = if text.starts_with('[') { "an array" } else { "no object" };
        return Err(CommandError::usage(format!(
            "{option}: is {found}; accepted is a JSON object, for example '{{\"text\": \"hi\"}}'"
        )));
    }
    Ok(value)
}

/// The line with the error, with a mark below the place. Values are shown as dots, because terminal output is kept in logs.
fn pointed_out(text: &str, error: &serde_json::Error) -> String {
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    // The column is a number of bytes.
    let before = line.get(..error.column().saturating_sub(1)).unwrap_or(line);
    let column = before.chars().count();
    let line = without_values(line);
    let shown_from = column.saturating_sub(60);
    let shown: String = line.chars().skip(shown_from).take(80).collect();
    format!("  {shown}\n  {}^", " ".repeat(column.saturating_sub(shown_from)))
}

/// The line with its keys and punctuation; every other character is a dot.
fn without_values(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line;
    let mut before = '{';
    while let Some(c) = rest.chars().next() {
        // The end of a string that begins here, its quotes included.
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        let (piece, after) = match end.filter(|_| c == '"') {
            Some((end, _)) => rest.split_at(end + 1),
            None => rest.split_at(c.len_utf8()),
        };
        let plain = matches!(c, '{' | '}' | '[' | ']' | ':' | ',') || c.is_whitespace();
        let is_key = matches!(before, '{' | ',') && piece.len() > 1 && after.trim_start().starts_with(':');
        if !c.is_whitespace() {
            before = c;
        }
        if plain || is_key {
            shown.push_str(piece);
        } else {
            shown.extend(piece.chars().map(|_| '·'));
        }
        rest = after;
    }
    shown
}

fn text_of(option: &str, file: &str) -> Result<String, CommandError> {
    let from = if file == "-" { "stdin" } else { file };
    let cannot_read = |e: std::io::Error| CommandError::usage(format!("{option}: cannot read {from}: {e}"));
    let mut bytes = Vec::new();
    let read: Box<dyn Read> = match file {
        "-" => Box::new(std::io::stdin()),
        file => Box::new(std::fs::File::open(file).map_err(cannot_read)?),
    };
    // One byte more than allowed is enough to refuse it; a file without an end is not read on.
    read.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
    if bytes.len() as u64 > MAX_BYTES {
        let text = format!("{option}: {from} has more than {MAX_BYTES} bytes, the most that a call takes");
        return Err(CommandError::usage(text));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        CommandError::usage(format!("{option}: {from} is not UTF-8 text (byte {}); accepted is JSON", at + 1))
    })?;
    if text.trim().is_empty() {
        return Err(CommandError::usage(format!(
            "{option}: {from} is empty; accepted is a JSON object, for example {{}}"
        )));
    }
    Ok(text)
}

fn operation() -> impl TypedValueParser<Value = Operation> {
    let methods = Operation::ALL.map(Operation::as_str);
    let unknown = || "no such operation".to_owned();
    PossibleValuesParser::new(methods).try_map(move |method| Operation::parse(&method).ok_or_else(unknown))
}

fn priority() -> impl TypedValueParser<Value = Priority> {
    let words = Priority::ALL.map(Priority::as_str);
    let known = |word: String| Priority::ALL.into_iter().find(|priority| priority.as_str() == word);
    PossibleValuesParser::new(words).try_map(move |word| known(word).ok_or("no such priority"))
}

pub(super) fn parse_user(text: &str) -> Result<User, String> {
    let mut parts = text.splitn(3, ':');
    let id = parts.next().unwrap_or_default().to_owned();
    if id.is_empty() {
        return Err("the user's id is empty; accepted is ID, ID:TYPE or ID:TYPE:ROLE,ROLE".into());
    }
    let kind = parts.next().filter(|kind| !kind.is_empty()).map(str::to_owned);
    let roles = parts.next().unwrap_or_default();
    let roles = roles.split(',').map(str::trim).filter(|role| !role.is_empty()).map(str::to_owned).collect();
    Ok(User { id, kind, roles })
}

fn parse_group(text: &str) -> Result<Group, String> {
    let wanted = "accepted is ID/INDEX/SIZE or ID/INDEX/SIZE/POLICY, for example turn-7/0/3 or turn-7/0/3/first_success";
    let last = text.rsplit('/').next().unwrap_or_default();
    let has_policy = last.parse::<u32>().is_err();
    let (place, policy) = if has_policy { text.rsplit_once('/').ok_or(wanted)? } else { (text, "all") };
    let policy = policy.parse().map_err(|error| format!("{error}; {wanted}"))?;
    let (place, size) = place.rsplit_once('/').ok_or(wanted)?;
    let (id, index) = place.rsplit_once('/').ok_or(wanted)?;
    let id = GroupId::parse(id).map_err(|e| e.to_string())?;
    let whole = |text: &str| text.parse().map_err(|_| wanted.to_owned());
    Ok(Group { id, index: whole(index)?, size: whole(size)?, round: 1, policy, deadline: None, reply: None })
}

/// Reads an instant as an option gives it.
pub(crate) fn parse_instant(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_group_is_read_with_and_without_its_policy() {
        let place =
            |text: &str| parse_group(text).map(|g| (g.id.to_string(), g.index, g.size, g.policy.to_string()));
        assert_eq!(place("turn/7/0/3"), Ok(("turn/7".to_owned(), 0, 3, "all".to_owned())));
        assert_eq!(place("t/2/3/tolerate:10%"), Ok(("t".to_owned(), 2, 3, "tolerate:10%".to_owned())));
        for wrong in ["t", "t/3", "t/x/3", "t/0/3/most", ""] {
            assert!(parse_group(wrong).unwrap_err().contains("turn-7/0/3"), "{wrong}");
        }
    }

    #[test]
    fn a_user_is_read_with_type_and_roles() {
        let user = parse_user("ann:internal:admin, dev").unwrap();
        assert_eq!((user.id.as_str(), user.kind.as_deref()), ("ann", Some("internal")));
        assert_eq!(user.roles, ["admin", "dev"]);
        assert_eq!(parse_user("ann::ops").unwrap().kind, None);
        assert!(parse_user(":x").is_err());
    }

    #[test]
    fn arguments_that_are_not_json_point_at_the_place() {
        let Err(CommandError::Usage(text)) = object("--arguments", "{\"a\": nope}") else {
            panic!("accepted")
        };
        assert!(text.contains("line 1 column 8") && text.ends_with("\n         ^"), "{text}");
    }

    #[test]
    fn an_error_shows_keys_and_no_value() {
        let given = r#"{"a": "hunter2", "p\"w": hunter2, "b": ["hunter2" 77123], hunter2"#;
        let Err(CommandError::Usage(text)) = object("--arguments", given) else { panic!("accepted") };
        assert!(
            text.contains(r#"{"a": ·········, "p\"w": ·······, "b": [········· ·····], ·······"#),
            "{text}"
        );
    }

    #[test]
    fn arguments_that_are_no_object_say_what_is_accepted() {
        let Err(CommandError::Usage(text)) = object("--arguments", "[1]") else { panic!("accepted") };
        assert!(text.contains("is an array") && text.contains("JSON object"), "{text}");
    }

    #[test]
    fn arguments_are_kept_byte_for_byte() {
        assert_eq!(object("--arguments", " {\"a\" :1.50} ").unwrap().get(), "{\"a\" :1.50}");
    }
}
