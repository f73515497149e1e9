//! The error of a credential that cannot be used.

use toolfleet_egress::AddressRefused;

/// Why a request cannot be given its credential. Nothing was executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// An operator has to fix it: a missing secret, a refused login.
    #[error("the credential is not available: {detail}")]
    Unavailable {
        /// Which secret and why; never its value.
        detail: String,
    },
    /// A secret or token is not available at the moment; a retry may succeed.
    #[error("the credential cannot be had at the moment: {detail}")]
    Pending {
        /// Which, and why; never its value.
        detail: String,
    },
    /// The authorization server's address may not be called. Nothing was sent.
    #[error("the server's address may not be called: {detail}")]
    AddressRefused {
        /// The host, its address, and the setting that would allow it.
        detail: String,
    },
}

impl CredentialError {
    /// Whether a retry cannot help.
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::AddressRefused { .. } => true,
            Self::Pending { .. } => false,
        }
    }

    /// The same error, with `change` applied to its text.
    #[must_use]
    pub fn map_text(self, change: impl Fn(String) -> String) -> Self {
        match self {
            Self::Unavailable { detail } => Self::Unavailable { detail: change(detail) },
            Self::Pending { detail } => Self::Pending { detail: change(detail) },
            Self::AddressRefused { detail } => Self::AddressRefused { detail: change(detail) },
        }
    }
}

impl From<AddressRefused> for CredentialError {
    fn from(refused: AddressRefused) -> Self {
        Self::AddressRefused { detail: refused.to_string() }
    }
}
