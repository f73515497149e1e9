//! The accounting of a chaos run: evidence in, violations out.
//!
//! A call is *cut* if it was sent or claimed, and what became of it did not get from its server into the table: the server gave no clear
//! answer, its worker was killed or frozen, its lease ran out, or a write of its row failed. Only of such a call may nobody know whether it ran.
//!
//! **Invariant:** pure. Every kind of violation has a plant (`plant`), and the tests see each of them found.

use std::collections::BTreeMap;
use std::fmt;

use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};

use super::evidence::{CallSeen, Ended, Evidence, Narrow, Rated};
use crate::flow::counts::{most_at_once, over};
use crate::flow::turns;

/// The delays between turn and server may differ by so much without a start over the rate at the server.
const DELAY_VARIATION_US: u64 = 50_000;

/// A rule of the accounting, named after what breaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// A call that a queue accepted has no outcome.
    Lost,
    /// A call that is not safe to repeat was executed more than once.
    UnsafeRepeat,
    /// A call ended as `outcome_unknown`, and was not cut.
    UnknownNotCut,
    /// A call's outcome says that it did not run, and it ran.
    RanAfterAll,
    /// A call has an answer, and did not run.
    NeverRan,
    /// A call has the answer to another call.
    WrongAnswer,
    /// A call that has ended has no audit record.
    MissingAudit,
    /// A call has several audit records of its end.
    ExtraAudit,
    /// A call's audit record has another outcome than its row.
    WrongAudit,
    /// A late answer was recorded for a call that was not cut.
    LateAnswer,
    /// An audit record is of a kind that no call of the run gives a reason for.
    UnexpectedAudit,
    /// A call that has ended has no notice, and its caller asked for one.
    NoticeLost,
    /// A notice has another outcome than the row.
    WrongNotice,
    /// A call was executed or audited that nobody sent.
    Stranger,
    /// More turns were used in a second than the rate allows.
    OverRateByTurn,
    /// A request was sent under a rate limit without a turn.
    StartWithoutTurn,
    /// More calls started in a second than the rate allows, although their delays hardly differ.
    OverRate,
    /// More requests were open than the limit allows.
    OverConcurrency,
    /// Messages are left in the queues.
    MessagesLeft,
    /// Messages are left in the dead-letter queue.
    DeadLetters,
    /// A worker that got SIGTERM exited with another code than 0.
    BadExit,
    /// A fault of the plan was never injected, so the run proves nothing about it.
    NotInjected,
}

impl Kind {
    /// Its name on the command line and in a report.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub kind: Kind,
    /// What was found, with the call's id.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.kind.name(), self.detail)
    }
}

/// The result of the accounting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// The broken rules.
    pub violations: Vec<Violation>,
    /// The calls that ended as `outcome_unknown`.
    pub unknown: Vec<String>,
    /// The calls that are not safe to repeat and were cut.
    pub cut: Vec<String>,
    /// How many calls of each server ended how.
    pub outcomes: BTreeMap<&'static str, BTreeMap<&'static str, u32>>,
    /// Executions beyond the first of calls that are safe to repeat.
    pub safe_repeats: u64,
    /// Late answers that were recorded.
    pub late_answers: u64,
    /// Requests over a limit that a worker sent right after it had been frozen.
    pub after_freeze: u64,
    /// Starts over the rate at the server that the delays after their turns explain.
    pub late_starts: u64,
}

impl Account {
    fn violation(&mut self, kind: Kind, detail: impl Into<String>) {
        self.violations.push(Violation { kind, detail: detail.into() });
    }
}

/// Accounts for every call and for the run as a whole.
pub fn account(evidence: &Evidence) -> Account {
    let mut account = Account::default();
    for call in &evidence.calls {
        account_call(call, &mut account);
    }
    for stranger in &evidence.strangers {
        account
            .violation(Kind::Stranger, format!("`{stranger}` was executed or audited, and was never sent"));
    }
    account_rate(&evidence.rated, &mut account);
    account_concurrency(&evidence.narrow, &mut account);
    if evidence.messages_left > 0 {
        account.violation(Kind::MessagesLeft, format!("{} messages are left", evidence.messages_left));
    }
    if evidence.dead_letters > 0 {
        account.violation(Kind::DeadLetters, format!("{} dead letters are left", evidence.dead_letters));
    }
    for exit in &evidence.bad_exits {
        account.violation(Kind::BadExit, exit.clone());
    }
    for (fault, _) in evidence.injected.iter().filter(|(_, times)| **times == 0) {
        account.violation(Kind::NotInjected, format!("{fault}: none"));
    }
    account
}

