//! The rules of one call: executions, outcome, answer, audit records and notices.

use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};

use super::kind::Kind;
use super::result::Account;
use crate::chaos::evidence::{CallSeen, Ended, EndlessTask};

/// A worker reads an answer so much later at most than its server has written it.
const READ_LATER_US: u64 = 2_000_000;

pub(super) fn account_call(call: &CallSeen, account: &mut Account) {
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
        None if call.sent => {
            let (server, requests) = (call.server, call.requests);
            account.violation(Kind::Lost, format!("`{id}` has no outcome: {server}, {requests} requests"));
        }
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
        if call.executions == 0 && call.cached_from.is_none() {
            account.violation(Kind::NeverRan, format!("`{id}` ended as {kind}, and never ran"));
        }
        if !ended.own_answer {
            account.violation(Kind::WrongAnswer, format!("`{id}` has another call's answer"));
        }
    }
    account_tasks(call, ended, account);
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

/// A call that ends before its task cancels it, if its worker learnt of the task.
fn account_tasks(call: &CallSeen, ended: Ended, account: &mut Account) {
    let is_left = |task: &&EndlessTask| !task.cancelled && !call.answer_cut();
    for task in call.endless.iter().filter(is_left) {
        if is_unread(task, ended) {
            account.unread_tasks += 1;
            continue;
        }
        let handed = task.handed_us.map_or(0, |at_us| at_us / 1_000);
        let known = if task.known { "a worker had stored its name" } else { "no worker had stored its name" };
        let detail = format!(
            "`{}` ended as {} at {} ms; its {}, handed over at {handed} ms, goes on: {known}",
            call.id,
            ended.kind,
            ended.at_us / 1_000,
            task.id
        );
        account.violation(Kind::TaskLeft, detail);
    }
}

/// Whether the call ended before its worker read that it had become a task: at its deadline, or because it was cancelled. Nobody can name such a
/// task to its server, so the outcome says that the call may have run.
fn is_unread(task: &EndlessTask, ended: Ended) -> bool {
    let in_time = |handed_us: u64| ended.at_us >= handed_us + READ_LATER_US;
    let is_told = matches!(ended.may_have_run, Some(MayHaveRun::Unknown | MayHaveRun::Yes));
    !task.known && is_told && !task.handed_us.is_some_and(in_time)
}
