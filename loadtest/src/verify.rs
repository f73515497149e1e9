//! The verification of a load: every call has one result, one audit record and the executions that it may have, and nothing is left over.
//!
//! Each rule is a [`Check`]. The tests plant a violation of every check and see it found.
//!
//! **Invariant:** pure; only [`AllowedAnomalies`] make an exception to a check.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::process::ExitStatus;

use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::OutcomeKind;

use crate::faults::AllowedAnomalies;
use crate::plan::Planned;

/// A rule of the verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Check {
    /// Every call has a result.
    LostCall,
    /// A call ends with the outcome of its tool.
    WrongOutcome,
    /// A result is the whole answer to its own call.
    WrongResult,
    /// A call has an audit record.
    MissingAudit,
    /// A call has one audit record only.
    ExtraAudit,
    /// The audit record has the outcome of the call.
    WrongAudit,
    /// A call that is not safe to repeat is executed once.
    UnsafeRepeated,
    /// A call that is safe to repeat is executed as often as its tool needs, if no fault was injected.
    SafeRepeated,
    /// A call with a result was executed.
    NeverExecuted,
    /// A call has no more answers than executions.
    TooManyAnswers,
    /// An executed call was sent.
    UnknownExecution,
    /// An audited call was sent.
    UnknownAudit,
    /// No audit record of another kind than a call's end exists, unless it is allowed.
    UnexpectedAudit,
    /// The queue is empty.
    MessagesLeft,
    /// The dead-letter queue is empty.
    DeadLetters,
    /// A worker that gets SIGTERM exits with code 0.
    WorkerExit,
    /// A worker that exits makes its messages visible again.
    MessagesHidden,
    /// All calls end within the time limit.
    NotInTime,
}

impl Check {
    /// Every check.
    pub const ALL: [Self; 18] = [
        Self::LostCall,
        Self::WrongOutcome,
        Self::WrongResult,
        Self::MissingAudit,
        Self::ExtraAudit,
        Self::WrongAudit,
        Self::UnsafeRepeated,
        Self::SafeRepeated,
        Self::NeverExecuted,
        Self::TooManyAnswers,
        Self::UnknownExecution,
        Self::UnknownAudit,
        Self::UnexpectedAudit,
        Self::MessagesLeft,
        Self::DeadLetters,
        Self::WorkerExit,
        Self::MessagesHidden,
        Self::NotInTime,
    ];

    /// Its name in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LostCall => "lost_call",
            Self::WrongOutcome => "wrong_outcome",
            Self::WrongResult => "wrong_result",
            Self::MissingAudit => "missing_audit",
            Self::ExtraAudit => "extra_audit",
            Self::WrongAudit => "wrong_audit",
            Self::UnsafeRepeated => "unsafe_repeated",
            Self::SafeRepeated => "safe_repeated",
            Self::NeverExecuted => "never_executed",
            Self::TooManyAnswers => "too_many_answers",
            Self::UnknownExecution => "unknown_execution",
            Self::UnknownAudit => "unknown_audit",
            Self::UnexpectedAudit => "unexpected_audit",
            Self::MessagesLeft => "messages_left",
            Self::DeadLetters => "dead_letters",
            Self::WorkerExit => "worker_exit",
            Self::MessagesHidden => "messages_hidden",
            Self::NotInTime => "not_in_time",
        }
    }
}

/// A check that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The check.
    pub check: Check,
    /// What was found, with the call or the worker.
    pub detail: String,
}

impl Violation {
    fn new(check: Check, detail: impl Into<String>) -> Self {
        Self { check, detail: detail.into() }
    }

    /// [`Check::WorkerExit`]: a drained worker and its exit status.
    pub fn of_exit(worker: &str, status: ExitStatus) -> Option<Self> {
        let detail = || format!("worker {worker} got SIGTERM and exited with {status}");
        (!status.success()).then(|| Self::new(Check::WorkerExit, detail()))
    }

    /// [`Check::MessagesHidden`]: the queue after the only worker has exited.
    pub fn of_hidden_messages(worker: &str, in_flight: u64, visible: u64) -> Option<Self> {
        let detail = || {
            format!("worker {worker} left {in_flight} messages hidden when it exited ({visible} are visible)")
        };
        (in_flight > 0).then(|| Self::new(Check::MessagesHidden, detail()))
    }

    /// [`Check::NotInTime`]: the load was given up.
    pub fn not_in_time(limit_s: u64, ended: u32, calls: u32) -> Self {
        let detail = format!("given up after {limit_s} s: {ended} of {calls} calls have ended");
        Self::new(Check::NotInTime, detail)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.check.name(), self.detail)
    }
}

/// The end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallEnd {
    /// The outcome.
    pub kind: OutcomeKind,
    /// Whether the stored answer is the whole answer to this call.
    pub own_answer: bool,
}

