//! The executor of MCP servers, over streamable HTTP or as programs on stdio.

mod failure;

pub use failure::failure_of;
