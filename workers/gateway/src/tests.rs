//! What unit tests share.

use std::collections::BTreeMap;

use toolfleet_core::ids::Tenant;
use toolfleet_mcp_protocol::ProtocolVersion;

use crate::caller::Caller;
use crate::message::{Inbound, Request};

/// A request of that version.
pub(crate) fn request(version: &str) -> Request {
    let inbound: Inbound = serde_json::from_str(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#).unwrap();
    Request {
        at: tokio::time::Instant::now(),
        caller: Caller {
            tenant: Tenant::parse("acme").unwrap(),
            user: None,
            session: None,
            conversation: None,
            expires: None,
        },
        version: ProtocolVersion::parse(version).unwrap(),
        meta: inbound.meta().unwrap(),
        inbound,
        session: None,
        key_header: None,
        param_headers: BTreeMap::new(),
    }
}
