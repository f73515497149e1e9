//! The spans of a call, by OpenTelemetry's conventions for messaging, GenAI and MCP; arguments and results are never in them.
//!
//! **Invariant:** without a receiver of traces, none of these spans is made, and the sender's trace context is passed on unchanged.

use std::collections::{BTreeMap, HashMap};

use opentelemetry::global;
use opentelemetry::trace::TraceContextExt as _;
use toolfleet_core::answer::{Answer, Meaning};
use toolfleet_core::failure::Failure;
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::{Outcome, OutcomeKind};
use toolfleet_core::request::Operation;
use toolfleet_executors::spans::TARGET;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use url::Url;

/// The names of W3C trace context, as message attributes and as headers.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// The same, of the vendor's part.
pub(crate) const TRACESTATE: &str = "tracestate";

/// A W3C trace context that goes to somebody else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Onward {
    pub(crate) traceparent: Option<String>,
    pub(crate) tracestate: Option<String>,
}

/// The span of one delivery, child of whatever the sender named. `earlier` is the span of the delivery whose worker parked the call: the new
/// one links to it.
pub(crate) fn delivery(queue: &str, message_id: &str, sent: &Onward, earlier: Option<&str>) -> Span {
    let span = tracing::info_span!(
        target: TARGET, parent: None, "process",
        otel.name = format_args!("process {queue}"), otel.kind = "consumer",
        messaging.system = "aws_sqs", messaging.operation.type = "process", messaging.operation.name = "process",
        messaging.destination.name = queue, messaging.message.id = message_id,
        toolfleet.call_id = Empty, toolfleet.tenant = Empty, toolfleet.outcome = Empty, error.type = Empty,
    );
    follows(&span, sent, earlier);
    span
}

/// The span of a dead letter that is ended, child of whatever the sender named; it links to the delivery that parked the call last.
pub(crate) fn reaping(queue: &str, message_id: &str, sent: &Onward, earlier: Option<&str>) -> Span {
    let span = tracing::info_span!(
        target: TARGET, parent: None, "reap",
        otel.name = format_args!("reap {queue}"), otel.kind = "consumer",
        messaging.system = "aws_sqs", messaging.operation.type = "process", messaging.operation.name = "reap",
        messaging.destination.name = queue, messaging.message.id = message_id,
        toolfleet.call_id = Empty, toolfleet.tenant = Empty, toolfleet.outcome = Empty, error.type = Empty,
    );
    follows(&span, sent, earlier);
    span
}

/// Makes the span a child of what the sender named, and links it to an earlier one.
fn follows(span: &Span, sent: &Onward, earlier: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    let context = |traceparent: Option<&str>, tracestate: Option<&str>| {
        let parts = [(TRACEPARENT, traceparent), (TRACESTATE, tracestate)];
        let carrier: HashMap<_, _> = parts
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        global::get_text_map_propagator(|propagator| propagator.extract(&carrier))
    };
    let _started_before = span.set_parent(context(sent.traceparent.as_deref(), sent.tracestate.as_deref()));
    if earlier.is_some() {
        let earlier = context(earlier, None).span().span_context().clone();
        if earlier.is_valid() {
            span.add_link(earlier);
        }
    }
}

/// The span that log lines of a delivery stand in: they name its message and its trace.
pub(crate) fn lines(delivery: &Span, message_id: &str, sent: Onward) -> Span {
    let traceparent = onward(delivery).or(sent).traceparent;
    let trace_id = traceparent.as_deref().and_then(trace_id);
    tracing::info_span!(parent: delivery, "call", message_id, trace_id)
}

/// Whose delivery it is.
pub(crate) fn named(process: &Span, key: &CallKey) {
    if !process.is_disabled() {
        process.record("toolfleet.tenant", key.tenant.as_str());
        process.record("toolfleet.call_id", key.call_id.as_str());
    }
}

/// How its call ended.
pub(crate) fn outcome(process: &Span, outcome: &Outcome) {
    if process.is_disabled() {
        return;
    }
    process.record("toolfleet.outcome", outcome.kind.as_str());
    if let Some(why) = &outcome.error {
        process.record("error.type", why.code.as_str());
    }
}

/// The span of a notice on its way.
pub(crate) fn notice(queue_url: &str) -> Span {
    let queue = queue_url.rsplit('/').next().unwrap_or(queue_url);
    tracing::info_span!(
        target: TARGET, "send",
        otel.name = format_args!("send {queue}"), otel.kind = "producer",
        messaging.system = "aws_sqs", messaging.operation.type = "send", messaging.operation.name = "send",
        messaging.destination.name = queue,
    )
}

