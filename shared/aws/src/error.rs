//! Errors of AWS, classified by their remedy, with a text on which an operator can act.
//!
//! **Invariant:** an error never carries a value of a secret or of a row.

use std::error::Error;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// A request to AWS that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsError {
    what: String,
    kind: AwsErrorKind,
}

/// The remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsErrorKind {
    /// Wait: it passes by itself.
    Passing,
    /// Start the endpoint, or fix the network. It may also pass by itself.
    Unreachable,
    /// Give credentials: there are none, or they are rejected.
    Credentials,
    /// Set a region.
    Region,
    /// Change the policy of the role or of the KMS key.
    Permission,
    /// Change the configuration.
    Configuration,
    /// Change the request: the service rejects it as it is.
    Rejection,
}

/// At most this many characters of a service's own message are repeated.
const MAX_MESSAGE_CHARS: usize = 300;

impl std::fmt::Display for AwsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for AwsError {}

impl AwsError {
    /// An error that passes by itself.
    pub fn passing(what: impl Into<String>) -> Self {
        Self { what: what.into(), kind: AwsErrorKind::Passing }
    }

    /// An error that stays until the configuration is changed.
    pub fn configuration(what: impl Into<String>) -> Self {
        Self { what: what.into(), kind: AwsErrorKind::Configuration }
    }

    /// A request that the service rejects as it is; `what` names the remedy.
    pub fn rejection(what: impl Into<String>) -> Self {
        Self { what: what.into(), kind: AwsErrorKind::Rejection }
    }

    /// The remedy.
    pub const fn kind(&self) -> AwsErrorKind {
        self.kind
    }

    /// Whether a retry can only succeed after a person has changed something.
    pub const fn is_permanent(&self) -> bool {
        match self.kind {
            AwsErrorKind::Passing | AwsErrorKind::Unreachable => false,
            AwsErrorKind::Credentials
            | AwsErrorKind::Region
            | AwsErrorKind::Permission
            | AwsErrorKind::Configuration
            | AwsErrorKind::Rejection => true,
        }
    }

    /// Whether AWS denies access or does not answer, whatever was requested: a call can wait until that is over. Otherwise the requested
    /// resource does not exist, or the request is rejected as it is.
    pub const fn is_access_or_outage(&self) -> bool {
        match self.kind {
            AwsErrorKind::Passing
            | AwsErrorKind::Unreachable
            | AwsErrorKind::Credentials
            | AwsErrorKind::Region
            | AwsErrorKind::Permission => true,
            AwsErrorKind::Configuration | AwsErrorKind::Rejection => false,
        }
    }

    /// Whether the requested resource is missing or refuses the request, so that the same request fails again until somebody changes it.
    /// Credentials are not the resource's: they expire, fail to load for a moment, or are wrong while a clock is, and then pass.
    pub const fn is_refused_by_resource(&self) -> bool {
        match self.kind {
            AwsErrorKind::Passing
            | AwsErrorKind::Unreachable
            | AwsErrorKind::Credentials
            | AwsErrorKind::Region => false,
            AwsErrorKind::Permission | AwsErrorKind::Configuration | AwsErrorKind::Rejection => true,
        }
    }

    /// Whether the service rejected the request, so that the items of a batch should be sent one by one.
    pub(crate) const fn is_rejection(&self) -> bool {
        matches!(self.kind, AwsErrorKind::Rejection)
    }

    /// The error of an SDK call: the operation, the resource, and the remedy where it is known.
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
            None => {
                let words = chain(error);
                let kind = kind_without_reply(error, &words);
                let remedy = remedy_of(kind);
                // The chain of credential providers reports many lines; the first one is enough.
                let words = words.lines().next().unwrap_or_default();
                Self { what: format!("{operation} on {resource}: {remedy}{words}"), kind }
            }
        }
    }

    /// The error of a service's error code.
    pub(crate) fn of_code(operation: &str, resource: &str, code: &str, message: &str) -> Self {
        // JSON services put their namespace before the code.
        let code = code.rsplit(['#', '.']).next().unwrap_or(code);
        let remedy = match code {
            "ResourceNotFoundException" | "ResourceNotFound" => {
                "no such resource; deploy infra/cloudformation/data.yaml, or check the region and TOOLFLEET_TABLE_PREFIX"
            }
            "QueueDoesNotExist" | "NonExistentQueue" | "InvalidAddress" => {
                "no such queue; check TOOLFLEET_QUEUE_URL and the region"
            }
            "NoSuchBucket" => {
                "no such bucket; check TOOLFLEET_PAYLOAD_BUCKET, or deploy infra/cloudformation/data.yaml"
            }
            "PermanentRedirect" | "AuthorizationHeaderMalformed" => {
                "the bucket is in another region; check AWS_REGION and TOOLFLEET_PAYLOAD_BUCKET"
            }
            _ if is_about_credentials(code) => {
                let what =
                    format!("{operation} on {resource}: the credentials are wrong or have expired ({code})");
                return Self { what, kind: AwsErrorKind::Credentials };
            }
            _ if is_about_permission(code) => {
                let remedy = match code.starts_with("Kms") || code == "DecryptionFailure" {
                    true => "its KMS key cannot be used; see the key's state and policy",
                    false => "the role may not do this; see its policy",
                };
                let what = format!("{operation} on {resource}: {remedy} ({code})");
                return Self { what, kind: AwsErrorKind::Permission };
            }
            _ => return Self::without_remedy(operation, resource, code, message),
        };
        Self::configuration(format!("{operation} on {resource}: {remedy} ({code})"))
    }

    fn without_remedy(operation: &str, resource: &str, code: &str, message: &str) -> Self {
        let words: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
        let kind = match code {
            "ValidationException"
            | "ValidationError"
            | "SerializationException"
            | "InvalidParameterValue"
            | "InvalidParameterException"
            | "InvalidRequestException"
            | "MissingParameter"
            | "InvalidMessageContents"
            | "BatchRequestTooLong" => AwsErrorKind::Rejection,
            _ => AwsErrorKind::Passing,
        };
        Self { what: format!("{operation} on {resource}: {code} {words}"), kind }
    }
}

