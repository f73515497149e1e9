//! The fleet as an MCP server: published tools, prompts and resources of a catalog over streamable HTTP, for clients of protocol version
//! 2026-07-28 and of those with sessions. Each `tools/call`, and each other request to a server, is a call of the fleet like any other: a message in the queue, executed by a worker, with its record.
//!
//! ```text
//! http       one POST: hosts, token, headers, version          -> message::Request
//! gateway    the method                                        -> list, call, tasks, read_lists, reads
//! call       call_request -> SQS -> wait for the row -> answer, task or handle
//! reads      call_request -> SQS -> wait for the row -> answer or error
//! questions  SSE: a request of the gateway -> POST of its answer, at any gateway -> the call that goes on with it
//! streams    subscription: call_request -> SQS -> watch the row -> notifications
//!            list_changes: the lists as their caller sees them     -> notifications
//! ```
//!
//! **Invariant:** a gateway keeps nothing that another one needs: calls are rows, handles are encrypted, sessions mean nothing, and what a stream
//! has subscribed to is in the ids of its events.

mod accept;
mod answer;
mod auth;
mod batch;
mod call;
mod call_request;
mod caller;
mod catalog_source;
mod client_lists;
mod cors;
mod definitions;
mod gateway;
mod handle;
mod http;
mod in_flight;
mod input;
mod known_definitions;
mod lacking;
mod list;
mod list_changes;
mod may_read;
mod message;
mod own_tools;
mod pages;
mod param_headers;
mod per_caller;
mod progress;
mod questions;
mod read_lists;
mod reads;
mod requested_tasks;
mod resume;
mod search;
mod sent_answers;
mod serve;
mod server_lists;
mod session_id;
mod session_source;
mod session_streams;
mod settings;
mod slots;
mod streams;
mod subscription;
mod take_answer;
mod tasks;
mod uris;
mod wait;

pub use auth::{Authenticator, ClaimRules, TokenRules};
pub use caller::Caller;
pub use catalog_source::{CatalogSource, publish_all_of};
pub use gateway::{Gateway, Limits, Parts};
pub use handle::{KeyError, Sealer};
pub use serve::serve;
pub use session_source::SessionSource;
pub use settings::GatewayArgs;
pub use toolfleet_web::hosts::Hosts;
pub use toolfleet_web::serve::Bounds;

#[cfg(test)]
mod tests;
