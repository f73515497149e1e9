//! The messages of MCP: written and read, without any transport.

pub(crate) mod frame;
pub(crate) mod message_head;
pub(crate) mod notifications;
pub(crate) mod param_headers;
pub(crate) mod revision;
pub(crate) mod task;
pub(crate) mod wire;
