//! Finds the request in a body that something on its way has wrapped: SNS, EventBridge, a Lambda event, CloudEvents, base64, a JSON text.
//!
//! It runs only for a body that is not a request itself, so that the usual message pays nothing for it. A wrapper is opened
//! where exactly one text can be meant; every other body of a known kind is named, with what its sender does about it. Who sent the
//! message is what SQS says, never what a wrapper says.
//!
//! **Invariant:** what is opened is no longer than the body, and no more than [`MOST_WRAPPERS`] are opened.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::base64_text::in_base64;
use crate::payload::{ObjectAt, extended_pointer};

/// So many wrappers around each other are opened.
const MOST_WRAPPERS: usize = 3;
/// A shorter text is not looked at as base64.
const LEAST_BASE64: usize = 16;

/// What a body is that is no request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing known: what is wrong with the body as a request says all.
    Nothing,
    /// This text, within wrappers of those names.
    Inside(String, Vec<&'static str>),
    /// The pointer of an SQS extended client to a body in a bucket.
    Elsewhere(ObjectAt),
    /// A body of a known kind that holds no request, or not for certain one: what it is, and what to do.
    Named(String),
}

/// One layer of a body.
enum Layer {
    Bare,
    Within(&'static str, String),
    Elsewhere(ObjectAt),
    Named(String),
}

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// Looks into a body that is no request.
pub(super) fn open(body: &str) -> Found {
    let mut through = Vec::new();
    let mut opened = 0;
    let mut text: Cow<'_, str> = Cow::Borrowed(body);
    loop {
        let clean = trimmed(&text);
        // JSON itself passes over its own white space.
        if clean.len() < text.trim_matches([' ', '\t', '\r', '\n']).len() {
            through.push("stray characters (a byte order mark, NUL)");
        }
        text = Cow::Owned(clean.to_owned());
        match layer(&text) {
            Layer::Bare if through.is_empty() => return Found::Nothing,
            Layer::Bare => return Found::Inside(text.into_owned(), through),
            Layer::Named(sentence) => return Found::Named(within(&through, sentence)),
            Layer::Elsewhere(at) => return Found::Elsewhere(at),
            Layer::Within(what, inner) if opened < MOST_WRAPPERS => {
                opened += 1;
                through.push(what);
                text = Cow::Owned(inner);
            }
            Layer::Within(..) => {
                let text = format!(
                    "is wrapped more than {MOST_WRAPPERS} times; send the request itself as the body"
                );
                return Found::Named(within(&through, text));
            }
        }
    }
}

/// How far into a body it is looked whether SNS wrapped it: SNS writes its `Type` first.
const LOOKED_AT: usize = 64;
/// A longer value is no trace context (W3C).
const LONGEST_TRACE: usize = 512;

/// The message attribute of that name that SNS put into the body, because it delivers the body wrapped.
pub fn sns_attribute(body: &str, name: &str) -> Option<String> {
    // Cheap for every other body, whatever its size.
    let beginning = body.get(..LOOKED_AT)?;
    if !beginning.contains("\"Type\"") || !beginning.contains("Notification") {
        return None;
    }
    let members: Members<'_> = serde_json::from_str(body).ok()?;
    let attributes: Members<'_> = serde_json::from_str(members.get("MessageAttributes")?.get()).ok()?;
    let attribute: Members<'_> = serde_json::from_str(attributes.get(name)?.get()).ok()?;
    text_of(&attribute, "Value").filter(|value| (1..=LONGEST_TRACE).contains(&value.len()))
}

/// A sentence with where it was found.
pub(super) fn within(through: &[&'static str], sentence: String) -> String {
    match through {
        [] => sentence,
        wrappers => format!("{sentence} (found in {})", wrappers.join(", in that ")),
    }
}

/// The text without byte order mark, white space and NUL around it. A mark may have been read as Latin-1.
fn trimmed(text: &str) -> &str {
    let around = |c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\0');
    let text = text.trim_matches(around);
    text.strip_prefix("\u{ef}\u{bb}\u{bf}").map_or(text, |rest| rest.trim_matches(around))
}

fn layer(text: &str) -> Layer {
    match text.chars().next() {
        Some('{') => object(text),
        Some('[') => array(text),
        Some('"') => match serde_json::from_str(text) {
            Ok(inner) => Layer::Within("a JSON text", inner),
            Err(_) => Layer::Bare,
        },
        Some('<') => named("is XML; accepted is a JSON object"),
        Some(_) => other(text),
        None => Layer::Bare,
    }
}

fn object(text: &str) -> Layer {
    let Ok(members) = serde_json::from_str::<Members<'_>>(text) else {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
        let several = matches!((values.next(), values.next()), (Some(Ok(_)), Some(Ok(_))));
        return if several {
            named("holds several JSON objects, one after the other; send a message for each")
        } else {
            Layer::Bare
        };
    };
    if members.contains_key("v") {
        return Layer::Bare;
    }
    let has = |names: &[&str]| names.iter().all(|name| members.contains_key(*name));
    if has(&["Type", "Message"]) || has(&["TopicArn", "Message"]) {
        return sns(&members);
    }
    if has(&["detail-type", "detail"]) {
        return inner("the `detail` of an EventBridge event", &members, "detail");
    }
    if has(&["specversion"]) {
        return cloud_event(&members);
    }
    if let Some(records) = members.get("Records") {
        return several("a Lambda event", "Records", records);
    }
    if let Some(messages) = members.get("Messages") {
        return several("the output of ReceiveMessage", "Messages", messages);
    }
    if has(&["Body", "ReceiptHandle"])
        || has(&["Body", "MessageId"])
        || has(&["body", "receiptHandle"])
        || has(&["eventSource"])
        || has(&["EventSource"])
    {
        return record(&members);
    }
    if has(&["QueueUrl", "MessageBody"]) {
        return inner("the `MessageBody` of a SendMessage request", &members, "MessageBody");
    }
    if has(&["body", "isBase64Encoded"]) || has(&["body", "requestContext"]) || has(&["body", "httpMethod"]) {
        let encoded = members.get("isBase64Encoded").is_some_and(|flag| flag.get() == "true");
        return body("the `body` of an API Gateway event", &members, encoded);
    }
    if has(&["body", "properties"]) || has(&["body", "content-encoding"]) {
        return celery(&members);
    }
    if text_of(&members, "Event").is_some_and(|event| event.starts_with("s3:")) {
        return named("is a test event of S3; point the bucket's notifications at another queue");
    }
    foreign(&members)
}

/// A call in the form of another interface.
fn foreign(members: &Members<'_>) -> Layer {
    let kind = text_of(members, "type");
    let accepted = "send {\"v\": 1, \"call_id\", \"tenant\", \"tool\", \"arguments\"} (docs/reference/call-request.schema.json)";
    let what = if members.contains_key("jsonrpc") {
        "is a JSON-RPC message as MCP servers take it"
    } else if kind.as_deref() == Some("tool_use") {
        "is a `tool_use` block of a model's answer"
    } else if kind.as_deref() == Some("function") && members.contains_key("function") {
        "is a tool call of a model's answer (`function`)"
    } else {
        return Layer::Bare;
    };
    named(&format!("{what}; {accepted}"))
}

fn sns(members: &Members<'_>) -> Layer {
    match text_of(members, "Type").as_deref() {
        Some("SubscriptionConfirmation") => named(
            "is the confirmation of an SNS subscription; confirm it (aws sns confirm-subscription with its Token, or open its \
             SubscribeURL), and set RawMessageDelivery",
        ),
        Some("UnsubscribeConfirmation") => {
            named("tells that an SNS subscription has ended; subscribe the queue again if that was not meant")
        }
        Some(_) | None => inner("the `Message` of an SNS notification", members, "Message"),
    }
}

fn cloud_event(members: &Members<'_>) -> Layer {
    let what = "the data of a CloudEvent";
    match (members.contains_key("data"), text_of(members, "data_base64")) {
        (true, None) => inner(what, members, "data"),
        (false, Some(data)) => decoded(what, &data),
        (true, Some(_)) | (false, None) => {
            named("is a CloudEvent without `data`, or with two; put the request into `data`")
        }
    }
}

/// The only item of a list that delivers records.
fn several(what: &'static str, field: &str, records: &RawValue) -> Layer {
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(records.get()) else {
        return Layer::Bare;
    };
    match items.as_slice() {
        [item] => match serde_json::from_str::<Members<'_>>(item.get()) {
            Ok(members) => record(&members),
            Err(_) => named(&format!(
                "is {what} whose `{field}` holds no object; send the request itself as the body"
            )),
        },
        items => {
            let n = items.len();
            named(&format!(
                "is {what} with {n} records in `{field}`; send a message for each, its body the request alone"
            ))
        }
    }
}

