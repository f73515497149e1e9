//! The step `supersede`: of the calls of one key that were not started, only the newest goes on.

use std::cell::RefCell;
use std::collections::BTreeMap;

use toolfleet_core::call::{CallRow, Event};
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::supersede::{Contender, Offer, Standing, SupersedeRow, SupersedeTable};

use super::delivery::{Delivery, Disposition, Exit};
use super::planted::Planted;
use super::queue::Asks;
use super::table::Applied;
use super::truth::Truth;
use super::world::World;

/// The one key of the scenario, which all its calls have.
const KEY: usize = 0;

/// The rows of the keys, and when the newest call became the newest of its row.
#[derive(Default)]
pub(crate) struct SupersedeTables {
    rows: RefCell<BTreeMap<usize, SupersedeRow>>,
    decided_ms: RefCell<Option<u64>>,
}

/// The newest call of the scenario: that with the latest message, and of equal ones that with the greatest id.
fn newest(world: &World) -> Option<usize> {
    let sent = |call: &usize| (world.scenario.calls[*call].sends[0].0, world.keys[*call].call_id.clone());
    (0..world.scenario.calls.len()).max_by_key(sent)
}

impl Delivery {
    /// Ends a call that a newer one replaces. Nothing where it goes on.
    pub(crate) async fn supersede(&self) -> Result<Option<Disposition>, Exit> {
        let (world, call) = (&self.world, self.call());
        if !world.scenario.supersedes {
            return Ok(None);
        }
        let row = world.aws(|| world.rows.borrow().get(&call).cloned()).await?;
        if row.as_ref().is_some_and(|row| !self.may_be_replaced(row)) {
            return Ok(None);
        }
        let known = row.filter(|row| row.digest.is_some()).map(|row| row.enqueued_at);
        let enqueued_at = if world.is_planted(Planted::SupersedeByReceipt) {
            self.now()
        } else {
            known.unwrap_or(self.enqueued_at())
        };
        let contender = Contender { enqueued_at, call_id: world.keys[call].call_id.clone() };
        let offer = Offer { contender, expires_at: self.enqueued_at().plus_ms(RETENTION_MS) };
        let standing = world.apply_limit::<SupersedeTable>(&world.supersede.rows, KEY, &offer).await?;
        if standing == Standing::Newest && newest(world) == Some(call) {
            world.supersede.decided_ms.borrow_mut().get_or_insert(world.now_ms());
        }
        world.note(Some(call), || format!("supersede: {standing:?}"));
        let Standing::SupersededBy(newer) = standing else { return Ok(None) };
        if world.is_planted(Planted::IgnoreSupersede) {
            return Ok(None);
        }
        let text = format!("the newer call {newer} replaced this one");
        let why = CallError::new(Code::Superseded, text, MayHaveRun::No);
        let outcome = Outcome::ended(OutcomeKind::Cancelled, why);
        let event = Event::Conclude { delivery: self.context(false), outcome, definition: None };
        match world.apply(self.by(), call, None, &event).await? {
            Applied::Stored { .. } => Ok(Some(self.record_finished().await?)),
            Applied::Rejected { .. } => Ok(None),
        }
    }

    fn may_be_replaced(&self, row: &CallRow) -> bool {
        let own = self.message.body.asks == Asks::Question;
        own && row.finished.is_none() && row.started_at.is_none()
    }
}

/// A call is sent: one that was received after a newer one was known, and had not started before, is not.
pub(crate) fn starts(world: &World, call: usize, first: bool, received_ms: u64) {
    let decided_ms = *world.supersede.decided_ms.borrow();
    let replaced = decided_ms.is_some_and(|at_ms| received_ms > at_ms) && newest(world) != Some(call);
    let wrong = world.scenario.supersedes && first && replaced;
    world.check(!wrong, call, "no call starts after a newer one of its key was known", || {
        format!("received at {received_ms} ms, the newer one known at {decided_ms:?} ms")
    });
}

/// Of the calls of a key, the newest is never replaced.
pub(crate) fn at_the_end(world: &World, truths: &[Truth]) {
    let Some(call) = newest(world).filter(|_| world.scenario.supersedes) else { return };
    let finished = truths[call].ended.as_ref().and_then(|row| row.finished.as_ref());
    let code = finished.and_then(|finished| finished.outcome.error.as_ref()).map(|why| why.code);
    world.check(code != Some(Code::Superseded), call, "the newest call of a key is never replaced", || {
        format!("{finished:?}")
    });
}
