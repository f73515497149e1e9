//! The pure core of toolfleet: names, wire types, states, decisions. It returns data; others perform it.
//!
//! **Invariant:** no clock, no chance, no network, no AWS and no async runtime in this crate or its dependencies; time and
//! chance enter as arguments.

pub mod answer;
pub mod audit;
pub mod binding;
pub mod breaker;
pub mod call;
mod canonical;
pub mod complaint;
pub mod credential;
pub mod digest;
pub mod failure;
pub mod fault;
pub mod grants;
pub mod ids;
pub mod json;
pub mod literal;
pub mod machine;
pub mod mcp_session;
pub mod message;
pub mod notice;
pub mod outcome;
pub mod payload;
pub mod progress;
pub mod redact;
pub mod retry;
pub mod scrub;
pub mod session;
pub mod shape;
pub mod surrogate;
pub mod time;
