//! What was seen of a chaos run: by the servers, by the tables, by the proxies and by the callers. Data without behaviour.

use std::collections::{BTreeMap, BTreeSet};

use toolfleet_core::audit::AuditKind;
use toolfleet_core::group::{Decision, GroupNotice};
use toolfleet_core::outcome::{Code, MayHaveRun, OutcomeKind};
use toolfleet_core::request::Policy;
use toolfleet_core::time::Timestamp;

/// What the call's row says of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The outcome.
    pub kind: OutcomeKind,
    /// The code, which a success does not have.
    pub code: Option<&'static str>,
    /// Whether it says that the tool may have run; absent for a success.
    pub may_have_run: Option<MayHaveRun>,
    /// Whether the stored answer, if there is one, is the answer to this call.
    pub own_answer: bool,
    /// When it ended, in microseconds on the servers' clock, to a millisecond.
    pub at_us: u64,
}

/// A task that goes on until it is cancelled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndlessTask {
    /// The server's name for it.
    pub id: String,
    /// Whether it was cancelled.
    pub cancelled: bool,
    /// When its server had written its name to the worker, in microseconds on the servers' clock; none if that failed.
    pub handed_us: Option<u64>,
    /// Whether a worker named it in a write of the call's row.
    pub known: bool,
}

/// A request of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When it was read, in microseconds on the servers' clock.
    pub at_us: u64,
    /// Whether its worker had been frozen so shortly before that it may not have read again what operators had set.
    pub after_freeze: bool,
}

/// Everything that was seen of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallSeen {
    /// Its id.
    pub id: String,
    /// Its tenant.
    pub tenant: &'static str,
    /// The name of its server.
    pub server: &'static str,
    /// What it asks its server, if equal calls may share an answer.
    pub question: Option<String>,
    /// The key of which the newest call replaces the others.
    pub supersede: Option<String>,
    /// Before which time it may not start, in microseconds on the servers' clock.
    pub not_before_us: Option<u64>,
    /// Whether repeating it does no harm.
    pub safe: bool,
    /// Whether it is executed without a claim: of two deliveries one may run it, and the other be given a stored answer.
    pub claimless: bool,
    /// Whether a queue accepted its message.
    pub sent: bool,
    /// Whether its caller asked for a notice.
    pub notice: bool,
    /// The worker that sent its first request.
    pub worker: Option<String>,
    /// How many requests of it reached its server.
    pub requests: u32,
    /// When the first of them was read, in microseconds on the servers' clock.
    pub first_request_us: Option<u64>,
    /// When a worker claimed it first, unless that worker had been frozen before, or had tried before.
    pub claimed_us: Option<u64>,
    /// All of them.
    pub attempts: Vec<Attempt>,
    /// How often its tool ran.
    pub executions: u32,
    /// The call whose question it answers, and the call of the round before that it repeats.
    pub resumes: Option<String>,
    /// See `resumes`.
    pub redrives: Option<String>,
    /// How often its server asked a question instead of running its tool.
    pub asked: u32,
    /// How often its server was given its answer, and did not refuse it; and how often another answer than its own.
    pub answers: u32,
    /// See `answers`.
    pub foreign_answers: u32,
    /// How it had ended when a caller read that first, while the run went on.
    pub first_end: Option<OutcomeKind>,
    /// Its tasks that go on until they are cancelled.
    pub endless: Vec<EndlessTask>,
    /// How many tasks of it were cancelled.
    pub tasks_cancelled: u32,
    /// Whether another worker polled a task of it than the one that sent it.
    pub polled_elsewhere: bool,
    /// Whether its server answered one of its requests in no way that says whether the tool ran.
    pub cut_at_server: bool,
    /// Whether a worker that had claimed it was killed or frozen before the end was stored, its lease ran out, or a write of its row failed.
    pub cut_at_worker: bool,
    /// How it ended, if it did.
    pub ended: Option<Ended>,
    /// By when it was to end, in microseconds on the servers' clock: its deadline, or when workers came to what was sent then.
    pub due_us: Option<u64>,
    /// When its first message was sent, in milliseconds since 1970.
    pub enqueued_ms: Option<i64>,
    /// The call whose stored answer it was given, as its record says.
    pub cached_from: Option<String>,
    /// The number of the request whose answer it has, if equal calls may share one.
    pub answer_of: Option<usize>,
    /// The outcomes in its audit records of a call's end.
    pub audits: Vec<OutcomeKind>,
    /// Its other audit records.
    pub other_audits: Vec<AuditKind>,
    /// The outcomes in its notices.
    pub notices: Vec<OutcomeKind>,
}

impl CallSeen {
    /// Whether it ended with that code.
    pub fn ended_with(&self, code: Code) -> bool {
        self.ended.is_some_and(|ended| ended.code == Some(code.as_str()))
    }

    /// Whether something was sent or claimed, and its answer was cut on the way from the server into the table.
    pub const fn answer_cut(&self) -> bool {
        self.cut_at_server || self.cut_at_worker
    }
}

/// A start at the server with a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// When the request was read, in microseconds.
    pub at_us: u64,
    /// How long after its turn that was; none if it had no turn.
    pub delay_us: Option<u64>,
}

/// A value of a limit, and for how long workers may have gone by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InEffect {
    /// The value.
    pub limit: usize,
    /// From when on, in microseconds: an operator began to set it.
    pub from_us: u64,
    /// Until when: every worker knows that another one replaced it.
    pub until_us: u64,
}

