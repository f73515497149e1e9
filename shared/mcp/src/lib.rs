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
mod blocking;
mod client;
mod endpoint;
mod error;
#[cfg(test)]
mod properties;
mod protocol;
mod session_store;
mod tool_call;
mod tools;
mod transport;

pub use answer::{Answer, AnswerKind, Questions};
pub use client::entries::Entries;
pub use client::options::ClientOptions;
pub use client::state::McpClient;
pub use client::tasks::TaskState;
pub use endpoint::Endpoint;
pub use protocol::task::TaskHandle;
pub use session_store::{Asked, OpenSession, SessionStore, SessionStoreUnavailable};
pub use tool_call::{OnNote, Resume, TaskQuestion, ToolCall};
pub use tools::{Freshness, RemoteTool, ToolList};
pub use transport::stdio::launch::launched;
pub use transport::stdio::program::Program;
