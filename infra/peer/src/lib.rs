//! MCP as rmcp speaks it, the protocol's own SDK for Rust: a server to run the product against, a client to measure ours by, and a plain
//! worker to measure the product's worker by.
//!
//! The protocol on both sides is rmcp's; only the tools and the worker are own code.

pub mod client;
pub mod server;
pub mod worker;

/// Which generations of the protocol are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// 2026-07-28 and the older ones.
    Newest,
    /// The session-bound ones alone.
    Sessions,
}
