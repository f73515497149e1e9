//! Reads of which each may fail by itself: a page shows what could be read, and says what could not.

use toolfleet_client::{AwsError, AwsErrorKind, FleetView, PayloadError};
use toolfleet_core::time::Timestamp;

use crate::console::Console;
use crate::visitor::Scope;

/// What could not be read for a page.
#[derive(Debug)]
pub(crate) struct Problems<'a> {
    scope: &'a Scope,
    texts: Vec<String>,
}

impl<'a> Problems<'a> {
    pub(crate) const fn of(scope: &'a Scope) -> Self {
        Self { scope, texts: Vec::new() }
    }

    /// What was read; a problem is noted.
    pub(crate) fn take<T>(&mut self, what: &str, read: Result<T, AwsError>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(error) => {
                self.texts.push(problem(what, &error, self.scope));
                None
            }
        }
    }

    /// Notes that a result could not be read.
    pub(crate) fn of_result(&mut self, error: &PayloadError) {
        let text = match error {
            PayloadError::Aws(error) => problem("The stored result", error, self.scope),
            PayloadError::Missing(_) | PayloadError::Altered { .. } | PayloadError::TooLarge { .. } => {
                format!("The stored result cannot be read: {error}")
            }
        };
        self.texts.push(text);
    }

    pub(crate) fn add(&mut self, text: String) {
        self.texts.push(text);
    }

    pub(crate) fn into_texts(self) -> Vec<String> {
        self.texts
    }
}

/// What could not be read, and what to do. Account numbers and names of tables are for those who see the whole fleet.
pub(crate) fn problem(what: &str, error: &AwsError, scope: &Scope) -> String {
    tracing::warn!(%error, code = "console_read_failed", "{what} could not be read for a page");
    let remedy = match error.kind() {
        AwsErrorKind::Unreachable | AwsErrorKind::Passing => "load the page again in a moment",
        AwsErrorKind::Permission => {
            "give the role of the console the rights of an operator (docs/guides/console.md)"
        }
        AwsErrorKind::Credentials | AwsErrorKind::Region => "give the console credentials and a region",
        AwsErrorKind::Configuration | AwsErrorKind::Rejection => {
            "run toolfleet doctor, which says what is missing"
        }
    };
    match scope {
        Scope::All => format!("{what} could not be read: {error}. What to do: {remedy}."),
        Scope::Tenants(_) => {
            format!("{what} could not be read. An operator finds the reason in the console's log.")
        }
    }
}

/// The fleet as far as it was read. What was not read is empty in the view, and says nothing of the fleet.
pub(crate) struct Fleet {
    pub(crate) view: FleetView,
    pub(crate) has_queues: bool,
    pub(crate) has_entries: bool,
    pub(crate) has_summary: bool,
}

impl Fleet {
    /// Whether the limits are known: the workers report them, and operators set them.
    pub(crate) const fn has_limits(&self) -> bool {
        self.has_entries && self.has_summary
    }
}

/// The fleet, as far as it can be read.
pub(crate) async fn fleet(console: &Console, now: Timestamp, problems: &mut Problems<'_>) -> Fleet {
    let (queues, mut fleet) =
        futures::join!(console.client.depths(), fleet_without_queues(console, now, problems));
    let queues = problems.take("The queues", queues);
    fleet.has_queues = queues.is_some();
    fleet.view.queues = queues.unwrap_or_default();
    fleet
}

/// The same without the queues.
pub(crate) async fn fleet_without_queues(
    console: &Console,
    now: Timestamp,
    problems: &mut Problems<'_>,
) -> Fleet {
    let controls = console.client.controls();
    let (entries, summary) = futures::join!(controls.entries(), console.client.summary());
    let entries = problems.take("What operators have set", entries);
    let summary = problems.take("The summary of the workers", summary);
    Fleet {
        has_queues: false,
        has_entries: entries.is_some(),
        has_summary: summary.is_some(),
        view: FleetView {
            queues: Vec::new(),
            entries: entries.unwrap_or_default(),
            summary: summary.flatten(),
            read_at: now,
        },
    }
}
