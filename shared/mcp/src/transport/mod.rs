//! The two transports: streamable HTTP and child processes over stdio.

pub(crate) mod cancel;
pub(crate) mod connection;
pub(crate) mod discovery;
pub(crate) mod dispatch;
pub(crate) mod exchange;
pub(crate) mod http;
pub(crate) mod request_error;
pub(crate) mod sent;
pub(crate) mod stdio;
pub(crate) mod whole_message;
