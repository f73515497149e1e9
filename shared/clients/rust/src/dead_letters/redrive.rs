//! Moves dead letters back to the calls: sends a copy first, and deletes the letter after the queue has accepted it. A crash in between
//! leaves a duplicate, which the claim absorbs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_aws::queue::{MAX_MESSAGE_BYTES, Outgoing, Queue};
use toolfleet_core::call::CallRow;
use toolfleet_core::dead_letter::RedriveClass;
use toolfleet_core::limits::RateLimit;
use toolfleet_core::message_attributes::{FIRST_MESSAGE, FIRST_SENDER, FIRST_SENT, OWN};

use super::letter::{DeadLetter, LetterFilter};
use super::letters::{DeadLetters, Judged};
use super::look::{BATCH, HIDDEN_S, Look};
use super::origin::{Copy, NotKnown, RedriveRules, copy_of};

/// The most attributes that a message has (SQS quota).
const MOST_ATTRIBUTES: usize = 10;
/// What SQS counts of an attribute beside its name and value: its type.
const TYPE_BYTES: usize = 8;

/// What to redrive.
pub struct Redrive<'a> {
    /// Which dead letters.
    pub filter: LetterFilter,
    /// Whether to move those that may have run and are not safe to repeat.
    pub may_have_run: bool,
    /// Whether to act; otherwise it is only said what would be done.
    pub act: bool,
    /// The most messages to move in a time.
    pub rate: RateLimit,
    /// What the workers' catalog says.
    pub rules: &'a dyn RedriveRules,
    /// The SenderId of this process. It is needed to act; without it nothing is said of what would fail.
    pub own_sender: Option<&'a str>,
}

/// What became of one dead letter.
#[derive(Debug)]
pub struct Redriven {
    /// The letter.
    pub letter: DeadLetter,
    /// What a redrive does to its call.
    pub class: RedriveClass,
    /// What was done.
    pub done: RedrivenAs,
}

/// What was done with a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedrivenAs {
    /// It would be moved.
    Planned,
    /// It was moved: the id of its copy, and whether age and sender stay those of the first message.
    Moved {
        /// The id of the copy.
        message_id: String,
        /// Whether age and sender stay those of the first message.
        keeps_origin: bool,
    },
    /// It was left where it is, because of its class.
    Left,
    /// It could not be moved.
    Failed(RedriveError),
}

/// Why a dead letter was not moved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedriveError {
    /// Its copy could not say what it has to.
    #[error("{0}")]
    Origin(String),
    /// Its deadline has passed, and would begin again with a copy that counts as sent now.
    #[error(
        "its deadline has passed, and would begin again: your copy counts as sent now, because your sender id is not in `tenants.fleet` of the catalog; a worker ends it where it is"
    )]
    BeginsAgain,
    /// SQS did not take the copy; the letter stays where it is.
    #[error("the copy was not sent, and the message stays where it is: {0}")]
    NotSent(AwsError),
    /// The copy was sent and the letter could not be deleted: there are two messages, of which one runs.
    #[error("the copy was sent and the message was not deleted; the claim lets one of the two run: {0}")]
    NotDeleted(AwsError),
    /// The letter was hidden for too long, so that another reader may have it.
    #[error("the message was hidden for too long, and stays where it is; run the command again")]
    Lapsed,
}

impl From<NotKnown> for RedriveError {
    fn from(error: NotKnown) -> Self {
        Self::Origin(error.to_string())
    }
}

/// What became of all of them.
#[derive(Debug, Default)]
pub struct RedriveReport {
    /// How many fitted the filter, by class.
    pub classes: BTreeMap<RedriveClass, u64>,
    /// How many did not fit the filter.
    pub others: u64,
    /// How many were moved, or would be.
    pub moved: u64,
    /// How many could not be moved.
    pub failed: u64,
    /// About how many others had hidden, so that they were not read.
    pub missed: u64,
}

impl RedriveReport {
    fn count(&mut self, class: RedriveClass, done: &RedrivenAs) {
        *self.classes.entry(class).or_default() += 1;
        match done {
            RedrivenAs::Planned | RedrivenAs::Moved { .. } => self.moved += 1,
            RedrivenAs::Failed(_) => self.failed += 1,
            RedrivenAs::Left => {}
        }
    }
}