/// What was observed of a run.
#[derive(Debug, Default)]
pub struct Observed {
    /// The end of each call.
    pub results: HashMap<String, CallEnd>,
    /// The outcomes in the audit records of each call.
    pub audits: HashMap<String, Vec<OutcomeKind>>,
    /// Audit records of other kinds than a call's end.
    pub other_audits: Vec<(AuditKind, String)>,
    /// How often each call was executed.
    pub executions: HashMap<String, u32>,
    /// Messages left in the queue.
    pub messages_left: u64,
    /// Messages in the dead-letter queue.
    pub dead_letters: u64,
    /// The anomalies that injected faults allow.
    pub allowed: AllowedAnomalies,
    /// Violations that were found while the load ran.
    pub during_load: Vec<Violation>,
}

/// Every violation of a check.
pub fn violations(plan: &[Planned], observed: &Observed) -> Vec<Violation> {
    let of_call = |call: &Planned| {
        violation(call, observed).map(|(check, detail)| {
            Violation::new(check, format!("{} ({}): {detail}", call.id, call.tool.name()))
        })
    };
    let mut found: Vec<_> = plan.iter().filter_map(of_call).collect();
    let planned: HashSet<_> = plan.iter().map(|call| call.id.as_str()).collect();
    let unknown = |id: &&String| !planned.contains(id.as_str());
    for id in observed.executions.keys().filter(unknown) {
        found.push(Violation::new(Check::UnknownExecution, format!("`{id}` was executed and never sent")));
    }
    for id in observed.audits.keys().filter(unknown) {
        found.push(Violation::new(Check::UnknownAudit, format!("`{id}` is audited and was never sent")));
    }
    // The SDK of the sender sends a message again if it lost the answer.
    let allowed = |kind: AuditKind, id: &str| {
        let late = kind == AuditKind::LateAnswer && observed.allowed.late_answers;
        (late || kind == AuditKind::Duplicate) && planned.contains(id)
    };
    for (kind, id) in observed.other_audits.iter().filter(|(kind, id)| !allowed(*kind, id)) {
        let detail = format!("`{id}` has an audit record of kind {}", kind.as_str());
        found.push(Violation::new(Check::UnexpectedAudit, detail));
    }
    let queues = [
        (Check::MessagesLeft, observed.messages_left, "the queue"),
        (Check::DeadLetters, observed.dead_letters, "the dead-letter queue"),
    ];
    for (check, count, place) in queues.into_iter().filter(|(_, count, _)| *count != 0) {
        found.push(Violation::new(check, format!("{count} messages are left in {place}")));
    }
    found.extend(observed.during_load.iter().cloned());
    found
}

/// The first violation of a call.
fn violation(call: &Planned, observed: &Observed) -> Option<(Check, String)> {
    let executions = observed.executions.get(&call.id).copied().unwrap_or(0);
    let Some(CallEnd { kind, own_answer }) = observed.results.get(&call.id) else {
        return Some((Check::LostCall, format!("has no result; it was executed {executions} times")));
    };
    // After a fault an unsafe call may end as `outcome_unknown`, because it must not be repeated.
    let faults = observed.allowed.unknown_outcomes;
    let unknown = faults && !call.tool.is_safe() && *kind == OutcomeKind::OutcomeUnknown;
    if *kind != call.tool.ending() && !unknown {
        return Some((Check::WrongOutcome, format!("ended as {kind}, not as {}", call.tool.ending())));
    }
    if !own_answer && !unknown {
        return Some((Check::WrongResult, "has a result that is not the answer to it".into()));
    }
    if let Some(violation) = audit_violation(call, *kind, observed) {
        return Some(violation);
    }
    if executions > call.tool.executions() && (!call.tool.is_safe() || !faults) {
        let check = if call.tool.is_safe() { Check::SafeRepeated } else { Check::UnsafeRepeated };
        return Some((check, format!("was executed {executions} times")));
    }
    let is_late = |(kind, id): &&(AuditKind, String)| *kind == AuditKind::LateAnswer && *id == call.id;
    let late = observed.other_audits.iter().filter(is_late).count();
    let answers = u32::from(*own_answer) + u32::try_from(late).unwrap_or(u32::MAX);
    if observed.allowed.late_answers && answers > executions.max(1) {
        let detail = format!("has {answers} answers with late ones, and was executed {executions} times");
        return Some((Check::TooManyAnswers, detail));
    }
    (executions == 0 && !unknown).then(|| (Check::NeverExecuted, "was never executed".into()))
}

fn audit_violation(call: &Planned, kind: OutcomeKind, observed: &Observed) -> Option<(Check, String)> {
    match observed.audits.get(&call.id).map(Vec::as_slice) {
        Some([audited]) if *audited == kind => None,
        Some([audited]) => Some((Check::WrongAudit, format!("is audited as {audited} and ended as {kind}"))),
        Some([]) | None => Some((Check::MissingAudit, "has no audit record".into())),
        Some(several) => Some((Check::ExtraAudit, format!("has {} audit records", several.len()))),
    }
}