fn account_call(call: &CallSeen, account: &mut Account) {
    let id = &call.id;
    if call.answer_cut() && !call.safe {
        account.cut.push(id.clone());
    }
    if call.executions > 1 {
        if call.safe {
            account.safe_repeats += u64::from(call.executions - 1);
        } else {
            account.violation(Kind::UnsafeRepeat, format!("`{id}` was executed {} times", call.executions));
        }
    }
    for kind in &call.other_audits {
        match kind {
            // A sender that got no answer sends its message again; so does one that is planned to.
            AuditKind::Duplicate | AuditKind::Switch => {}
            AuditKind::LateAnswer if call.answer_cut() => account.late_answers += 1,
            AuditKind::LateAnswer => {
                account.violation(Kind::LateAnswer, format!("`{id}` has a late answer and was not cut"));
            }
            AuditKind::Call
            | AuditKind::IdempotencyMismatch
            | AuditKind::Undecodable
            | AuditKind::TenantNotAllowed => {
                account.violation(Kind::UnexpectedAudit, format!("`{id}` has the record {}", kind.as_str()));
            }
        }
    }
    match call.ended {
        Some(ended) => account_end(call, ended, account),
        None if call.sent => account.violation(Kind::Lost, format!("`{id}` has no outcome")),
        None => {}
    }
}

/// The rules of a call that has ended.
fn account_end(call: &CallSeen, ended: Ended, account: &mut Account) {
    let (id, kind) = (&call.id, ended.kind);
    *account.outcomes.entry(call.server).or_default().entry(kind.as_str()).or_default() += 1;
    if kind == OutcomeKind::OutcomeUnknown {
        account.unknown.push(id.clone());
        if !call.answer_cut() {
            let code = ended.code.unwrap_or_default();
            let detail =
                format!("`{id}` is unknown ({code}): {} requests, each with a clear answer", call.requests);
            account.violation(Kind::UnknownNotCut, detail);
        }
    }
    if ended.may_have_run == Some(MayHaveRun::No) && call.executions > 0 {
        let detail = format!("`{id}` ended as {kind} and did not run, and ran {} times", call.executions);
        account.violation(Kind::RanAfterAll, detail);
    }
    if matches!(kind, OutcomeKind::Succeeded | OutcomeKind::ToolError) {
        if call.executions == 0 {
            account.violation(Kind::NeverRan, format!("`{id}` ended as {kind}, and never ran"));
        }
        if !ended.own_answer {
            account.violation(Kind::WrongAnswer, format!("`{id}` has another call's answer"));
        }
    }
    match call.audits.as_slice() {
        [] => account.violation(Kind::MissingAudit, format!("`{id}` ended as {kind}, without a record")),
        [audit] if *audit == kind => {}
        [audit] => {
            account.violation(Kind::WrongAudit, format!("`{id}` ended as {kind}; its record says {audit}"));
        }
        many => account.violation(Kind::ExtraAudit, format!("`{id}` has {} records of its end", many.len())),
    }
    if call.notice && call.notices.is_empty() {
        account.violation(Kind::NoticeLost, format!("`{id}` ended as {kind}, without the notice asked for"));
    }
    if let Some(other) = call.notices.iter().find(|notice| **notice != kind) {
        account.violation(Kind::WrongNotice, format!("`{id}` ended as {kind}; a notice says {other}"));
    }
}

fn account_rate(rated: &Rated, account: &mut Account) {
    let Rated { limit, turns, starts } = rated;
    let over_by_turn = over(turns, *limit).len();
    if over_by_turn > 0 {
        account.violation(Kind::OverRateByTurn, format!("{over_by_turn} turns beyond {limit} in a second"));
    }
    let without = starts.iter().filter(|start| start.delay_us.is_none()).count();
    if without > 0 {
        account.violation(Kind::StartWithoutTurn, format!("{without} starts without a turn"));
    }
    let times: Vec<_> = starts.iter().map(|start| start.at_us).collect();
    for last in over(&times, *limit) {
        // A start is over only if it and the `limit` starts before it came within a second.
        let window = starts.get(last.saturating_sub(*limit)..=last).unwrap_or_default();
        let delays: Vec<_> = window.iter().map(|start| start.delay_us).collect();
        match turns::variation(&delays) {
            Some(variation) if variation > DELAY_VARIATION_US => account.late_starts += 1,
            Some(_) | None => {
                account.violation(Kind::OverRate, format!("more than {limit} starts in a second at {last}"))
            }
        }
    }
}

fn account_concurrency(narrow: &Narrow, account: &mut Account) {
    let spans = |with_frozen: bool| {
        let requests = narrow.requests.iter().filter(|open| with_frozen || !open.after_freeze);
        most_at_once(&requests.map(|open| (open.from_us, open.to_us)).collect::<Vec<_>>())
    };
    let (most, with_frozen) = (spans(false), spans(true));
    if most > narrow.limit {
        account
            .violation(Kind::OverConcurrency, format!("{most} requests open at once, of {}", narrow.limit));
    }
    account.after_freeze += u64::try_from(with_frozen.saturating_sub(most.max(narrow.limit))).unwrap_or(0);
}