/// What was moved so far.
#[derive(Default)]
struct Moved {
    /// The copies and the first messages of their calls, so that a copy that comes back is not moved in a loop.
    ids: HashSet<String>,
    queues: HashMap<String, Queue>,
}

impl Moved {
    fn holds(&self, letter: &DeadLetter) -> bool {
        [letter.message_id(), letter.first_message_id()].iter().any(|id| self.ids.contains(*id))
    }
}

enum Plan {
    Move(Copy),
    Done(RedrivenAs),
}

fn plan(redrive: &Redrive<'_>, letter: &DeadLetter, class: RedriveClass, row: Option<&CallRow>) -> Plan {
    if !class.is_moved(redrive.may_have_run) {
        return Plan::Done(RedrivenAs::Left);
    }
    let Some(own) = redrive.own_sender else {
        return Plan::Done(match redrive.act {
            true => RedrivenAs::Failed(RedriveError::Origin("your own sender id is not known".to_owned())),
            false => RedrivenAs::Planned,
        });
    };
    match copy_of(letter, row, own, redrive.rules) {
        Err(error) => Plan::Done(RedrivenAs::Failed(error.into())),
        // A call whose deadline has passed must not run because its copy is younger than it.
        Ok(Copy::Anew) if class == RedriveClass::Expired && letter.deadline_begins_again() => {
            Plan::Done(RedrivenAs::Failed(RedriveError::BeginsAgain))
        }
        Ok(copy) if redrive.act => Plan::Move(copy),
        Ok(_) => Plan::Done(RedrivenAs::Planned),
    }
}

impl DeadLetters {
    /// Moves dead letters back to the calls, or says what it would do. `see` is called for each letter that fits. Release the look
    /// afterwards, also when this is interrupted.
    ///
    /// # Errors
    /// The queue or the table failed; what was moved before stays moved.
    pub async fn redrive(
        &self,
        look: &mut Look,
        redrive: &Redrive<'_>,
        mut see: impl FnMut(Redriven),
    ) -> Result<RedriveReport, AwsError> {
        let mut report = RedriveReport::default();
        let mut pace = Pace::new(redrive.rate);
        let mut moved = Moved::default();
        loop {
            pace.ready(redrive.act).await;
            let found = look.next_of(if redrive.act { pace.batch() } else { BATCH }).await?;
            let read_at = Instant::now();
            if found.is_empty() {
                report.missed = look.missed();
                return Ok(report);
            }
            let all = found.len();
            let fits = |letter: &DeadLetter| !moved.holds(letter) && redrive.filter.matches(letter);
            let letters: Vec<_> = found.into_iter().filter(fits).collect();
            report.others += u64::try_from(all - letters.len()).unwrap_or(u64::MAX);
            let judged = self.judge(&letters, redrive.rules).await?;
            for (letter, Judged { class, row, .. }) in letters.into_iter().zip(judged) {
                if look.stop().is_stopped() {
                    return Ok(report);
                }
                let done = match plan(redrive, &letter, class, row.as_ref()) {
                    Plan::Done(done) => done,
                    Plan::Move(copy) => {
                        pace.next().await;
                        self.move_one(look, &mut moved, &letter, copy, read_at).await
                    }
                };
                report.count(class, &done);
                see(Redriven { letter, class, done });
            }
        }
    }

    async fn move_one(
        &self,
        look: &mut Look,
        moved: &mut Moved,
        letter: &DeadLetter,
        copy: Copy,
        read_at: Instant,
    ) -> RedrivenAs {
        // Half of the time is left for the copy and the delete.
        let lapsed = read_at.elapsed() > Duration::from_secs(u64::from(HIDDEN_S) / 2);
        let Some(receipt) = look.receipt(letter.message_id()).cloned().filter(|_| !lapsed) else {
            return RedrivenAs::Failed(RedriveError::Lapsed);
        };
        let keeps_origin = matches!(copy, Copy::Of(_));
        let sent = match self.queue_of(&mut moved.queues, letter).await {
            Ok(queue) => queue.send(outgoing(letter, copy)).await,
            Err(error) => Err(error),
        };
        let message_id = match sent {
            Ok(message_id) => message_id,
            Err(error) => return RedrivenAs::Failed(RedriveError::NotSent(error)),
        };
        moved.ids.extend([message_id.clone(), letter.first_message_id().to_owned()]);
        if let Err(error) = self.queue.delete(&receipt).await {
            return RedrivenAs::Failed(RedriveError::NotDeleted(error));
        }
        look.forget(letter.message_id());
        RedrivenAs::Moved { message_id, keeps_origin }
    }

