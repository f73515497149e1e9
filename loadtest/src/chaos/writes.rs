//! What workers wrote to the rows of calls, as a proxy sees it: who claimed which call when, and which writes failed.
//!
//! **Invariant:** a claim is entered before it is forwarded, so that a worker that is killed meanwhile is known to have had it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::plan::ID_PREFIX;

/// The table of calls, as its name stands in a request.
const TABLE: &str = "toolfleet-calls";
/// States as the SDKs write a text.
const CLAIMED: &str = r#"{"S":"claimed"}"#;
const DONE: &str = r#"{"S":"done"}"#;
/// Other states in which no worker has the call.
const FREE: [&str; 3] = [r#"{"S":"released"}"#, r#"{"S":"waiting_task"}"#, r#"{"S":"pending"}"#];

/// A frozen worker that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thaw {
    pub(crate) worker: String,
    /// When, on the servers' clock in microseconds.
    pub(crate) at_us: u64,
}

/// A worker that was killed or frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) worker: String,
    /// When, on the servers' clock in microseconds.
    pub(crate) at_us: u64,
}

/// A worker's claim of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    worker: String,
    from_us: u64,
    /// When it was given back: the call was requeued, or went on as a task.
    until_us: Option<u64>,
}

/// The writes of one call's row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RowWrites {
    claims: Vec<Claim>,
    /// When its end was stored.
    done_us: Option<u64>,
    /// Whether one of its writes failed, or the answer to one was lost.
    failed: bool,
}

impl RowWrites {
    /// Whether a write failed, or a worker was lost while it had the call.
    pub(crate) fn is_cut(&self, losses: &[Loss]) -> bool {
        let had = |loss: &Loss| {
            let held = |claim: &Claim| {
                claim.worker == loss.worker
                    && claim.from_us <= loss.at_us
                    && claim.until_us.is_none_or(|until| until >= loss.at_us)
            };
            self.claims.iter().any(held) && self.done_us.is_none_or(|done| done >= loss.at_us)
        };
        self.failed || losses.iter().any(had)
    }

    /// When it was claimed first; none if that worker was frozen before.
    pub(crate) fn first_claim_us(&self, thaws: &[Thaw]) -> Option<u64> {
        let claim = self.claims.first()?;
        let frozen = thaws.iter().any(|thaw| thaw.worker == claim.worker && thaw.at_us <= claim.from_us);
        (!frozen).then_some(claim.from_us)
    }
}

/// The writes of all rows of calls.
#[derive(Debug, Default)]
pub(crate) struct Writes(Mutex<HashMap<String, RowWrites>>);

impl Writes {
    /// Enters the claims in a request of that worker, before it is forwarded.
    pub(crate) fn forwards(&self, worker: &str, request: &[u8], now_us: u64) {
        self.each(request, |write, row| {
            if write.contains(CLAIMED) {
                row.claims.push(Claim { worker: worker.to_owned(), from_us: now_us, until_us: None });
            }
        });
    }

    /// Enters the ends, and the claims given back, in a request of that worker that was answered.
    pub(crate) fn answered(&self, worker: &str, request: &[u8], now_us: u64) {
        self.each(request, |write, row| {
            if FREE.iter().any(|state| write.contains(state)) && !write.contains(CLAIMED) {
                for claim in row.claims.iter_mut().filter(|claim| claim.worker == worker) {
                    claim.until_us.get_or_insert(now_us);
                }
            }
            if write.contains(DONE) {
                row.done_us.get_or_insert(now_us);
            }
        });
    }

    /// Enters the writes of a request that was not forwarded, or whose answer did not reach the worker.
    pub(crate) fn failed(&self, request: &[u8]) {
        self.each(request, |_, row| row.failed = true);
    }

    /// The same for one statement of a batch.
    pub(crate) fn statement_failed(&self, statement: &str) {
        if let Some(call) = call_of(statement) {
            self.rows().entry(call.to_owned()).or_default().failed = true;
        }
    }

    /// Takes all rows.
    pub(crate) fn take(&self) -> HashMap<String, RowWrites> {
        std::mem::take(&mut self.rows())
    }

