//! Reads what is known of a call and explains why it is not running. It changes nothing; messages of the dead-letter queue that it reads
//! are hidden for a moment.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_core::call::{CallRow, State};
use toolfleet_core::dead_letter::waited_until;
use toolfleet_core::fleet::FleetSummary;
use toolfleet_core::ids::CallKey;
use toolfleet_core::request::Priority;
use toolfleet_core::time::Timestamp;
use toolfleet_core::why::{
    DeadLetterFound, DeadLetterSeen, Evidence, Explanation, QueueState, WorkersSeen, explain,
};

use crate::client::Client;
use crate::dead_letters::{DeadLetter, DeadLetters, RECEIVED_TOO_OFTEN};

/// The longest reading of the dead-letter queue, and the most messages that are read there.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
const MOST_LETTERS: usize = 500;

/// Why a call is not running, and what could not be read.
#[derive(Debug)]
pub struct Why {
    /// When it was read.
    pub now: Timestamp,
    /// The row of the call.
    pub row: Option<CallRow>,
    /// The explanation.
    pub explanation: Explanation,
    /// What could not be read, and why.
    pub failures: Vec<(&'static str, AwsError)>,
}

impl Client {
    /// Explains why a call is not running.
    ///
    /// # Errors
    /// The row could not be read. What else cannot be read is said in the explanation.
    pub async fn why(&self, key: &CallKey) -> Result<Why, AwsError> {
        // Four requests at once are kilobytes of state.
        Box::pin(self.read_why(key, true, true)).await
    }

    /// The same without a look into the dead-letter queue, which takes seconds and hides its messages for a moment.
    ///
    /// # Errors
    /// The row could not be read.
    pub async fn why_without_dead_letters(&self, key: &CallKey) -> Result<Why, AwsError> {
        Box::pin(self.read_why(key, false, true)).await
    }

    /// The same for eyes that see this tenant alone: without the queues and the workers, which tell of all tenants.
    ///
    /// # Errors
    /// The row could not be read.
    pub async fn why_of_tenant(&self, key: &CallKey, dead_letters: bool) -> Result<Why, AwsError> {
        Box::pin(self.read_why(key, dead_letters, false)).await
    }

    async fn read_why(&self, key: &CallKey, dead_letters: bool, fleet: bool) -> Result<Why, AwsError> {
        let row = self.calls.read(key).await?;
        let now = (self.now)();
        let mut failures = Vec::new();
        let has_ended = row.as_ref().is_some_and(|row| row.finished.is_some());
        if has_ended {
            let explanation = explain(&Evidence::of_row(key, row.as_ref(), now));
            return Ok(Why { now, row, explanation, failures });
        }
        let (control, workers, queues, dead_letter) = tokio::join!(
            self.fleet.control(now),
            async { if fleet { self.workers_seen(key, row.as_ref(), now).await } else { Ok(None) } },
            async { if fleet { self.depths().await } else { Ok(Vec::new()) } },
            async { if dead_letters { self.dead_letter_of(key).await } else { Ok(DeadLetterSeen::NotRead) } },
        );
        let control = noted(control, "the fleet table", &mut failures);
        let workers = noted(workers, "the summary of the workers", &mut failures).flatten();
        let queues = noted(queues, "the queues", &mut failures).unwrap_or_default();
        let summary = workers.as_ref().map(|(_, summary)| summary).filter(|summary| !summary.is_stale(now));
        let queues = queues.iter().filter(|queue| !queue.dead_letter);
        let queues: Vec<_> = queues.map(|queue| state_of(queue, summary)).collect();
        let dead_letter = noted(dead_letter, "the dead-letter queue", &mut failures);
        let explanation = explain(&Evidence {
            key,
            row: row.as_ref(),
            now,
            control: control.as_ref(),
            workers: workers.as_ref().map(|(seen, _)| seen),
            queues: &queues,
            dead_letter: &dead_letter.unwrap_or(DeadLetterSeen::NotRead),
            row_only: false,
        });
        Ok(Why { now, row, explanation, failures })
    }

