//! Lets a call take its index in its group.
//!
//! The call that comes first makes the group's row and sends the group's timer. Its message is deleted only after the row says that the
//! timer was sent, so each group has one.

use std::collections::{BTreeMap, BTreeSet};

use toolfleet_aws::AwsError;
use toolfleet_aws::queue::Outgoing;
use toolfleet_core::digest::Digest;
use toolfleet_core::group::{
    Decider, Decision, GroupMessage, GroupRow, Join, LONGEST_HOP_MS, Occasion, Place, Terms, decide, join,
};
use toolfleet_core::ids::CallKey;
use toolfleet_core::message_attributes::GROUP;
use toolfleet_core::request::{Group, Reply};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::Timestamp;

use super::decide_group::{decide_at_deadline, notify_decided, write_decision};
use super::inbound::InboundCall;
use super::steps::Step;
use crate::context::WorkerContext;

/// The default of a group's deadline after that of the member that comes first: storing its end may take a lease longer.
const AFTER_FIRST_MS: u64 = 60_000;
/// A call makes the row, sends the timer and takes its index, and another one may be faster each time.
const MAX_ROUNDS: u32 = 8;

/// What the call of a message is to its group, as far as that has a row.
pub(super) enum Entered {
    Member,
    Decided(Box<GroupRow>, Decision),
    Mismatch(String),
}

/// A call, its place, and what it would make of its group.
#[derive(Clone, Copy)]
pub(super) struct Entrant<'a> {
    pub(super) key: &'a CallKey,
    pub(super) group: &'a Group,
    pub(super) reply: Option<&'a Reply>,
    pub(super) deadline: Timestamp,
    /// Whether it has ended, and enters to be counted.
    pub(super) has_ended: bool,
}

/// Lets the call take its index. A delivery that has joined is not asked again.
pub(super) async fn enter(
    context: &WorkerContext,
    inbound: &InboundCall,
    entrant: Entrant<'_>,
) -> Result<Entered, AwsError> {
    let Entrant { key: CallKey { tenant, call_id }, group, .. } = entrant;
    let (key, place) = (group.key(tenant), Place { call: call_id, group });
    let expires_at = inbound.enqueued_at.plus_ms(RETENTION_MS).whole_s();
    let mut looked = false;
    for _ in 0..MAX_ROUNDS {
        let (row, binding) = context.fleet.group_at(&key, group.index).await?;
        if let Some(row) = row.as_ref().filter(|row| !looked && row.may_be_cancelled_ahead()) {
            looked = true;
            if cancel_as_asked(context, row).await? {
                continue;
            }
        }
        // One that has ended is counted first: it may be the last that its group waits for.
        if let Some(row) = row.as_ref().filter(|_| !entrant.has_ended)
            && decide_at_deadline(context, row).await?.is_some()
        {
            continue;
        }
        match (join(row.as_ref(), &binding, place), row) {
            (Join::Mismatch(text), _) => return Ok(Entered::Mismatch(text)),
            (Join::Create, _) | (_, None) => {
                let row = first_row(entrant, expires_at);
                if context.fleet.make_group(&row).await? {
                    context.steps.passed(Step::GroupMade).await;
                }
            }
            (Join::Decided(decision), Some(row)) => return Ok(Entered::Decided(Box::new(row), decision)),
            (Join::SendTimer, Some(row)) => send_timer(context, &row).await?,
            (Join::Bind, Some(_)) => {
                if context.fleet.bind_member(&key, group.index, call_id, expires_at).await? {
                    context.steps.passed(Step::MemberBound).await;
                }
            }
            (Join::Member, Some(_)) => {
                inbound.joined();
                return Ok(Entered::Member);
            }
        }
    }
    Err(AwsError::passing(format!("the row of group {key} changes at each look")))
}

/// The row that the first member makes.
fn first_row(entrant: Entrant<'_>, expires_at: Timestamp) -> GroupRow {
    let Entrant { key: CallKey { tenant, call_id }, group, reply, deadline, .. } = entrant;
    // As it is said, allowed or not: members that say the same fit, and the list is looked at when the notice is sent.
    let reply = group.reply.as_ref().or(reply).and_then(Reply::sqs_queue_url);
    let terms = Terms {
        size: group.size,
        policy: group.policy,
        deadline: group.deadline.unwrap_or_else(|| deadline.plus_ms(AFTER_FIRST_MS)),
        reply: reply.map(str::to_owned),
    };
    GroupRow {
        key: group.key(tenant),
        terms,
        made_by: call_id.clone(),
        timer_sent: false,
        ok: BTreeSet::new(),
        failed: BTreeSet::new(),
        decision: None,
        notified: false,
        expires_at,
    }
}

/// Decides a group that was cancelled before a member was received, and sends its notice. False if it was not.
async fn cancel_as_asked(context: &WorkerContext, row: &GroupRow) -> Result<bool, AwsError> {
    if !context.fleet.is_cancelled_ahead(&row.key).await? {
        return Ok(false);
    }
    match decide(row, Occasion::Cancel, context.now()) {
        Some(due) => {
            write_decision(context, row, due).await?;
        }
        None => notify_decided(context, row, Decider::Cancel).await?,
    }
    Ok(true)
}

/// Sends the timer, then notes it. After a crash in between, a second timer is sent: the decision is written once all the same.
///
/// It goes to the queue of urgent messages, so that it waits behind no backlog.
async fn send_timer(context: &WorkerContext, row: &GroupRow) -> Result<(), AwsError> {
    let deadline = row.terms.deadline;
    let timer = GroupMessage::timer(row.key.clone(), deadline);
    let left_ms = deadline.ms_since(context.now()).min(LONGEST_HOP_MS);
    let queue = context.queues.urgent();
    let fifo = queue.is_fifo();
    // In a FIFO queue the timer is hidden until it is due, and must not hide the tenant's calls.
    let of_its_own = || format!("timer-{}", Digest::of_text(&row.key.to_string()).short(32));
    let message = Outgoing {
        body: timer.encode(),
        delay_s: u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX),
        group: Some(if fifo { of_its_own() } else { row.key.tenant.to_string() }),
        attributes: BTreeMap::from([(GROUP.to_owned(), "timer".to_owned())]),
        deduplication: None,
    };
    queue.send(message).await?;
    context.steps.passed(Step::TimerSent).await;
    context.fleet.note_timer(&row.key).await
}
