//! The stdio transport: MCP servers that are child processes of this one.
//!
//! Where to look: [`command`] whether a command can be started, [`launch`] who stops it when the worker is killed, [`spawn`] how it is
//! started, [`pipes`], [`lines`] and [`take_line`] its pipes, [`stderr`] its last lines, [`supervise`] its end. Which child process a call gets is
//! decided in `channels`.
//!
//! **Invariant:** no child outlives its client.

pub(crate) mod command;
pub(crate) mod launch;
pub(crate) mod lines;
pub(crate) mod pipes;
pub(crate) mod program;
pub(crate) mod spawn;
pub(crate) mod stderr;
pub(crate) mod supervise;
pub(crate) mod take_line;
