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
mod questions;
mod redrives;
mod result;
mod sharing;
mod stops;
mod times;

use std::collections::BTreeMap;

pub use self::kind::{Kind, Violation};
pub use self::result::Account;
use super::evidence::Evidence;

/// A run in which fewer requests reached the servers may lack what depends on them by chance.
const ENOUGH_REQUESTS: u32 = 500;

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
    times::account_late(evidence, &mut account);
    stops::account_stops(evidence, &mut account);
    sharing::account_stored(evidence, &mut account);
    sharing::account_shared(evidence, &mut account);
    sharing::account_batches(evidence, &mut account);
    questions::account_questions(evidence, &mut account);
    groups::account_groups(evidence, &mut account);
    redrives::account_redrives(evidence, &mut account);
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
    for end in &evidence.own_ends {
        account.violation(Kind::EndedByItself, end.clone());
    }
    account_injected(evidence, &mut account);
    account
}

/// Each kind of fault comes in any run. What depends on calls that reach their servers does only where enough of them do: on a machine that is too
/// slow for that, the run proves nothing about what it lacks, and says so.
fn account_injected(evidence: &Evidence, account: &mut Account) {
    let none = |all: &BTreeMap<String, u64>| {
        all.iter().filter(|(_, times)| **times == 0).map(|(what, _)| what.clone()).collect::<Vec<_>>()
    };
    let (mut lacking, unused) = (none(&evidence.injected), none(&evidence.used));
    let requests: u32 = evidence.calls.iter().map(|call| call.requests).sum();
    if requests >= ENOUGH_REQUESTS {
        lacking.extend(unused)
    } else {
        account.unproved = unused
    }
    for what in lacking {
        account.violation(Kind::NotInjected, format!("{what}: none"));
    }
}
