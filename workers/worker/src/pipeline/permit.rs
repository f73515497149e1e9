//! The permits of a call's concurrency limits, and of the task that it may become.
//!
//! All permits are taken before a request is sent, and none is held while another is waited for. A task that counts keeps its permit, under a
//! name of its own, until it has ended: also while it waits for the answers that a later call brings.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::call::HeldReason;
use toolfleet_core::digest::Digest;
use toolfleet_core::fleet::LimitPart;
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::limits::{ConcurrencyLimit, LimitKey, OnLoss};

use super::passes::{HOLD_MARGIN_MS, Passes, written};
use super::turn::Limits;
use super::wait::Wait;
use crate::gate::{ActiveLimit, Limiter, NoPermit, Patience, PermitWish};

/// A permit that is there sooner is counted as no wait: its row is written within this time.
const COUNTED_WAIT: Duration = Duration::from_millis(150);

/// What a call lacks of its limits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lack<'a> {
    /// No permit of that limit is free.
    Permit(&'a ActiveLimit, ConcurrencyLimit),
    /// The tool's adaptive limit is reached.
    Adaptive,
    /// The limit's row cannot be read.
    Row(&'a ActiveLimit),
}

/// A limit of open requests.
#[derive(Debug, Clone, Copy)]
enum OpenLimit<'a> {
    /// Of this worker at the tool of that name.
    Adaptive(&'a str),
    /// Of the fleet.
    Shared(&'a ActiveLimit, ConcurrencyLimit),
}

impl Limits<'_> {
    /// A turn is not taken for a call that would find no permit. One that its message carries is taken already, and a permit may be free once it
    /// has come.
    pub(super) fn check_lately_full(&self) -> Result<(), Wait> {
        if self.asker.carries_turn(self.context.now()) {
            return Ok(());
        }
        for limit in &self.limits {
            let Some(most) = limit.concurrency else { continue };
            if self.context.limiter.permits.is_full_lately(&limit.key) {
                return Err(self.away(Lack::Permit(limit, most)));
            }
        }
        Ok(())
    }

    /// A permit of each limit of open requests. Where one has none, those that were taken are released, and that limit is waited for first,
    /// for `most` in all: nothing is held while another limit is waited for. A call with a turn waits until the turn has come, and goes before
    /// the calls without one: else it would lose turn after turn beside calls that can wait for a permit.
    ///
    /// # Errors
    /// What has none.
    pub(super) async fn permits(&self, passes: &mut Passes, most: Duration) -> Result<(), Lack<'_>> {
        let until = passes.due.unwrap_or_else(|| Instant::now() + most);
        let adaptive = self.call.tool_name().filter(|_| self.call.adapts()).map(OpenLimit::Adaptive);
        let shared =
            self.limits.iter().filter_map(|limit| Some(OpenLimit::Shared(limit, limit.concurrency?)));
        let limits: Vec<_> = adaptive.into_iter().chain(shared).collect();
        let mut waited_for = 0;
        loop {
            let Err((lacking, lack)) = self.all_permits(passes, &limits, waited_for, until).await else {
                return Ok(());
            };
            passes.release();
            if lacking == waited_for || Instant::now() >= until {
                return Err(lack);
            }
            waited_for = lacking;
        }
    }

    /// The permits of all limits: first the one that may be waited for, then the others as they are.
    ///
    /// # Errors
    /// The position of the limit that has none.
    async fn all_permits<'b>(
        &'b self,
        passes: &mut Passes,
        limits: &[OpenLimit<'b>],
        waited_for: usize,
        until: Instant,
    ) -> Result<(), (usize, Lack<'b>)> {
        let now = Instant::now();
        let others = (0..limits.len()).filter(|position| *position != waited_for);
        for position in std::iter::once(waited_for).chain(others) {
            let Some(limit) = limits.get(position) else { continue };
            let until = if position == waited_for { until } else { now };
            match self.one_permit(passes, *limit, until).await {
                Ok(()) => {}
                Err(lack @ Lack::Row(_)) => return Err((waited_for, lack)),
                Err(lack) => return Err((position, lack)),
            }
        }
        Ok(())
    }

    /// The permit of one limit, now or once it is free.
    async fn one_permit<'b>(
        &'b self,
        passes: &mut Passes,
        limit: OpenLimit<'b>,
        until: Instant,
    ) -> Result<(), Lack<'b>> {
        let Limiter { local, permits, .. } = &self.context.limiter;
        let asked = Instant::now();
        let waited = || asked.elapsed() >= COUNTED_WAIT;
        match limit {
            OpenLimit::Adaptive(tool) => {
                let permit = local.enter(tool, &self.context.clock, until).await;
                passes.adaptive = Some(permit.ok_or(Lack::Adaptive)?);
                if waited() {
                    self.met(&LimitKey::Tool(tool.to_owned()), LimitPart::Adaptive, false);
                }
            }
            OpenLimit::Shared(limit, most) => {
                let patience = self.patience(until.saturating_duration_since(asked));
                match permits.take(&limit.key, self.wish(most, passes.due.is_some()), patience).await {
                    Ok(permit) => passes.add_permit(permit, most),
                    Err(NoPermit::Full) => return Err(Lack::Permit(limit, most)),
                    Err(NoPermit::Unknown) => return Err(Lack::Row(limit)),
                }
                if waited() {
                    self.met(&limit.key, LimitPart::Concurrency, false);
                }
            }
        }
        Ok(())
    }

    /// The wait in the queue of a call that lacks something of its limits.
    pub(super) fn away(&self, lack: Lack<'_>) -> Wait {
        match lack {
            Lack::Permit(limit, most) => {
                let most = most.limit.get();
                let permits = &self.context.limiter.permits;
                let patience = self.patience(Duration::ZERO);
                let away_ms = permits.park(&limit.key, most, patience, self.call.deadline);
                let detail = format!("{} ({most} at once)", limit.key.name());
                self.met(&limit.key, LimitPart::Concurrency, true);
                self.wait(HeldReason::ConcurrencyLimit, away_ms, detail)
            }
            Lack::Adaptive => {
                let tool = self.call.tool_name().unwrap_or_default();
                let detail = format!("tool:{tool} (adaptive)");
                self.met(&LimitKey::Tool(tool.to_owned()), LimitPart::Adaptive, true);
                self.wait(HeldReason::ConcurrencyLimit, 1_000, detail)
            }
            Lack::Row(limit) => self.unread(&limit.key),
        }
    }

    fn wish(&self, most: ConcurrencyLimit, in_turn: bool) -> PermitWish {
        let hold_ms = match most.on_loss {
            OnLoss::Hold => self.call.attempt_ms.saturating_add(HOLD_MARGIN_MS),
            OnLoss::Free => self.context.limits.lease_ms(),
        };
        // A permit that passes to a task has an entry of its own.
        let workers = if most.count_tasks { None } else { self.context.limiter.known_workers() };
        PermitWish { name: self.entry(), limit: most.limit.get(), hold_ms, workers, in_turn }
    }

    fn patience(&self, most: Duration) -> Patience {
        let most_calls = self.context.limits.slots;
        Patience { most, most_calls, is_back: self.asker.is_back(), workers: self.context.limiter.workers() }
    }

    /// The name of a new entry in a concurrency limit. Each attempt has its own: the server may go on working on an earlier one whose answer
    /// was lost.
    fn entry(&self) -> String {
        let key = &self.call.request.key;
        Digest::of_text(&format!("{key}#{}#{}", self.asker.nonce(), fastrand::u64(..))).short(16).to_owned()
    }

    /// Lets a task of the server go on with the answers that this call brings: each limit that counts tasks holds a permit for it until
    /// this call's deadline. That is the permit of the call that has become the task; where it has ended by its time, one must be free.
    ///
    /// # Errors
    /// What has none.
    pub(super) async fn keep_task(&self, handle: &str) -> Result<(), Lack<'_>> {
        for limit in &self.limits {
            let Some(most) = limit.concurrency.filter(|most| most.count_tasks) else { continue };
            let (name, until) = (self.task_entry(handle), self.call.deadline);
            match self.context.limiter.permits.keep(&limit.key, name, most.limit.get(), until).await {
                Ok(true) => {}
                Ok(false) | Err(NoPermit::Full) => return Err(Lack::Permit(limit, most)),
                Err(NoPermit::Unknown) => return Err(Lack::Row(limit)),
            }
        }
        Ok(())
    }

    /// The task is stored in the call's row: each limit that counts tasks keeps its permit until the call's deadline, where that has not ended by
    /// its own time. Gives whether this is written soon; it is written from now on, whoever waits for that.
    pub(super) fn task_is_stored(&self, handle: &str) -> impl Future<Output = bool> + use<> {
        let counts = |limit: &&ActiveLimit| limit.concurrency.is_some_and(|most| most.count_tasks);
        let (permits, until) = (&self.context.limiter.permits, self.call.deadline);
        let keep = |limit: &ActiveLimit| permits.prolong(&limit.key, self.task_entry(handle), until);
        let kept: Vec<_> = self.limits.iter().filter(counts).map(keep).collect();
        written(kept.into_iter())
    }

    /// That task of the server has ended: limits have its permit again. Whether a limit counts tasks may have changed since the task began, and a
    /// release of what is not there writes nothing.
    pub(super) async fn release_task(&self, handle: &str) {
        let permits = &self.context.limiter.permits;
        let open = self.limits.iter().filter(|limit| limit.concurrency.is_some());
        let _in_time = written(open.map(|limit| permits.release(&limit.key, self.task_entry(handle)))).await;
    }

    /// The name of the entry of a task of the call.
    pub(super) fn task_entry(&self, handle: &str) -> String {
        task_entry(&self.call.request.key.tenant, &self.call.server.id, handle)
    }
}

/// The name of the entry of a task in a concurrency limit. It is the same for each call that the task belongs to in turn: the one that has
/// become it, and those that bring it answers.
pub(super) fn task_entry(tenant: &Tenant, server: &ServerId, handle: &str) -> String {
    Digest::of_text(&format!("{tenant}#{server}#task#{handle}")).short(16).to_owned()
}