/// The span of one attempt at the server. The address of a resource stays out of it: there are too many, and one may hold a token.
pub(crate) fn attempt(operation: Operation, name: &str, server: &Url, number: u32) -> Span {
    let method = operation.as_str();
    let tool = (operation == Operation::ToolsCall).then_some(name);
    let prompt = (operation == Operation::PromptsGet).then_some(name);
    let (gap, of) = tool.or(prompt).map_or(("", ""), |name| (" ", name));
    let protocol = match server.scheme() {
        "stdio" => None,
        "ws" | "wss" => Some("websocket"),
        _ => Some("http"),
    };
    tracing::info_span!(
        target: TARGET, "attempt",
        otel.name = format_args!("{method}{gap}{of}"), otel.kind = "client", otel.status_code = Empty,
        mcp.method.name = method, mcp.session.id = Empty, mcp.protocol.version = Empty,
        gen_ai.operation.name = tool.map(|_| "execute_tool"), gen_ai.tool.name = tool, gen_ai.prompt.name = prompt,
        server.address = server.host_str(), server.port = server.port_or_known_default().map(i64::from),
        network.protocol.name = protocol, network.transport = protocol.is_none().then_some("pipe"),
        error.type = Empty, toolfleet.attempt = i64::from(number),
    )
}

/// What came of an attempt; gives its `error.type`, where it has one.
pub(crate) fn ended(span: &Span, answer: &Result<Answer, Failure>) -> Option<&'static str> {
    let error = match answer {
        Ok(Answer { meaning: Meaning::Ended(outcome), .. }) if outcome.kind == OutcomeKind::ToolError => {
            Some("tool_error")
        }
        Ok(Answer { meaning: Meaning::Ended(_) | Meaning::Task { .. }, .. }) => None,
        Err(failure) => Some(failure.code.as_str()),
    };
    if span.is_disabled() {
        return error;
    }
    if let Ok(answer) = answer {
        span.record("mcp.protocol.version", answer.connection.protocol_version.as_str());
        // A session's id is a credential, so only its first characters are shown; they tell sessions apart.
        if let Some(session) = &answer.connection.session {
            span.record("mcp.session.id", session.chars().take(8).collect::<String>());
        }
    }
    if let Some(error) = error {
        span.record("error.type", error);
        span.record("otel.status_code", "ERROR");
    }
    error
}

/// The context that goes on from `span`: nothing where traces go nowhere.
pub(crate) fn onward(span: &Span) -> Onward {
    if span.is_disabled() {
        return Onward::default();
    }
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return Onward::default();
    }
    let mut carrier = HashMap::new();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut carrier));
    let mut take = |name: &str| carrier.remove(name).filter(|value: &String| !value.is_empty());
    Onward { traceparent: take(TRACEPARENT), tracestate: take(TRACESTATE) }
}

impl Onward {
    /// What an `AWSTraceHeader` says (`Root=1-{8 hex}-{24 hex};Parent={16 hex};Sampled=1`), which SQS carries for AWS X-Ray.
    pub(crate) fn of_aws(header: &str) -> Self {
        let part =
            |name: &str| header.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        let root = part("Root").and_then(|root| root.strip_prefix("1-")?.split_once('-'));
        let (Some((epoch, unique)), Some(parent)) = (root, part("Parent")) else {
            return Self::default();
        };
        let traceparent =
            format!("00-{epoch}{unique}-{parent}-{}", if part("Sampled") == Some("1") { "01" } else { "00" });
        let parent_fits = parent.len() == 16 && parent.bytes().all(|b| b.is_ascii_hexdigit());
        let fits = parent_fits && trace_id(&traceparent).is_some();
        Self { traceparent: fits.then_some(traceparent), tracestate: None }
    }

    /// This one, or the other if this is none.
    pub(crate) fn or(self, other: Self) -> Self {
        if self.traceparent.is_some() { self } else { other }
    }

    /// As message attributes.
    pub(crate) fn attributes(self) -> BTreeMap<String, String> {
        let pairs = [(TRACEPARENT, self.traceparent), (TRACESTATE, self.tracestate)];
        pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// The trace id in a `traceparent`, if it is one.
pub(crate) fn trace_id(traceparent: &str) -> Option<&str> {
    let id = traceparent.split('-').nth(1)?;
    let fits = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0');
    fits.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_aws_names_the_same_trace_as_a_traceparent() {
        let whole = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=a:0";
        let expected = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01";
        assert_eq!(Onward::of_aws(whole).traceparent.as_deref(), Some(expected));
        let unsampled = Onward::of_aws(&whole.replace("Sampled=1", "Sampled=0")).traceparent.unwrap();
        assert!(unsampled.ends_with("-00"), "{unsampled}");
        for broken in [
            "",
            "Root=1-5759e988-bd862e3fe1be46a994272793",
            "Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8",
            "Root=1-5759e988-bd862e3fe1be46a99427279;Parent=53995c3f42cd8ad8",
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8adx",
        ] {
            assert_eq!(Onward::of_aws(broken), Onward::default(), "{broken}");
        }
    }

    #[test]
    fn a_trace_id_is_taken_from_a_whole_traceparent_alone() {
        let whole = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace_id(whole), Some("0af7651916cd43dd8448eb211c80319c"));
        for broken in ["", "00", "00-xyz-1-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert_eq!(trace_id(broken), None, "{broken}");
        }
    }
}
