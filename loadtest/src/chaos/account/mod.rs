//! The accounting of a chaos run: evidence in, violations out.
//!
//! A call is *cut* if it was sent or claimed, and what became of it did not get from its server into the table: the server gave no clear
//! answer, its worker was killed or frozen, its lease ran out, or a write of its row failed. Only of such a call may nobody know whether it ran.
//!
//! **Invariant:** pure. Every kind of violation has a plant (`plant`), and the tests see each of them found.

mod calls;
mod groups;
mod kind;
mod limits;
mod sharing;
mod times;

use std::collections::BTreeMap;

pub use self::kind::{Kind, Violation};
use super::evidence::Evidence;

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
    /// Calls that were given a stored answer.
    pub stored: u64,
    /// How many groups were decided how.
    pub groups: BTreeMap<&'static str, u32>,
    /// Members that succeeded after their group was decided.
    pub late_successes: u64,
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
        calls::account_call(call, &mut account);
    }
    for stranger in &evidence.strangers {
        account
            .violation(Kind::Stranger, format!("`{stranger}` was executed or audited, and was never sent"));
    }
    times::account_early(evidence, &mut account);
    times::account_replaced(evidence, &mut account);
    sharing::account_stored(evidence, &mut account);
    sharing::account_shared(evidence, &mut account);
    sharing::account_batches(evidence, &mut account);
    groups::account_groups(evidence, &mut account);
    limits::account_rate(&evidence.rated, &mut account);
    limits::account_concurrency(&evidence.narrow, &mut account);
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
