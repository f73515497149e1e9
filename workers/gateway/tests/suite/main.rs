//! The gateway in front of a real fleet: embedded endpoints, a worker, a scripted MCP server, and clients of each protocol version.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do: loudly, at the line"
)]

mod access;
mod addresses;
mod calls;
mod events;
mod failing;
mod going_on;
mod input;
mod list_changes;
mod protocol;
mod questions;
mod reading;
mod reading_faults;
mod requested_tasks;
mod retries;
mod rig;
mod settings;
mod subscriptions;
mod updating;
