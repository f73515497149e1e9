//! MCP as rmcp speaks it, the protocol's own SDK for Rust: a server to run the product against, and a client to measure ours by.
//!
//! The protocol on both sides is rmcp's; only the tools are own code.

pub mod client;
pub mod server;

/// Which generations of the protocol are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// 2026-07-28 and the older ones.
    Newest,
    /// The session-bound ones alone.
    Sessions,
}
