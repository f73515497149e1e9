//! The console in front of a real fleet: embedded endpoints, a worker, a scripted MCP server, and browsers by hand.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do: loudly, at the line"
)]

mod budget;
mod login;
mod oidc;
mod pages;
mod rig;
mod scope;
mod security;
mod settings;
mod style;
