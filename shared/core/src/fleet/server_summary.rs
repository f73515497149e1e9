//! A server in the summary of the fleet.

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::omit::is_zero;
use super::row::{BreakerState, ServerSeen};

/// A server as all workers see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSummary {
    /// The sum of what the workers saw. The breaker is the worst that any of them has.
    #[serde(flatten)]
    pub seen: ServerSeen,
    /// Workers for which its connections are not let through.
    #[serde(rename = "open", default, skip_serializing_if = "is_zero")]
    pub open_in: u64,
}

impl ServerSummary {
    /// The latency of attempts in the last minutes.
    pub const fn latency(&self) -> &Histogram {
        &self.seen.latency
    }

    pub(super) fn add(&mut self, seen: &ServerSeen) {
        let sum = &mut self.seen;
        add(&mut sum.in_flight, seen.in_flight);
        add(&mut sum.attempts, seen.attempts);
        add(&mut sum.failures, seen.failures);
        sum.latency.merge(&seen.latency);
        sum.breaker = sum.breaker.max(seen.breaker);
        // Which of several texts is shown does not depend on the order of the rows.
        sum.last_failure = sum.last_failure.take().max(seen.last_failure.clone());
        for (tenant, at_server) in &seen.tenants {
            sum.tenants.entry(tenant.clone()).or_default().merge(at_server);
        }
        add(&mut self.open_in, u64::from(seen.breaker != BreakerState::Closed));
    }
}

pub(super) fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}
