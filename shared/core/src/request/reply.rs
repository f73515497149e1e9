//! Where a notice goes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the notice goes when the call ends; exactly one of its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The URL of an SQS queue on the fleet's list.
    SqsQueueUrl(String),
    /// The ARN of an SNS topic on the fleet's list.
    SnsTopicArn(String),
    /// The name or ARN of an EventBridge bus on the fleet's list.
    EventBridgeBus(String),
    /// The id of a registered webhook.
    WebhookId(String),
}

impl Reply {
    /// The URL of the SQS queue, if it is one.
    pub fn sqs_queue_url(&self) -> Option<&str> {
        match self {
            Self::SqsQueueUrl(url) => Some(url),
            Self::SnsTopicArn(_) | Self::EventBridgeBus(_) | Self::WebhookId(_) => None,
        }
    }
}
