//! Stores what became of a delivery, completes it, and puts messages back into their queue: `record/`, `complete.rs`, `requeue.rs`.

use toolfleet_core::call::{CallRow, Event, Rejection};
use toolfleet_core::outcome::Outcome;
use toolfleet_core::requeue::{LONGEST_DELAY_S, stays};

use super::delivery::{ClaimedCall, Delivery, Disposition, Exit, after_tries};
use super::execution::Executed;
use super::planted::Planted;
use super::queue::{Body, Queue};
use super::scenario::{LEASE_MS, PATIENCE_MS};
use super::table::Applied;
use super::truth;
use super::world::{AwsFailed, Record};

impl Delivery {
    pub(crate) async fn execute_and_record(&self, call: &mut ClaimedCall) -> Result<Disposition, Exit> {
        match self.execute(call).await {
            Executed::Finished(outcome) => self.finish(call, outcome).await,
            Executed::Requeue { after_ms } => self.release(call, after_ms, None).await,
            Executed::Held(held) => {
                let after_ms = held.next_try_at.ms_since(self.now());
                self.release(call, after_ms, Some(Box::new(held))).await
            }
            Executed::Parked { task, after_ms, poll_failed } => {
                self.park_as_task(call, task, after_ms, poll_failed).await
            }
        }
    }

    /// Stores the outcome of a call that was executed.
    async fn finish(&self, call: &ClaimedCall, outcome: Outcome) -> Result<Disposition, Exit> {
        let Some(claim) = call.claim.clone() else {
            return Ok(self.finish_unclaimed(call, outcome).await?);
        };
        let (task, attempts, fence) = (call.task.clone(), call.attempts, claim.fence());
        if self.world.is_planted(Planted::DeleteBeforeRecord) {
            self.delete(&self.world.queue).await?;
        }
        let outcome = if self.world.is_planted(Planted::DenyRun) { denied(outcome) } else { outcome };
        let event = Event::Finish { claim, outcome, attempts, task, now: self.now(), notes: None };
        match self.persist(Some(&call.row), &event).await? {
            Applied::Stored { .. } => Ok(self.record_finished().await?),
            Applied::Rejected { .. } if self.world.is_planted(Planted::ForgetFence) => {
                self.planted_end(&call.row, event);
                Ok(self.record_finished().await?)
            }
            Applied::Rejected { .. } => {
                self.world.insert(self.call(), Record::LateAnswer(self.call(), fence)).await?;
                Ok(Disposition::TakenOver)
            }
        }
    }

    fn planted_end(&self, seen: &CallRow, event: Event) {
        let stored = self.world.rows.borrow()[&self.call()].clone();
        if let toolfleet_core::call::Decision::Write { row, .. } =
            toolfleet_core::call::decide(Some(seen), &event)
        {
            let row = CallRow { rev: stored.rev + 1, fence: row.fence.max(stored.fence), ..*row };
            self.world.overwrite(self.by(), self.call(), &row);
        }
    }

    /// Tries for ten minutes to store what only this worker knows, and keeps the message hidden meanwhile.
    pub(crate) async fn persist(&self, row: Option<&CallRow>, event: &Event) -> Result<Applied, AwsFailed> {
        self.persist_until(self.world.now_ms() + PATIENCE_MS, row, event, Self::may_be_lost).await
    }

    /// The same until then. `failed` notes what a failed try means.
    pub(crate) async fn persist_until(
        &self,
        give_up_ms: u64,
        row: Option<&CallRow>,
        event: &Event,
        failed: fn(&Self),
    ) -> Result<Applied, AwsFailed> {
        let mut tries = 0;
        loop {
            match self.world.apply(self.by(), self.call(), row, event).await {
                Err(AwsFailed) if self.world.now_ms() < give_up_ms => {
                    tries += 1;
                    failed(self);
                    self.extend_visibility().await;
                    self.world.sleep(after_tries(&self.world, tries).min(2_000)).await;
                }
                answer => return answer,
            }
        }
    }

