//! The explanation of a call, as data and as lines for people.

use serde::Serialize;

use super::evidence::{QueueState, WorkersSeen};
use crate::ids::ServerId;
use crate::time::{Timestamp, span};

/// Where a call is, what it waits for, and when it goes on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The state of its row; `unknown` if there is none.
    pub state: &'static str,
    /// Where it is.
    pub place: Place,
    /// The same as a sentence.
    pub text: String,
    /// What it waits for. All of it must come to pass before the call goes on.
    pub waits_for: Vec<WaitsFor>,
    /// When it goes on or is looked at next, as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// What happens then; without `next_at`, on what it depends.
    pub next: String,
    /// After which instant it is worth nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// What happens at the deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_deadline: Option<String>,
    /// When its caller cancelled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_requested_at: Option<Timestamp>,
    /// The queues.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueState>,
    /// The workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkersSeen>,
    /// What is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_known: Vec<String>,
    /// What a person can do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<String>,
}

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// No worker has stored anything of it: it is in the queue, or was not sent.
    NotReceived,
    /// Its cancellation is stored, and its message was not received.
    CancelledAhead,
    /// It was received, and its message is in the queue again.
    InQueue,
    /// It was received, and waits for a reason that its row says.
    Held,
    /// A worker executes it.
    Running,
    /// The lease of the worker that executed it has ended.
    WorkerLost,
    /// Its server works on it as a task.
    AtServer,
    /// A person must allow it first.
    AwaitingApproval,
    /// Its message is in the dead-letter queue.
    DeadLetterQueue,
    /// It has ended.
    Ended,
}

/// One thing that a call waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitsFor {
    /// Its kind.
    #[serde(rename = "for")]
    pub kind: WaitsForKind,
    /// The reason as a part of a sentence.
    pub text: String,
    /// The server that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Until when, as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What exactly: which limit, or who paused what and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The last fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_fault: Option<String>,
}

/// The kinds of things that a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsForKind {
    /// What its row says it is held for.
    Held,
    /// An operator's pause or strike that stops it.
    Pause,
    /// An operator's pause that may stop it: not enough is known of the call.
    PossiblePause,
    /// A worker that receives its message.
    Worker,
    /// The end of the claim of a worker that does not report any more.
    Lease,
    /// The answer of its tool.
    Answer,
    /// The end of its task at its server.
    Task,
    /// A person who allows it.
    Approval,
    /// Its end by a worker, or an operator who moves its message back to the calls.
    Redrive,
}

impl WaitsFor {
    pub(super) fn new(kind: WaitsForKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            server: None,
            since: None,
            until: None,
            detail: None,
            last_fault: None,
        }
    }

    /// One line for people.
    pub fn line(&self, now: Timestamp) -> String {
        let mut line = self.text.clone();
        if let Some(server) = &self.server {
            line.push_str(&format!(" (server {server})"));
        }
        if let Some(detail) = &self.detail {
            line.push_str(&format!(": {detail}"));
        }
        if let Some(since) = self.since {
            line.push_str(&format!("; since {}", when(since, now)));
        }
        if let Some(until) = self.until {
            line.push_str(&format!("; until {}", when(until, now)));
        }
        if let Some(fault) = &self.last_fault {
            line.push_str(&format!("; last fault: {fault}"));
        }
        line
    }
}

impl Explanation {
    /// The short line: where it is, what it waits for, and when it goes on.
    pub fn line(&self, now: Timestamp) -> String {
        let mut line = self.text.clone();
        for waits in &self.waits_for {
            line.push_str(&format!("; waits for {}", waits.line(now)));
        }
        line.push_str(&format!("; {}", self.next_line(now)));
        line
    }

    /// When it goes on, and what happens then.
    pub fn next_line(&self, now: Timestamp) -> String {
        match self.next_at {
            Some(at) => format!("{} {}", self.next, when(at, now)),
            None => self.next.clone(),
        }
    }

    /// The deadline, and what happens then.
    pub fn deadline_line(&self, now: Timestamp) -> Option<String> {
        let (at, then) = (self.deadline?, self.at_deadline.as_ref()?);
        Some(format!("{}: {then}", when(at, now)))
    }
}

/// An instant for people, with its distance from now.
pub(super) fn when(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        format!("{at} (in {})", span(at.ms_since(now)))
    } else {
        format!("{at} ({} ago)", span(now.ms_since(at)))
    }
}
