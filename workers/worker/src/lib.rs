//! The stateless worker: takes tool-call requests from SQS, executes them on MCP servers, records what happened.
//!
//! Start reading at `pipeline/mod.rs`.
//!
//! **Invariant:** the worker keeps nothing that a crash would lose.

pub mod backoff;
mod cache;
pub mod catalog_handle;
pub mod catalog_reload;
pub mod config;
pub mod context;
pub mod gate;
pub mod health;
pub mod intake;
pub mod mcp_session_store;
pub mod pipeline;
pub mod reaper;
pub mod services;
pub mod session_closer;
pub mod shutdown;
pub mod start;
pub mod telemetry;
