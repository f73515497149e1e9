//! A task that moves dead letters back, and its states.

use serde::{Deserialize, Serialize};

use crate::names::queue_arn;

/// The status of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MoveStatus {
    Running,
    Completed,
    Cancelled,
    Failed,
}

impl MoveStatus {
    /// The name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
            Self::Failed => "FAILED",
        }
    }
}

/// One task. Queues are named without their ARN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MoveTask {
    pub(crate) id: String,
    pub(crate) source: String,
    /// Without one, each message goes back to the queue that it came from.
    pub(crate) destination: Option<String>,
    pub(crate) per_second: Option<u64>,
    pub(crate) started_ms: u64,
    pub(crate) status: MoveStatus,
    pub(crate) moved: u64,
    pub(crate) to_move: u64,
    pub(crate) failure: Option<String>,
    /// When the next message may move.
    pub(super) next_ms: u64,
}

/// A request to move messages.
#[derive(Debug, Clone)]
pub(crate) struct MoveOrder {
    pub(crate) id: String,
    pub(crate) source_arn: String,
    pub(crate) destination_arn: Option<String>,
    pub(crate) per_second: Option<u64>,
}

impl MoveTask {
    pub(crate) fn source_arn(&self) -> String {
        queue_arn(&self.source)
    }

    pub(crate) fn destination_arn(&self) -> Option<String> {
        self.destination.as_deref().map(queue_arn)
    }
}