    /// What only this worker knows may be lost: AWS did not store it at once, and another worker may be first.
    fn may_be_lost(&self) {
        self.world.truth.borrow_mut()[self.call()].cut = true;
    }

    /// Gives a claim back; the message follows it to the queue.
    async fn release(
        &self,
        call: &ClaimedCall,
        after_ms: u64,
        held: Option<Box<toolfleet_core::call::Held>>,
    ) -> Result<Disposition, Exit> {
        let parks = held.as_ref().is_some_and(|held| held.reason.parks_at_once());
        let may_have_executed = call.may_have_executed && !self.world.is_planted(Planted::ForgetMayHaveRun);
        let Some((claim, row)) = self.claim_of(call).await? else {
            return Ok(Disposition::TakenOver);
        };
        let (attempts, now) = (call.attempts, self.now());
        let event = Event::Release { claim, attempts, may_have_executed, held, now };
        Ok(match self.persist(Some(&row), &event).await? {
            Applied::Stored { row, .. } if row.finished.is_some() => self.record_finished().await?,
            Applied::Stored { .. } => Disposition::Requeued { after_ms, parks },
            Applied::Rejected { .. } => Disposition::TakenOver,
        })
    }

    /// Leaves a call with its server as a task.
    async fn park_as_task(
        &self,
        call: &ClaimedCall,
        task: String,
        after_ms: u64,
        poll_failed: bool,
    ) -> Result<Disposition, Exit> {
        let Some(claim) = call.claim.clone() else {
            return Ok(self.park_unclaimed(call, task, after_ms).await?);
        };
        let now = self.now();
        let after_ms = after_ms.min(self.deadline().ms_since(now));
        let event = Event::Park {
            claim,
            task,
            input_pending: false,
            may_have_executed: call.may_have_executed,
            attempts: call.attempts,
            poll_at: now.plus_ms(after_ms),
            notes: None,
            now,
        };
        let Applied::Stored { row, .. } = self.persist(Some(&call.row), &event).await? else {
            return Ok(Disposition::TakenOver);
        };
        let new = row.task.as_ref().filter(|_| call.task.is_none());
        let counted = match new {
            Some(task) => self.keep_task_permit(task).await,
            None => true,
        };
        if row.finished.is_some() {
            return Ok(self.record_finished().await?);
        }
        Ok(Disposition::Parked { after_ms, poll_failed, counted })
    }

    /// Ends a call that was not executed.
    pub(crate) async fn record_unexecuted(&self, outcome: Outcome) -> Result<Disposition, Exit> {
        let delivery = self.context(false);
        let event = Event::Conclude { delivery, outcome, definition: None };
        Ok(match self.world.apply(self.by(), self.call(), None, &event).await? {
            Applied::Stored { .. } => self.record_finished().await?,
            Applied::Rejected { rejection: Rejection::AlreadyRecorded, .. } => self.record_finished().await?,
            Applied::Rejected { rejection: Rejection::Mismatch | Rejection::OfAnother, .. } => {
                self.record_message().await?
            }
            Applied::Rejected { rejection: Rejection::HeldElsewhere { retry_after_ms }, .. } => {
                Disposition::Requeued { after_ms: self.wait_for_holder_ms(retry_after_ms), parks: false }
            }
            Applied::Rejected {
                rejection: Rejection::AwaitingApproval | Rejection::Lost | Rejection::Nothing,
                ..
            } => Disposition::Requeued { after_ms: LEASE_MS, parks: false },
        })
    }

    /// Inserts the audit record of a call that has ended, and one of this message if it is another.
    pub(crate) async fn record_finished(&self) -> Result<Disposition, AwsFailed> {
        if self.world.is_planted(Planted::SkipAuditRecord) {
            return Ok(Disposition::Completed);
        }
        self.world.insert(self.call(), Record::Call(self.call())).await?;
        let first = format!("m{}", self.message.first_id());
        let row_of = |row: &CallRow| row.caller.as_ref().and_then(|caller| caller.message_id.clone());
        let again =
            self.world.rows.borrow().get(&self.call()).and_then(row_of).is_some_and(|own| own != first);
        if again {
            self.world.insert(self.call(), Record::Message(self.message.first_id())).await?;
        }
        Ok(Disposition::Completed)
    }

