//! Decides where a call is, what it waits for, and when it goes on.

use super::cancel_rules::cancelling;
use super::evidence::{DeadLetterFound, DeadLetterSeen, Evidence, HolderSeen, QueueState, WorkersSeen};
use super::explanation::{Explanation, Place, WaitsFor, WaitsForKind, when};
use super::pauses::pauses;
use super::reasons;
use crate::call::{CallRow, Finished, Held, HeldReason, State};
use crate::ids::WorkerId;
use crate::outcome::{AnswerSource, MayHaveRun, OutcomeKind};
use crate::time::{Timestamp, span};

/// A try that is later than this is overdue: its message waits for a worker. Delays of SQS and of batches are shorter.
const OVERDUE_MS: u64 = 5_000;
/// How long after a resume parked calls look at the pause again, at most.
const PAUSE_HOP: &str = "parked calls go on within 60 s after the pause has ended";
/// When a dead letter is due, unless the workers are configured otherwise (`TOOLFLEET_REAP_AFTER_MS`).
const REAP_AFTER_MS: u64 = 900_000;

/// Explains a call.
pub fn explain(seen: &Evidence<'_>) -> Explanation {
    let mut explained = match (seen.row, seen.dead_letter) {
        (Some(CallRow { finished: Some(finished), .. }), _) => ended(seen, finished),
        (row, DeadLetterSeen::Found(letter)) if !row.is_some_and(|row| has_live_claim(seen, row)) => {
            dead_letter(seen, letter)
        }
        (None, _) => not_received(seen),
        (Some(row), _) => match row.state {
            State::Claimed if has_live_claim(seen, row) => running(seen, row),
            State::Claimed => worker_lost(seen, row),
            State::Pending if row.digest.is_none() => cancelled_ahead(seen),
            State::AwaitingApproval => awaiting_approval(seen),
            State::Pending | State::Released | State::WaitingTask => match row.held() {
                Some(held) => held_call(seen, row, held),
                None if row.state == State::WaitingTask => at_server(seen, row),
                None => in_queue(seen, row),
            },
            // A row that is done and has no outcome was written by another program.
            State::Done => blank(seen, Place::Ended, "it has ended, but its outcome is missing"),
        },
    };
    if explained.place != Place::Ended {
        add_deadline(seen, &mut explained);
        add_pauses(seen, &mut explained);
        add_cancel_rules(seen, &mut explained);
        if !seen.row_only {
            add_not_known(seen, &mut explained);
            explained.queues = seen.queues.to_vec();
            explained.workers = seen.workers.copied();
        }
    }
    explained
}

fn blank(seen: &Evidence<'_>, place: Place, text: impl Into<String>) -> Explanation {
    Explanation {
        state: seen.row.map_or("unknown", |row| row.state.as_str()),
        place,
        text: text.into(),
        waits_for: Vec::new(),
        next_at: None,
        next: "nothing follows by itself".into(),
        deadline: None,
        at_deadline: None,
        cancel_requested_at: seen.row.and_then(|row| row.cancel_requested_at),
        queues: Vec::new(),
        workers: None,
        not_known: Vec::new(),
        remedies: Vec::new(),
    }
}

fn ended(seen: &Evidence<'_>, Finished { outcome, at }: &Finished) -> Explanation {
    let code = outcome.error.as_ref().map_or_else(String::new, |error| format!(" ({})", error.code));
    let text = format!("it ended as {}{code} at {}", outcome.kind, when(*at, seen.now));
    let text = match &outcome.source {
        AnswerSource::Server => text,
        AnswerSource::Cache(call) => {
            format!("{text}; it was given the stored answer of {call}, and its tool was not asked")
        }
        AnswerSource::Batch(id) => format!("{text}; it was sent with others in the batch {id}"),
    };
    let mut explained = blank(seen, Place::Ended, text);
    if let Some(error) = &outcome.error {
        explained.remedies.push(match error.may_have_run {
            MayHaveRun::No => "nothing reached the tool: a new call under a new id repeats nothing".into(),
            MayHaveRun::Yes => "the tool ran: a new call runs it again".into(),
            MayHaveRun::Unknown => {
                "the tool may have run: check its effect before you send a new call".into()
            }
        });
        if outcome.kind != OutcomeKind::InputRequired {
            explained.remedies.push(format!("docs/reference/runbook.md explains `{}`", error.code));
        }
    }
    if matches!(seen.dead_letter, DeadLetterSeen::Found(_)) {
        explained.next = "its message in the dead-letter queue runs nothing: the call's end stands".into();
    }
    explained
}