    fn rows(&self) -> std::sync::MutexGuard<'_, HashMap<String, RowWrites>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each(&self, request: &[u8], mut enter: impl FnMut(&str, &mut RowWrites)) {
        let Ok(text) = std::str::from_utf8(request) else { return };
        let mut rows = self.rows();
        let mut one = |write: &str| {
            if let Some(call) = call_of(write) {
                enter(write, rows.entry(call.to_owned()).or_default());
            }
        };
        match serde_json::from_str::<Batch<'_>>(text) {
            Ok(batch) => batch.statements.iter().for_each(|write| one(write.get())),
            Err(_) => one(text),
        }
    }
}

/// The call whose row a statement writes: `"TENANT#CALL"` in a statement on the table of calls.
fn call_of(write: &str) -> Option<&str> {
    let write = write.contains(TABLE).then_some(write)?;
    let marker = format!("#{ID_PREFIX}");
    let (before, _) = write.split_once(&marker)?;
    let call = write.get(before.len() + 1..)?;
    let (call, _) = call.split_once('"')?;
    (!call.contains('#')).then_some(call)
}

/// A batch of statements.
#[derive(Deserialize)]
pub(crate) struct Batch<'a> {
    #[serde(rename = "Statements", borrow)]
    pub(crate) statements: Vec<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: &str = r#"{"Statements":[
        {"Statement":"INSERT INTO \"toolfleet-calls\"","Parameters":[{"S":"acme#chaos-1-7"},{"S":"claimed"}]},
        {"Statement":"UPDATE \"toolfleet-calls\"","Parameters":[{"S":"done"},{"S":"acme#chaos-1-8"}]},
        {"Statement":"INSERT INTO \"toolfleet-history\"","Parameters":[{"S":"10:00#chaos-1-9#call"},{"S":"done"}]}]}"#;

    fn loss(worker: &str, at_us: u64) -> Loss {
        Loss { worker: worker.into(), at_us }
    }

    #[test]
    fn a_call_is_cut_if_its_worker_was_lost_before_its_end() {
        let writes = Writes::default();
        writes.forwards("w", BATCH.as_bytes(), 10);
        writes.answered("w", BATCH.as_bytes(), 11);
        let done = BATCH.replace("claimed", "done");
        writes.answered("w", done.as_bytes(), 30);
        let rows = writes.take();
        let row = &rows["chaos-1-7"];
        let claim = Claim { worker: "w".to_owned(), from_us: 10, until_us: None };
        assert_eq!((row.claims.as_slice(), row.done_us), (&[claim][..], Some(30)));
        let thaw = |at_us| Thaw { worker: "w".to_owned(), at_us };
        assert_eq!((row.first_claim_us(&[thaw(11)]), row.first_claim_us(&[thaw(9)])), (Some(10), None));
        assert!(row.is_cut(&[loss("w", 20)]));
        assert!(!row.is_cut(&[loss("w", 9), loss("w", 31), loss("other", 20)]));
        assert!(!rows["chaos-1-8"].is_cut(&[loss("w", 20)]));
        assert!(!rows.contains_key("chaos-1-9"));
    }

    #[test]
    fn a_call_that_goes_on_as_a_task_is_not_cut_by_the_loss_of_its_worker() {
        let writes = Writes::default();
        writes.forwards("w", BATCH.as_bytes(), 10);
        let parked = BATCH.replace("claimed", "waiting_task");
        writes.answered("other", parked.as_bytes(), 12);
        writes.answered("w", parked.as_bytes(), 15);
        let rows = writes.take();
        let row = &rows["chaos-1-7"];
        assert!(row.is_cut(&[loss("w", 13)]) && !row.is_cut(&[loss("w", 20)]));
    }

    #[test]
    fn a_failed_write_cuts_its_call_and_no_other() {
        let writes = Writes::default();
        let batch: Batch<'_> = serde_json::from_str(BATCH).unwrap();
        writes.statement_failed(batch.statements[0].get());
        writes.forwards("w", BATCH.as_bytes(), 10);
        let one = r#"{"TableName":"toolfleet-calls","Key":{"pk":{"S":"acme#chaos-1-3"}}}"#;
        writes.failed(one.as_bytes());
        let rows = writes.take();
        assert!(rows["chaos-1-7"].is_cut(&[]) && rows["chaos-1-3"].is_cut(&[]));
        assert!(!rows["chaos-1-8"].is_cut(&[]));
    }
}
