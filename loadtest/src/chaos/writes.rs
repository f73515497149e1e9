//! What workers wrote to the rows of calls, as a proxy sees it: who claimed which call when, and which writes failed.
//!
//! **Invariant:** a claim is entered before it is forwarded, so that a worker that is killed meanwhile is known to have had it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::plan::ID_PREFIX;
use super::servers::TASK_ID;
use crate::flow::server::micros;

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

/// A worker that was killed or frozen, or could not write.
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
    /// When the claim that holds was made or extended last.
    renewed_us: Option<u64>,
    /// Whether a claim was not extended in time before the next claim or the end.
    lapsed: bool,
    /// The writes that failed, or whose answers were lost: by which worker, and when.
    failures: Vec<Loss>,
    /// The tasks that a write named.
    tasks: HashSet<String>,
    /// When a worker wrote that it has the call no more, although it goes on: it was requeued, or is a task.
    freed: Vec<(String, u64)>,
}

/// A request that a worker sent for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentBy {
    pub(crate) worker: String,
    /// When it was read, on the servers' clock in microseconds.
    pub(crate) at_us: u64,
}

impl RowWrites {
    /// Whether a lease ran out, or a worker was lost, or could not write, while it had the call. A worker has it from its claim on; without a claim
    /// from its request on, which no row tells of before the first write. A claim that was not made excuses nothing: nothing was sent.
    pub(crate) fn is_cut(&self, losses: &[Loss], sent_by: &[SentBy]) -> bool {
        let had = |loss: &Loss| {
            let claimed = |claim: &Claim| {
                claim.worker == loss.worker
                    && claim.from_us <= loss.at_us
                    && claim.until_us.is_none_or(|until| until >= loss.at_us)
            };
            let sent = |sent: &SentBy| {
                let is_freed = |(worker, at_us): &(String, u64)| {
                    *worker == sent.worker && (sent.at_us..loss.at_us).contains(at_us)
                };
                sent.worker == loss.worker && sent.at_us <= loss.at_us && !self.freed.iter().any(is_freed)
            };
            let has_it = self.claims.iter().any(claimed) || sent_by.iter().any(sent);
            has_it && self.done_us.is_none_or(|done| done >= loss.at_us)
        };
        self.lapsed || losses.iter().chain(&self.failures).any(had)
    }

    /// Whether a worker named that task in a write.
    pub(crate) fn names(&self, task: &str) -> bool {
        self.tasks.contains(task)
    }

    /// When it was claimed first; none if that worker was frozen before, or could not write then: it had decided to claim the call before.
    pub(crate) fn first_claim_us(&self, thaws: &[Thaw]) -> Option<u64> {
        let claim = self.claims.first()?;
        let frozen = thaws.iter().any(|thaw| thaw.worker == claim.worker && thaw.at_us <= claim.from_us);
        let tried =
            self.failures.iter().any(|tried| tried.worker == claim.worker && tried.at_us <= claim.from_us);
        (!frozen && !tried).then_some(claim.from_us)
    }
}

/// The writes of all rows of calls.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// A claim that was not extended for so long has run out, or is about to: workers extend theirs after a third of a lease.
    lapses_us: u64,
    rows: Mutex<HashMap<String, RowWrites>>,
}

/// A request that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered<'a> {
    pub(crate) worker: &'a str,
    pub(crate) request: &'a [u8],
    pub(crate) answer: &'a [u8],
    /// When it was forwarded, and when the answer came.
    pub(crate) sent_us: u64,
    pub(crate) now_us: u64,
}

impl Writes {
    pub(crate) fn new(lease: Duration) -> Self {
        Self { lapses_us: micros(lease / 2), rows: Mutex::default() }
    }

    /// Enters the claims in a request of that worker, before it is forwarded.
    pub(crate) fn forwards(&self, worker: &str, request: &[u8], now_us: u64) {
        self.each(request, |_, write, row| {
            row.tasks.extend(task_of(write));
            if write.contains(CLAIMED) {
                row.claims.push(Claim { worker: worker.to_owned(), from_us: now_us, until_us: None });
            }
        });
    }

    /// Enters the writes of a request that were made: a statement whose condition does not hold writes nothing.
    pub(crate) fn answered(&self, answered: Answered<'_>) {
        let Answered { worker, request, answer, sent_us, now_us } = answered;
        let made = made(answer);
        self.each(request, |position, write, row| {
            if !made(position) {
                return;
            }
            let (claims, ends) = (write.contains(CLAIMED), write.contains(DONE));
            if claims || ends {
                row.lapsed |= row.renewed_us.is_some_and(|renewed| now_us >= renewed + self.lapses_us);
                row.renewed_us = (!ends).then_some(sent_us);
            } else if FREE.iter().any(|state| write.contains(state)) {
                row.renewed_us = None;
                row.freed.push((worker.to_owned(), now_us));
                for claim in row.claims.iter_mut().filter(|claim| claim.worker == worker) {
                    claim.until_us.get_or_insert(now_us);
                }
            }
            if ends {
                row.done_us.get_or_insert(now_us);
            }
        });
    }

