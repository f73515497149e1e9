//! How a request is sent: over HTTP in one of the protocol revisions, or to a child process.

use crate::transport::http::session::Session;
use crate::transport::stdio::child::Child;

/// Which generation a request is written in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Connection<'a> {
    /// 2026-07-28.
    Modern,
    /// Before there is a session: `initialize`.
    Opening,
    /// Within a session.
    Legacy(&'a Session),
    /// With a program of ours, in whichever generation it speaks.
    Child(&'a Child),
}
