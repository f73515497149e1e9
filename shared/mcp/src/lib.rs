//! The MCP client of the workers: one tool call in, one answer or one [`Fault`](toolfleet_core::fault::Fault) out.
//!
//! It speaks 2026-07-28 (stateless) and the session-bound generations before it, learns which one a server speaks, and keeps
//! sessions per conversation. Over HTTP there is no task and no waiter table per session: the response to a call is the answer.
//! Servers that are programs are children of this process: `stdio`.
//!
//! Where to look: [`client`] is the order of a call, `era` and `session` what is learned before it, `exchange` one request
//! and its answer, `classify` what an HTTP answer means.
//!
//! **Invariant:** within one `call_tool` the tool is sent again only after the server has said, in a way that leaves no
//! doubt, that it was not executed; everything else is returned as a fault for the caller to judge.

mod answer;
mod beginning;
mod cancel;
mod classify;
pub mod client;
mod cookies;
mod endpoint;
mod era;
mod exchange;
mod frame;
mod heavy;
mod mirror;
mod notes;
mod patience;
#[cfg(test)]
mod properties;
mod reason;
mod register;
mod session;
mod sse;
mod stdio;
mod stream;
mod tools;
mod transport;
mod whole;
mod wire;
mod wrong_address;

pub use answer::{Answer, AnswerKind, Questions};
pub use client::{ClientOptions, Entries, McpClient, TaskHandle, TaskQuestion, TaskState};
pub use endpoint::{Endpoint, OnNote, Resume, ToolCall};
pub use register::{Asked, OpenSession, SessionStore, SessionStoreUnavailable};
pub use stdio::{Program, launched};
pub use tools::{Freshness, RemoteTool, ToolList};
