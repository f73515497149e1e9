//! The pure core of toolfleet: names, wire types, states, decisions. It returns data; others perform it.
//!
//! **Invariant:** no clock, no randomness, no network, no AWS and no async runtime in this crate or its dependencies; time and
//! randomness are arguments.

pub mod answer;
pub mod argument_shape;
pub mod audit;
pub mod breaker;
pub mod call;
mod canonical_json;
pub mod control;
pub mod credential;
pub mod definition;
pub mod digest;
pub mod error_text;
pub mod failure;
pub mod grants;
pub mod ids;
pub mod json;
pub mod literal_secret;
pub mod notice;
pub mod outcome;
pub mod payload;
pub mod progress;
pub mod queue_shares;
pub mod redact;
pub mod request;
pub mod retention;
pub mod retry;
pub mod scrub;
pub mod server_session;
pub mod session;
pub mod state_table;
pub mod supersede;
pub mod surrogate;
pub mod time;
pub mod user_binding;
