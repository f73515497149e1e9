//! Trace spans of the steps of a call.

use tracing::Span;

/// The tracing target of spans that go to the receiver of traces and never into the log.
pub const TARGET: &str = "toolfleet::trace";

/// The span of a step.
pub fn step(name: &'static str) -> Span {
    tracing::info_span!(target: TARGET, "step", otel.name = name)
}
