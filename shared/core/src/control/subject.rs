//! A call as switches and limits see it.

use crate::digest::Digest;
use crate::ids::{ServerId, Tenant};

/// What a switch or a limit can match of a call.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The server that runs it.
    pub server: &'a ServerId,
    /// Whose call it is.
    pub tenant: &'a Tenant,
    /// The tool: the registered id, else `server/name`. Absent for requests of the worker's own, such as `tools/list`.
    pub tool: Option<&'a str>,
    /// The digest of what the call asks for.
    pub digest: Option<&'a Digest>,
}