    /// Records a message that ended without its call.
    pub(crate) async fn record_message(&self) -> Result<Disposition, AwsFailed> {
        self.world.insert(self.call(), Record::Message(self.message.first_id())).await?;
        Ok(Disposition::Completed)
    }

    /// Sends the notice, then deletes the message.
    pub(crate) async fn complete(&self, queue: &Queue) {
        let (world, call) = (&self.world, self.call());
        let told = world.aws(|| world.truth.borrow_mut()[call].notices += 1).await;
        world.truth.borrow_mut()[call].notice_lost |= told.is_err();
        let _ = self.delete(queue).await;
    }

    async fn delete(&self, queue: &Queue) -> Result<(), AwsFailed> {
        let (world, message) = (&self.world, &self.message);
        world
            .aws(|| {
                truth::deleting(world, message.body.call, message.id, message.first_id());
                world.note(Some(message.body.call), || format!("message {} is deleted", message.id));
                queue.delete(&world.random, message.id, message.receipt, world.now_ms());
            })
            .await
    }

    /// Puts the message back into its queue.
    pub(crate) async fn requeue(&self, after_ms: u64, parks: bool) {
        let wait_s = after_ms.div_ceil(1_000);
        self.world.truth.borrow_mut()[self.call()].waits += 1;
        if stays(parks, self.message.receives, wait_s) || self.world.is_planted(Planted::WaitByVisibility) {
            self.hide(wait_s).await;
        } else {
            self.park(wait_s, self.message.body.parks.saturating_add(1)).await;
        }
    }

    /// Lets a new message poll the call's task.
    pub(crate) async fn until_poll(&self, after_ms: u64, poll_failed: bool, counted: bool) {
        self.polls.set(counted);
        let parks = if poll_failed { self.message.body.parks.saturating_add(1) } else { 0 };
        self.park(after_ms.div_ceil(1_000), parks).await;
    }

    async fn hide(&self, wait_s: u64) {
        let (world, receipt) = (&self.world, self.message.receipt);
        let hidden = world.aws(|| world.queue.hide(receipt, world.now_ms(), wait_s * 1_000)).await;
        if hidden.is_ok() {
            world.wake_receivers(&world.queue);
        }
    }

    /// A new message with a delay replaces this one, which is deleted after the queue has accepted the new one.
    async fn park(&self, wait_s: u64, parks: u32) {
        let (world, message) = (&self.world, &self.message);
        let wait_s = wait_s.clamp(1, LONGEST_DELAY_S);
        let body = Body {
            first_sent_ms: Some(message.body.first_sent_ms.unwrap_or(message.sent_ms)),
            first_message: Some(message.first_id()),
            parks,
            turns: self.turns.borrow().clone(),
            polls: self.polls.get(),
            ..message.body.clone()
        };
        if world.is_planted(Planted::DeleteBeforeCopy) {
            let _ = self.delete(&world.queue).await;
        }
        let sent = world
            .aws(|| {
                world.queue.send(body.clone(), world.now_ms(), wait_s * 1_000);
                world.replaced.borrow_mut().insert(message.id);
                world
                    .note(Some(self.call()), || format!("message {} is replaced for {wait_s} s", message.id));
            })
            .await;
        world.wake_receivers(&world.queue);
        if sent.is_err() {
            return self.hide(wait_s).await;
        }
        let _ = self.delete(&world.queue).await;
    }
}

/// The outcome as if nothing had been sent.
fn denied(outcome: Outcome) -> Outcome {
    let error = outcome.error.map(|why| toolfleet_core::outcome::CallError {
        may_have_run: toolfleet_core::outcome::MayHaveRun::No,
        ..why
    });
    Outcome { error, ..outcome }
}
