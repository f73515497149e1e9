//! The loads of `peer`: which calls are sent when.

use std::time::Duration;

use serde_json::json;
use toolfleet_client::RequestBuilder;
use toolfleet_core::request::CallRequest;

use crate::driver::offset;
use crate::flow::calls::FlowCall;

/// The tenant of all calls.
pub(super) const TENANT: &str = "peer";
/// The tool of all calls, and its server.
pub(super) const TOOL: &str = "echo";
const SESSION: &str = "peer-1";

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// All calls are in the queue before the worker goes on.
    Drain,
    /// The rate that is a share of the plain worker's drain, in calls a second.
    ShareOfDrain(u32),
    /// That many calls a second.
    Rate(u32),
}

impl Load {
    /// Its name in tables.
    pub(super) fn name(self) -> String {
        match self {
            Self::Drain => "drain".to_owned(),
            Self::ShareOfDrain(_) => "30 % of the drain".to_owned(),
            Self::Rate(rate) => format!("{rate}/s"),
        }
    }

    /// Calls a second; `None` of a drain.
    pub(super) const fn rate(self) -> Option<u32> {
        match self {
            Self::Drain => None,
            Self::ShareOfDrain(rate) | Self::Rate(rate) => Some(rate),
        }
    }
}

/// The calls of a load, with ids that begin with `name`.
pub(super) fn calls(name: &str, load: Load, drain_calls: u32, seconds: u32) -> Vec<FlowCall> {
    let count = load.rate().map_or(drain_calls, |rate| rate.saturating_mul(seconds));
    let call = |n: u32| FlowCall {
        id: format!("{name}-{n}"),
        tenant: TENANT.to_owned(),
        tool: TOOL.to_owned(),
        priority: toolfleet_core::request::Priority::Normal,
        ms: 0,
        at: load.rate().map_or(Duration::ZERO, |rate| offset(n, rate)),
    };
    (0..count).map(call).collect()
}

/// The request of a call, in the session or in none.
pub(super) fn request(call: &FlowCall, session: bool) -> anyhow::Result<CallRequest> {
    let request = RequestBuilder::tool(&call.tenant, &call.tool)
        .call_id(&call.id)
        .arguments(json!({"call": call.id, "text": "the quick brown fox jumps over the lazy dog"}));
    let request = if session { request.set("session", SESSION) } else { request };
    request.build().map_err(|error| anyhow::anyhow!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_sends_its_calls_evenly_and_a_drain_all_at_once() {
        let calls_of_rate = calls("a", Load::Rate(100), 7, 2);
        assert_eq!(calls_of_rate.len(), 200);
        assert_eq!(calls_of_rate[100].at, Duration::from_secs(1));
        let drained = calls("a", Load::Drain, 7, 2);
        assert!(drained.len() == 7 && drained.iter().all(|call| call.at.is_zero()));
        assert!(request(&drained[0], true).unwrap().session.is_some());
        assert!(request(&drained[0], false).unwrap().session.is_none());
    }
}
