//! Sends decided groups again, as `toolfleet group redrive` does: two callers at the same time, who do not know of each other.
//!
//! **Invariant:** a redrive is repeated until it succeeds, as an operator does, and all of its tries name one deadline.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use toolfleet_client::{CallStatus, GroupError, GroupRedrive};
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::{CallRequest, GroupKey};
use toolfleet_core::time::Timestamp;

use super::callers::{Callers, Sent, until_accepted};
use super::decisions::Decisions;
use super::evidence::RedriveSeen;
use super::plan::{ChaosCall, Round};

/// How often a decision is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// A group that is decided so long after the last call was sent is left as it is: its next round would make the run longer.
const LATEST: Duration = Duration::from_secs(2);
/// The pause before a redrive is tried again, and how often it may be refused: a member that starts meanwhile makes it fail.
const AGAIN: Duration = Duration::from_millis(200);
const TRIES: u32 = 50;
/// From a redrive to the deadline of its round.
const ROUND: Duration = Duration::from_secs(10);

/// A group that was sent again.
struct Redriven {
    /// Its next round; none if nothing had to be sent again.
    round: Option<Round>,
    /// What the callers got.
    seen: RedriveSeen,
    /// How members had ended before.
    ends: HashMap<String, OutcomeKind>,
}

/// Sends the calls of the plan, and decided groups again.
pub(super) async fn send_all(callers: &Callers, decisions: &Decisions) -> anyhow::Result<Sent> {
    let (mut sent, all) = tokio::try_join!(callers.send_all(decisions), redrive_all(callers, decisions))?;
    for redriven in all {
        let members = redriven.round.iter().flat_map(|round| &round.members);
        sent.ids.extend(members.map(|(_, new)| new.clone()));
        sent.ends.extend(redriven.ends);
        sent.redrives.push(redriven.seen);
        sent.rounds.extend(redriven.round);
    }
    Ok(sent)
}

/// Sends the groups of the plan again that are meant to be.
async fn redrive_all(callers: &Callers, decisions: &Decisions) -> anyhow::Result<Vec<Redriven>> {
    let (mut redriving, mut redriven) = (JoinSet::new(), Vec::new());
    for (position, group) in callers.plan.groups.iter().enumerate() {
        if group.redriven_after.is_some() {
            redriving.spawn(redrive(callers.clone(), decisions.clone(), position));
        }
    }
    while let Some(done) = redriving.join_next().await {
        redriven.extend(done??);
    }
    Ok(redriven)
}

async fn redrive(
    callers: Callers,
    decisions: Decisions,
    position: usize,
) -> anyhow::Result<Option<Redriven>> {
    let Some(group) = callers.plan.groups.get(position) else { return Ok(None) };
    let key = group.key()?;
    let last = callers.plan.calls.last().map(|call| call.at).unwrap_or_default();
    let until = callers.start + last + LATEST;
    while decisions.first(&key).is_none() {
        if Instant::now() > until {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(group.redriven_after.unwrap_or_default()).await;
    let is_member = |call: &&ChaosCall| call.group.is_some_and(|place| place.group == position);
    let members: Vec<_> = callers.plan.calls.iter().filter(is_member).collect();
    let keys: Vec<_> = members.iter().map(|call| Callers::key(call)).collect::<anyhow::Result<_>>()?;
    let requests: Vec<_> = members.iter().map(|call| callers.request(call)).collect::<anyhow::Result<_>>()?;
    let ends = ends(&callers, &keys).await?;
    let sent = callers.start.elapsed();
    let deadline = callers.instant(sent + ROUND);
    let one = || until_redriven(&callers, &key, &requests, deadline);
    let (first, second) = tokio::join!(one(), one());
    let mut seen = RedriveSeen { group: key.to_string(), ..RedriveSeen::default() };
    let mut members = Vec::new();
    for redriven in [first, second] {
        match redriven {
            Ok(redriven) => {
                seen.sent.push(ids(&redriven.requests));
                if members.is_empty() {
                    members = pairs(&redriven, &requests);
                }
            }
            Err(why) => seen.refused.push(why),
        }
    }
    let round = (!members.is_empty()).then(|| {
        decisions.follow(GroupKey { round: key.round + 1, ..key.clone() }, Instant::now());
        Round { group: position, sent, deadline: sent + ROUND, members }
    });
    Ok(Some(Redriven { round, seen, ends }))
}

/// How the calls that have ended did.
async fn ends(callers: &Callers, keys: &[CallKey]) -> anyhow::Result<HashMap<String, OutcomeKind>> {
    let statuses = until_accepted(|| callers.client.status_many(keys)).await?;
    let end = |(key, status): (&CallKey, CallStatus)| match status {
        CallStatus::Ended(result) => Some((key.call_id.to_string(), result.outcome.kind)),
        CallStatus::Unknown | CallStatus::Open(_) | CallStatus::Unreadable(_) => None,
    };
    Ok(keys.iter().zip(statuses).filter_map(end).collect())
}

/// Tries it until it succeeds; the last reason if it never does.
async fn until_redriven(
    callers: &Callers,
    key: &GroupKey,
    requests: &[CallRequest],
    deadline: Timestamp,
) -> Result<GroupRedrive, String> {
    let mut tries = 0;
    loop {
        let why = match callers.client.redrive_group(key, requests.to_vec(), Some(deadline)).await {
            Ok(redriven) => return Ok(redriven),
            // Endpoints that are restarted answer again.
            Err(GroupError::Aws(error)) if !error.is_permanent() => None,
            Err(refused) => Some(refused.to_string()),
        };
        tries += u32::from(why.is_some());
        match why {
            Some(why) if tries >= TRIES => return Err(why),
            Some(_) | None => tokio::time::sleep(AGAIN).await,
        }
    }
}

fn ids(requests: &[CallRequest]) -> BTreeSet<String> {
    requests.iter().map(|request| request.key.call_id.to_string()).collect()
}

/// Each new call with the one that it repeats, by the new index: new ids begin with the old ones.
fn pairs(redriven: &GroupRedrive, requests: &[CallRequest]) -> Vec<(String, String)> {
    let old_of = |new: &str| {
        let olds = requests.iter().map(|request| request.key.call_id.as_str());
        olds.filter(|old| new.strip_prefix(old).is_some_and(|rest| rest.starts_with('.')))
            .map(str::to_owned)
            .next()
    };
    let mut again: Vec<_> = redriven.requests.iter().collect();
    again.sort_by_key(|request| request.group.as_ref().map(|group| group.index));
    let ids = again.into_iter().map(|request| request.key.call_id.to_string());
    ids.filter_map(|new| Some((old_of(&new)?, new))).collect()
}
