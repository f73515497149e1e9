//! What each error of an Invoke means to the pipeline: whether the function may have run, whether to retry, whose fault it was.
//!
//! "It did not run" is a list of proofs: no connection, no credential, and the errors that Lambda gives before it starts a function.
//! Whatever else is seen leaves it open. docs/reference/lambda.md has the table.

use toolfleet_core::call::HeldReason;
use toolfleet_core::failure::{Blame, Evidence, Failure, Reachability, RetryClass};
use toolfleet_core::function::InvokeFault;
use toolfleet_core::outcome::{Code, MayHaveRun};

/// The most characters of a foreign message that an error repeats.
const MOST_CHARS: usize = 300;
/// How long a call waits for the sessions table.
const STORE_PAUSE_MS: u64 = 1_000;

/// What an error of Invoke means.
pub(super) fn of_invoke(fault: &InvokeFault) -> Failure {
    match fault {
        InvokeFault::NotConnected { detail } => Kind::NotConnected
            .failure(format!("cannot connect to Lambda: {}", short(detail)), "cannot connect to Lambda"),
        InvokeFault::Credentials { detail, permanent } => {
            let kind = if *permanent { Kind::NoCredential } else { Kind::CredentialPending };
            let summary = "there are no credentials to invoke the function with";
            kind.failure(format!("{summary}: {}", short(detail)), summary)
        }
        InvokeFault::AnswerLost { detail } => {
            Kind::AnswerLost.failure(format!("the answer was lost: {}", short(detail)), "the answer was lost")
        }
        InvokeFault::Service { status, code, message, retry_after_ms } => {
            let name =
                if code.is_empty() { format!("HTTP {status}") } else { format!("{code} (HTTP {status})") };
            let summary = format!("Lambda answered {name}");
            let message = short(message);
            let detail = if message.is_empty() { summary.clone() } else { format!("{summary}: {message}") };
            of_service(*status, code, *retry_after_ms).failure(detail, &summary)
        }
    }
}

/// What an error of Lambda itself means, by its name; by its status where the name is not known.
fn of_service(status: u16, code: &str, retry_after_ms: Option<u64>) -> Kind {
    match code {
        "TooManyRequestsException"
        | "ThrottlingException"
        | "EC2ThrottledException"
        | "ServiceQuotaExceededException" => Kind::Throttled(retry_after_ms),
        // The function, its network, its file system or its snapshot is being set up.
        "ResourceNotReadyException"
        | "ResourceConflictException"
        | "ENINotReadyException"
        | "ENILimitReachedException"
        | "SubnetIPAddressLimitReachedException"
        | "EC2UnexpectedException"
        | "EFSMountConnectivityException"
        | "EFSMountFailureException"
        | "EFSMountTimeoutException"
        | "S3FilesMountConnectivityException"
        | "S3FilesMountFailureException"
        | "S3FilesMountTimeoutException"
        | "SnapStartException"
        | "SnapStartNotReadyException"
        | "SnapStartTimeoutException"
        | "SnapStartRegenerationFailureException"
        | "CodeArtifactUserPendingException" => Kind::NotStarted,
        "ResourceNotFoundException"
        | "InvalidRuntimeException"
        | "InvalidZipFileException"
        | "InvalidSecurityGroupIDException"
        | "InvalidSubnetIDException"
        | "EC2AccessDeniedException"
        | "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "NoPublishedVersionException"
        | "ModeNotSupportedException"
        | "RecursiveInvocationException"
        | "CodeArtifactUserDeletedException"
        | "CodeArtifactUserFailedException" => Kind::Misconfigured,
        "InvalidParameterValueException"
        | "InvalidRequestContentException"
        | "UnsupportedMediaTypeException"
        | "ValidationException" => Kind::Refused,
        "ServiceException" | "EFSIOException" => Kind::ServiceFailed,
        // An execution of this name was begun with another event: the call's own, of an earlier version of the fleet.
        "DurableExecutionAlreadyStartedException" => Kind::Unclear,
        "RequestTooLargeException" | "SerializedRequestEntityTooLargeException" => Kind::EventTooLarge,
        "AccessDeniedException" => Kind::Forbidden,
        // The keys ended between two calls; new ones are obtained.
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => Kind::CredentialPending,
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "InvalidClientTokenId" => Kind::Unauthorized,
        _ => match status {
            429 => Kind::Throttled(retry_after_ms),
            408 | 421 | 425 | 500..=599 => Kind::ServiceFailed,
            _ => Kind::Unclear,
        },
    }
}

/// The event is larger than Lambda takes. Nothing was sent.
pub(super) fn event_too_large(bytes: usize, most: usize) -> Failure {
    let detail = format!("the event has {bytes} bytes, and Lambda takes {most}; send less in the arguments");
    Kind::EventTooLarge.failure(detail, "the event is larger than Lambda takes")
}

