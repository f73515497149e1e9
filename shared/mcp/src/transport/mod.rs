//! The transports: streamable HTTP, and connections that are kept ([`channels`]): WebSocket, the older HTTP+SSE, child processes.

pub(crate) mod cancel;
pub(crate) mod channels;
pub(crate) mod connection;
pub(crate) mod discovery;
pub(crate) mod dispatch;
pub(crate) mod exchange;
pub(crate) mod http;
pub(crate) mod request_error;
pub(crate) mod sent;
pub(crate) mod sse;
pub(crate) mod stdio;
pub(crate) mod websocket;
pub(crate) mod whole_message;
