//! Owns MCP servers that are programs: children of this process, spoken to over their stdin and stdout.
//!
//! A child is a session, so each conversation of a tenant has a child of its own with each server, unless the catalog says that the
//! program keeps nothing of it; calls without a conversation share one for each tenant. Where to look: [`pool`] and [`shared`] which child a call gets, [`places`] how many there are, [`command`] whether a command can be started at all,
//! [`launch`] who ends it when the worker is killed, [`start`] from a command to a greeted child, [`stderr`] its last lines,
//! [`child`] one child's table of waiters, [`pipes`] its three pipes, [`supervise`] its end.
//!
//! **Invariant:** no waiter outlives its child, and no child its client: whatever ends one ends the other.

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
