//! The calls of a flow scenario: who sends what when, as an open loop.

use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use toolfleet_client::RequestBuilder;
use toolfleet_core::request::{CallRequest, Priority};

/// One call to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowCall {
    /// Its id.
    pub id: String,
    /// Its tenant.
    pub tenant: String,
    /// The tool, which is named like its server.
    pub tool: String,
    /// How long the tool takes, in milliseconds.
    pub ms: u64,
    /// When it is sent, after the start of the load.
    pub at: Duration,
    /// Its priority, which names its queue.
    pub priority: Priority,
}

impl FlowCall {
    /// The request of the call.
    ///
    /// # Errors
    /// An id or a name is not valid.
    pub fn request(&self) -> anyhow::Result<CallRequest> {
        RequestBuilder::tool(&self.tenant, &self.tool)
            .call_id(&self.id)
            .arguments(json!({"call": self.id, "ms": self.ms}))
            .priority(self.priority)
            .build()
            .map_err(|error| anyhow::anyhow!("{error}"))
    }
}

/// A stream of calls at a rate.
#[derive(Debug, Clone)]
pub struct Stream<'a> {
    /// The first part of each id.
    pub name: &'a str,
    /// The tenants, by turns in random order.
    pub tenants: &'a [String],
    /// The tools, by turns in random order.
    pub tools: &'a [String],
    /// Calls a second.
    pub rate: f64,
    /// How long a tool takes, in milliseconds.
    pub ms: u64,
    /// For how long calls are sent.
    pub length: Duration,
    /// Their priority.
    pub priority: Priority,
}

impl Stream<'_> {
    /// The calls of the stream: independent arrivals at the rate, on average (a Poisson process).
    pub fn calls(&self, seed: u64) -> Vec<FlowCall> {
        let mut rng = Rng::with_seed(seed);
        let mut calls = Vec::new();
        let mut at_s = 0.0;
        loop {
            at_s -= (1.0 - rng.f64()).ln() / self.rate;
            if at_s >= self.length.as_secs_f64() {
                return calls;
            }
            let n = calls.len();
            let pick = |rng: &mut Rng, of: &[String]| rng.choice(of).cloned().unwrap_or_default();
            let (tenant, tool) = (pick(&mut rng, self.tenants), pick(&mut rng, self.tools));
            let id = format!("{}-{seed}-{n}", self.name);
            calls.push(FlowCall {
                id,
                tenant,
                tool,
                ms: self.ms,
                at: Duration::from_secs_f64(at_s),
                priority: self.priority,
            });
        }
    }
}

/// Calls that are all sent at once, `n` of them, with ids that begin with `name`.
pub fn backlog(name: &str, n: u32, call: &FlowCall) -> Vec<FlowCall> {
    (0..n).map(|n| FlowCall { id: format!("{name}-{n}"), ..call.clone() }).collect()
}

/// Streams together, in the order of sending.
pub fn together(streams: impl IntoIterator<Item = Vec<FlowCall>>) -> Vec<FlowCall> {
    let mut calls: Vec<_> = streams.into_iter().flatten().collect();
    calls.sort_by_key(|call| call.at);
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_its_rate_and_is_the_same_for_one_seed() {
        let (tenants, tools) = (["a".to_owned(), "b".to_owned()], ["s".to_owned()]);
        let stream = Stream {
            name: "x",
            tenants: &tenants,
            tools: &tools,
            rate: 100.0,
            ms: 5,
            length: Duration::from_secs(50),
            priority: Priority::Low,
        };
        let calls = stream.calls(7);
        assert_eq!(calls, stream.calls(7));
        assert!((4_700..5_300).contains(&calls.len()), "{}", calls.len());
        assert!(calls.is_sorted_by_key(|call| call.at) && calls.iter().all(|call| call.at < stream.length));
        let of_a = calls.iter().filter(|call| call.tenant == "a").count();
        assert!((2_300..2_700).contains(&of_a), "{of_a}");
        assert!(calls.iter().all(|call| call.request().unwrap().priority == Priority::Low));
    }
}
