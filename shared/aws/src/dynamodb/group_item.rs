//! The item of a group. The members that have ended are two number sets, to which DynamoDB adds without a read.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use toolfleet_core::group::{Decider, Decision, GroupResult, GroupRow, Round, Terms};
use toolfleet_core::ids::CallId;
use toolfleet_core::request::GroupKey;
use toolfleet_core::time::Timestamp;

use crate::dynamodb::attributes::{Item, item, ms, number, text};
use crate::error::AwsError;
use crate::keys::EXPIRES_AT;

/// The attributes of a new group, without its key.
pub(crate) fn to_item(row: &GroupRow) -> Item {
    let Terms { size, policy, deadline, reply } = &row.terms;
    item([
        ("size", number(size)),
        ("policy", text(policy)),
        ("deadline_ms", ms(*deadline)),
        ("reply", reply.as_ref().and_then(text)),
        ("made_by", text(&row.made_by)),
        ("timer_sent", Some(AttributeValue::Bool(row.timer_sent))),
        ("notified", Some(AttributeValue::Bool(row.notified))),
        (EXPIRES_AT, number(row.expires_at.as_s())),
    ])
}

/// The attributes of a group's redrive, without its key.
pub(crate) fn round_item(round: &Round) -> Item {
    let members = round.members.iter().map(ToString::to_string).collect();
    item([("members", Some(AttributeValue::Ns(members))), ("deadline_ms", round.deadline.and_then(ms))])
}

/// The round that a redrive has stored.
pub(crate) fn round_of(item: &Item) -> Option<Round> {
    let deadline = match item.get("deadline_ms") {
        None => None,
        Some(_) => Some(Timestamp::from_ms(whole(item, "deadline_ms")?)),
    };
    Some(Round { members: numbers(item, "members")?, deadline })
}

/// A decision, as one attribute.
pub(crate) fn decision_value(decision: &Decision) -> AttributeValue {
    let Decision { result, by, at, succeeded, failed } = decision;
    AttributeValue::M(item([
        ("result", text(result)),
        ("by", text(by)),
        ("at_ms", ms(*at)),
        ("succeeded", number(succeeded)),
        ("failed", number(failed)),
    ]))
}

/// The row of an item. One that cannot be read is an error: taken for a missing one, the group would be decided twice.
pub(crate) fn parsed(key: &GroupKey, item: &Item) -> Result<GroupRow, AwsError> {
    row(key, item).ok_or_else(|| AwsError::configuration(format!("the row of group {key} cannot be read")))
}

fn row(key: &GroupKey, item: &Item) -> Option<GroupRow> {
    let string = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
    let decision = match item.get("decision") {
        None => None,
        Some(value) => Some(decision_of(value.as_m().ok()?)?),
    };
    Some(GroupRow {
        key: key.clone(),
        terms: Terms {
            size: whole(item, "size")?,
            policy: string("policy")?.parse().ok()?,
            deadline: Timestamp::from_ms(whole(item, "deadline_ms")?),
            reply: string("reply").cloned(),
        },
        made_by: CallId::parse(string("made_by")?.as_str()).ok()?,
        timer_sent: *item.get("timer_sent")?.as_bool().ok()?,
        ok: numbers(item, "ok")?,
        failed: numbers(item, "failed")?,
        decision,
        notified: *item.get("notified")?.as_bool().ok()?,
        expires_at: Timestamp::from_ms(whole::<i64>(item, EXPIRES_AT)?.saturating_mul(1_000)),
    })
}

fn decision_of(map: &HashMap<String, AttributeValue>) -> Option<Decision> {
    let string = |name: &str| map.get(name).and_then(|value| value.as_s().ok());
    Some(Decision {
        result: GroupResult::parse(string("result")?)?,
        by: Decider::parse(string("by")?)?,
        at: Timestamp::from_ms(whole(map, "at_ms")?),
        succeeded: whole(map, "succeeded")?,
        failed: whole(map, "failed")?,
    })
}

fn whole<T: std::str::FromStr>(item: &Item, name: &str) -> Option<T> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// A set; DynamoDB stores no empty one.
fn numbers(item: &Item, name: &str) -> Option<BTreeSet<u32>> {
    match item.get(name) {
        None => Some(BTreeSet::new()),
        Some(value) => value.as_ns().ok()?.iter().map(|number| number.parse().ok()).collect(),
    }
}
