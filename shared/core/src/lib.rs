//! The pure core of toolfleet: names, wire types, states, decisions. It returns data; others perform it.
//!
//! **Invariant:** no clock, no randomness, no network, no AWS and no async runtime in this crate or its dependencies; time and
//! randomness are arguments.

pub mod answer;
pub mod argument_shape;
pub mod audit;
pub mod batch;
pub mod breaker;
pub mod cache;
pub mod call;
mod canonical_json;
pub mod control;
pub mod credential;
pub mod dead_letter;
pub mod definition;
pub mod digest;
pub mod error_text;
pub mod execution;
pub mod failure;
pub mod fairness;
pub mod fleet;
pub mod function;
pub mod grants;
pub mod group;
pub mod ids;
pub mod json;
pub mod limits;
pub mod literal_secret;
pub mod message_attributes;
pub mod notice;
pub mod outcome;
pub mod payload;
pub mod printable;
pub mod progress;
pub mod queue_shares;
pub mod redact;
pub mod request;
pub mod requeue;
pub mod retention;
pub mod retry;
pub mod schedule;
pub mod scrub;
pub mod server_session;
pub mod session;
pub mod state_table;
pub mod supersede;
pub mod surrogate;
pub mod time;
pub mod user_binding;
pub mod why;
