//! MCP over WebSocket: subprotocol `mcp`, one JSON-RPC message a frame. The specification does not define it; servers and bridges offer
//! it as a custom transport.
//!
//! Where to look: [`open`] the upgrade of an HTTP request, [`frames`] what is written and read.

pub(crate) mod frames;
pub(crate) mod open;
