//! Owns what the client asks of the outside in order to prove who it is: the current text of a secret, and the date.
//!
//! **Invariant:** the text of a secret does not print.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use toolfleet_core::credential::SecretRef;
use toolfleet_core::fault::Fault;

/// The text of a secret. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Arc<str>);

impl SecretText {
    /// Takes a secret into custody.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText([redacted])")
    }
}

/// Where secrets are kept.
pub trait Keyring: fmt::Debug + Send + Sync {
    /// The current text of a secret; `fresh` asks for a reading that is not from a cache, because the one before was refused.
    ///
    /// What may pass is [`Fault::CredentialPending`], what only an operator can mend is [`Fault::Credential`].
    fn secret<'a>(
        &'a self,
        reference: &'a SecretRef,
        fresh: bool,
    ) -> BoxFuture<'a, Result<SecretText, Fault>>;

    /// Now, in seconds since 1970, for what is signed with a date.
    fn now_s(&self) -> u64;
}
