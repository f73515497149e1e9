//! The dead-letter queue of the calls: how deep it is, its messages, and what a redrive would do to their calls.

use toolfleet_aws::AwsError;
use toolfleet_aws::queue::{Depth, Queue};
use toolfleet_core::call::{CallRow, State};
use toolfleet_core::dead_letter::{DeadLetterFacts, RedriveClass};
use toolfleet_core::outcome::MayHaveRun;

use super::letter::DeadLetter;
use super::look::Look;
use super::origin::RedriveRules;
use crate::client::Client;

/// The dead-letter queue of the calls.
#[derive(Clone)]
pub struct DeadLetters {
    pub(super) queue: Queue,
    pub(super) client: Client,
}

impl Client {
    /// The dead-letter queue of the calls queue, if it has one.
    pub async fn dead_letters(&self) -> Result<Option<DeadLetters>, AwsError> {
        let queue = self.queue.dead_letter_queue().await?;
        Ok(queue.map(|queue| DeadLetters { queue, client: self.clone() }))
    }
}

impl DeadLetters {
    /// The queue.
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// About how many messages it holds.
    pub async fn depth(&self) -> Result<Depth, AwsError> {
        self.queue.depth().await
    }

    /// Begins to read the queue.
    pub fn look(&self) -> Look {
        Look::new(self.queue.clone())
    }

    /// What a redrive would do to the call of each letter, in order.
    pub async fn judge(
        &self,
        letters: &[DeadLetter],
        rules: &dyn RedriveRules,
    ) -> Result<Vec<Judged>, AwsError> {
        let keys: Vec<_> = letters.iter().filter_map(|letter| letter.key().cloned()).collect();
        let mut rows = self.client.calls.read_many(&keys).await?.into_iter();
        let now = (self.client.now)();
        let judge = |letter: &DeadLetter| {
            let row = letter.key().and_then(|_| rows.next().flatten());
            let request = letter.request();
            let of_stranger = letter.sender().is_some_and(|sender| rules.is_fleet(sender) == Some(false));
            let may_be_claimless = request.is_some_and(|request| rules.may_be_claimless(request));
            let class = RedriveClass::of(&DeadLetterFacts {
                request,
                row: row.as_ref(),
                first_sent: if of_stranger { letter.sent_at() } else { letter.first_sent() },
                repeatable: request.is_some_and(|request| rules.is_repeatable(request)),
                may_be_claimless,
                now,
            });
            Judged { class, row, may_be_claimless }
        };
        Ok(letters.iter().map(judge).collect())
    }
}

/// What a redrive would do to the call of a dead letter.
#[derive(Debug)]
pub struct Judged {
    /// What it would do.
    pub class: RedriveClass,
    /// The row that says so.
    pub row: Option<CallRow>,
    /// Whether workers may have sent it without a row.
    may_be_claimless: bool,
}

impl Judged {
    /// Whether the call may have run.
    pub fn may_have_run(&self) -> bool {
        self.row.as_ref().map_or(self.may_be_claimless, |row| match row.state {
            State::Claimed => true,
            // A row without a digest is of somebody who has cancelled the call: no delivery of it has said anything.
            State::Pending | State::Released | State::WaitingTask | State::AwaitingApproval => {
                row.may_have_executed || (row.digest.is_none() && self.may_be_claimless)
            }
            State::Done => row.finished.as_ref().is_none_or(|finished| {
                finished.outcome.error.as_ref().is_none_or(|error| error.may_have_run != MayHaveRun::No)
            }),
        })
    }
}