    /// Enters the writes of a request that was not forwarded, or whose answer did not reach the worker.
    pub(crate) fn failed(&self, worker: &str, request: &[u8], at_us: u64) {
        self.each(request, |_, _, row| row.failures.push(Loss { worker: worker.to_owned(), at_us }));
    }

    /// The same for one statement of a batch.
    pub(crate) fn statement_failed(&self, worker: &str, statement: &str, at_us: u64) {
        if let Some(call) = call_of(statement) {
            let failure = Loss { worker: worker.to_owned(), at_us };
            self.rows().entry(call.to_owned()).or_default().failures.push(failure);
        }
    }

    /// Takes all rows.
    pub(crate) fn take(&self) -> HashMap<String, RowWrites> {
        std::mem::take(&mut self.rows())
    }

    fn rows(&self) -> std::sync::MutexGuard<'_, HashMap<String, RowWrites>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each write of a call's row in the request, with its position in the batch.
    fn each(&self, request: &[u8], mut enter: impl FnMut(usize, &str, &mut RowWrites)) {
        let Ok(text) = std::str::from_utf8(request) else { return };
        let mut rows = self.rows();
        let mut one = |position: usize, write: &str| {
            if let Some(call) = call_of(write) {
                enter(position, write, rows.entry(call.to_owned()).or_default());
            }
        };
        match serde_json::from_str::<Batch<'_>>(text) {
            Ok(batch) => (0..).zip(&batch.statements).for_each(|(n, write)| one(n, write.get())),
            Err(_) => one(0, text),
        }
    }
}

