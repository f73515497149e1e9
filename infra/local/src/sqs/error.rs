//! The errors of SQS, with the names that the SDKs match on.
//!
//! **Invariant:** each error has both names, the JSON shape and the older query code, because SDKs match on the latter.

/// A refusal as SQS words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SqsError {
    #[error("The specified queue does not exist.")]
    QueueDoesNotExist,
    #[error("A queue already exists with the same name and a different value for attribute {0}")]
    QueueNameExists(String),
    #[error("{0}")]
    InvalidParameterValue(String),
    #[error("The request must contain the parameter {0}.")]
    MissingParameter(&'static str),
    #[error("Unknown Attribute {0}.")]
    InvalidAttributeName(String),
    #[error("Invalid value for the parameter {0}.")]
    InvalidAttributeValue(String),
    #[error("Invalid characters found in the message body.")]
    InvalidMessageContents,
    #[error("The input receipt handle \"{0}\" is not a valid receipt handle.")]
    ReceiptHandleIsInvalid(String),
    #[error("The message referred to is not in flight.")]
    MessageNotInflight,
    #[error("Too many messages are in flight: {0} is the most a queue allows.")]
    OverLimit(usize),
    #[error("There should be at least one {0} in the request.")]
    EmptyBatchRequest(&'static str),
    #[error("Maximum number of entries per request are 10. You have sent {0}.")]
    TooManyEntries(usize),
    #[error("Id {0} repeated.")]
    BatchEntryIdsNotDistinct(String),
    #[error("Batch requests cannot be longer than {limit} bytes. You have sent {sent} bytes.")]
    BatchRequestTooLong { limit: usize, sent: usize },
    #[error(
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long."
    )]
    InvalidBatchEntryId,
    #[error("{0}")]
    ResourceNotFound(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("The operation {0} is not known.")]
    UnknownOperation(String),
    #[error("The request body is not what the operation takes: {0}")]
    Serialization(String),
    #[error("The change could not be written to the data directory: {0}")]
    NotWritten(String),
}

impl SqsError {
    /// The name of the error in the JSON protocol.
    pub(crate) fn shape(&self) -> &'static str {
        match self {
            Self::QueueDoesNotExist => "com.amazonaws.sqs#QueueDoesNotExist",
            Self::QueueNameExists(_) => "com.amazonaws.sqs#QueueNameExists",
            Self::InvalidParameterValue(_) => "com.amazon.coral.service#InvalidParameterValueException",
            Self::MissingParameter(_) => "com.amazon.coral.service#MissingRequiredParameterException",
            Self::InvalidAttributeName(_) => "com.amazonaws.sqs#InvalidAttributeName",
            Self::InvalidAttributeValue(_) => "com.amazonaws.sqs#InvalidAttributeValue",
            Self::InvalidMessageContents => "com.amazonaws.sqs#InvalidMessageContents",
            Self::ReceiptHandleIsInvalid(_) => "com.amazonaws.sqs#ReceiptHandleIsInvalid",
            Self::MessageNotInflight => "com.amazonaws.sqs#MessageNotInflight",
            Self::OverLimit(_) => "com.amazonaws.sqs#OverLimit",
            Self::EmptyBatchRequest(_) => "com.amazonaws.sqs#EmptyBatchRequest",
            Self::TooManyEntries(_) => "com.amazonaws.sqs#TooManyEntriesInBatchRequest",
            Self::BatchEntryIdsNotDistinct(_) => "com.amazonaws.sqs#BatchEntryIdsNotDistinct",
            Self::BatchRequestTooLong { .. } => "com.amazonaws.sqs#BatchRequestTooLong",
            Self::InvalidBatchEntryId => "com.amazonaws.sqs#InvalidBatchEntryId",
            Self::ResourceNotFound(_) => "com.amazonaws.sqs#ResourceNotFoundException",
            Self::Unsupported(_) => "com.amazonaws.sqs#UnsupportedOperation",
            Self::UnknownOperation(_) => "com.amazon.coral.service#UnknownOperationException",
            Self::Serialization(_) => "com.amazon.coral.service#SerializationException",
            Self::NotWritten(_) => "com.amazon.coral.service#InternalFailure",
        }
    }

    /// The name of the error in the older query protocol, which the SDKs still match on.
    pub(crate) fn query_code(&self) -> &'static str {
        match self {
            Self::QueueDoesNotExist => "AWS.SimpleQueueService.NonExistentQueue",
            Self::QueueNameExists(_) => "QueueAlreadyExists",
            Self::InvalidParameterValue(_) => "InvalidParameterValue",
            Self::MissingParameter(_) => "MissingParameter",
            Self::InvalidAttributeName(_) => "InvalidAttributeName",
            Self::InvalidAttributeValue(_) => "InvalidAttributeValue",
            Self::InvalidMessageContents => "InvalidMessageContents",
            Self::ReceiptHandleIsInvalid(_) => "ReceiptHandleIsInvalid",
            Self::MessageNotInflight => "AWS.SimpleQueueService.MessageNotInflight",
            Self::OverLimit(_) => "OverLimit",
            Self::EmptyBatchRequest(_) => "AWS.SimpleQueueService.EmptyBatchRequest",
            Self::TooManyEntries(_) => "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
            Self::BatchEntryIdsNotDistinct(_) => "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
            Self::BatchRequestTooLong { .. } => "AWS.SimpleQueueService.BatchRequestTooLong",
            Self::InvalidBatchEntryId => "AWS.SimpleQueueService.InvalidBatchEntryId",
            Self::ResourceNotFound(_) => "ResourceNotFoundException",
            Self::Unsupported(_) => "AWS.SimpleQueueService.UnsupportedOperation",
            Self::UnknownOperation(_) => "InvalidAction",
            Self::Serialization(_) => "MalformedInput",
            Self::NotWritten(_) => "InternalFailure",
        }
    }

    /// Whether the request is at fault, as opposed to this machine.
    pub(crate) fn is_senders_fault(&self) -> bool {
        !matches!(self, Self::NotWritten(_))
    }
}
