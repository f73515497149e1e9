//! What really happened to each call, and the rules that hold at every step and at the end.

use toolfleet_core::call::{CallRow, State};
use toolfleet_core::ids::Nonce;
use toolfleet_core::outcome::{Code, MayHaveRun, OutcomeKind};

use super::scenario::Theme;
use super::supersede;
use super::world::{Process, Record, World};
use super::{adaptive, control, limits, permits};

/// A call under way ends within this time after its cancellation: a heartbeat, and four slow requests to AWS.
const CANCEL_MS: u64 = 30_000;
/// A call that takes no longer has no heartbeat.
const BEFORE_HEARTBEAT_MS: u64 = 9_000;

/// What really happened to a call.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// When its tool ran, and for the claim of which fence.
    pub(crate) runs: Vec<(u64, u64)>,
    /// Requests that a worker sent for it: when, and under which fence.
    pub(crate) sent: Vec<(u64, u64)>,
    /// Whether an answer may have been cut off from the worker that waited for it, or that worker was lost.
    pub(crate) cut: bool,
    pub(crate) ended: Option<CallRow>,
    pub(crate) cancelled_ms: Option<u64>,
    /// Whether a worker had its claim when it was cancelled.
    cancelled_under_way: bool,
    /// When the end of the call was stored.
    pub(crate) ended_ms: u64,
    pub(crate) notices: u32,
    /// How often a message of it went back to its queue.
    pub(crate) waits: u32,
    /// Whether a notice could not be sent.
    pub(crate) notice_lost: bool,
    pub(crate) holder: Option<Holder>,
    /// Whether it has been a task.
    was_task: bool,
    /// Whether a message of it has ever reached the dead-letter queue.
    pub(crate) dead_lettered: bool,
}

/// The worker that has the claim of a call.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) process: usize,
    nonce: Option<Nonce>,
    pub(crate) fence: u64,
    /// Until when that worker may rely on its claim.
    pub(crate) until_ms: u64,
}

impl Holder {
    /// Whether that delivery has the claim.
    pub(crate) fn is(&self, nonce: &Nonce) -> bool {
        self.nonce.as_ref() == Some(nonce)
    }
}

/// A row was stored, by a delivery or by a caller: the rules of each change.
pub(crate) fn row_stored(
    world: &World,
    by: Option<&Nonce>,
    call: usize,
    before: Option<&CallRow>,
    after: &CallRow,
) {
    world.note(Some(call), || describe(after));
    if let Some(before) = before {
        let ended = before.state == State::Done;
        world.check(!ended, call, "an end is final", || format!("{before:?} became {after:?}"));
        let ordered = after.rev == before.rev + 1 && after.fence >= before.fence;
        world
            .check(ordered, call, "revision and fence never fall", || format!("{before:?} became {after:?}"));
    }
    let mut truths = world.truth.borrow_mut();
    let truth = &mut truths[call];
    if let (Some(holder), Some(_)) = (&truth.holder, by) {
        let free = holder.nonce.as_ref() == by || world.now_ms() >= holder.until_ms;
        world.check(free, call, "only the holder writes before its lease is over", || {
            format!("{holder:?}, now {}", describe(after))
        });
    }
    truth.was_task |= after.task.is_some();
    if after.state == State::Claimed {
        claimed(world, call, before, after, truth);
    } else {
        truth.holder = None;
    }
    if after.cancel_requested_at.is_some() && truth.cancelled_ms.is_none() {
        truth.cancelled_ms = Some(world.now_ms());
        truth.cancelled_under_way = truth.holder.is_some();
    }
    let known = before.and_then(|before| before.task.as_ref());
    if let Some(task) = after.task.as_ref().filter(|task| known != Some(task)) {
        permits::task_is_stored(world, task, process_of(world, after), after.deadline);
    }
    if after.state == State::Done && truth.ended.is_none() {
        limits::call_ends(world, after);
        let answered = after.finished.as_ref().is_some_and(|finished| {
            matches!(finished.outcome.kind, OutcomeKind::Succeeded | OutcomeKind::ToolError)
        });
        let process = process_of(world, after).filter(|_| answered);
        if let Some(process) = process {
            control::ends_despite_rule(world, call, process, after.enqueued_at);
        }
        truth.ended = Some(after.clone());
        truth.ended_ms = world.now_ms();
    }
}

/// The process of the worker that the row names.
fn process_of(world: &World, row: &CallRow) -> Option<usize> {
    let processes = world.processes.borrow();
    processes.iter().find(|process| row.worker.as_ref() == Some(&process.id)).map(|process| process.index)
}