/// The attempt's time is over.
pub(super) fn attempt_timed_out(after_ms: u64) -> Failure {
    let text = format!("no answer within {after_ms} ms");
    Kind::TimedOut.failure(text.clone(), &text)
}

/// The function's own time-out ended it.
pub(super) fn function_timed_out(words: &str) -> Failure {
    let summary = "the function's own time-out ended it";
    Kind::FunctionTimedOut.failure(format!("{summary}: {}", short(words)), summary)
}

/// The function broke off: its process ended, or it ran out of memory.
pub(super) fn function_broke_off(words: &str) -> Failure {
    let summary = "the function broke off";
    let words = short(words);
    let detail = if words.is_empty() { summary.to_owned() } else { format!("{summary}: {words}") };
    Kind::BrokeOff.failure(detail, summary)
}

/// The function's code could not be loaded.
pub(super) fn not_loaded(words: &str) -> Failure {
    let summary = "the function's code cannot be loaded";
    Kind::NotLoaded.failure(format!("{summary}: {}", short(words)), summary)
}

/// The function reported an error of its own in answer to a request that runs no tool.
pub(super) fn list_refused(words: &str) -> Failure {
    let summary = "the function reported an error";
    Kind::BrokeOff.failure(format!("{summary}: {}", short(words)), summary)
}

/// Whether an answer may be read.
pub(super) fn check_size(payload: &[u8], most_bytes: u64) -> Result<(), Failure> {
    if payload.len() as u64 <= most_bytes {
        return Ok(());
    }
    Err(answer_too_large(&format!("it has {} bytes, and {most_bytes} are read", payload.len())))
}

/// The answer is larger than Lambda passes on, or than the worker reads.
pub(super) fn answer_too_large(words: &str) -> Failure {
    let summary = "the function's answer is too large";
    Kind::AnswerTooLarge.failure(format!("{summary}: {}", short(words)), summary)
}

/// The answer does not have the form that the catalog names.
pub(super) fn invalid_answer(why: &str) -> Failure {
    let summary = "the function's answer does not have the form that the catalog names";
    Kind::InvalidAnswer.failure(format!("{summary}: {why}"), summary)
}

/// The answer is no JSON.
pub(super) fn not_json(error: &serde_json::Error) -> Failure {
    invalid_answer(&format!("it is not JSON ({error})"))
}

/// The session's attributes cannot be read. Nothing was sent.
pub(super) fn no_attributes(why: &str) -> Failure {
    let summary = "the session's attributes cannot be read";
    Kind::NoAttributes.failure(format!("{summary}: {}", short(why)), summary)
}

/// The rows of the table.
#[derive(Debug, Clone, Copy)]
enum Kind {
    NotConnected,
    CredentialPending,
    NoCredential,
    Unauthorized,
    Forbidden,
    Throttled(Option<u64>),
    NotStarted,
    Misconfigured,
    Refused,
    EventTooLarge,
    NotLoaded,
    NoAttributes,
    ServiceFailed,
    Unclear,
    AnswerLost,
    TimedOut,
    FunctionTimedOut,
    BrokeOff,
    AnswerTooLarge,
    InvalidAnswer,
}

impl Kind {
    fn failure(self, detail: String, summary: &str) -> Failure {
        Failure {
            class: self.class(),
            blame: self.blame(),
            may_have_run: self.may_have_run(),
            code: self.code(),
            detail,
            summary: summary.to_owned(),
            evidence: self.evidence(),
            reachability: self.reachability(),
            held: self.held(),
            rpc_code: None,
        }
    }

    const fn class(self) -> RetryClass {
        match self {
            Self::NotConnected | Self::CredentialPending | Self::NotStarted => RetryClass::NotExecuted,
            Self::Throttled(after_ms) => RetryClass::Pause { after_ms },
            Self::NoAttributes => RetryClass::Pause { after_ms: Some(STORE_PAUSE_MS) },
            Self::ServiceFailed
            | Self::AnswerLost
            | Self::TimedOut
            | Self::FunctionTimedOut
            | Self::BrokeOff => RetryClass::Ambiguous,
            Self::NoCredential
            | Self::Unauthorized
            | Self::Forbidden
            | Self::Misconfigured
            | Self::Refused
            | Self::EventTooLarge
            | Self::NotLoaded
            | Self::Unclear
            | Self::AnswerTooLarge
            | Self::InvalidAnswer => RetryClass::Permanent,
        }
    }

