//! Who sends a request to the gateway, as its token says it.

use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::request::User;
use toolfleet_core::time::Timestamp;

/// The caller of a request. Nothing of it comes from a tool's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The tenant that the calls are for.
    pub tenant: Tenant,
    /// The user, where the token names one.
    pub user: Option<User>,
    /// The conversation, where the configuration says where it stands.
    pub session: Option<SessionId>,
    /// When the token is no longer accepted: a stream that lasts ends then.
    pub expires: Option<Timestamp>,
}

impl Caller {
    /// What a handle is bound to: the tenant and the user, without roles, which may change between two requests.
    pub(crate) fn binding(&self) -> String {
        let user = self.user.as_ref().map_or("", |user| user.id.as_str());
        format!("{}\n{}\n{user}", self.tenant.as_str().len(), self.tenant)
    }
}