/// The starts under a rate limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rated {
    /// The most starts in a second, at each time.
    pub limits: Vec<InEffect>,
    /// The times of the turns that were used, in microseconds, sorted.
    pub turns: Vec<u64>,
    /// The starts at the server, sorted.
    pub starts: Vec<Start>,
}

/// A request that was open at the server with a concurrency limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// When it was read, in microseconds.
    pub from_us: u64,
    /// When its tool was done, in microseconds.
    pub to_us: u64,
    /// Whether a worker sent it right after it had been frozen.
    pub after_freeze: bool,
}

/// The requests under a concurrency limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrow {
    /// The most open requests, at each time.
    pub limits: Vec<InEffect>,
    /// The requests.
    pub requests: Vec<Open>,
}

/// Everything that was seen of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSeen {
    /// Its tenant and id.
    pub id: String,
    /// 1, or the number of the redrive plus 1.
    pub round: u32,
    /// When it is decided.
    pub policy: Policy,
    /// How many members it has.
    pub size: u32,
    /// When it is decided in any case.
    pub deadline: Timestamp,
    /// Whether its caller cancelled it.
    pub cancelled: bool,
    /// By when its cancellation, or the first member after it, was sent, and a call that was sent still later had come to its server, in
    /// microseconds on the servers' clock.
    pub cancelled_us: Option<u64>,
    /// When it was decided, on the same clock.
    pub decided_us: Option<u64>,
    /// By when it was to be decided, on the same clock: its deadline, or when workers came to what was sent then.
    pub due_us: Option<u64>,
    /// When its decision was read first, on the same clock: whoever looked at the group later found it decided.
    pub read_us: Option<u64>,
    /// The members that were planned to be sent, by index.
    pub members: Vec<String>,
    /// The decision as it was read first.
    pub first: Option<Decision>,
    /// The decision in its row at the end.
    pub decision: Option<Decision>,
    /// The members that its row counts as succeeded, and as ended otherwise.
    pub ok: BTreeSet<u32>,
    /// See `ok`.
    pub failed: BTreeSet<u32>,
    /// Its notices.
    pub notices: Vec<GroupNotice>,
}

/// The calls that an operator stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// Those to a server.
    Server(&'static str),
    /// Those of a tenant.
    Tenant(&'static str),
    /// Those that ask the same.
    Question(String),
    /// Those of a tenant that were sent before that time, in milliseconds since 1970: a rule cancels them.
    SentBefore(&'static str, i64),
}

impl Stopped {
    /// Whether that call is one of them.
    pub fn has(&self, call: &CallSeen) -> bool {
        match self {
            Self::Server(server) => *server == call.server,
            Self::Tenant(tenant) => *tenant == call.tenant,
            Self::Question(question) => call.question.as_ref() == Some(question),
            Self::SentBefore(tenant, before_ms) => {
                *tenant == call.tenant && call.enqueued_ms.is_some_and(|sent_ms| sent_ms < *before_ms)
            }
        }
    }
}

/// A period in which an operator stopped calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Which calls.
    pub which: Stopped,
    /// From when on none of them may start, in microseconds on the servers' clock: every worker knows of it.
    pub from_us: u64,
    /// Until when: it ended by itself, or an operator began to end it.
    pub until_us: u64,
}

/// What two callers got who sent the same decided group again at the same time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedriveSeen {
    /// The group's tenant and id.
    pub group: String,
    /// The calls that each of them sent.
    pub sent: Vec<BTreeSet<String>>,
    /// Why one of them could not.
    pub refused: Vec<String>,
}

/// A request that served several calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedRequest {
    /// The name of its server.
    pub server: &'static str,
    /// The calls.
    pub calls: Vec<String>,
}

/// Everything that was seen of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The calls of the plan.
    pub calls: Vec<CallSeen>,
    /// The groups of the plan of which a member was sent.
    pub groups: Vec<GroupSeen>,
    /// The redrives of groups.
    pub redrives: Vec<RedriveSeen>,
    /// The requests that served several calls.
    pub shared: Vec<SharedRequest>,
    /// Ids of executed or audited calls that are not in the plan.
    pub strangers: Vec<String>,
    /// The server with a rate limit.
    pub rated: Rated,
    /// The server with a concurrency limit.
    pub narrow: Narrow,
    /// Messages that are left in the queues of calls, visible or not.
    pub messages_left: u64,
    /// Messages that are left in the dead-letter queue.
    pub dead_letters: u64,
    /// Workers that were told to leave and exited with another code than 0, with their status.
    pub bad_exits: Vec<String>,
    /// Workers that nobody had told to leave and that ended, with their status and what they had logged last.
    pub own_ends: Vec<String>,
    /// What operators stopped.
    pub stops: Vec<Stop>,
    /// Answers that were given after the worker that got the question was killed or frozen.
    pub answers_after_loss: u64,
    /// A message is delivered again within so many microseconds, whoever dies.
    pub redelivered_within_us: u64,
    /// What is to be done for a group is done within so many microseconds, whoever dies: its message is delivered again by then, and is not behind
    /// others any more.
    pub done_within_us: u64,
    /// Leases that ran out in living workers.
    pub lost_leases: u64,
    /// How often each kind of fault of the plan was injected, those that never were included.
    pub injected: BTreeMap<String, u64>,
    /// The same of what depends on calls that reach their servers: what the proxies and the servers did, and the features that were used.
    pub used: BTreeMap<String, u64>,
}