/// One record of a Lambda event, or one message as ReceiveMessage gives it.
fn record(members: &Members<'_>) -> Layer {
    let source = text_of(members, "eventSource").or_else(|| text_of(members, "EventSource"));
    match source.as_deref() {
        Some("aws:sqs") => inner("the `body` of an SQS record", members, "body"),
        Some("aws:sns") => match members.get("Sns").map(|sns| serde_json::from_str::<Members<'_>>(sns.get()))
        {
            Some(Ok(notification)) => sns(&notification),
            Some(Err(_)) | None => {
                named("is an SNS record without `Sns`; send the request itself as the body")
            }
        },
        Some("aws:s3") => named(
            "is a notification of S3 about an object; it holds no request. Send one for the object from what reacts to it",
        ),
        Some(source) if source.starts_with("aws:") => {
            named(&format!("is a record of `{}`; send the request itself as the body", known(source)))
        }
        Some(_) | None if members.contains_key("Body") => {
            inner("the `Body` of an SQS message", members, "Body")
        }
        Some(_) | None if members.contains_key("body") => {
            inner("the `body` of an SQS message", members, "body")
        }
        Some(_) | None => {
            named("is a record of a kind that is not known; send the request itself as the body")
        }
    }
}

/// The source of a record, unless it may be anything.
fn known(source: &str) -> &str {
    match source {
        "aws:kinesis" | "aws:dynamodb" | "aws:kafka" | "aws:mq" | "aws:ses" | "aws:codecommit" => source,
        _ => "another AWS service",
    }
}

/// What kombu and Celery put on SQS: a body in base64 beside its properties.
fn celery(members: &Members<'_>) -> Layer {
    let Some(encoded) = text_of(members, "body") else {
        return inner("the `body` of a kombu message", members, "body");
    };
    let text = in_base64(&encoded).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(encoded);
    if trimmed(&text).starts_with('[') {
        return named(
            "is a Celery task, whose body is an array of its arguments; send the request as a message of its own (boto3 send_message, \
             or kombu's Producer.publish with the request as its body)",
        );
    }
    Layer::Within("the `body` of a kombu message", text)
}

/// The value of a key: the content of a text, else the JSON.
fn inner(what: &'static str, members: &Members<'_>, key: &str) -> Layer {
    match (text_of(members, key), members.get(key)) {
        (Some(text), _) => Layer::Within(what, text),
        (None, Some(raw)) if raw.get().starts_with('{') => Layer::Within(what, raw.get().to_owned()),
        (None, Some(_) | None) => {
            named(&format!("is wrapped, and {what} is no JSON object; put the request there"))
        }
    }
}

fn body(what: &'static str, members: &Members<'_>, encoded: bool) -> Layer {
    match text_of(members, "body").filter(|_| encoded) {
        Some(text) => decoded(what, &text),
        None => inner(what, members, "body"),
    }
}

fn decoded(what: &'static str, encoded: &str) -> Layer {
    match in_base64(encoded).map(String::from_utf8) {
        Some(Ok(text)) => Layer::Within(what, text),
        Some(Err(_)) | None => named(&format!(
            "is wrapped, and {what} is no text in base64; send the request itself as the body"
        )),
    }
}

fn array(text: &str) -> Layer {
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) else {
        return Layer::Bare;
    };
    match extended_pointer(text) {
        Some(Ok(at)) => return Layer::Elsewhere(at),
        Some(Err(error)) => {
            let what = "is the pointer of an SQS extended client to a body in S3, whose";
            return named(&format!("{what} {} {}", error.field, error.problem));
        }
        None => {}
    }
    let objects = items.iter().filter(|item| item.get().starts_with('{')).count();
    match (objects, items.len()) {
        (0, _) => Layer::Bare,
        (1, 1) => named("is an array; accepted is a JSON object: send the one in it without the brackets"),
        (_, n) => {
            named(&format!("is an array of {n} values; accepted is a JSON object: send a message for each"))
        }
    }
}

