//! What workers report: a row of each worker, the summary of all rows, and rollups of the calls of each minute.
//!
//! The rows and the rollups are a fast view. The call rows and the audit records are the truth.

#[cfg(test)]
mod flood_tests;
mod histogram;
mod limits;
mod omit;
mod outcomes;
mod rollup;
mod row;
mod runnable;
mod server_summary;
mod summary;
mod top;

pub use histogram::{Histogram, HistogramError, LONGEST_US, QUANTILE_ERROR};
pub use limits::{LimitPart, LimitSeen, MOST_TENANTS_AT_LIMIT, OTHER_LIMITS, keep_busiest_limits};
pub use outcomes::OutcomeCounts;
pub use rollup::{LostMinutes, Minute, OTHER_TOOLS, Rollup};
pub use row::{
    BEAT_MS, BreakerState, ControlSeen, LARGE_FLEET, LARGE_FLEET_BEAT_MS, MISSED_BEATS, QueueSeen,
    SWITCHES_WITHIN_MS, ServerSeen, TenantAtServer, ToolSeen, WINDOW_MS, WorkerRow, beat_ms,
};
pub use runnable::{LastMinute, Runnable};
pub use server_summary::ServerSummary;
pub use summary::{FleetSummary, OldSwitches, WorkerCounts};
pub use top::busiest;
