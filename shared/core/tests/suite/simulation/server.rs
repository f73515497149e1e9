//! The servers: they run a tool and answer, run it and drop the answer, refuse before running, ask for a pause, hang, make tasks, or
//! accept no connection.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::value::RawValue;
use toolfleet_core::answer::{Meaning, TaskStatus};
use toolfleet_core::call::HeldReason;
use toolfleet_core::failure::{Blame, Evidence, Failure, Reachability, RetryClass};
use toolfleet_core::outcome::{Code, MayHaveRun, Outcome};

use super::limits;
use super::scenario::Manners;
use super::scheduler::{Either, race};
use super::truth;
use super::world::{UnderWay, World};

/// When a server drops a request late: an attempt that takes longer would not be repeated in its slot.
const DROPS_LATE_MS: u64 = 1_900;

/// A task at a server.
#[derive(Debug)]
pub(crate) struct ServerTask {
    call: usize,
    run: usize,
    polls_left: u32,
}

/// The tasks of all servers by handle.
pub(crate) type Tasks = BTreeMap<String, ServerTask>;

/// A request to a server.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// Run the tool of the call, for the claim with that fence, as the open request of that number.
    Call { call: usize, fence: u64, number: u64 },
    /// How far is the task?
    Poll { call: usize, handle: String },
}

/// What a server says to a request that it answers.
pub(crate) enum Said {
    Meaning(Meaning),
    Status(TaskStatus),
}

type Slot = Rc<RefCell<Option<Result<Said, Failure>>>>;

/// The result of the n-th run of a call.
pub(crate) fn content(call: usize, run: usize) -> String {
    format!("{{\"call\":{call},\"run\":{run}}}")
}

/// The handle of the task that the n-th run of a call became.
pub(crate) fn task_handle(call: usize, run: usize) -> String {
    format!("task-{call}-{run}")
}

/// Sends a request and waits for its answer until `until_ms`.
pub(crate) async fn request(world: &Rc<World>, ask: Ask, until_ms: u64) -> Result<Said, Failure> {
    let slot: Slot = Rc::default();
    let reply = Reply { slot: Rc::clone(&slot), asker: world.scheduler.current() };
    let (work, task) = (serve(Rc::clone(world), ask, reply), slot);
    world.spawn(None, work);
    let answer = std::future::poll_fn(move |_| match task.borrow_mut().take() {
        Some(answer) => std::task::Poll::Ready(answer),
        None => std::task::Poll::Pending,
    });
    match race(answer, world.sleep_until(until_ms)).await {
        Either::First(answer) => answer,
        Either::Second(()) => Err(timed_out()),
    }
}

/// The way back to the worker that asked. Whether it still waits makes no difference.
struct Reply {
    slot: Slot,
    asker: usize,
}

impl Reply {
    fn send(&self, world: &World, answer: Result<Said, Failure>) {
        *self.slot.borrow_mut() = Some(answer);
        world.scheduler.wake(self.asker, world.now_ms(), world.random.next());
    }
}

/// Serves one request.
async fn serve(world: Rc<World>, ask: Ask, reply: Reply) {
    let under_way = UnderWay::new(&world);
    let late = world.random.chance(20) && !world.is_calm();
    world.sleep(if late { world.random.below(8_000) } else { world.random.between(1, 60) }).await;
    let answer = match &ask {
        Ask::Call { call, fence, .. } => run(&world, *call, *fence, &reply).await,
        Ask::Poll { call, handle } => Some(poll(&world, *call, handle)),
    };
    if let (Ask::Call { number, .. }, true) = (&ask, answer.is_some()) {
        limits::ended(&world, *number);
    }
    if let Some(answer) = answer {
        world.sleep(world.random.between(1, 60)).await;
        reply.send(&world, answer);
    }
    drop(under_way);
}

/// What happens at the server. Nothing where no answer will come.
async fn run(world: &Rc<World>, call: usize, fence: u64, reply: &Reply) -> Option<Result<Said, Failure>> {
    let server = world.scenario.calls[call].server;
    if is_down(world, server) {
        return Some(Err(not_connected()));
    }
    let overload = limits::overload(world, server);
    if overload > 0 && world.random.chance(500) && !world.is_calm() {
        return Some(Err(rate_limited(None)));
    }
    let manners = world.scenario.servers[server];
    let manner = draw(world, manners);
    let cuts =
        matches!(manner, Manner::RunsThenDrops | Manner::DropsLate | Manner::DropsUnrun | Manner::Hangs);
    world.note(Some(call), || format!("server: {manner:?}"));
    if cuts {
        world.truth.borrow_mut()[call].cut = true;
    }
    // The effect may come at the beginning or at the end of the work.
    let work_ms =
        if world.random.chance(100) { world.random.below(60_000) } else { world.random.below(1_950) };
    let work_ms = work_ms * (1 + overload);
    let early = world.random.chance(500);
    if manner == Manner::RunsThenDrops && world.random.chance(500) {
        // The connection breaks while the tool runs on.
        world.sleep(world.random.below(200)).await;
        reply.send(world, Err(lost()));
    }
    let work_ms = if manner == Manner::DropsLate { DROPS_LATE_MS } else { work_ms };
    if manner.runs() && !early {
        world.sleep(work_ms).await;
    }
    let run = if manner.runs() { truth::runs(world, call, fence) } else { 0 };
    if manner.runs() && early {
        world.sleep(work_ms).await;
    }
    let raw = || RawValue::from_string(content(call, run)).unwrap();
    let said = |meaning| Some(Ok(Said::Meaning(meaning)));
    match manner {
        Manner::Answers => said(Meaning::Ended(Outcome::succeeded(raw()))),
        Manner::ToolError => said(Meaning::Ended(Outcome::tool_error(raw(), "the tool reported an error"))),
        Manner::RunsThenDrops | Manner::DropsLate | Manner::DropsUnrun => Some(Err(lost())),
        Manner::RefusesConnection => Some(Err(not_connected())),
        Manner::AsksForPause => {
            let after_ms = world.random.chance(500).then(|| world.random.between(500, 40_000));
            Some(Err(rate_limited(after_ms)))
        }
        Manner::RefusesRequest => Some(Err(refused())),
        Manner::Hangs => None,
        Manner::MakesTask => {
            let handle = task_handle(call, run);
            let polls_left = u32::try_from(world.random.below(6)).unwrap();
            world.tasks.borrow_mut().insert(handle.clone(), ServerTask { call, run, polls_left });
            said(Meaning::Task {
                handle,
                poll_after_ms: world.random.chance(700).then(|| world.random.below(60_000)),
            })
        }
    }
}

