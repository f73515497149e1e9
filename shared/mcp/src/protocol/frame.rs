//! Parses the envelope of JSON-RPC messages and classifies them: result, error, request, notification, or not for this request.
//!
//! A message for another request is told apart from an invalid answer to this one: the former is skipped.
//!
//! **Invariant:** only the envelope is parsed; `result`, `params` and ids keep their bytes.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use toolfleet_core::surrogate::replace_lone_surrogates;
use toolfleet_egress::{sanitize_text, sanitize_text_to};

/// A JSON-RPC error as far as we look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    /// Shortened.
    pub(crate) message: String,
    /// `data.supported`, where the server named protocol versions.
    pub(crate) supported: Vec<String>,
    /// Whether it carries the id of the request at hand.
    pub(crate) with_our_id: bool,
}

/// What the body of an error status says of one request.
#[derive(Debug)]
pub(crate) enum InBody {
    /// It is no JSON-RPC answer.
    Nothing,
    /// An error, to our request or to none that can be told.
    Error(RpcError),
    /// A result of our request.
    Result,
    /// It begins like JSON and cannot be read to its end, so that it may have been an answer.
    Cut,
}

/// One message of a server, seen by someone who waits for one id.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    /// The result.
    Result(&'a RawValue),
    /// An error, ours or without id.
    Error(RpcError),
    /// A request of the server to us.
    Request { id: &'a RawValue, method: Cow<'a, str> },
    /// A notification.
    Notification { method: Cow<'a, str>, params: Option<&'a RawValue> },
    /// Not for this request, or no message at all, with the reason. Others may follow.
    Foreign(String),
    /// An answer to this request that is neither a result nor an error.
    Nonsense(String),
}

/// The members of a message that count. Of two with one name the later one counts, as in JavaScript.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

/// The name of a member, which may be no text that can be decoded.
enum Member {
    Id,
    Method,
    Params,
    Result,
    Error,
    Other,
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Member;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_bytes<E: serde::de::Error>(self, name: &[u8]) -> Result<Member, E> {
                Ok(match name {
                    b"id" => Member::Id,
                    b"method" => Member::Method,
                    b"params" => Member::Params,
                    b"result" => Member::Result,
                    b"error" => Member::Error,
                    _ => Member::Other,
                })
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Member, E> {
                self.visit_bytes(name.as_bytes())
            }
        }
        deserializer.deserialize_bytes(Name)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Frame<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Frame<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON-RPC message")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Frame<'de>, A::Error> {
                let mut frame = Frame::default();
                while let Some(member) = map.next_key()? {
                    let value = map.next_value::<Option<&'de RawValue>>()?;
                    match member {
                        Member::Id => frame.id = value,
                        Member::Method => frame.method = value,
                        Member::Params => frame.params = value,
                        Member::Result => frame.result = value,
                        Member::Error => frame.error = value,
                        Member::Other => {}
                    }
                }
                Ok(frame)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// What came, as text: without a byte order mark, and with U+FFFD for what is no UTF-8.
pub(crate) fn readable(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
}

/// The text of a JSON string; half a surrogate pair in it becomes U+FFFD.
pub(crate) fn text_in(raw: &RawValue) -> Option<Cow<'_, str>> {
    struct Text;
    impl<'de> Visitor<'de> for Text {
        type Value = Cow<'de, str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(text))
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Cow::Owned(text.to_owned()))
        }
    }
    let read = |text| serde_json::Deserializer::from_str(text).deserialize_str(Text).ok();
    match replace_lone_surrogates(raw.get()) {
        Cow::Borrowed(text) => read(text),
        Cow::Owned(text) => {
            let mut mended = serde_json::Deserializer::from_str(&text);
            mended.deserialize_str(Text).ok().map(|text| Cow::Owned(text.into_owned()))
        }
    }
}

/// The id as a number: as itself, as a text, or with a fraction of zero, as some languages write every number.
pub(crate) fn number_in(id: &RawValue) -> Option<u64> {
    integer_in(id).and_then(|number| u64::try_from(number).ok())
}

fn integer_in(raw: &RawValue) -> Option<i64> {
    let text = raw.get();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).trim();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let (whole, fraction) = text.split_once('.')?;
    let is_whole = !fraction.is_empty() && fraction.bytes().all(|digit| digit == b'0');
    whole.parse().ok().filter(|_| is_whole)
}

impl<'a> Frame<'a> {
    /// The message, or what is wrong with it.
    pub(crate) fn read(text: &'a str) -> Result<Self, String> {
        if !text.trim_ascii_start().starts_with('{') {
            return Err(format!("not a JSON-RPC message: {}", sanitize_text(text)));
        }
        serde_json::from_str(text)
            .map_err(|error| sanitize_text(&format!("not a JSON-RPC message ({error})")))
    }

