//! The MCP client of the workers: one tool call in, one [`Answer`] or one [`Fault`] out.
//!
//! It speaks 2026-07-28 (stateless) and the session-bound revisions before it, discovers which one a server speaks, and keeps
//! sessions per conversation. Servers are called over streamable HTTP, over the older HTTP+SSE, over WebSocket, or are child processes that
//! are called over stdio.
//!
//! Where to look: `client::call` is the order of a call, `client::negotiate` what happens before it, `client::remedy` what follows a
//! refusal, `transport::exchange` one request and its answer, `transport::request_error` what an HTTP error means.
//!
//! **Invariant:** within one `call_tool` the tool is called again only after the server has proved that it did not run, or where the
//! call is safe to repeat; every other error is returned to the caller.

mod answer;
mod blocking;
mod client;
mod endpoint;
mod fault;
mod fault_policy;
#[cfg(test)]
mod properties;
mod protocol;
mod session_store;
mod single;
mod tool_call;
mod tools;
mod transport;

pub use answer::{Answer, AnswerKind, Questions};
pub use client::entries::Entries;
pub use client::options::ClientOptions;
pub use client::pages::ListBounds;
pub use client::state::McpClient;
pub use client::tasks::TaskState;
pub use endpoint::{Endpoint, EndpointTransport};
pub use fault::{Fault, NotSentCause};
pub use fault_policy::{refuses_by_status, refuses_request};
pub use protocol::task::TaskHandle;
pub use session_store::{Asked, OpenSession, SessionStore, SessionStoreUnavailable};
pub use single::{SingleCall, SingleError, SingleForm, SingleList, SingleSession};
pub use tool_call::{Admit, OnNote, Pacer, Resume, TaskQuestion, ToolCall, admitted};
pub use tools::{Freshness, RemoteTool, ToolList};
pub use transport::http::plain::{PlainAnswer, PlainRequest};
pub use transport::stdio::launch::launched;
pub use transport::stdio::program::Program;
