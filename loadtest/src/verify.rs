//! Owns the verification: every call has one result, one audit record and the executions it may have, and nothing else is there.
//!
//! **Invariant:** pure; what is not as it should be is named, and nothing is excused that the contract does not excuse.

use std::collections::{HashMap, HashSet};

use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::OutcomeKind;

use crate::faults::AllowedAnomalies;
use crate::plan::Planned;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// As what.
    pub kind: OutcomeKind,
    /// Whether the stored answer is the whole answer to this very call.
    pub own_answer: bool,
}

/// What was seen of a run.
#[derive(Debug, Default)]
pub struct Observed {
    /// How each call ended.
    pub results: HashMap<String, End>,
    /// How each audit record of a call says it ended.
    pub audits: HashMap<String, Vec<OutcomeKind>>,
    /// Audit records of anything but a call's end.
    pub other_audits: Vec<(AuditKind, String)>,
    /// How often each call was executed.
    pub executions: HashMap<String, u32>,
    /// Messages left in the queue.
    pub left: u64,
    /// Messages in the dead-letter queue.
    pub dead: u64,
    /// What deaths on purpose excuse.
    pub allowed: AllowedAnomalies,
    /// What seemed wrong from outside while the load ran, such as a worker that did not leave with code 0.
    pub incidents: Vec<String>,
}

/// Everything that is not as it should be.
pub fn problems(plan: &[Planned], seen: &Observed) -> Vec<String> {
    let mut wrong: Vec<_> = plan
        .iter()
        .filter_map(|call| problem(call, seen).map(|p| format!("{} ({}): {p}", call.id, call.tool.name())))
        .collect();
    let planned: HashSet<_> = plan.iter().map(|call| call.id.as_str()).collect();
    let stranger = |id: &&String| !planned.contains(id.as_str());
    let executed = seen.executions.keys().filter(stranger);
    wrong.extend(executed.map(|id| format!("`{id}` was executed and nobody called it")));
    let audited = seen.audits.keys().filter(stranger);
    wrong.extend(audited.map(|id| format!("`{id}` is audited and nobody called it")));
    // The driver's own SDK sends a message again whose answer it lost.
    let excused = |kind: AuditKind, id: &str| {
        let late = kind == AuditKind::LateAnswer && seen.allowed.late_answers;
        (late || kind == AuditKind::Duplicate) && planned.contains(id)
    };
    let others = seen.other_audits.iter().filter(|(kind, id)| !excused(*kind, id));
    wrong.extend(others.map(|(kind, id)| format!("`{id}` has an audit record of kind {}", kind.as_str())));
    for (count, place) in [(seen.left, "the queue"), (seen.dead, "the dead-letter queue")] {
        if count != 0 {
            wrong.push(format!("{count} messages are left in {place}"));
        }
    }
    wrong.extend(seen.incidents.iter().cloned());
    wrong
}

fn problem(call: &Planned, seen: &Observed) -> Option<String> {
    let executions = seen.executions.get(&call.id).copied().unwrap_or(0);
    let Some(End { kind, own_answer }) = seen.results.get(&call.id) else {
        return Some(format!("has no result; it was executed {executions} times"));
    };
    // A dead worker leaves a doubt about a call that is not safe to repeat: said, not repeated.
    let allowed = seen.allowed.doubts;
    let doubt = allowed && !call.tool.is_safe() && *kind == OutcomeKind::OutcomeUnknown;
    if *kind != call.tool.ending() && !doubt {
        return Some(format!("ended as {kind}, not as {}", call.tool.ending()));
    }
    if !own_answer && !doubt {
        return Some("has a result that is not the answer to it".into());
    }
    match seen.audits.get(&call.id).map(Vec::as_slice) {
        Some([audited]) if audited == kind => {}
        Some([audited]) => return Some(format!("is audited as {audited} and ended as {kind}")),
        Some(several) => return Some(format!("has {} audit records", several.len())),
        None => return Some("has no audit record".into()),
    }
    let late = seen.other_audits.iter().filter(|(kind, id)| *kind == AuditKind::LateAnswer && *id == call.id);
    let answers = u32::from(*own_answer) + u32::try_from(late.count()).unwrap_or(u32::MAX);
    if executions > call.tool.executions() && (!call.tool.is_safe() || !allowed) {
        return Some(format!("was executed {executions} times"));
    }
    if seen.allowed.late_answers && answers > executions.max(1) {
        return Some(format!(
            "has {answers} answers, late ones included, and was executed {executions} times"
        ));
    }
    (executions == 0 && !doubt).then(|| "was never executed".into())
}