fn dead_letter(seen: &Evidence<'_>, letter: &DeadLetterFound) -> Explanation {
    let why = match &letter.reason {
        Some(code) => format!("a worker put it there ({code})"),
        None => "it was received too often without an end".to_owned(),
    };
    let mut explained = blank(
        seen,
        Place::DeadLetterQueue,
        format!("its message is in the dead-letter queue, because {why}"),
    );
    let sent = WaitsFor {
        since: Some(letter.first_sent),
        ..WaitsFor::new(WaitsForKind::Redrive, "an operator who redrives it, or a worker that ends it")
    };
    explained.waits_for.push(sent);
    explained.deadline = letter.deadline;
    if letter.reason.is_some() {
        explained.next = "a message that could not be read stays there until an operator acts".into();
    } else {
        let by_age = letter.waited_until.plus_ms(REAP_AFTER_MS);
        explained.next_at = Some(letter.deadline.map_or(by_age, |deadline| deadline.min(by_age)));
        explained.next = "a worker ends it, unless TOOLFLEET_REAP_AFTER_MS says otherwise, from".into();
    }
    if seen.row.is_some_and(|row| row.may_have_executed || row.state == State::Claimed) {
        explained
            .remedies
            .push("it may have run: redriven, it ends as outcome_unknown unless it is safe to repeat".into());
    }
    explained.remedies.push(
        "remove the cause, then run `toolfleet dlq redrive`; `toolfleet dlq show` has its message".into(),
    );
    explained
}

fn not_received(seen: &Evidence<'_>) -> Explanation {
    let text = "no worker has received it, or one runs it without a claim: it is queued or running, or was never sent";
    let mut explained = blank(seen, Place::NotReceived, text);
    explained.waits_for.push(for_a_worker(seen, None));
    explained.next = "it goes on when a worker receives it; when that is, is not known".into();
    explained.remedies.extend(start_workers(seen));
    explained.remedies.push("check that tenant and id are those it was sent with".into());
    explained
}

fn cancelled_ahead(seen: &Evidence<'_>) -> Explanation {
    let mut explained = blank(
        seen,
        Place::CancelledAhead,
        "no worker has received it, or one runs it without a claim, and its caller cancelled it",
    );
    explained.waits_for.push(for_a_worker(seen, explained.cancel_requested_at));
    explained.next = "it ends as cancelled when a worker receives its message".into();
    explained.remedies.extend(start_workers(seen));
    explained
}

fn in_queue(seen: &Evidence<'_>, row: &CallRow) -> Explanation {
    let text = match row.state {
        State::Released => format!("a worker gave it back after {}", attempts(row.attempts)),
        State::Pending | State::Claimed | State::WaitingTask | State::AwaitingApproval | State::Done => {
            "it was received, and no worker holds it".to_owned()
        }
    };
    let mut explained = blank(seen, Place::InQueue, text);
    explained.waits_for.push(for_a_worker(seen, Some(row.enqueued_at)));
    explained.next =
        "it goes on when a worker receives its message again, within 15 min of the last delivery".into();
    explained.remedies.extend(start_workers(seen));
    explained
}

fn held_call(seen: &Evidence<'_>, row: &CallRow, held: &Held) -> Explanation {
    let tried = match row.attempts {
        0 => "no attempt was made".to_owned(),
        n => format!("{} so far", attempts(n)),
    };
    let task = if row.state == State::WaitingTask { "; its server works on it as a task" } else { "" };
    let mut explained = blank(seen, Place::Held, format!("it is held; {tried}{task}"));
    let mut held_for = reasons::waits_for(held);
    if held.reason == HeldReason::Share && held_for.detail.is_none() {
        held_for.detail = share(seen);
    }
    explained.waits_for.push(held_for);
    explained.next_at = Some(held.next_try_at);
    explained.next = reasons::next(held.reason).into();
    explained.remedies.push(reasons::remedy(held));
    if seen.now.ms_since(held.next_try_at) > OVERDUE_MS {
        explained.waits_for.push(for_a_worker(seen, Some(held.next_try_at)));
        explained.next =
            "its next try is overdue: it goes on when a worker receives its message. It was due at".into();
        explained.remedies.extend(start_workers(seen));
    }
    explained
}

