//! Connections that are kept: to a child process, a WebSocket, an event stream of HTTP+SSE.
//!
//! A connection is a session, so each conversation of a tenant has its own with each server, unless the catalog says that the server is
//! stateless; calls without a conversation share one per tenant.
//!
//! Where to look: [`pool`] and [`shared`] which connection a call gets, [`places`] how many there are, [`start`] and [`handshake`] from
//! an endpoint to a usable connection, [`channel`] its pending requests, [`reader`] what comes in, [`lifetime`] its end. How each kind is
//! opened and written to is in `stdio`, `websocket` and `sse`.
//!
//! **Invariant:** no pending request outlives its connection, and no connection outlives its client.

pub(crate) mod begin;
pub(crate) mod channel;
pub(crate) mod errors;
pub(crate) mod handshake;
pub(crate) mod key;
pub(crate) mod lifetime;
pub(crate) mod places;
pub(crate) mod pool;
pub(crate) mod reader;
pub(crate) mod restarts;
pub(crate) mod shared;
pub(crate) mod start;
pub(crate) mod table;
