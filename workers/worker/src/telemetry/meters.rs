//! The metrics of a worker. Names follow OpenTelemetry's conventions where there are any; labels are few and bounded: no call, no
//! session, no tenant.
//!
//! **Invariant:** without a receiver of metrics, nothing is counted.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Counter, Histogram, Meter};
use toolfleet_core::fleet::{FleetSummary, LimitPart};
use toolfleet_core::group::GroupResult;
use toolfleet_core::ids::ServerId;
use toolfleet_core::outcome::{Code, OutcomeKind};
use toolfleet_core::request::Operation;

use super::metric_lines::MetricLines;

/// Seconds; a call may take milliseconds or hours.
const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0];

/// The most servers with a label of their own, and the label of all others.
pub(crate) const MOST_SERVERS: usize = 100;
pub(crate) const OTHER_SERVERS: &str = "other";

/// Calls in a batch.
const CALLS: [f64; 7] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// What a worker counts with. Clones count together.
#[derive(Debug, Clone)]
pub struct Meters {
    on: Option<Arc<Instruments>>,
    lines: Option<Arc<MetricLines>>,
}

#[derive(Debug)]
struct Instruments {
    meter: Meter,
    processed: Histogram<f64>,
    attempts: Histogram<f64>,
    ended: Counter<u64>,
    requeued: Counter<u64>,
    received: Counter<u64>,
    receives: Counter<u64>,
    late_answers: Counter<u64>,
    missed_turns: Counter<u64>,
    sent_late: Counter<u64>,
    decided_groups: Counter<u64>,
    cache: Counter<u64>,
    batches: Histogram<u64>,
    limits: Counter<u64>,
    servers: ServerLabels,
}

/// The servers that have a label of their own: the first [`MOST_SERVERS`] that were called. A catalog may have thousands, and each is a series in
/// every worker.
#[derive(Debug, Default)]
struct ServerLabels(Mutex<HashSet<ServerId>>);

impl ServerLabels {
    fn label(&self, server: &ServerId) -> Cow<'static, str> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(server) {
            if known.len() >= MOST_SERVERS {
                return OTHER_SERVERS.into();
            }
            known.insert(server.clone());
        }
        server.to_string().into()
    }
}

/// How a call that may be given a stored answer got its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheUse {
    /// It was stored.
    Hit,
    /// An equal call was under way, and its answer served both.
    Coalesced,
    /// It was sent to its server.
    Miss,
}

impl CacheUse {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Coalesced => "coalesced",
            Self::Miss => "miss",
        }
    }
}

impl Meters {
    /// Counts nothing.
    pub const fn none() -> Self {
        Self { on: None, lines: None }
    }