fn running(seen: &Evidence<'_>, row: &CallRow) -> Explanation {
    let worker = row.worker.as_ref().map_or("a worker", WorkerId::as_str);
    let what = match &row.task {
        Some(_) => "asks its server for its task".to_owned(),
        None => format!("runs it, attempt {}", row.attempts.saturating_add(1)),
    };
    let reports = match seen.workers.map(|workers| workers.holder) {
        Some(HolderSeen::Reports(at)) => format!("; the worker reported at {}", when(at, seen.now)),
        Some(HolderSeen::SilentSince(at)) => {
            format!("; the worker has not reported since {}", when(at, seen.now))
        }
        Some(HolderSeen::Absent) => "; the worker has no row: it has stopped, or does not report".to_owned(),
        Some(HolderSeen::NotKnown) | None => String::new(),
    };
    let mut explained = blank(seen, Place::Running, format!("worker {worker} {what}{reports}"));
    let since = row.started_at;
    // An earlier attempt was sent. Before the first one, nobody writes whether the call waits in its worker's hands.
    let may_be_unsent = row.attempts == 0 && row.task.is_none();
    let answer =
        if may_be_unsent { "the answer of its tool, or of an equal call" } else { "the answer of its tool" };
    explained.waits_for.push(WaitsFor { since, ..WaitsFor::new(WaitsForKind::Answer, answer) });
    if may_be_unsent {
        explained.not_known.push(
            "whether its request was sent: with `cache` it may wait for an equal call's answer, with `batch` for others to be sent with".into(),
        );
    }
    explained.next =
        "another worker takes it over if this one stops renewing its claim, which holds until".into();
    explained.next_at = row.lease_until;
    explained.not_known.push(
        "when its tool answers; an attempt ends after the tool's `timeout_ms`, which is in the catalog"
            .into(),
    );
    explained
}

fn worker_lost(seen: &Evidence<'_>, row: &CallRow) -> Explanation {
    let worker = row.worker.as_ref().map_or("a worker", WorkerId::as_str);
    let text = format!(
        "worker {worker} had it and has not renewed its claim: it stopped, or cannot reach the table"
    );
    let mut explained = blank(seen, Place::WorkerLost, text);
    explained.waits_for.push(WaitsFor {
        since: row.lease_until,
        ..WaitsFor::new(WaitsForKind::Lease, "the next delivery of its message after its claim's end")
    });
    explained.next = "a worker takes it over at the next delivery. If it is not safe to repeat, it then ends as outcome_unknown".into();
    explained.not_known.push("when its message is visible again: SQS does not tell".into());
    explained.remedies.extend(start_workers(seen));
    explained
}

fn at_server(seen: &Evidence<'_>, row: &CallRow) -> Explanation {
    let mut explained = blank(seen, Place::AtServer, "its server works on it as a task");
    let since = row.started_at;
    explained.waits_for.push(WaitsFor { since, ..WaitsFor::new(WaitsForKind::Task, "the end of its task") });
    explained.next_at = row.poll_at;
    explained.next = "a worker asks the server for the task's state at".into();
    if row.poll_at.is_some_and(|at| seen.now.ms_since(at) > OVERDUE_MS) {
        explained.waits_for.push(for_a_worker(seen, row.poll_at));
        explained.next =
            "the poll is overdue: it comes when a worker receives its message. It was due at".into();
        explained.remedies.extend(start_workers(seen));
    }
    explained
}

fn awaiting_approval(seen: &Evidence<'_>) -> Explanation {
    let mut explained = blank(seen, Place::AwaitingApproval, "a person must allow it first");
    let since = seen.row.map(|row| row.enqueued_at);
    explained
        .waits_for
        .push(WaitsFor { since, ..WaitsFor::new(WaitsForKind::Approval, "a person's approval") });
    explained.next = "it goes on when a person allows it".into();
    explained
}

/// The wait for a worker that receives the message.
fn for_a_worker(seen: &Evidence<'_>, since: Option<Timestamp>) -> WaitsFor {
    let mut text = match seen.workers {
        None => "a worker that receives it".to_owned(),
        Some(WorkersSeen { alive: 0, .. }) => "a worker that receives it: no worker reports".to_owned(),
        Some(WorkersSeen { alive, draining, .. }) if draining >= alive => {
            format!("a worker that receives it: all {alive} that report drain")
        }
        Some(WorkersSeen { alive, busy, slots, .. }) => {
            let share = share(seen).map_or_else(String::new, |share| format!("; {share}"));
            format!("a worker that receives it: {alive} report, {busy} of {slots} slots are taken{share}")
        }
    };
    for QueueState { name, visible, in_flight, delayed, wait_ms, .. } in seen.queues {
        let wait = wait_ms.map_or_else(String::new, |ms| format!(", messages waited up to {}", span(ms)));
        text.push_str(&format!(
            "; queue {name} holds about {visible} visible, {in_flight} in flight, {delayed} delayed{wait}"
        ));
    }
    WaitsFor { since, ..WaitsFor::new(WaitsForKind::Worker, text) }
}

/// The tenant's share of the workers' time.
fn share(seen: &Evidence<'_>) -> Option<String> {
    let share = seen.workers?.tenant_share?;
    Some(format!("its tenant had {:.0} % of the workers' time within a minute", share * 100.0))
}

