//! Owns how requests prove who we are: the credential of one server and tenant, ready to stamp a request, and to be renewed
//! when the server does not accept it.
//!
//! **Invariant:** what is stamped is marked as sensitive and remembered for [`Auth::scrub`], so that no echo of it leaves
//! the client.

mod fixed;
mod keyring;
mod seen;

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use toolfleet_core::credential::{Credential, Template};
use toolfleet_core::fault::Fault;

use fixed::Fixed;
pub(crate) use fixed::secret;
pub use keyring::{Keyring, SecretText};
pub(crate) use seen::Seen;

/// The credential of one server and tenant. Keep it: what it has obtained is used again.
pub struct Auth {
    fixed: Fixed,
    seen: Seen,
    keyring: Arc<dyn Keyring>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("fixed", &self.fixed).finish_non_exhaustive()
    }
}

/// With what a request was stamped, to tell a credential from its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    fixed: u64,
}

/// What was already done about the refusals of one request.
#[derive(Debug, Default)]
pub(crate) struct Cures {
    renewed: bool,
}

impl Auth {
    /// The credential that a catalog describes, with the headers that go along. Nothing is read yet.
    pub fn new(
        credential: &Credential,
        headers: impl IntoIterator<Item = (String, Template)>,
        keyring: Arc<dyn Keyring>,
    ) -> Self {
        Self { fixed: Fixed::new(credential, headers), seen: Seen::default(), keyring }
    }

    /// Obtains all that the first request will need, so that what is missing is known before a call is claimed.
    pub async fn ready(&self) -> Result<(), Fault> {
        self.stamp(&mut HeaderMap::new()).await.map(drop)
    }

    /// Puts the credential into a request's headers.
    pub(crate) async fn stamp(&self, headers: &mut HeaderMap) -> Result<Stamp, Fault> {
        let fixed = self.fixed.stamp(self.keyring.as_ref(), &self.seen, headers, false).await;
        Ok(Stamp { fixed: fixed.map_err(|fault| self.scrub(fault))? })
    }

    /// Whether a refused request may be sent again, once for each kind of refusal: 401, with a credential that is new.
    pub(crate) async fn cure(&self, status: u16, used: Stamp, cures: &mut Cures) -> Result<bool, Fault> {
        if status != 401 || std::mem::replace(&mut cures.renewed, true) {
            return Ok(false);
        }
        let again = self.fixed.stamp(self.keyring.as_ref(), &self.seen, &mut HeaderMap::new(), true).await;
        Ok(again.map_err(|fault| self.scrub(fault))? != used.fixed)
    }

    /// The fault without any credential that a server's words may have echoed.
    pub(crate) fn scrub(&self, fault: Fault) -> Fault {
        fault.map_text(|text| self.scrub_words(text))
    }

    /// A server's words without any credential that they may have echoed.
    pub(crate) fn scrub_words(&self, text: String) -> String {
        self.seen.scrub(text)
    }

    /// The text without any credential.
    pub(crate) fn scrub_text(&self, text: String) -> String {
        self.seen.scrub_certain(text)
    }

    /// Whether a credential stands in the text.
    pub(crate) fn leaks_into(&self, text: &str) -> bool {
        self.seen.stands_in(text)
    }
}