    /// Counts with `meter`.
    pub fn new(meter: &Meter) -> Self {
        let seconds = |name: &'static str, text: &'static str| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(text);
            histogram.with_boundaries(SECONDS.to_vec()).build()
        };
        let count =
            |name: &'static str, text: &'static str| meter.u64_counter(name).with_description(text).build();
        let on = Instruments {
            processed: seconds(
                "messaging.process.duration",
                "From receiving a message until it is deleted or requeued.",
            ),
            attempts: seconds("mcp.client.operation.duration", "One attempt at an MCP server."),
            ended: count("toolfleet.calls.ended", "Calls that this worker ended, by outcome and code."),
            requeued: count("toolfleet.calls.requeued", "Calls that went back to the queue, by reason."),
            received: count("messaging.client.consumed.messages", "Messages received."),
            receives: count("toolfleet.receives", "Receive requests that were answered."),
            late_answers: count(
                "toolfleet.late_answers",
                "Answers that came after another worker had taken the call over.",
            ),
            decided_groups: count(
                "toolfleet.groups.decided",
                "Groups of calls that this worker decided, by their result.",
            ),
            missed_turns: count(
                "toolfleet.limits.missed_turns",
                "Turns of rate limits that came while the worker could not send the call.",
            ),
            sent_late: count(
                "toolfleet.limits.sent_late",
                "Requests that may have been written too late for their turns, because the worker was frozen.",
            ),
            cache: count("toolfleet.cache.calls", "Calls that asked for a stored answer and may have one."),
            batches: meter
                .u64_histogram("toolfleet.batch.size")
                .with_description("Calls in each batch that was sent.")
                .with_boundaries(CALLS.to_vec())
                .build(),
            limits: count(
                "toolfleet.limits.met",
                "Times that a limit made a call wait, by the kind of limit and of wait.",
            ),
            servers: ServerLabels::default(),
            meter: meter.clone(),
        };
        Self { on: Some(Arc::new(on)), lines: None }
    }

    /// The same, and lines of the fleet's metrics.
    #[must_use]
    pub fn with_lines(self, lines: MetricLines) -> Self {
        Self { lines: Some(Arc::new(lines)), ..self }
    }

    /// Whether this worker writes summaries of the fleet as lines.
    pub(crate) const fn has_lines(&self) -> bool {
        self.lines.is_some()
    }

    /// Writes a summary of the fleet: of this worker, or of one that has no lines.
    pub(crate) fn fleet(&self, summary: &FleetSummary) {
        if let Some(lines) = &self.lines {
            lines.write(summary);
        }
    }

    /// Whether anything is counted.
    pub(crate) const fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// A delivery has left the worker.
    pub(crate) fn processed(&self, queue: &str, took: Duration) {
        if let Some(on) = &self.on {
            let attributes = [
                KeyValue::new("messaging.system", "aws_sqs"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.destination.name", queue.to_owned()),
            ];
            on.processed.record(took.as_secs_f64(), &attributes);
        }
    }

    /// An attempt has ended.
    pub(crate) fn attempted(
        &self,
        operation: Operation,
        server: &ServerId,
        took: Duration,
        error: Option<&'static str>,
    ) {
        if let Some(on) = &self.on {
            let mut attributes = vec![
                KeyValue::new("mcp.method.name", operation.as_str()),
                KeyValue::new("toolfleet.server", on.servers.label(server)),
            ];
            attributes.extend(error.map(|error| KeyValue::new("error.type", error)));
            on.attempts.record(took.as_secs_f64(), &attributes);
        }
    }

    /// A call has ended here.
    pub(crate) fn ended(&self, outcome: OutcomeKind, code: Option<Code>) {
        if let Some(on) = &self.on {
            let mut attributes = vec![KeyValue::new("toolfleet.outcome", outcome.as_str())];
            attributes.extend(code.map(|code| KeyValue::new("toolfleet.code", code.as_str())));
            on.ended.add(1, &attributes);
        }
    }

    /// A call goes back to the queue.
    pub(crate) fn requeued(&self, reason: &'static str) {
        if let Some(on) = &self.on {
            on.requeued.add(1, &[KeyValue::new("toolfleet.reason", reason)]);
        }
    }

    /// A receive has brought `messages`.
    pub(crate) fn received(&self, messages: u32) {
        if let Some(on) = &self.on {
            on.receives.add(1, &[]);
            on.received.add(u64::from(messages), &[KeyValue::new("messaging.system", "aws_sqs")]);
        }
    }

    /// An answer came too late.
    pub(crate) fn late_answer(&self) {
        if let Some(on) = &self.on {
            on.late_answers.add(1, &[]);
        }
    }

    /// A group was decided here.
    pub(crate) fn group_decided(&self, result: GroupResult) {
        if let Some(on) = &self.on {
            on.decided_groups.add(1, &[KeyValue::new("toolfleet.result", result.as_str())]);
        }
    }

    /// A limit makes a call wait: in its queue if it goes back, else in the worker.
    pub(crate) fn limit_met(&self, part: LimitPart, requeued: bool) {
        if let Some(on) = &self.on {
            let place = if requeued { "queue" } else { "worker" };
            let labels =
                [KeyValue::new("toolfleet.limit", part.as_str()), KeyValue::new("toolfleet.waits_in", place)];
            on.limits.add(1, &labels);
        }
    }

    /// A turn was missed.
    pub(crate) fn turn_missed(&self) {
        if let Some(on) = &self.on {
            on.missed_turns.add(1, &[]);
        }
    }

    /// A request may have been written too late for its turns.
    pub(crate) fn sent_late(&self) {
        if let Some(on) = &self.on {
            on.sent_late.add(1, &[]);
        }
    }

    /// A call that may be given a stored answer was given one, or was sent.
    pub(crate) fn cache(&self, what: CacheUse) {
        if let Some(on) = &self.on {
            on.cache.add(1, &[KeyValue::new("toolfleet.cache", what.as_str())]);
        }
    }

    /// A batch of so many calls is sent.
    pub(crate) fn batch(&self, calls: usize) {
        if let Some(on) = &self.on {
            on.batches.record(u64::try_from(calls).unwrap_or(u64::MAX), &[]);
        }
    }

    /// A number that is read when metrics are collected.
    pub(crate) fn watch(
        &self,
        name: &'static str,
        text: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        if let Some(on) = &self.on {
            let gauge = on.meter.u64_observable_gauge(name).with_description(text);
            gauge.with_callback(move |observer| observer.observe(read(), &[])).build();
        }
    }

    /// The same for a number that is not known at times: then it is not reported.
    pub(crate) fn watch_known(
        &self,
        name: &'static str,
        text: &'static str,
        read: impl Fn() -> Option<u64> + Send + Sync + 'static,
    ) {
        if let Some(on) = &self.on {
            let gauge = on.meter.u64_observable_gauge(name).with_description(text);
            let observe = move |observer: &dyn AsyncInstrument<u64>| {
                if let Some(value) = read() {
                    observer.observe(value, &[]);
                }
            };
            gauge.with_callback(observe).build();
        }
    }

    /// The same for several numbers, each with its labels.
    pub(crate) fn watch_each<const LABELS: usize>(
        &self,
        name: &'static str,
        text: &'static str,
        read: impl Fn() -> Vec<([KeyValue; LABELS], u64)> + Send + Sync + 'static,
    ) {
        if let Some(on) = &self.on {
            let gauge = on.meter.u64_observable_gauge(name).with_description(text);
            let observe = move |observer: &dyn AsyncInstrument<u64>| {
                read().iter().for_each(|(labels, value)| observer.observe(*value, labels));
            };
            gauge.with_callback(observe).build();
        }
    }

    /// The same for sums that only grow.
    pub(crate) fn watch_sums<const LABELS: usize>(
        &self,
        name: &'static str,
        text: &'static str,
        read: impl Fn() -> Vec<([KeyValue; LABELS], f64)> + Send + Sync + 'static,
    ) {
        if let Some(on) = &self.on {
            let counter = on.meter.f64_observable_counter(name).with_description(text);
            let observe = move |observer: &dyn AsyncInstrument<f64>| {
                read().iter().for_each(|(labels, value)| observer.observe(*value, labels));
            };
            counter.with_callback(observe).build();
        }
    }

    /// The same for a count that only grows.
    pub(crate) fn watch_count(
        &self,
        name: &'static str,
        text: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        if let Some(on) = &self.on {
            let counter = on.meter.u64_observable_counter(name).with_description(text);
            counter.with_callback(move |observer| observer.observe(read(), &[])).build();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_servers_have_a_label_of_their_own() {
        let labels = ServerLabels::default();
        let label = |n: usize| labels.label(&ServerId::parse(format!("s{n}")).unwrap()).into_owned();
        for n in 0..MOST_SERVERS {
            assert_eq!(label(n), format!("s{n}"));
        }
        assert_eq!((label(MOST_SERVERS).as_str(), label(0).as_str()), (OTHER_SERVERS, "s0"));
    }
}