fn claimed(world: &World, call: usize, before: Option<&CallRow>, after: &CallRow, truth: &mut Truth) {
    let processes = world.processes.borrow();
    let of_row = |process: &&std::rc::Rc<Process>| after.worker.as_ref() == Some(&process.id);
    let Some(process) = processes.iter().find(of_row) else { return };
    let until_ms = after.lease_until.map_or(0, |until| world.virtual_ms(until, process.offset_ms));
    if before.is_none_or(|before| before.fence < after.fence) {
        let cancelled = before.is_some_and(|before| before.cancel_requested_at.is_some());
        world.check(!cancelled, call, "a cancelled call is never claimed", || format!("{after:?}"));
    }
    // A claim that was stored after its own lease is one that its worker does not use.
    truth.cut |= until_ms <= world.now_ms();
    truth.holder =
        Some(Holder { process: process.index, nonce: after.nonce.clone(), fence: after.fence, until_ms });
}

/// A worker is about to send the call.
pub(crate) fn sending(world: &World, call: usize, process: usize, fence: u64) {
    control::starts(world, call, process);
    let mut truths = world.truth.borrow_mut();
    let truth = &mut truths[call];
    world.note(Some(call), || format!("worker {process} sends the call under fence {fence}"));
    truth.sent.push((world.now_ms(), fence));
    let not_before_ms = world.scenario.calls[call].not_before_ms.unwrap_or(0);
    let clock_ms = world.now_ms().saturating_add_signed(world.processes.borrow()[process].offset_ms);
    world.check(clock_ms >= not_before_ms, call, "no call starts before its time", || {
        format!("{clock_ms} ms, not before {not_before_ms} ms")
    });
    // What is executed without a claim may be executed by another worker at the same time.
    let unclaimed = fence == 0 && world.scenario.calls[call].claimless;
    let newest = unclaimed || truth.holder.as_ref().is_none_or(|holder| holder.fence <= fence);
    world.check(newest, call, "no attempt begins after another worker has taken the call over", || {
        format!("worker {process} with fence {fence}, {:?}", truth.holder)
    });
}

/// The tool runs. Gives the number of this run.
pub(crate) fn runs(world: &World, call: usize, fence: u64) -> usize {
    world.note(Some(call), || format!("the tool runs, asked under fence {fence}"));
    let repeatable = world.scenario.calls[call].repeatable;
    let mut truths = world.truth.borrow_mut();
    let truth = &mut truths[call];
    truth.runs.push((world.now_ms(), fence));
    let count = truth.runs.len();
    world.check(
        repeatable || count == 1,
        call,
        "a call that is not safe to repeat runs once at most",
        || format!("{:?}", truth.runs),
    );
    count
}

/// A message is about to be deleted.
pub(crate) fn deleting(world: &World, call: usize, message: u64, first: u64) {
    let history = world.history.borrow();
    let ended = world.truth.borrow()[call].ended.is_some();
    let recorded =
        ended && history.contains(&Record::Call(call)) || history.contains(&Record::Message(first));
    let replaced = world.replaced.borrow().contains(&message);
    world.check(recorded || replaced, call, "a message is deleted only after its record or its copy", || {
        format!("message {message}, the call has ended: {ended}")
    });
}

/// The rules of a schedule's end.
pub(crate) fn at_the_end(world: &World) {
    supersede::at_the_end(world, &world.truth.borrow());
    adaptive::at_the_end(world);
    for (call, truth) in world.truth.borrow().iter().enumerate() {
        let Some(row) = &truth.ended else {
            let lost = !world.queue.has(call) && !world.dead.has(call);
            world.check(!lost, call, "no call is lost", || "it has no end and no message".to_owned());
            world.check(lost, call, "every call ends", || "it is still in a queue".to_owned());
            continue;
        };
        let recorded = world.history.borrow().contains(&Record::Call(call));
        world.check(recorded, call, "every call has an audit record", String::new);
        world.check(
            truth.notices > 0 || truth.notice_lost,
            call,
            "every end is told to the caller",
            String::new,
        );
        ended_honestly(world, call, truth, row);
        if world.scenario.theme == Theme::Calm {
            ended_calmly(world, call, truth, row);
        }
        if world.scenario.calls[call].claimless && world.scenario.is_quiet() {
            ended_without_claim(world, call, truth, row);
        }
    }
}