    /// The workers, as they report; none if no worker has ever reported.
    async fn workers_seen(
        &self,
        key: &CallKey,
        row: Option<&CallRow>,
        now: Timestamp,
    ) -> Result<Option<(WorkersSeen, FleetSummary)>, AwsError> {
        let Some(summary) = self.summary().await? else {
            return Ok(None);
        };
        // Only a claim has a holder whose own row matters.
        let rows = match row {
            Some(row) if row.state == State::Claimed => Some(self.workers().await?),
            Some(_) | None => None,
        };
        let seen = WorkersSeen::of(&summary, rows.as_deref(), &key.tenant, row, now);
        Ok(Some((seen, summary)))
    }

    /// Whether the dead-letter queue holds the call's message. The queue is read for a few seconds at most.
    async fn dead_letter_of(&self, key: &CallKey) -> Result<DeadLetterSeen, AwsError> {
        let Some(dead) = self.dead_letters().await? else {
            return Ok(DeadLetterSeen::NoQueue);
        };
        let depth = dead.depth().await?;
        if depth.visible == 0 && depth.in_flight == 0 {
            return Ok(DeadLetterSeen::NotFound { looked_at: 0, all: true });
        }
        find(&dead, |letter| letter.key() == Some(key)).await
    }
}

/// Looks for the letter, and makes all that it has read visible again.
async fn find(dead: &DeadLetters, is_it: impl Fn(&DeadLetter) -> bool) -> Result<DeadLetterSeen, AwsError> {
    let (mut look, until) = (dead.look(), Instant::now() + LONGEST_LOOK);
    let seen = loop {
        match look.next().await {
            Err(error) => break Err(error),
            Ok(letters) if letters.is_empty() => break Ok(not_found(&look, look.missed() == 0)),
            Ok(letters) => match letters.iter().find(|letter| is_it(letter)) {
                Some(letter) => break Ok(DeadLetterSeen::Found(found(letter))),
                None if look.read() >= MOST_LETTERS || Instant::now() >= until => {
                    break Ok(not_found(&look, false));
                }
                None => {}
            },
        }
    };
    // What stays hidden is visible again in half a minute.
    let _hidden = look.release().await;
    seen
}

fn not_found(look: &crate::dead_letters::Look, all: bool) -> DeadLetterSeen {
    DeadLetterSeen::NotFound { looked_at: u64::try_from(look.read()).unwrap_or(u64::MAX), all }
}

fn found(letter: &DeadLetter) -> DeadLetterFound {
    DeadLetterFound {
        reason: Some(letter.reason()).filter(|reason| *reason != RECEIVED_TOO_OFTEN).map(str::to_owned),
        first_sent: letter.first_sent(),
        waited_until: waited_until(letter.sent_at(), letter.request()),
        deadline: letter.named_deadline(),
    }
}

fn state_of(queue: &crate::queue_depths::QueueDepth, summary: Option<&FleetSummary>) -> QueueState {
    // The names that switches have for them.
    let priority = match queue.priority {
        Some(Priority::High) => "high",
        Some(Priority::Low) => "low",
        Some(Priority::Normal) | None => "default",
    };
    QueueState {
        name: queue.name.clone(),
        priority: priority.to_owned(),
        visible: queue.depth.visible,
        in_flight: queue.depth.in_flight,
        delayed: queue.depth.delayed,
        wait_ms: summary.and_then(|summary| summary.queues.get(&queue.name)?.oldest_ms),
    }
}

/// The value, or a note of what could not be read.
fn noted<T>(
    read: Result<T, AwsError>,
    what: &'static str,
    failures: &mut Vec<(&'static str, AwsError)>,
) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(error) => {
            failures.push((what, error));
            None
        }
    }
}
