//! The rules of questions: a tool runs only for the call that brings its answer, and an answer is neither lost nor given twice.

use toolfleet_core::outcome::{Code, OutcomeKind};

use super::kind::Kind;
use super::result::Account;
use crate::chaos::evidence::{CallSeen, Evidence};
use crate::chaos::plan::Server;

/// Accounts for the calls that were asked, and for those that answer.
pub(super) fn account_questions(evidence: &Evidence, account: &mut Account) {
    for call in &evidence.calls {
        account_call(call, account);
    }
}

fn account_call(call: &CallSeen, account: &mut Account) {
    let id = &call.id;
    let mut violation = |kind, detail| account.violation(kind, detail);
    let asks = call.server == Server::Asking.name() && call.resumes.is_none();
    if asks && call.executions > 0 {
        violation(
            Kind::RanUnanswered,
            format!("`{id}` brought no answer, and ran {} times", call.executions),
        );
    }
    let waits = call.ended.is_some_and(|ended| ended.kind == OutcomeKind::InputRequired);
    if waits && call.asked == 0 {
        violation(
            Kind::AskedByNobody,
            format!("`{id}` ended as input_required, and its server asked nothing"),
        );
    }
    if let Some(asked) = &call.resumes
        && call.ended_with(Code::NotResumable)
    {
        violation(Kind::AnswerLost, format!("`{id}` answers `{asked}`, which asked, and was refused"));
    }
    if call.answers > 1 && !call.safe {
        violation(Kind::AnsweredTwice, format!("`{id}`: its answer was given {} times", call.answers));
    }
    if call.foreign_answers > 0 {
        violation(
            Kind::MixedAnswer,
            format!("`{id}`: its server was given another state or answer than its own"),
        );
    }
}
