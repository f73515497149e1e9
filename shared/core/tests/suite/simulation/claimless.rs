//! Calls that are executed without a claim: `skip_claim.rs` and `record/unclaimed.rs` of the worker's pipeline.

use toolfleet_core::call::{CallRow, Claim, Effect, Event, Rejection, Unclaimed, unclaimed_row};
use toolfleet_core::outcome::Outcome;

use super::delivery::{ClaimedCall, Delivery, Disposition};
use super::planted::Planted;
use super::scenario::LEASE_MS;
use super::table::Applied;
use super::world::AwsFailed;

impl Delivery {
    fn may_be_claimless(&self) -> bool {
        self.spec().claimless
    }

    /// Whether this is the first receive of a message that its caller sent.
    pub(crate) const fn is_first_receive(&self) -> bool {
        self.message.body.first_message.is_none() && self.message.receives <= 1
    }

    /// Whether this delivery executes the call without a claim.
    pub(crate) fn is_claimless(&self) -> bool {
        let unsafe_too =
            self.world.is_planted(Planted::ClaimlessIfUnsafe) && self.world.has_claimless_calls();
        let claims = self.world.is_planted(Planted::ClaimAlways);
        !claims && self.is_first_receive() && (self.may_be_claimless() || unsafe_too)
    }

    /// What this delivery tells the state table: whether deliveries of the call may execute it without a claim.
    pub(crate) fn tells_claimless(&self) -> bool {
        let forgets = self.world.is_planted(Planted::ForgetUnclaimed);
        let trusts = self.world.is_planted(Planted::TrustFirstReceive) && self.is_first_receive();
        self.may_be_claimless() && !forgets && !trusts
    }

    /// The call as one that this worker executes without a claim.
    pub(crate) fn without_claim(&self) -> ClaimedCall {
        ClaimedCall {
            claim: None,
            row: unclaimed_row(&self.context(self.spec().repeatable)),
            since_ms: self.world.now_ms(),
            attempts: 0,
            may_have_executed: false,
            task: None,
        }
    }

    /// The claim of a call that this delivery executes without one.
    pub(crate) fn late_claim(&self) -> Event {
        let delivery = self.context(self.spec().repeatable);
        Event::Claim { delivery, lease_ms: LEASE_MS, definition: None, answers: None }
    }

    /// The claim of a call that goes back to the queue, with its row. None if another delivery has it.
    pub(crate) async fn claim_of(&self, call: &ClaimedCall) -> Result<Option<(Claim, CallRow)>, AwsFailed> {
        if let Some(claim) = &call.claim {
            return Ok(Some((claim.clone(), call.row.clone())));
        }
        let event = self.late_claim();
        Ok(match self.persist(None, &event).await? {
            Applied::Stored { row, then: Effect::Execute(claim) } => Some((claim, *row)),
            Applied::Stored { .. } | Applied::Rejected { .. } => None,
        })
    }

    /// Stores the outcome of a call without a claim.
    pub(crate) async fn finish_unclaimed(
        &self,
        call: &ClaimedCall,
        outcome: Outcome,
    ) -> Result<Disposition, AwsFailed> {
        let event = Event::FinishUnclaimed { execution: self.execution(call, None), outcome };
        let applied = self.persist(None, &event).await?;
        self.after_write(applied, Disposition::TakenOver).await
    }

    /// Leaves a call without a claim with its server as a task.
    pub(crate) async fn park_unclaimed(
        &self,
        call: &ClaimedCall,
        task: String,
        after_ms: u64,
    ) -> Result<Disposition, AwsFailed> {
        let now = self.now();
        let after_ms = after_ms.min(self.deadline().ms_since(now));
        let execution = self.execution(call, Some(task));
        let event = Event::ParkUnclaimed { execution, poll_at: now.plus_ms(after_ms) };
        let applied = self.persist(None, &event).await?;
        self.after_write(applied, Disposition::Parked { after_ms, poll_failed: false, counted: true }).await
    }

    fn execution(&self, call: &ClaimedCall, task: Option<String>) -> Box<Unclaimed> {
        Box::new(Unclaimed {
            delivery: self.context(self.spec().repeatable),
            attempts: call.attempts,
            started_at: call.row.started_at.unwrap_or_else(|| self.now()),
            definition: None,
            task,
            notes: None,
        })
    }

    async fn after_write(&self, applied: Applied, waits: Disposition) -> Result<Disposition, AwsFailed> {
        Ok(match applied {
            Applied::Stored { row, .. } if row.finished.is_some() => self.record_finished().await?,
            Applied::Stored { .. } => waits,
            Applied::Rejected { row: Some(_), rejection: Rejection::AlreadyRecorded } => {
                self.record_finished().await?
            }
            Applied::Rejected { rejection: Rejection::Mismatch, .. } => self.record_message().await?,
            Applied::Rejected { .. } => Disposition::TakenOver,
        })
    }
}
