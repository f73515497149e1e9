//! The errors of the MCP client.

use toolfleet_core::fault::Fault;
use toolfleet_egress::sanitize_text;

/// Says how a member was not what it should be.
pub(crate) fn invalid(what: &str, found: &str) -> Fault {
    Fault::InvalidAnswer { detail: format!("{what}: {}", sanitize_text(found)) }
}
