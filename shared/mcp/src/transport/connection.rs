//! How a request is sent: over HTTP in one of the protocol revisions, or over a connection that is kept.

use crate::transport::channels::channel::Channel;
use crate::transport::http::cookies::Cookies;
use crate::transport::http::session::Session;

/// Which generation a request is written in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Connection<'a> {
    /// 2026-07-28.
    Modern,
    /// Before there is a session: `initialize`.
    Opening,
    /// Within a session.
    Legacy(&'a Session),
    /// A message to a server whose answers come on an event stream of its own; sticky load balancers set the cookies.
    Posting(&'a Cookies),
    /// Over a connection that is kept, in whichever generation the server speaks.
    Channel(&'a Channel),
}

impl Connection<'_> {
    /// Whether the server speaks 2026-07-28.
    pub(crate) fn is_modern(self) -> bool {
        match self {
            Self::Modern => true,
            Self::Channel(channel) => channel.is_modern(),
            Self::Opening | Self::Posting(_) | Self::Legacy(_) => false,
        }
    }
}
