//! The HTTP+SSE transport of MCP 2024-11-05: a GET opens an event stream, its first event names the address that takes messages, and
//! answers come on the stream.
//!
//! Where to look: [`open`] how the stream is opened, [`posts`] how messages leave, [`hear`] how answers come in.
//!
//! **Invariant:** messages go to the origin of the stream and to no other.

pub(crate) mod hear;
pub(crate) mod open;
pub(crate) mod posts;
