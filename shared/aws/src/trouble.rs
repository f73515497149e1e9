//! Owns our own trouble: what AWS did not do for us, said so that an operator can act on it.
//!
//! **Invariant:** it is never an outcome of a call, and never carries a value of a secret or of a row.

use std::error::Error;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// Something AWS did not do for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    what: String,
    permanent: bool,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Trouble {}

impl Trouble {
    /// Trouble that passes by itself.
    pub fn passing(what: impl Into<String>) -> Self {
        Self { what: what.into(), permanent: false }
    }

    /// Trouble that stays until somebody changes the configuration.
    pub fn configuration(what: impl Into<String>) -> Self {
        Self { what: what.into(), permanent: true }
    }

    /// Whether trying again helps only after somebody has changed something.
    pub const fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// Reads an SDK error: the operation, the resource it was about, and what to do where that is known.
    pub(crate) fn of_sdk<E, R>(operation: &str, resource: &str, error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: std::fmt::Debug,
    {
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
        match code {
            Some(code) => {
                let message = error.as_service_error().and_then(ProvideErrorMetadata::message);
                Self::of_code(operation, resource, code, message.unwrap_or_default())
            }
            None => Self::passing(format!("{operation} on {resource}: {}", chain(error))),
        }
    }

    /// Reads an error code of a service.
    pub(crate) fn of_code(operation: &str, resource: &str, code: &str, message: &str) -> Self {
        // JSON services put their namespace before the code.
        let code = code.rsplit(['#', '.']).next().unwrap_or(code);
        let remedy = match code {
            "ResourceNotFoundException" | "ResourceNotFound" => Some(
                "no such resource; deploy infra/cloudformation/data.yaml, or check the region and TOOLFLEET_TABLE_PREFIX",
            ),
            "QueueDoesNotExist" | "NonExistentQueue" => {
                Some("no such queue; check TOOLFLEET_QUEUE_URL and the region")
            }
            "AccessDeniedException" | "AccessDenied" => Some("the role may not do this; see its policy"),
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "ExpiredTokenException"
            | "ExpiredToken" => Some("the credentials are wrong or have expired"),
            _ => None,
        };
        match remedy {
            Some(remedy) => Self::configuration(format!("{operation} on {resource}: {remedy} ({code})")),
            None => Self::passing(format!("{operation} on {resource}: {code} {message}")),
        }
    }
}

/// The error and its causes: the SDK's own texts name the network failure only in a source.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_table_is_named_with_its_remedy_and_will_not_pass() {
        let trouble =
            Trouble::of_code("GetItem", "toolfleet-calls", "com.amazonaws#ResourceNotFoundException", "x");
        assert!(trouble.is_permanent());
        assert!(trouble.to_string().contains("toolfleet-calls") && trouble.to_string().contains("data.yaml"));
    }

    #[test]
    fn a_throttle_passes() {
        assert!(!Trouble::of_code("UpdateItem", "t", "ThrottlingException", "slow down").is_permanent());
    }
}