/// A call that needs no claim has no write but that of its end, unless it waits, is repeated, becomes a task, or takes longer than a heartbeat.
fn ended_without_claim(world: &World, call: usize, truth: &Truth, row: &CallRow) {
    let [(sent_ms, fence)] = truth.sent[..] else { return };
    let alone = world.scenario.calls[call].sends.len() == 1 && truth.cancelled_ms.is_none();
    let answered = row.finished.as_ref().is_some_and(|end| end.outcome.kind == OutcomeKind::Succeeded);
    let quick = truth.ended_ms.saturating_sub(sent_ms) < BEFORE_HEARTBEAT_MS && !truth.was_task;
    world.check(
        !(alone && answered && quick && truth.waits == 0) || (row.rev == 1 && fence == 0),
        call,
        "a call without a claim is written once",
        || format!("rev {} fence {fence}", row.rev),
    );
}

/// An outcome says of its call what is true.
fn ended_honestly(world: &World, call: usize, truth: &Truth, row: &CallRow) {
    let Some(finished) = &row.finished else {
        world.check(false, call, "an end has an outcome", || format!("{row:?}"));
        return;
    };
    let outcome = &finished.outcome;
    let detail = || format!("{outcome:?}, {truth:?}");
    let ran = !truth.runs.is_empty();
    let denies = outcome.error.as_ref().is_some_and(|why| why.may_have_run == MayHaveRun::No);
    world.check(!(denies && ran), call, "`may_have_run: no` is never said of a call that ran", detail);
    let unknown = outcome.kind == OutcomeKind::OutcomeUnknown;
    world.check(
        !unknown || truth.cut || truth.dead_lettered,
        call,
        "an outcome is unknown only where an answer was cut off",
        detail,
    );
    let answered = matches!(outcome.kind, OutcomeKind::Succeeded | OutcomeKind::ToolError);
    world.check(!answered || ran, call, "an answer is that of a tool that ran", detail);
    if let Some(content) = outcome.content() {
        let own = (1..=truth.runs.len()).any(|run| content.get() == super::server::content(call, run));
        world.check(own, call, "a result is what the tool answered to this call", detail);
    }
    let sent_ms = world.scenario.calls[call].sends[0].0;
    let deadline = world.true_time(sent_ms + world.scenario.calls[call].deadline_ms);
    let early = finished.at < deadline;
    let paused = early && outcome.error.as_ref().is_some_and(|why| why.code == Code::Paused);
    world.check(!paused, call, "a paused call is held until its deadline", detail);
    let starved = world.scenario.theme.has_limits()
        && outcome.kind == OutcomeKind::Expired
        && truth.sent.is_empty()
        && !world.task_permit_lost.get();
    world.check(
        !starved,
        call,
        "a limited call runs before its deadline: permits of lost workers come back",
        detail,
    );
    let replaced = outcome.error.as_ref().is_some_and(|why| why.code == Code::Superseded);
    let cancelled = outcome.kind == OutcomeKind::Cancelled && !replaced;
    let asked = truth.cancelled_ms.is_some() || control::rule_cancelled(world, call);
    world.check(!cancelled || asked, call, "only a caller or a rule cancels", detail);
}

/// What holds besides where no worker, no AWS request and no message fails.
fn ended_calmly(world: &World, call: usize, truth: &Truth, row: &CallRow) {
    let spec = &world.scenario.calls[call];
    let most = usize::try_from(spec.max_attempts).unwrap();
    world.check(truth.runs.len() <= most, call, "a tool runs no more often than it may be tried", || {
        format!("{truth:?}")
    });
    world.check(!truth.dead_lettered, call, "waiting alone makes no dead letter", || format!("{row:?}"));
    let messages: usize = world.scenario.calls.iter().map(|call| call.sends.len()).sum();
    let last_ms = spec.sends[0].0 + spec.deadline_ms + super::scenario::LEASE_MS;
    // A call without a free slot waits for one, and its deadline is seen when it is received.
    let in_time = truth.ended_ms <= last_ms || world.scenario.slots < messages;
    world.check(in_time, call, "a call ends by its deadline", || truth.ended_ms.to_string());
    if let Some(cancelled_ms) = truth.cancelled_ms
        && truth.cancelled_under_way
    {
        let within = truth.ended_ms <= cancelled_ms + CANCEL_MS;
        world.check(within, call, "a cancelled call ends within a heartbeat", || format!("{truth:?}"));
    }
}

fn describe(row: &CallRow) -> String {
    let CallRow { state, rev, fence, attempts, may_have_executed, task, worker, finished, .. } = row;
    let worker = worker.as_ref().map(|worker| worker.as_str());
    let ended = finished.as_ref().map(|finished| {
        let code = finished.outcome.error.as_ref().map(|why| why.code.as_str());
        format!(" {} {}", finished.outcome.kind, code.unwrap_or_default())
    });
    format!(
        "row: {}{} rev {rev} fence {fence} attempts {attempts} may_have_executed {may_have_executed} task {task:?} worker {worker:?}",
        state.as_str(),
        ended.unwrap_or_default(),
    )
}