    const fn blame(self) -> Blame {
        match self {
            Self::NotConnected
            | Self::Throttled(_)
            | Self::NotStarted
            | Self::ServiceFailed
            | Self::AnswerLost
            | Self::TimedOut
            | Self::FunctionTimedOut
            | Self::BrokeOff
            | Self::NotLoaded
            | Self::InvalidAnswer => Blame::Server,
            Self::Refused | Self::EventTooLarge | Self::Unclear | Self::AnswerTooLarge => Blame::Request,
            Self::CredentialPending
            | Self::NoCredential
            | Self::Unauthorized
            | Self::Forbidden
            | Self::Misconfigured
            | Self::NoAttributes => Blame::Configuration,
        }
    }

    const fn may_have_run(self) -> MayHaveRun {
        match self {
            Self::NotConnected
            | Self::CredentialPending
            | Self::NoCredential
            | Self::Unauthorized
            | Self::Forbidden
            | Self::Throttled(_)
            | Self::NotStarted
            | Self::Misconfigured
            | Self::Refused
            | Self::EventTooLarge
            | Self::NotLoaded
            | Self::NoAttributes => MayHaveRun::No,
            Self::ServiceFailed
            | Self::Unclear
            | Self::AnswerLost
            | Self::TimedOut
            | Self::FunctionTimedOut
            | Self::BrokeOff
            | Self::AnswerTooLarge
            | Self::InvalidAnswer => MayHaveRun::Unknown,
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::NotConnected | Self::NotStarted => Code::ServerUnreachable,
            Self::CredentialPending | Self::NoCredential => Code::CredentialUnavailable,
            Self::Unauthorized => Code::Unauthorized,
            Self::Forbidden => Code::Forbidden,
            Self::Throttled(_) => Code::RateLimited,
            Self::EventTooLarge => Code::RequestTooLarge,
            Self::NoAttributes => Code::InternalError,
            Self::Misconfigured
            | Self::Refused
            | Self::NotLoaded
            | Self::ServiceFailed
            | Self::Unclear
            | Self::BrokeOff => Code::ServerError,
            Self::AnswerLost => Code::AnswerLost,
            Self::TimedOut | Self::FunctionTimedOut => Code::AttemptTimedOut,
            Self::AnswerTooLarge => Code::AnswerTooLarge,
            Self::InvalidAnswer => Code::InvalidAnswer,
        }
    }

    /// What counts for the breakers: only what the function, or Lambda, did wrong or asked for.
    const fn evidence(self) -> Evidence {
        match self {
            Self::NotConnected => Evidence::NotConnected,
            Self::Throttled(after_ms) => Evidence::Paused(after_ms),
            Self::TimedOut | Self::FunctionTimedOut => Evidence::TimedOut,
            Self::NotStarted
            | Self::NotLoaded
            | Self::ServiceFailed
            | Self::AnswerLost
            | Self::BrokeOff
            | Self::InvalidAnswer => Evidence::AnswerFailed,
            Self::Unauthorized
            | Self::Forbidden
            | Self::Misconfigured
            | Self::Refused
            | Self::Unclear
            | Self::AnswerTooLarge => Evidence::Reached,
            Self::CredentialPending | Self::NoCredential | Self::EventTooLarge | Self::NoAttributes => {
                Evidence::Nothing
            }
        }
    }

    const fn reachability(self) -> Reachability {
        match self {
            Self::NotConnected | Self::NotStarted => Reachability::NotReached,
            Self::CredentialPending
            | Self::NoCredential
            | Self::EventTooLarge
            | Self::NoAttributes
            | Self::AnswerLost
            | Self::TimedOut => Reachability::Unknown,
            Self::Unauthorized
            | Self::Forbidden
            | Self::Throttled(_)
            | Self::Misconfigured
            | Self::Refused
            | Self::NotLoaded
            | Self::ServiceFailed
            | Self::Unclear
            | Self::FunctionTimedOut
            | Self::BrokeOff
            | Self::AnswerTooLarge
            | Self::InvalidAnswer => Reachability::Answered,
        }
    }

    const fn held(self) -> HeldReason {
        match self {
            Self::CredentialPending | Self::NoCredential => HeldReason::Credential,
            Self::NoAttributes => HeldReason::AwsError,
            Self::NotConnected | Self::NotStarted => HeldReason::ServerUnreachable,
            Self::Throttled(_) => HeldReason::ServerPause,
            Self::Unauthorized
            | Self::Forbidden
            | Self::Misconfigured
            | Self::Refused
            | Self::EventTooLarge
            | Self::NotLoaded
            | Self::ServiceFailed
            | Self::Unclear
            | Self::AnswerLost
            | Self::TimedOut
            | Self::FunctionTimedOut
            | Self::BrokeOff
            | Self::AnswerTooLarge
            | Self::InvalidAnswer => HeldReason::BackOff,
        }
    }
}

/// The beginning of a foreign text, on one line.
fn short(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(plain).take(MOST_CHARS).collect()
}
