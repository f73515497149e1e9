//! What a request holds of its call's limits: that of the first attempt is taken before the claim, as the step `turn` of the worker does, that of
//! each further one when it is sent. A poll of a task holds nothing.

use toolfleet_core::call::{Held, HeldReason};

use super::adaptive::Place;
use super::delivery::{Delivery, after_tries};
use super::execution::{Executed, ExecutionState};
use super::limits::Permit;
use super::planted::Planted;
use super::world::AwsFailed;

/// So long before its turn a call is claimed.
const AHEAD_MS: u64 = 200;

/// What a request holds besides its turns.
pub(crate) struct Passes {
    pub(crate) permit: Option<Permit>,
    pub(crate) place: Option<Place>,
}

impl Delivery {
    fn is_limited(&self) -> bool {
        let (limits, server) = (&self.world.scenario.limits, self.spec().server);
        let adapts = limits.adaptive.get(server).copied().flatten().is_some();
        adapts || !self.rate_limits().is_empty() || self.world.concurrency(server).is_some()
    }

    /// Takes what the first attempt of this delivery needs. Gives the wait of a call that lacks something.
    pub(crate) async fn limits_before_claim(&self) -> Result<Option<Held>, AwsFailed> {
        if !self.is_limited() || self.is_past_its_request().await? {
            return Ok(None);
        }
        if let Some(held) = self.take_turns().await? {
            return Ok(Some(held));
        }
        self.approach_turns(AHEAD_MS).await;
        Ok(match self.take_permits().await? {
            Ok(passes) => {
                *self.passes.borrow_mut() = Some(passes);
                None
            }
            Err(held) => Some(held),
        })
    }

    /// Whether the call is a task that is only polled, or has ended. Where its message does not say so, its worker may have been lost before it
    /// kept the permit of the task.
    async fn is_past_its_request(&self) -> Result<bool, AwsFailed> {
        if self.polls.get() || self.is_first_receive() {
            return Ok(self.polls.get());
        }
        let (world, call) = (&self.world, self.call());
        let Some(row) = world.aws(|| world.rows.borrow().get(&call).cloned()).await? else {
            return Ok(false);
        };
        if let Some(task) = row.task.as_ref().filter(|_| row.finished.is_none()) {
            let forgets = world.is_planted(Planted::TaskPermitForgotten);
            self.counted.set(forgets || self.keep_task_permit(task).await);
        }
        Ok(row.task.is_some() || row.finished.is_some())
    }

    /// The place and the permit of a request, whose turns have come.
    async fn take_permits(&self) -> Result<Result<Passes, Held>, AwsFailed> {
        let place = match self.take_place() {
            Ok(place) => place,
            Err(after_ms) => return Ok(Err(self.without_permit(after_ms).await)),
        };
        match self.take_permit().await? {
            Ok(permit) => Ok(Ok(Passes { permit, place })),
            Err(after_ms) => {
                if self.world.is_planted(Planted::ForgetPlace) {
                    std::mem::forget(place);
                }
                Ok(Err(self.without_permit(after_ms).await))
            }
        }
    }

    async fn without_permit(&self, after_ms: u64) -> Held {
        self.give_back_own().await;
        self.limited(HeldReason::ConcurrencyLimit, after_ms)
    }

    /// Waits for the turns of an attempt and takes its permit, unless this delivery has them. A call that would wait for long is requeued, and
    /// holds neither.
    pub(crate) async fn limits_of_attempt(&self, state: &ExecutionState) -> Result<Passes, Executed> {
        let mut taken = self.passes.take();
        loop {
            let passes = match taken.take() {
                Some(passes) => passes,
                None => self.limits_for_now().await.map_err(Executed::Held)?,
            };
            let in_time = self.await_turns().await;
            let any_age = self.world.is_planted(Planted::StalePermit);
            let lasts =
                |permit: &Permit| any_age || self.world.now_ms() + self.spec().attempt_ms <= permit.until_ms;
            if in_time && passes.permit.as_ref().is_none_or(lasts) {
                return Ok(passes);
            }
            drop(passes.place);
            self.release_permit(passes.permit).await;
            if self.lease_is_over(state) {
                return Err(Executed::Requeue { after_ms: 0 });
            }
        }
    }

    async fn limits_for_now(&self) -> Result<Passes, Held> {
        let aws_fails =
            |AwsFailed| self.limited(HeldReason::AwsError, after_tries(&self.world, self.tries()));
        if let Some(held) = self.take_turns().await.map_err(aws_fails)? {
            return Err(held);
        }
        self.take_permits().await.map_err(aws_fails)?
    }

    /// Releases what no request was sent with.
    pub(crate) fn leave_passes(&self) {
        if let Some(Passes { permit, place }) = self.passes.take() {
            drop(place);
            self.release_later(permit);
        }
    }
}