/// What begins like no JSON.
fn other(text: &str) -> Layer {
    if text.starts_with("\u{ff}\u{fe}")
        || text.starts_with("\u{fe}\u{ff}")
        || text.starts_with('\u{fffe}')
        || text.chars().nth(1) == Some('\0')
    {
        return named("is UTF-16; encode it as UTF-8");
    }
    if text.starts_with("Action=") || text.contains("&MessageBody=") {
        return named("is a form of the SQS query API; its MessageBody alone is the body of a message");
    }
    if text.starts_with("%7B") || text.starts_with("%7b") {
        return named("is encoded as a part of a URL; decode it before it is sent");
    }
    if text.starts_with("b'{") || text.starts_with("b\"{") {
        return named(
            "is the printed form of Python bytes; decode them before they are sent (data.decode())",
        );
    }
    let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let Some(bytes) =
        Some(plain).filter(|plain| plain.len() >= LEAST_BASE64).and_then(|plain| in_base64(&plain))
    else {
        return Layer::Bare;
    };
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return named("is compressed (gzip, in base64); send the JSON text itself, of up to 1 MiB");
    }
    match String::from_utf8(bytes) {
        Ok(inner) if trimmed(&inner).starts_with(['{', '[', '"']) => Layer::Within("base64", inner),
        Ok(_) | Err(_) => Layer::Bare,
    }
}

fn text_of(members: &Members<'_>, key: &str) -> Option<String> {
    serde_json::from_str(members.get(key)?.get()).ok()
}

fn named(sentence: &str) -> Layer {
    Layer::Named(sentence.to_owned())
}
