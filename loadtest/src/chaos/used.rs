//! What a run has injected and used: a kind of which there was none is a violation, since the run proves nothing about it. What depends on calls
//! that reach their servers, and so on chance, is kept apart.

use std::collections::{BTreeMap, HashMap, HashSet};

use toolfleet_core::fleet::LimitPart;
use toolfleet_core::group::GroupResult;
use toolfleet_core::outcome::Code;

use super::evidence::{CallSeen, Evidence, GroupSeen};
use super::fault_proxy::{OF_DYNAMODB, OF_S3, OF_SQS};
use super::ledger::Fate;
use super::plan::{Deadly, Fault, Plan};
use super::rig::Rig;

/// So many rules that cancel calls meet some.
const MANY_RULES: usize = 4;

/// How often each kind of fault of the plan was injected.
pub(super) fn injected(faults: &BTreeMap<Fault, u64>, drained: u64, let_go: u64) -> BTreeMap<String, u64> {
    let times = |fault: &Fault| faults.get(fault).copied().unwrap_or(0);
    let mut all: BTreeMap<String, u64> =
        Fault::ALL.iter().map(|fault| (fault.name().to_owned(), times(fault))).collect();
    all.insert("workers that left after SIGTERM, with exit status 0".to_owned(), drained);
    all.insert("workers that left as the fleet table said, with exit status 0".to_owned(), let_go);
    all
}

/// What the proxies did to requests of workers.
fn of_proxies(rig: &Rig) -> BTreeMap<String, u64> {
    let proxies = [
        ("DynamoDB", &rig.proxies.dynamodb, &OF_DYNAMODB[..]),
        ("SQS", &rig.proxies.sqs, &OF_SQS[..]),
        ("S3", &rig.proxies.s3, &OF_S3[..]),
    ];
    let mut all = BTreeMap::new();
    for (endpoint, proxy, expected) in proxies {
        let name = |what: &str| format!("{endpoint}: {what}");
        all.extend(expected.iter().map(|what| (name(what), 0)));
        all.extend(proxy.counts().into_iter().map(|(what, times)| (name(what), times)));
    }
    all
}

/// What the servers did.
fn of_servers(rig: &Rig) -> Vec<(String, u64)> {
    let ledger = rig.servers.ledger();
    let of = |fate: Fate, ran: bool| ledger.count(|request| request.fate == fate && request.ran == ran);
    let requests = [
        ("requests reset before the tool ran", of(Fate::Reset, false)),
        ("requests reset after the tool ran", of(Fate::Reset, true)),
        ("errors after the tool ran", of(Fate::Unclear, true)),
        ("requests answered 429 or in a lost session", of(Fate::Refused, false)),
        ("requests whose caller hung up while the tool ran", of(Fate::Abandoned, true)),
        ("answers to requests in lost sessions", rig.servers.lost_answers()),
    ];
    let all = requests.map(|(what, times)| (what.to_owned(), times));
    // Few calls meet such a server, so a short run may have none.
    let silent = Some(of(Fate::Abandoned, false)).filter(|times| *times > 0);
    all.into_iter().chain(silent.map(|times| ("requests never answered".to_owned(), times))).collect()
}

/// What messages did that killed their workers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deaths {
    pub(super) workers: u64,
    /// How many of their dead letters an operator sent again.
    pub(super) sent_again: u64,
}

