//! The errors of Secrets Manager.
//!
//! **Invariant:** no error contains a secret's value.

/// A refusal as Secrets Manager words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretsError {
    #[error("Secrets Manager can't find {0}.")]
    NotFound(String),
    #[error("The operation failed because {0} already exists.")]
    Exists(String),
    #[error("{0}")]
    InvalidRequest(String),
    #[error("{0}")]
    InvalidParameter(String),
    #[error("The operation {0} is not offered by the local endpoints.")]
    UnknownOperation(String),
    #[error("The change could not be written to the data directory: {0}")]
    NotWritten(String),
}

impl SecretsError {
    /// The name that the SDKs match on.
    pub(crate) fn shape(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "ResourceNotFoundException",
            Self::Exists(_) => "ResourceExistsException",
            Self::InvalidRequest(_) => "InvalidRequestException",
            Self::InvalidParameter(_) => "InvalidParameterException",
            Self::UnknownOperation(_) => "UnknownOperationException",
            Self::NotWritten(_) => "InternalServiceError",
        }
    }

    /// Whether the request is at fault, as opposed to this machine.
    pub(crate) fn is_callers_fault(&self) -> bool {
        !matches!(self, Self::NotWritten(_))
    }
}