fn is_about_credentials(code: &str) -> bool {
    matches!(
        code,
        "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "ExpiredTokenException"
            | "ExpiredToken"
            | "RequestExpired"
            | "TokenRefreshRequired"
            | "InvalidToken"
            | "InvalidAccessKeyId"
            | "InvalidSecurity"
            | "AuthFailure"
            | "NotAuthorized"
            | "UnrecognizedClient"
    )
}

fn is_about_permission(code: &str) -> bool {
    matches!(
        code,
        "AccessDeniedException"
            | "AccessDenied"
            | "AllAccessDisabled"
            | "AccountProblem"
            | "UnauthorizedOperation"
            | "AuthorizationError"
            | "OptInRequired"
            | "KmsAccessDenied"
            | "KmsDisabled"
            | "KmsInvalidKeyUsage"
            | "KmsInvalidState"
            | "KmsNotFound"
            | "KmsOptInRequired"
            | "DecryptionFailure"
    )
}

/// The kind of an error without a service's reply. Missing credentials and a missing region have no type of their own in the SDK:
/// they are recognised by the text, in this function alone.
fn kind_without_reply<E, R>(error: &SdkError<E, R>, words: &str) -> AwsErrorKind {
    let says = |part: &str| words.to_ascii_lowercase().contains(part);
    if says("loading credentials") || says("no credentials found") || says("no providers in chain") {
        return AwsErrorKind::Credentials;
    }
    if says("region must be set") || says("missing region") || says("missing signing region") {
        return AwsErrorKind::Region;
    }
    match error {
        // A request that cannot even be built cannot be built later either.
        SdkError::ConstructionFailure(_) => AwsErrorKind::Configuration,
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
            AwsErrorKind::Unreachable
        }
        SdkError::TimeoutError(_) => AwsErrorKind::Unreachable,
        SdkError::DispatchFailure(_) | SdkError::ResponseError(_) | SdkError::ServiceError(_) | _ => {
            AwsErrorKind::Passing
        }
    }
}

const fn remedy_of(kind: AwsErrorKind) -> &'static str {
    match kind {
        AwsErrorKind::Credentials => {
            "no AWS credentials were found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: "
        }
        AwsErrorKind::Region => "no AWS region is set; set AWS_REGION, or name one in the profile: ",
        AwsErrorKind::Unreachable => {
            "nothing answers there; check the network, the region and AWS_ENDPOINT_URL_*: "
        }
        AwsErrorKind::Configuration => "the request cannot be built; check region and endpoint: ",
        AwsErrorKind::Passing | AwsErrorKind::Permission | AwsErrorKind::Rejection => "",
    }
}

/// The error and its causes: the SDK's own texts name the network failure only in a source.
pub(crate) fn chain(error: &dyn Error) -> String {
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
    fn a_missing_table_is_permanent_and_named_with_its_remedy() {
        let error =
            AwsError::of_code("GetItem", "toolfleet-calls", "com.amazonaws#ResourceNotFoundException", "x");
        assert!(error.is_permanent());
        assert!(error.to_string().contains("toolfleet-calls") && error.to_string().contains("data.yaml"));
    }

    #[test]
    fn a_throttle_passes() {
        assert!(!AwsError::of_code("UpdateItem", "t", "ThrottlingException", "slow down").is_permanent());
    }

    #[test]
    fn a_rejected_request_is_permanent() {
        let error = AwsError::of_code("BatchExecuteStatement", "t", "ValidationError", "Item size exceeded");
        assert!(error.is_permanent() && error.is_rejection());
        let denied = AwsError::of_code("BatchExecuteStatement", "t", "AccessDenied", "x");
        assert!(denied.is_permanent() && !denied.is_rejection());
    }

    #[test]
    fn expired_credentials_are_no_refusal_of_the_resource() {
        let of = |code| AwsError::of_code("SendMessageBatch", "q", code, "x");
        for code in
            ["ExpiredToken", "RequestExpired", "InvalidSignatureException", "UnrecognizedClientException"]
        {
            assert!(of(code).is_permanent() && !of(code).is_refused_by_resource(), "{code}");
        }
        for code in ["QueueDoesNotExist", "AccessDeniedException", "KmsDisabled", "InvalidMessageContents"] {
            assert!(of(code).is_refused_by_resource(), "{code}");
        }
        assert!(!of("ThrottlingException").is_refused_by_resource());
    }

    #[test]
    fn denied_access_can_be_waited_for_a_missing_resource_not() {
        let of = |code| AwsError::of_code("GetSecretValue", "secret `s`", code, "x");
        for code in [
            "ExpiredTokenException",
            "ExpiredToken",
            "UnrecognizedClientException",
            "InvalidSignatureException",
            "AccessDeniedException",
            "AccessDenied",
            "DecryptionFailure",
            "KmsDisabled",
            "ThrottlingException",
            "InternalServiceError",
        ] {
            assert!(of(code).is_access_or_outage(), "{code}");
        }
        for code in ["ResourceNotFoundException", "InvalidParameterException", "InvalidRequestException"] {
            assert!(!of(code).is_access_or_outage(), "{code}");
        }
    }
}
