//! The stdio transport: MCP servers that are child processes of this one.
//!
//! A child is a session, so each conversation of a tenant has its own child of each server, unless the catalog says that the program is
//! stateless; calls without a conversation share one child per tenant.
//!
//! Where to look: [`pool`] and [`shared`] which child a call gets, [`places`] how many there are, [`command`] whether a command can be
//! started, [`launch`] who stops it when the worker is killed, [`start`] and [`handshake`] from a command to a usable child, [`child`]
//! its pending requests, [`pipes`] and [`reader`] its pipes, [`stderr`] its last lines, [`supervise`] its end.
//!
//! **Invariant:** no pending request outlives its child, and no child outlives its client.

pub(crate) mod begin;
pub(crate) mod child;
pub(crate) mod child_errors;
pub(crate) mod children;
pub(crate) mod command;
pub(crate) mod handshake;
pub(crate) mod key;
pub(crate) mod launch;
pub(crate) mod lines;
pub(crate) mod pipes;
pub(crate) mod places;
pub(crate) mod pool;
pub(crate) mod program;
pub(crate) mod reader;
pub(crate) mod restarts;
pub(crate) mod shared;
pub(crate) mod start;
pub(crate) mod stderr;
pub(crate) mod supervise;
