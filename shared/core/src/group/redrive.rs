//! Redrive: the calls of a decided group that did not succeed become the members of its next round, under new ids.
//!
//! **Invariant:** a round has one list of members, that of its first redrive. A redrive that is repeated sends those again, whatever became of
//! the other members meanwhile, so that all of its messages give the round the same size.

use std::collections::{BTreeMap, BTreeSet};

use super::row::GroupRow;
use crate::digest::Digest;
use crate::ids::CallId;
use crate::outcome::{MayHaveRun, Outcome, OutcomeKind};
use crate::request::{CallRequest, Group, MAX_ROUNDS, TimeLimit};
use crate::time::Timestamp;

/// Why a member is left out that did not succeed, and ended after the first redrive.
const NOT_IN_ROUND: &str =
    "it was not in the round's first redrive, and the round's size is set; send it as a call of its own";

/// The longest call id, in bytes.
const LONGEST_ID: usize = 128;

/// What became of a member.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It has ended.
    Ended(Box<Outcome>),
    /// It has a row and has not ended.
    Open,
    /// No worker has received it. Whoever sends it again cancels this one first, so that it never runs.
    Unseen,
}

/// What the first redrive of a round stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The members of the round before it that are sent again, by their index there. Their order is that of the new indexes.
    pub members: BTreeSet<u32>,
    /// The deadline that the redrive gave.
    pub deadline: Option<Timestamp>,
}

/// A redrive: what is sent, and what is not.
#[derive(Debug, Clone)]
pub struct Redriven {
    /// The round that is sent.
    pub round: Round,
    /// The requests of the next round.
    pub requests: Vec<CallRequest>,
    /// The members that are not sent again, and why.
    pub skipped: Vec<Skipped>,
}

/// A member that is not sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its index.
    pub index: u32,
    /// Its call.
    pub call_id: CallId,
    /// Why.
    pub why: &'static str,
}

/// The next round of a group from the requests of its members, each with its outcome, if it has ended, and what an earlier redrive has
/// `stored` of that round. Ids follow from the old ones, so that a redrive that is repeated runs nothing twice.
///
/// # Errors
/// The group is not decided, has had its last round, or the round has another deadline, or members whose requests are not given.
pub fn redrive(
    row: &GroupRow,
    members: Vec<(CallRequest, Fate)>,
    stored: Option<&Round>,
    deadline: Option<Timestamp>,
) -> Result<Redriven, String> {
    let number = row.key.round.saturating_add(1);
    if row.decision.is_none() {
        return Err(format!(
            "group {} is not decided yet; wait for it, or cancel it first, then redrive",
            row.key
        ));
    }
    if number > MAX_ROUNDS {
        return Err(format!(
            "group {} has had {MAX_ROUNDS} rounds; send the calls as a group of a new id",
            row.key
        ));
    }
    if let Some(stored) = stored.filter(|stored| deadline.is_some() && stored.deadline != deadline) {
        let known = stored.deadline.map_or_else(|| "no deadline of its own".to_owned(), |at| at.to_string());
        return Err(format!("deadline: round {number} has {known} since its first redrive; leave it out"));
    }
    let (mut again, mut skipped) = (BTreeMap::new(), Vec::new());
    for (request, fate) in members {
        let Some(index) = request.group.as_deref().map(|group| group.index) else { continue };
        let why = match stored {
            Some(stored) if stored.members.contains(&index) => None,
            Some(_) => Some(kept_back(&request, &fate).unwrap_or(NOT_IN_ROUND)),
            None => kept_back(&request, &fate),
        };
        match why {
            Some(why) => skipped.push(Skipped { index, call_id: request.key.call_id.clone(), why }),
            None => drop(again.insert(index, request)),
        }
    }
    let round =
        stored.cloned().unwrap_or_else(|| Round { members: again.keys().copied().collect(), deadline });
    let missing: Vec<_> =
        round.members.iter().filter(|index| !again.contains_key(index)).map(ToString::to_string).collect();
    if !missing.is_empty() {
        return Err(format!(
            "requests: round {number} has the members {} since its first redrive, and their requests are not given; give those of all members",
            missing.join(", ")
        ));
    }
    let size = u32::try_from(round.members.len()).unwrap_or(u32::MAX);
    let places = (0..).zip(&round.members);
    let sent = places.filter_map(|(place, index)| Some((place, again.remove(index)?)));
    let next = |(place, request)| next(request, row, number, (place, size), round.deadline);
    let requests = sent.map(next).collect::<Result<_, _>>()?;
    Ok(Redriven { round, requests, skipped })
}

/// Why a member is not sent again.
fn kept_back(request: &CallRequest, fate: &Fate) -> Option<&'static str> {
    let outcome = match fate {
        Fate::Unseen => return None,
        Fate::Open => return Some("it has not ended; wait for it or cancel it"),
        Fate::Ended(outcome) => outcome,
    };
    let ran = outcome.error.as_ref().is_none_or(|error| error.may_have_run != MayHaveRun::No);
    match outcome.kind {
        OutcomeKind::Succeeded => Some("it succeeded"),
        OutcomeKind::InputRequired => Some("its server asks for input; resume it"),
        OutcomeKind::ToolError
        | OutcomeKind::Failed
        | OutcomeKind::Refused
        | OutcomeKind::Expired
        | OutcomeKind::TimedOut
        | OutcomeKind::Cancelled
        | OutcomeKind::OutcomeUnknown => (ran && !request.idempotent)
            .then_some("it may have run, and its request does not say `idempotent`"),
    }
}

/// The member's call of the next round.
fn next(
    request: CallRequest,
    row: &GroupRow,
    round: u32,
    (index, size): (u32, u32),
    deadline: Option<Timestamp>,
) -> Result<CallRequest, String> {
    let mut next = request;
    next.key.call_id = next_id(&next.key.call_id, round)?;
    next.idempotency_key = None;
    // A deadline of the last round has passed, and so may the start.
    next.time_limit = next.time_limit.filter(|limit| matches!(limit, TimeLimit::TimeoutMs(_)));
    next.not_before = None;
    let policy = row.terms.policy;
    next.group = next.group.map(|group| Box::new(Group { index, size, round, policy, deadline, ..*group }));
    Ok(next)
}

/// The id of a member in that round: the old one with the round, or a digest of it where that is too long.
fn next_id(id: &CallId, round: u32) -> Result<CallId, String> {
    let text = format!("{id}.r{round}");
    let text = if text.len() <= LONGEST_ID { text } else { Digest::of_text(&text).to_string() };
    CallId::parse(text).map_err(|error| error.to_string())
}