/// Whether the write at a position was made, as the answer says.
fn made(answer: &[u8]) -> impl Fn(usize) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Responses", default)]
        responses: Vec<Response>,
        #[serde(rename = "__type")]
        error: Option<String>,
    }
    #[derive(Deserialize)]
    struct Response {
        #[serde(rename = "Error")]
        error: Option<serde::de::IgnoredAny>,
    }
    let answer = serde_json::from_slice::<Answer>(answer).ok();
    move |position| {
        let Some(answer) = &answer else { return false };
        let refused = answer.responses.get(position).is_some_and(|response| response.error.is_some());
        answer.error.is_none() && !refused
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

/// The task that a write names.
fn task_of(write: &str) -> Option<String> {
    let (_, number) = write.split_once(&format!("\"{TASK_ID}"))?;
    let (number, _) = number.split_once('"')?;
    Some(format!("{TASK_ID}{number}"))
}

/// A batch of statements.
#[derive(Deserialize)]
pub(crate) struct Batch<'a> {
    #[serde(rename = "Statements", borrow)]
    pub(crate) statements: Vec<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BATCH: &str = r#"{"Statements":[
        {"Statement":"INSERT INTO \"toolfleet-calls\"","Parameters":[{"S":"acme#chaos-1-7"},{"S":"claimed"}]},
        {"Statement":"UPDATE \"toolfleet-calls\"","Parameters":[{"S":"done"},{"S":"acme#chaos-1-8"}]},
        {"Statement":"INSERT INTO \"toolfleet-history\"","Parameters":[{"S":"10:00#chaos-1-9#call"},{"S":"done"}]}]}"#;

    /// Answers a request of the worker `w` after a microsecond, with an error for those statements.
    fn answer(writes: &Writes, worker: &str, request: &str, now_us: u64, refused: &[usize]) {
        let response =
            |n: usize| if refused.contains(&n) { json!({"Error": {"Code": "x"}}) } else { json!({}) };
        let answer = json!({"Responses": (0..3).map(response).collect::<Vec<_>>()}).to_string();
        let (request, answer) = (request.as_bytes(), answer.as_bytes());
        writes.answered(Answered { worker, request, answer, sent_us: now_us - 1, now_us });
    }

    fn writes() -> Writes {
        Writes::new(Duration::from_millis(1))
    }

    fn loss(worker: &str, at_us: u64) -> Loss {
        Loss { worker: worker.into(), at_us }
    }

    #[test]
    fn a_call_is_cut_if_its_worker_was_lost_before_its_end() {
        let writes = writes();
        writes.forwards("w", BATCH.as_bytes(), 10);
        answer(&writes, "w", BATCH, 11, &[]);
        let done = BATCH.replace("claimed", "done");
        // The first end is refused: another claim was made before.
        answer(&writes, "w", &done, 15, &[0]);
        answer(&writes, "w", &done, 30, &[]);
        let rows = writes.take();
        let row = &rows["chaos-1-7"];
        let claim = Claim { worker: "w".to_owned(), from_us: 10, until_us: None };
        assert_eq!((row.claims.as_slice(), row.done_us), (&[claim][..], Some(30)));
        let thaw = |at_us| Thaw { worker: "w".to_owned(), at_us };
        assert_eq!((row.first_claim_us(&[thaw(11)]), row.first_claim_us(&[thaw(9)])), (Some(10), None));
        let tried = |at_us| RowWrites { failures: vec![loss("w", at_us)], ..row.clone() }.first_claim_us(&[]);
        assert_eq!((tried(11), tried(9)), (Some(10), None));
        assert!(row.is_cut(&[loss("w", 20)], &[]));
        assert!(!row.is_cut(&[loss("w", 9), loss("w", 31), loss("other", 20)], &[]));
        assert!(!rows["chaos-1-8"].is_cut(&[loss("w", 20)], &[]));
        assert!(!rows.contains_key("chaos-1-9"));
    }

    #[test]
    fn a_call_that_goes_on_as_a_task_is_not_cut_by_the_loss_of_its_worker() {
        let writes = writes();
        writes.forwards("w", BATCH.as_bytes(), 10);
        let parked = BATCH.replace("claimed", "waiting_task").replace(r#"{"S":"done"}"#, r#"{"S":"task-3"}"#);
        writes.forwards("w", parked.as_bytes(), 11);
        answer(&writes, "w", &parked, 12, &[0]);
        answer(&writes, "w", &parked, 15, &[]);
        let rows = writes.take();
        let row = &rows["chaos-1-7"];
        assert!(row.is_cut(&[loss("w", 13)], &[]) && !row.is_cut(&[loss("w", 20)], &[]));
        assert!(rows["chaos-1-8"].names("task-3") && !rows["chaos-1-8"].names("task-30"));
        assert!(!row.names("task-3"));
    }

    #[test]
    fn a_call_without_a_claim_is_cut_if_its_worker_was_lost_after_its_request() {
        let sent = |worker: &str, at_us| SentBy { worker: worker.into(), at_us };
        let writes = writes();
        // Another delivery claims it and ends it.
        answer(&writes, "other", BATCH, 40, &[]);
        answer(&writes, "other", &BATCH.replace("claimed", "done"), 50, &[]);
        let rows = writes.take();
        let row = &rows["chaos-1-7"];
        assert!(row.is_cut(&[loss("w", 30)], &[sent("w", 20)]));
        assert!(!row.is_cut(&[loss("w", 19), loss("w", 51), loss("x", 30)], &[sent("w", 20)]));
        // Its task was stored before the worker was lost.
        answer(&writes, "w", &BATCH.replace("claimed", "waiting_task"), 25, &[]);
        let rows = writes.take();
        let row = &rows["chaos-1-7"];
        assert!(!row.is_cut(&[loss("w", 30)], &[sent("w", 20)]));
        assert!(
            row.is_cut(&[loss("w", 24)], &[sent("w", 20)]) && row.is_cut(&[loss("w", 30)], &[sent("w", 26)])
        );
    }

    #[test]
    fn a_call_is_cut_if_its_claim_was_not_extended_in_time() {
        // Half a lease is 500 microseconds.
        let cut = |extended: &[u64], ended: u64| {
            let writes = writes();
            extended.iter().for_each(|at_us| answer(&writes, "w", BATCH, *at_us, &[]));
            answer(&writes, "other", &BATCH.replace("claimed", "done"), ended, &[]);
            writes.take()["chaos-1-7"].is_cut(&[], &[])
        };
        assert!(!cut(&[10, 400], 800) && cut(&[10, 400], 900) && cut(&[10, 600], 700));
        let writes = writes();
        answer(&writes, "w", BATCH, 10, &[]);
        answer(&writes, "w", &BATCH.replace("claimed", "released"), 20, &[]);
        answer(&writes, "w", BATCH, 9_000, &[]);
        assert!(!writes.take()["chaos-1-7"].is_cut(&[], &[]), "nobody held it meanwhile");
    }

    #[test]
    fn a_failed_write_cuts_the_call_that_its_worker_has_and_no_other() {
        let batch: Batch<'_> = serde_json::from_str(BATCH).unwrap();
        let cut = |worker: &str, at_us: u64, sent_by: &[SentBy]| {
            let writes = writes();
            writes.statement_failed(worker, batch.statements[0].get(), at_us);
            writes.forwards("w", BATCH.as_bytes(), 10);
            answer(&writes, "w", &BATCH.replace("claimed", "done"), 30, &[]);
            let rows = writes.take();
            assert!(!rows["chaos-1-8"].is_cut(&[], &[]));
            rows["chaos-1-7"].is_cut(&[], sent_by)
        };
        assert!(cut("w", 10, &[]) && cut("w", 20, &[]));
        // The claim was not made, another worker's was not, and the end was stored before.
        assert!(!cut("w", 9, &[]) && !cut("other", 20, &[]) && !cut("w", 31, &[]));
        // Without a claim it was sent before.
        assert!(cut("w", 9, &[SentBy { worker: "w".into(), at_us: 8 }]));
        let writes = writes();
        let one = r#"{"TableName":"toolfleet-calls","Key":{"pk":{"S":"acme#chaos-1-3"}}}"#;
        writes.failed("w", one.as_bytes(), 9);
        let row = &writes.take()["chaos-1-3"];
        assert!(!row.is_cut(&[], &[]) && row.is_cut(&[], &[SentBy { worker: "w".into(), at_us: 8 }]));
    }
}