/// What the proxies and the servers did, and how often each feature of the calls was used.
pub(super) async fn used(
    evidence: &Evidence,
    rig: &Rig,
    plan: &Plan,
    deaths: Deaths,
) -> BTreeMap<String, u64> {
    let calls = |of: fn(&CallSeen) -> bool| evidence.calls.iter().filter(|call| of(call)).count() as u64;
    let decided = |result: GroupResult| {
        let of_it = |group: &&GroupSeen| group.decision.is_some_and(|decision| decision.result == result);
        evidence.groups.iter().filter(of_it).count() as u64
    };
    let rounds = |of: fn(&GroupSeen) -> bool| evidence.groups.iter().filter(|group| of(group)).count() as u64;
    let used = [
        ("calls given a stored answer", calls(|call| call.cached_from.is_some())),
        ("requests that served several calls", evidence.shared.len() as u64),
        ("calls whose task another worker polled", calls(|call| call.polled_elsewhere)),
        ("calls whose task was cancelled", calls(|call| call.tasks_cancelled > 0)),
        ("calls replaced by a newer one", calls(|call| call.ended_with(Code::Superseded))),
        ("calls ended by the decision of their group", calls(|call| call.ended_with(Code::GroupDecided))),
        ("questions that a server asked", calls(|call| call.asked > 0)),
        ("answers that a server was given", calls(|call| call.answers > 0)),
        ("groups of members that are sent again", rounds(|group| group.round > 1)),
        ("calls that repeat one of the round before", calls(|call| call.redrives.is_some())),
        ("groups decided as succeeded", decided(GroupResult::Succeeded)),
        ("groups decided as failed", decided(GroupResult::Failed)),
        ("groups decided as incomplete", decided(GroupResult::Incomplete)),
        ("groups decided as cancelled", decided(GroupResult::Cancelled)),
        ("catalogs that running workers took", reloads(rig)),
        ("workers killed by a message that they had received", deaths.workers),
        ("dead letters that an operator sent again", deaths.sent_again),
        ("limits that adapt to their server", adaptive_limits(rig).await),
        ("members of groups that were sent in one request with other calls", batched_members(evidence)),
    ];
    let dead = || calls(|call| call.ended_with(Code::DeadLettered));
    // A short run has none that is left to the workers.
    let left = plan.deadly(Deadly::Left).next().map(|_| ("calls whose dead letters a worker ended", dead()));
    // A rule meets what is open when it is set: one alone may meet nothing.
    let by_rule = calls(|call| call.ended_with(Code::CancelledByOperator));
    let rules = plan.events.iter().filter(|event| event.fault == Fault::CancelRule).count();
    let by_rule =
        (by_rule > 0 || rules >= MANY_RULES).then_some(("calls that an operator's rule cancelled", by_rule));
    let used = used.into_iter().chain(left).chain(by_rule).map(|(what, times)| (what.to_owned(), times));
    used.chain(of_servers(rig)).chain(of_proxies(rig)).collect()
}

/// The adaptive limits that the fleet's summary lists.
async fn adaptive_limits(rig: &Rig) -> u64 {
    let summary = rig.client.summary().await.ok().flatten();
    let is_adaptive =
        |name: &&String| LimitPart::split(name).is_some_and(|(_, part)| part == LimitPart::Adaptive);
    summary.map_or(0, |summary| summary.limits.keys().filter(is_adaptive).count() as u64)
}

/// How often a worker says in its log that it has taken a changed catalog.
fn reloads(rig: &Rig) -> u64 {
    let log = rig.bed.folder.log().unwrap_or_default();
    log.lines().filter(|line| line.contains(r#""code":"catalog_taken""#)).count() as u64
}

fn batched_members(evidence: &Evidence) -> u64 {
    let members: HashSet<_> = evidence.groups.iter().flat_map(|group| &group.members).collect();
    let calls = evidence.shared.iter().flat_map(|request| &request.calls);
    calls.filter(|call| members.contains(call)).count() as u64
}

/// Answers that were given by another worker than the one that was asked.
pub(super) fn elsewhere(evidence: &Evidence) -> u64 {
    let worker: HashMap<_, _> =
        evidence.calls.iter().filter_map(|call| Some((call.id.as_str(), call.worker.as_deref()?))).collect();
    let is_elsewhere = |call: &&CallSeen| {
        let asked = call.resumes.as_deref().and_then(|asked| worker.get(asked).copied());
        call.answers > 0 && asked.is_some() && asked != call.worker.as_deref()
    };
    evidence.calls.iter().filter(is_elsewhere).count() as u64
}
