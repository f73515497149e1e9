//! A request as a whole message.

use bytes::Bytes;

use crate::protocol::wire::ClientInfo;

/// The id of the only request of its transport.
pub(super) const ID: u64 = 1;

/// A request, and what is said of it beside its body where it goes over HTTP.
pub(super) struct Message<'a> {
    pub(super) method: &'static str,
    /// The tool's name.
    pub(super) name: Option<&'a str>,
    /// What tells it from other requests.
    pub(super) id: &'a str,
    pub(super) body: Bytes,
}

/// Who sends it. A durable execution is found by the bytes of its event, so they are the same in every version of the fleet.
pub(super) fn this_client() -> ClientInfo {
    ClientInfo { name: "toolfleet".to_owned(), version: "1".to_owned() }
}