    /// Whether it answers something, rather than saying something of the server's own.
    pub(crate) fn is_answer(&self) -> bool {
        self.method.is_none() || self.result.is_some() || self.error.is_some()
    }

    /// Whether it is a message, rather than an object that happens to stand on a line of its own.
    pub(crate) fn says_something(&self) -> bool {
        self.method.is_some() || self.result.is_some() || self.error.is_some()
    }

    /// Whether it is an error that names no request.
    pub(crate) fn is_error_of_nobody(&self) -> bool {
        self.error.is_some() && self.id.is_none_or(is_placeholder)
    }

    /// What it means to who waits for the answer with this id.
    pub(crate) fn seen_by(self, waiting_for: u64) -> Heard<'a> {
        let ours = self.id.and_then(number_in) == Some(waiting_for);
        // A server may repeat the request's method in its answer; a request has neither of the two.
        if let Some(method) = self.method
            && !(ours && (self.result.is_some() || self.error.is_some()))
        {
            let Some(method) = text_in(method) else {
                return Heard::Foreign("a JSON-RPC message whose method is no text".to_owned());
            };
            return match self.id {
                Some(id) => Heard::Request { id, method },
                None => Heard::Notification { method, params: self.params },
            };
        }
        match (self.error, self.result) {
            (Some(error), _) if ours || self.is_error_of_nobody() => Heard::Error(error_of(error, ours)),
            (None, Some(result)) if ours => Heard::Result(result),
            (None, None) if ours => {
                Heard::Nonsense("a JSON-RPC message without result, error or method".to_owned())
            }
            (Some(_), _) | (None, Some(_)) => Heard::Foreign(match self.id {
                Some(id) => format!("the answer carries another request's id: {}", sanitize_text(id.get())),
                None => "the answer carries no id".to_owned(),
            }),
            (None, None) => Heard::Foreign("a JSON-RPC message without result, error or method".to_owned()),
        }
    }
}

/// Reads one message.
pub(crate) fn hear(text: &str, waiting_for: u64) -> Heard<'_> {
    match Frame::read(text) {
        Ok(frame) => frame.seen_by(waiting_for),
        Err(reason) => Heard::Foreign(reason),
    }
}

/// Ids that servers put where they do not know ours (Python before 2.0 writes `server-error`).
fn is_placeholder(id: &RawValue) -> bool {
    matches!(id.get(), "\"server-error\"" | "\"\"" | "\"null\"")
}

/// The messages of a text: one, or a batch of them, as 2025-03-26 allowed. A batch that cannot be read is one message.
pub(crate) fn messages_in(text: &str) -> Vec<&str> {
    let batch = text.trim_ascii_start().starts_with('[');
    let messages = batch.then(|| serde_json::from_str::<Vec<&RawValue>>(text).ok()).flatten();
    messages.map_or_else(|| vec![text], |messages| messages.into_iter().map(RawValue::get).collect())
}

#[derive(serde::Deserialize)]
struct ErrorMembers<'a> {
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(serde::Deserialize)]
struct VersionData<'a> {
    #[serde(borrow, default)]
    supported: Vec<&'a RawValue>,
}

