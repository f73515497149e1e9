//! Why a payload cannot be read.

use toolfleet_core::payload::ObjectAt;

use crate::error::AwsError;

/// Why a payload cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The object does not exist.
    #[error("payload_missing: the object {0} does not exist; it expired, or somebody deleted it")]
    Missing(ObjectAt),
    /// The object is not the one that was stored under the reference.
    #[error("payload_altered: the object {at} is not the one that was stored: {how}")]
    Altered {
        /// The object.
        at: ObjectAt,
        /// The difference.
        how: String,
    },
    /// The object has more bytes than are accepted.
    #[error("the object {at} has more than {max} bytes, the most that are accepted")]
    TooLarge {
        /// The object.
        at: ObjectAt,
        /// The most bytes that are accepted.
        max: u64,
    },
    /// S3 does not answer, or denies access.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl PayloadError {
    /// Its code in the runbook, where the payload itself is at fault.
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::Missing(_) => Some("payload_missing"),
            Self::Altered { .. } => Some("payload_altered"),
            Self::TooLarge { .. } | Self::Aws(_) => None,
        }
    }
}
