//! The protocol revisions that are spoken.

/// A generation of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProtocolRevision {
    /// 2026-07-28, stateless.
    Modern,
    /// Before it, with `initialize` and sessions.
    Legacy,
}