/// A JSON-RPC error object, wherever it stood. Its members are read each for itself.
pub(crate) fn error_of(raw: &RawValue, with_our_id: bool) -> RpcError {
    let text = replace_lone_surrogates(raw.get());
    let members = serde_json::from_str::<ErrorMembers<'_>>(&text).ok();
    let read = members.and_then(|members| Some((members.code.and_then(integer_in)?, members)));
    let Some((code, members)) = read else {
        return RpcError { code: 0, message: sanitize_text(raw.get()), supported: Vec::new(), with_our_id };
    };
    let message = members.message.and_then(text_in).unwrap_or_default();
    let data = members.data.and_then(|data| serde_json::from_str::<VersionData<'_>>(data.get()).ok());
    let supported = data.map(|data| data.supported).unwrap_or_default();
    let versions = supported.into_iter().filter_map(text_in);
    RpcError {
        code,
        message: sanitize_text(&message),
        supported: versions.take(16).map(|version| sanitize_text_to(&version, 32)).collect(),
        with_our_id,
    }
}

/// The data of the events in a body that is an event stream, the last one also without the line that ends it.
fn events_in(text: &str) -> Vec<String> {
    let mut events = vec![String::new()];
    for line in text.lines() {
        match (line.strip_prefix("data:"), events.last_mut()) {
            (Some(data), Some(event)) => event.push_str(data),
            (None, Some(event)) if line.is_empty() && !event.is_empty() => events.push(String::new()),
            (None, _) | (Some(_), None) => {}
        }
    }
    events
}

/// What a body that came with an HTTP error status says of the request of this id. Of a batch, the answer to our request counts,
/// else its first error.
pub(crate) fn error_in(body: &[u8], id: u64) -> InBody {
    let text = readable(body);
    let events = events_in(&text);
    let messages = events.iter().map(String::as_str).chain([text.as_ref()]);
    let json = |message: &&str| message.trim_ascii_start().starts_with(['{', '[']);
    let mut frames = Vec::new();
    for message in messages.filter(json).flat_map(messages_in) {
        match Frame::read(message) {
            Ok(frame) => frames.push(frame),
            Err(_) => return InBody::Cut,
        }
    }
    let ours = |frame: &&Frame<'_>| frame.id.and_then(number_in) == Some(id);
    if let Some(answer) = frames.iter().find(ours) {
        return match answer.error {
            Some(raw) => InBody::Error(error_of(raw, true)),
            None => InBody::Result,
        };
    }
    let error = frames.iter().find_map(|frame| frame.error);
    error.map_or(InBody::Nothing, |raw| InBody::Error(error_of(raw, false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_taken_byte_for_byte_and_only_with_our_id() {
        let text = r#"{"jsonrpc":"2.0","id":7,"result": { "a" : 1.0e2, "b":"\u00e9" } }"#;
        let Heard::Result(raw) = hear(text, 7) else { panic!("a result") };
        assert_eq!(raw.get(), r#"{ "a" : 1.0e2, "b":"\u00e9" }"#);
        assert!(matches!(hear(text, 8), Heard::Foreign(_)));
        assert!(matches!(hear(r#"{"result":{}}"#, 7), Heard::Foreign(_)));
        assert!(matches!(hear(r#"{"id":7}"#, 7), Heard::Nonsense(_)));
    }

    #[test]
    fn our_id_is_known_however_the_server_writes_it() {
        for id in ["7", "\"7\"", "7.0", "\" 7 \"", "\"7.00\""] {
            let text = format!(r#"{{"id":{id},"result":{{}}}}"#);
            assert!(matches!(hear(&text, 7), Heard::Result(_)), "{id}");
        }
        for id in ["70", "7.5", "\"x7\"", "-7", "[7]", "null", "7.", "\"\""] {
            let text = format!(r#"{{"id":{id},"result":{{}}}}"#);
            assert!(matches!(hear(&text, 7), Heard::Foreign(_)), "{id}");
        }
    }

    #[test]
    fn an_answer_is_one_whatever_stands_beside_it() {
        for text in [
            r#"{"id":7,"method":"tools/call","result":{}}"#,
            r#"{"id":7,"result":{},"error":null}"#,
            r#"{"id":1,"id":7,"result":{}}"#,
            r#"{"\ud800":"\udc00","id":7,"result":{}}"#,
            " \r\n{\"id\":7,\"result\":{}}\n",
        ] {
            assert!(matches!(hear(text, 7), Heard::Result(_)), "{text}");
        }
        assert!(matches!(hear(r#"{"id":7,"method":"ping"}"#, 7), Heard::Request { .. }));
        assert!(matches!(hear(r#"{"id":9,"method":"x","result":{}}"#, 7), Heard::Request { .. }));
    }

    #[test]
    fn an_error_without_id_is_the_error_of_its_response() {
        let text = r#"{"error":{"code":-32000,"message":"x","data":{"supported":["a",1]}},"id":null}"#;
        let Heard::Error(error) = hear(text, 7) else { panic!("an error") };
        assert_eq!((error.code, error.supported), (-32000, vec!["a".to_owned()]));
        assert!(!error.with_our_id);
    }

    #[test]
    fn an_error_is_read_whose_members_are_written_in_other_ways() {
        for (error, code, message) in [
            (r#"{"code":"-32602","message":"no"}"#, -32602, "no"),
            (r#"{"code":-32602.0}"#, -32602, ""),
            (r#"{"code":-1,"message":"a\ud800b"}"#, -1, "a\u{fffd}b"),
            (r#"{"code":-1,"message":{"x":1},"data":7}"#, -1, ""),
            (r#""boom""#, 0, "\"boom\""),
        ] {
            let text = format!(r#"{{"id":7,"error":{error}}}"#);
            let Heard::Error(found) = hear(&text, 7) else { panic!("{error}") };
            assert_eq!((found.code, found.message.as_str()), (code, message), "{error}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_message_and_foreign_bytes_become_u_fffd() {
        assert_eq!(readable(b"\xef\xbb\xbf{}"), "{}");
        assert_eq!(readable(b"caf\xe9"), "caf\u{fffd}");
        assert!(matches!(error_in(b"\xef\xbb\xbf{\"id\":7,\"result\":{}}", 7), InBody::Result));
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let text = format!(r#"{{"id":1,"x":{deep},"result":{{"y":{deep}}}}}"#);
        let Heard::Result(raw) = hear(&text, 1) else { panic!("a result") };
        assert!(crate::answer::kind_of(raw).is_ok());
        assert_eq!(messages_in(&deep).len(), 1);
    }
}
