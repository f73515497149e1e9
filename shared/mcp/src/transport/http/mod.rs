//! Streamable HTTP: requests, sessions, event streams.

pub(crate) mod cookies;
pub(crate) mod error_body;
pub(crate) mod plain;
pub(crate) mod requests;
pub(crate) mod session;
pub(crate) mod sse;
pub(crate) mod stream;
pub(crate) mod wrong_address;
