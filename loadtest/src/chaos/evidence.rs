//! What was seen of a chaos run: by the servers, by the tables, by the proxies and by the callers. Data without behaviour.

use std::collections::BTreeMap;

use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};

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
}

/// Everything that was seen of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallSeen {
    /// Its id.
    pub id: String,
    /// The name of its server.
    pub server: &'static str,
    /// Whether repeating it does no harm.
    pub safe: bool,
    /// Whether a queue accepted its message.
    pub sent: bool,
    /// Whether its caller asked for a notice.
    pub notice: bool,
    /// How many requests of it reached its server.
    pub requests: u32,
    /// How often its tool ran.
    pub executions: u32,
    /// Whether its server answered one of its requests in no way that says whether the tool ran.
    pub cut_at_server: bool,
    /// Whether a worker that had claimed it was killed or frozen before the end was stored, its lease ran out, or a write of its row failed.
    pub cut_at_worker: bool,
    /// How it ended, if it did.
    pub ended: Option<Ended>,
    /// The outcomes in its audit records of a call's end.
    pub audits: Vec<OutcomeKind>,
    /// Its other audit records.
    pub other_audits: Vec<AuditKind>,
    /// The outcomes in its notices.
    pub notices: Vec<OutcomeKind>,
}

impl CallSeen {
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

/// The starts under a rate limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rated {
    /// The most starts in a second.
    pub limit: usize,
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
    /// The most open requests.
    pub limit: usize,
    /// The requests.
    pub requests: Vec<Open>,
}

/// Everything that was seen of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The calls of the plan.
    pub calls: Vec<CallSeen>,
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
    /// Workers that got SIGTERM and exited with another code than 0, with their status.
    pub bad_exits: Vec<String>,
    /// Leases that ran out in living workers.
    pub lost_leases: u64,
    /// How often each kind of fault was injected, those that never were included.
    pub injected: BTreeMap<&'static str, u64>,
}