    /// The queue that gave the letter up. One that a worker kept goes to the queue of its priority, if the client knows it.
    async fn queue_of(
        &self,
        queues: &mut HashMap<String, Queue>,
        letter: &DeadLetter,
    ) -> Result<Queue, AwsError> {
        let calls = &self.client.queue;
        let Some(name) = letter.queue() else {
            let priority = letter.request().map(|request| request.priority).unwrap_or_default();
            return Ok(self.client.queue_of(priority).unwrap_or(calls).clone());
        };
        if name == calls.name() {
            return Ok(calls.clone());
        }
        if let Some(queue) = queues.get(name) {
            return Ok(queue.clone());
        }
        let queue = calls.sibling(name).await?;
        queues.insert(name.to_owned(), queue.clone());
        Ok(queue)
    }
}

/// The copy of a letter. Of the fleet's own attributes it has only the origin: a turn or a number of parks is of the past.
fn outgoing(letter: &DeadLetter, copy: Copy) -> Outgoing {
    let delivery = &letter.delivery;
    let origin = match copy {
        Copy::Of(origin) => vec![
            (FIRST_SENT, Some(origin.sent.as_ms().to_string())),
            (FIRST_SENDER, origin.sender),
            (FIRST_MESSAGE, Some(origin.message_id)),
        ],
        Copy::Anew => Vec::new(),
    };
    let origin = origin.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let theirs = delivery.attributes.iter().filter(|(name, _)| !name.starts_with(OWN));
    let mut left = MAX_MESSAGE_BYTES.saturating_sub(delivery.body.len());
    let mut attributes = BTreeMap::new();
    for (name, value) in origin.chain(theirs.map(|(name, value)| (name.clone(), value.clone()))) {
        let bytes = name.len() + value.len() + TYPE_BYTES;
        if attributes.len() < MOST_ATTRIBUTES && bytes <= left && !value.is_empty() {
            left -= bytes;
            attributes.insert(name, value);
        }
    }
    let tenant = || letter.key().map(|key| key.tenant.to_string());
    Outgoing {
        body: delivery.body.clone(),
        delay_s: 0,
        group: delivery.group.clone().or_else(tenant),
        attributes,
        deduplication: Some(letter.message_id().to_owned()),
    }
}

/// Letters of one receive are moved within this time.
const BATCH_TIME: Duration = Duration::from_secs(10);

/// Spaces messages evenly.
struct Pace {
    spacing: Duration,
    next: Option<Instant>,
}

impl Pace {
    fn new(rate: RateLimit) -> Self {
        let spacing = Duration::from_secs(u64::from(rate.seconds())) / rate.count();
        Self { spacing, next: None }
    }

    /// Waits until the next message may be moved, so that it is not hidden meanwhile.
    async fn ready(&self, act: bool) {
        if let Some(at) = self.next.filter(|_| act) {
            tokio::time::sleep_until(at).await;
        }
    }

    /// How many messages to receive at once.
    fn batch(&self) -> u32 {
        let fit = BATCH_TIME.as_millis() / self.spacing.as_millis().max(1);
        u32::try_from(fit).unwrap_or(BATCH).clamp(1, BATCH)
    }

    async fn next(&mut self) {
        self.ready(true).await;
        self.next = Some(Instant::now() + self.spacing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn messages_are_spaced_by_the_rate() {
        let mut pace = Pace::new(RateLimit::new(5, 1).unwrap());
        let began = Instant::now();
        for _ in 0..11 {
            pace.next().await;
        }
        assert_eq!(began.elapsed().as_millis(), 2_000);
    }

    #[test]
    fn no_message_is_hidden_for_long_before_it_is_moved() {
        let batch = |count, per_s| Pace::new(RateLimit::new(count, per_s).unwrap()).batch();
        assert_eq!([batch(20, 1), batch(1, 1), batch(1, 5), batch(1, 60)], [10, 10, 2, 1]);
    }
}
