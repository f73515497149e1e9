//! Who is a member of a group: the call that first took an index, if its terms are those of the group.

use super::row::{Decision, GroupRow};
use crate::ids::CallId;
use crate::request::Group;

/// The place that a call has in its group, as its request says.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The call.
    pub call: &'a CallId,
    /// What its request says.
    pub group: &'a Group,
}

/// Which call has the index of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// None yet.
    Free,
    /// That one.
    Of(CallId),
}

/// What a call is to its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Join {
    /// The group has no row: the call makes it, and sends the timer.
    Create,
    /// The call made the row and has not sent the timer: it does, member or not.
    SendTimer,
    /// The call takes its index.
    Bind,
    /// The call has its index, and its group is open.
    Member,
    /// The group was decided: a call that has not started does not start.
    Decided(Decision),
    /// The call is no member: what it says does not fit the group. Names the field, and what to do.
    Mismatch(String),
}

/// What a call is to its group, where `row` and `binding` are stored.
pub fn join(row: Option<&GroupRow>, binding: &Binding, place: Place<'_>) -> Join {
    let Some(row) = row else { return Join::Create };
    // Another call may have taken the index of the one that made the row.
    if row.needs_timer_of(place.call) {
        return Join::SendTimer;
    }
    if let Some(text) = mismatch(row, binding, place) {
        return Join::Mismatch(text);
    }
    match (row.decision, binding) {
        (Some(decision), _) => Join::Decided(decision),
        (None, Binding::Free) => Join::Bind,
        (None, Binding::Of(_)) => Join::Member,
    }
}

/// What does not fit.
fn mismatch(row: &GroupRow, binding: &Binding, place: Place<'_>) -> Option<String> {
    let (terms, Group { id, index, size, policy, deadline, reply, .. }) = (&row.terms, place.group);
    let fix = "Give all members of a group the same value, or give this call a group of its own.";
    if *size != terms.size {
        return Some(format!("group.size: is {size}, but group `{id}` has size {}. {fix}", terms.size));
    }
    if *policy != terms.policy {
        return Some(format!("group.policy: is {policy}, but group `{id}` has {}. {fix}", terms.policy));
    }
    if let Some(deadline) = deadline.filter(|deadline| *deadline != terms.deadline) {
        let known = terms.deadline;
        return Some(format!("group.deadline: is {deadline}, but group `{id}` has {known}. {fix}"));
    }
    if reply.as_ref().is_some_and(|reply| reply.sqs_queue_url() != terms.reply.as_deref()) {
        return Some(format!("group.reply: differs from that of group `{id}`. {fix}"));
    }
    match binding {
        Binding::Of(other) if other != place.call => Some(format!(
            "group.index: {index} of group `{id}` is call `{other}`. Give each call of a group an index of its own, from 0 to {}.",
            size.saturating_sub(1)
        )),
        Binding::Of(_) | Binding::Free => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Decider, GroupResult, Terms};
    use super::*;
    use crate::ids::{GroupId, Tenant};
    use crate::request::{Policy, Reply};
    use crate::time::Timestamp;

    fn call(id: &str) -> CallId {
        CallId::parse(id).unwrap()
    }

    fn group() -> Group {
        Group {
            id: GroupId::parse("turn-1").unwrap(),
            index: 1,
            size: 3,
            round: 1,
            policy: Policy::All,
            deadline: None,
            reply: None,
        }
    }

    fn row() -> GroupRow {
        GroupRow {
            key: group().key(&Tenant::parse("acme").unwrap()),
            terms: Terms {
                size: 3,
                policy: Policy::All,
                deadline: Timestamp::from_ms(1_000),
                reply: Some("https://sqs/q".into()),
            },
            made_by: call("a"),
            timer_sent: false,
            ok: BTreeSet::new(),
            failed: BTreeSet::new(),
            decision: None,
            notified: false,
            expires_at: Timestamp::from_ms(9_000),
        }
    }

    #[test]
    fn the_first_member_makes_the_group_and_each_takes_its_index_once() {
        let (id, group) = (call("b"), group());
        let place = Place { call: &id, group: &group };
        assert_eq!(join(None, &Binding::Free, place), Join::Create);
        assert_eq!(join(Some(&row()), &Binding::Free, place), Join::Bind);
        assert_eq!(join(Some(&row()), &Binding::Of(call("b")), place), Join::Member);
        let Join::Mismatch(text) = join(Some(&row()), &Binding::Of(call("c")), place) else {
            panic!("joined")
        };
        assert!(text.starts_with("group.index: 1 of group `turn-1` is call `c`. Give each call"), "{text}");
    }

    /// Found by the simulation: without its timer, a group with a missing member would never be decided.
    #[test]
    fn the_call_that_made_the_row_sends_the_timer_even_if_it_is_no_member() {
        let (id, group) = (call("a"), group());
        let place = Place { call: &id, group: &group };
        for binding in [Binding::Free, Binding::Of(call("c"))] {
            assert_eq!(join(Some(&row()), &binding, place), Join::SendTimer);
        }
        let sent = GroupRow { timer_sent: true, ..row() };
        assert!(matches!(join(Some(&sent), &Binding::Of(call("c")), place), Join::Mismatch(_)));
        assert_eq!(join(Some(&sent), &Binding::Of(call("a")), place), Join::Member);
    }

    #[test]
    fn other_terms_are_refused_by_the_name_of_their_field() {
        let id = call("b");
        for (other, field) in [
            (Group { size: 4, ..group() }, "group.size: is 4, but group `turn-1` has size 3"),
            (Group { policy: Policy::Any, ..group() }, "group.policy: is any, but"),
            (Group { deadline: Some(Timestamp::from_ms(1_001)), ..group() }, "group.deadline: is "),
            (Group { reply: Some(Reply::SqsQueueUrl("https://sqs/r".into())), ..group() }, "group.reply: "),
        ] {
            let place = Place { call: &id, group: &other };
            let Join::Mismatch(text) = join(Some(&row()), &Binding::Free, place) else {
                panic!("joined: {field}")
            };
            assert!(text.starts_with(field), "{text}");
        }
        let same = Group {
            deadline: Some(Timestamp::from_ms(1_000)),
            reply: Some(Reply::SqsQueueUrl("https://sqs/q".into())),
            ..group()
        };
        assert_eq!(join(Some(&row()), &Binding::Free, Place { call: &id, group: &same }), Join::Bind);
    }

    #[test]
    fn a_decided_group_takes_no_member_and_tells_how_it_was_decided() {
        let (id, group) = (call("b"), group());
        let decision = Decision {
            result: GroupResult::Failed,
            by: Decider::Timer,
            at: Timestamp::from_ms(5),
            succeeded: 0,
            failed: 1,
        };
        let row = GroupRow { decision: Some(decision), ..row() };
        let place = Place { call: &id, group: &group };
        assert_eq!(join(Some(&row), &Binding::Free, place), Join::Decided(decision));
        assert_eq!(join(Some(&row), &Binding::Of(call("b")), place), Join::Decided(decision));
        assert!(matches!(join(Some(&row), &Binding::Of(call("c")), place), Join::Mismatch(_)));
    }
}
