//! The stateless worker: takes tool-call requests from SQS, executes them on MCP servers, records what happened.
//!
//! Start reading at `pipeline/mod.rs`.
//!
//! **Invariant:** the worker keeps nothing that a crash would lose.

pub mod activity;
mod answers;
pub mod backoff;
mod batches;
mod cache;
pub mod catalog_handle;
mod clock_check;
pub mod config;
pub mod context;
mod ended_sessions;
mod fleet_view;
pub mod gate;
mod intake_health;
mod lambda_ports;
pub mod mcp_session_store;
mod observe;
pub mod pipeline;
pub mod queues;
mod recorded_messages;
pub mod service_health;
pub mod services;
pub mod shutdown;
pub mod start;
pub mod telemetry;

pub use config::WorkerConfig;
pub use config::limits::Limits;
pub use start::{ServiceOptions, StartError, Worker};