fn start_workers(seen: &Evidence<'_>) -> Option<String> {
    let workers = seen.workers?;
    let none_starts = workers.alive <= workers.draining;
    none_starts.then(|| "start a worker: none that reports takes new calls".to_owned())
}

/// Whether the claim of that row still holds. The workers allow for the difference of clocks; a reader need not.
fn has_live_claim(seen: &Evidence<'_>, row: &CallRow) -> bool {
    row.state == State::Claimed && row.lease_until.is_some_and(|until| seen.now <= until)
}

fn attempts(n: u32) -> String {
    if n == 1 { "1 attempt".to_owned() } else { format!("{n} attempts") }
}

fn add_deadline(seen: &Evidence<'_>, explained: &mut Explanation) {
    explained.deadline = explained.deadline.or_else(|| seen.row.and_then(|row| row.deadline));
    let may_have_run = seen.row.is_some_and(|row| row.may_have_executed || row.state == State::Claimed);
    let end = match (explained.cancel_requested_at, may_have_run) {
        (Some(_), _) => "it ends as cancelled before, when a worker meets it next",
        (None, true) => "it ends as timed_out; whether the tool ran is then not known",
        (None, false) => "it ends as expired, without having been sent to the tool",
    };
    match explained.deadline {
        Some(_) => explained.at_deadline = Some(end.to_owned()),
        None => {
            explained.not_known.push("its deadline: its message says it, and its row does not".to_owned())
        }
    }
}

/// A rule that cancels the call ends it at its next delivery, or at the next heartbeat of its worker.
fn add_cancel_rules(seen: &Evidence<'_>, explained: &mut Explanation) {
    if matches!(explained.place, Place::DeadLetterQueue | Place::CancelledAhead) {
        return;
    }
    for rule in cancelling(seen) {
        let detail = rule.rule.detail();
        if rule.certain {
            explained.next = format!("it ends as cancelled, by an operator's {detail}");
            explained.next_at = None;
            return;
        }
        explained
            .not_known
            .push(format!("whether it ends as cancelled by an operator's {detail} ({})", rule.rule.filter));
    }
}

fn add_pauses(seen: &Evidence<'_>, explained: &mut Explanation) {
    match explained.place {
        Place::Running
        | Place::WorkerLost
        | Place::DeadLetterQueue
        | Place::CancelledAhead
        | Place::Ended => return,
        Place::NotReceived | Place::InQueue | Place::Held | Place::AtServer | Place::AwaitingApproval => {}
    }
    let pauses = pauses(seen);
    let certain = |waits: &&WaitsFor| waits.kind == WaitsForKind::Pause;
    if pauses.iter().any(|waits| certain(&waits)) {
        // The longest pause decides.
        let last = pauses
            .iter()
            .filter(certain)
            .map(|waits| waits.until)
            .max_by_key(|until| until.map_or(i64::MAX, Timestamp::as_ms));
        match last.flatten() {
            Some(until) => {
                explained.next_at = Some(explained.next_at.map_or(until, |at| at.max(until)));
                explained.next = format!("{PAUSE_HOP}, which is at");
            }
            None => explained.next = format!("it goes on when the pause is ended; {PAUSE_HOP}"),
        }
        if last.flatten().is_none() {
            explained.next_at = None;
        }
        let remedy = "end the pause with `toolfleet resume`, a strike with `toolfleet strike --lift` (`toolfleet switches` lists both)".to_owned();
        if !explained.remedies.contains(&remedy) {
            explained.remedies.push(remedy);
        }
    }
    explained.waits_for.extend(pauses);
}

fn add_not_known(seen: &Evidence<'_>, explained: &mut Explanation) {
    let mut note = |text: &str| explained.not_known.push(text.to_owned());
    if seen.control.is_none() {
        note("what operators have paused: the fleet table was not read");
    }
    if seen.workers.is_none() {
        note("whether any worker runs: no summary of the workers was read");
    }
    if seen.queues.is_empty() {
        note("how many calls wait: the queues were not read");
    }
    let claimed = seen.row.is_some_and(|row| has_live_claim(seen, row));
    match seen.dead_letter {
        DeadLetterSeen::NotRead if !claimed => {
            note("whether its message is in the dead-letter queue: that was not read")
        }
        DeadLetterSeen::NotFound { looked_at, all: false } => {
            let text = format!(
                "whether its message is in the dead-letter queue: only {looked_at} messages there were read"
            );
            explained.not_known.push(text);
        }
        DeadLetterSeen::NotRead
        | DeadLetterSeen::NoQueue
        | DeadLetterSeen::NotFound { .. }
        | DeadLetterSeen::Found(_) => {}
    }
}