fn poll(world: &World, call: usize, handle: &str) -> Result<Said, Failure> {
    let server = world.scenario.calls[call].server;
    if is_down(world, server) {
        return Err(not_connected());
    }
    let calm = world.is_calm();
    if !calm && world.random.chance(60) {
        return Err(if world.random.chance(500) { lost() } else { rate_limited(Some(3_000)) });
    }
    let mut tasks = world.tasks.borrow_mut();
    if !calm && world.random.chance(30) {
        tasks.remove(handle);
    }
    let Some(task) = tasks.get_mut(handle) else {
        world.truth.borrow_mut()[call].cut = true;
        return Ok(Said::Status(TaskStatus::Unknown { message: "no such task".to_owned() }));
    };
    if task.polls_left > 0 {
        task.polls_left -= 1;
        let poll_after_ms = world.random.chance(700).then(|| world.random.below(30_000));
        return Ok(Said::Status(TaskStatus::Working { poll_after_ms, message: String::new() }));
    }
    let content = RawValue::from_string(content(task.call, task.run)).unwrap();
    Ok(Said::Status(TaskStatus::Ended(Outcome::succeeded(content))))
}

fn is_down(world: &World, server: usize) -> bool {
    let down = world.scenario.down_ms.is_some_and(|(from, to)| (from..to).contains(&world.now_ms()));
    down && server == 0 && !world.is_calm()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Answers,
    ToolError,
    RunsThenDrops,
    DropsLate,
    DropsUnrun,
    RefusesConnection,
    AsksForPause,
    RefusesRequest,
    Hangs,
    MakesTask,
}

impl Manner {
    const fn runs(self) -> bool {
        match self {
            Self::Answers
            | Self::ToolError
            | Self::RunsThenDrops
            | Self::DropsLate
            | Self::Hangs
            | Self::MakesTask => true,
            Self::DropsUnrun | Self::RefusesConnection | Self::AsksForPause | Self::RefusesRequest => false,
        }
    }
}

fn draw(world: &World, manners: Manners) -> Manner {
    let weights = [
        (Manner::Answers, manners.answers),
        (Manner::ToolError, manners.tool_error),
        (Manner::RunsThenDrops, manners.runs_then_drops),
        (Manner::DropsLate, manners.drops_late),
        (Manner::DropsUnrun, manners.drops_unrun),
        (Manner::RefusesConnection, manners.refuses_connection),
        (Manner::AsksForPause, manners.asks_for_pause),
        (Manner::RefusesRequest, manners.refuses_request),
        (Manner::Hangs, manners.hangs),
        (Manner::MakesTask, manners.makes_task),
    ];
    if world.is_calm() {
        return Manner::Answers;
    }
    let mut left = world.random.below(weights.iter().map(|(_, weight)| weight).sum());
    for (manner, weight) in weights {
        if left < weight {
            return manner;
        }
        left -= weight;
    }
    Manner::Answers
}

fn failure(class: RetryClass, may_have_run: MayHaveRun, code: Code, evidence: Evidence) -> Failure {
    let held = match class {
        RetryClass::NotExecuted => HeldReason::ServerUnreachable,
        RetryClass::Pause { .. } => HeldReason::ServerPause,
        RetryClass::Ambiguous | RetryClass::Permanent => HeldReason::BackOff,
    };
    let reachability = match evidence {
        Evidence::NotConnected => Reachability::NotReached,
        Evidence::Paused(_) | Evidence::Overloaded | Evidence::Reached => Reachability::Answered,
        Evidence::AnswerFailed | Evidence::Nothing | Evidence::TimedOut => Reachability::Unknown,
    };
    Failure {
        class,
        blame: Blame::Server,
        may_have_run,
        code,
        detail: code.as_str().to_owned(),
        summary: code.as_str().to_owned(),
        evidence,
        reachability,
        held,
        rpc_code: None,
    }
}

fn not_connected() -> Failure {
    failure(RetryClass::NotExecuted, MayHaveRun::No, Code::ServerUnreachable, Evidence::NotConnected)
}

fn lost() -> Failure {
    failure(RetryClass::Ambiguous, MayHaveRun::Unknown, Code::AnswerLost, Evidence::AnswerFailed)
}

fn timed_out() -> Failure {
    failure(RetryClass::Ambiguous, MayHaveRun::Unknown, Code::AttemptTimedOut, Evidence::TimedOut)
}

fn rate_limited(after_ms: Option<u64>) -> Failure {
    failure(RetryClass::Pause { after_ms }, MayHaveRun::No, Code::RateLimited, Evidence::Paused(after_ms))
}

fn refused() -> Failure {
    failure(RetryClass::Permanent, MayHaveRun::No, Code::InvalidArguments, Evidence::Reached)
}
