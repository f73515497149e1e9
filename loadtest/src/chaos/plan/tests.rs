use std::time::Duration;

use toolfleet_core::request::Priority;

use super::call::{HUGE_BYTES, LARGE_BYTES};
use super::fault::CALM;
use super::*;

const SHAPE: Shape = Shape { calls: 5_000, length: Duration::from_secs(120), timeout_ms: 20_000 };

#[test]
fn one_seed_gives_one_plan_and_another_seed_another() {
    assert_eq!(Plan::of(7, SHAPE), Plan::of(7, SHAPE));
    assert_ne!(Plan::of(7, SHAPE).calls, Plan::of(8, SHAPE).calls);
    assert_ne!(Plan::of(7, SHAPE).groups, Plan::of(8, SHAPE).groups);
    assert_ne!(Plan::of(7, SHAPE).events, Plan::of(8, SHAPE).events);
}

#[test]
fn every_server_kind_of_tool_and_variation_is_called() {
    let Plan { calls, .. } = Plan::of(1, SHAPE);
    assert_eq!(calls.len(), 5_000);
    assert_eq!(Server::ALL.iter().map(|server| server.share()).sum::<u32>(), 100);
    for server in Server::ALL {
        for repeats in server.repeats() {
            assert!(calls.iter().any(|c| c.server == server && c.repeats == *repeats), "{server:?}");
        }
    }
    for priority in Priority::ALL {
        assert!(calls.iter().any(|call| call.priority == priority));
    }
    let some = |of: fn(&ChaosCall) -> bool| calls.iter().any(of);
    assert!(some(|c| c.copies == 2) && some(|c| c.cancelled_after.is_some()) && some(|c| c.notice));
    assert!(some(|c| c.bytes == LARGE_BYTES) && some(|c| c.bytes == HUGE_BYTES));
    assert!(some(|c| c.cache) && some(|c| c.question.is_some() && !c.cache));
    assert!(some(|c| c.not_before.is_some() && c.supersede.is_none() && c.group.is_some()));
    assert!(calls.iter().filter(|c| c.server == Server::Forgetful).all(|c| c.session.is_some()));
    assert!(calls.windows(2).all(|pair| pair[0].at <= pair[1].at));
}

#[test]
fn calls_of_one_key_have_one_tenant_and_some_are_due_before_older_ones() {
    let Plan { calls, .. } = Plan::of(1, SHAPE);
    let mut families: BTreeMap<&str, Vec<&ChaosCall>> = BTreeMap::new();
    for call in &calls {
        if let Some(key) = &call.supersede {
            families.entry(key).or_default().push(call);
        }
    }
    assert!(families.len() > 50);
    let mut overtaken = 0;
    for family in families.values() {
        assert!(family.iter().all(|call| call.tenant == family[0].tenant && call.not_before.is_some()));
        overtaken += family.windows(2).filter(|pair| pair[1].due() < pair[0].due()).count();
    }
    assert!(overtaken > 20, "{overtaken}");
}

#[test]
fn groups_of_every_policy_have_members_of_one_tenant_and_some_lack_one() {
    let Plan { calls, groups, .. } = Plan::of(1, SHAPE);
    let by_id: BTreeMap<_, _> = calls.iter().map(|call| (call.id.as_str(), call)).collect();
    for policy in ["all", "any", "first_success", "tolerate:1", "tolerate:40%"] {
        assert!(groups.iter().any(|group| group.policy.to_string() == policy), "{policy}");
    }
    let sizes = |group: &ChaosGroup| (u32::try_from(group.members.len()).unwrap(), group.size);
    let lacking = groups.iter().filter(|group| sizes(group).0 < group.size).count();
    assert!(lacking > 20 && groups.iter().any(|group| group.cancelled_at.is_some()), "{lacking}");
    assert!(groups.iter().flat_map(|group| &group.members).any(|id| by_id[id.as_str()].copies == 2));
    for (position, group) in groups.iter().enumerate() {
        assert!(!group.members.is_empty() && sizes(group).0 <= group.size);
        for (index, id) in (0..).zip(&group.members) {
            let call = by_id[id.as_str()];
            assert_eq!((call.tenant, call.group), (group.tenant, Some(Place { group: position, index })));
            assert!(call.at >= group.first_at && call.due() < group.deadline + SHAPE.length);
        }
    }
}

#[test]
fn calls_that_are_sent_in_one_request_come_together() {
    let Plan { calls, .. } = Plan::of(1, SHAPE);
    let mut together: BTreeMap<Duration, Vec<&ChaosCall>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.server == Server::Batching) {
        together.entry(call.at).or_default().push(call);
    }
    assert!(together.values().all(|calls| calls.iter().all(|call| call.tenant == calls[0].tenant)));
    assert!(together.values().any(|calls| calls.len() > 5));
}

#[test]
fn an_answer_follows_the_call_that_asks_and_is_safe_only_by_promise() {
    let Plan { calls, .. } = Plan::of(1, SHAPE);
    let by_id: BTreeMap<_, _> = calls.iter().map(|call| (call.id.as_str(), call)).collect();
    let answers: Vec<_> = calls.iter().filter(|call| call.resumes.is_some()).collect();
    assert!(answers.len() > 100, "{}", answers.len());
    for answer in &answers {
        let asked = by_id[answer.resumes.as_deref().unwrap()];
        assert_eq!((asked.server, asked.resumes.as_ref()), (Server::Asking, None));
        let of = |call: &ChaosCall| (call.server, call.repeats, call.tenant, call.session.clone());
        assert_eq!(of(answer), of(asked));
        assert!(answer.at >= asked.at && answer.group.is_none() && asked.group.is_none());
        assert_eq!(answer.is_safe(), answer.promised);
        assert!(!answer.promised || answer.repeats != Repeats::Once);
    }
    assert!(answers.iter().any(|answer| answer.promised) && answers.iter().any(|answer| !answer.promised));
}

#[test]
fn the_next_round_of_a_group_has_the_members_that_are_sent_again() {
    let plan = Plan::of(1, SHAPE);
    let whole = |group: &ChaosGroup| group.redriven_after.is_some() && group.members.len() > 2;
    let position = plan.groups.iter().position(whole).unwrap();
    let group = &plan.groups[position];
    assert!(plan.groups.iter().any(|group| group.redriven_after.is_none()));
    let members = vec![(group.members[2].clone(), "again".to_owned())];
    let (sent, deadline) = (Duration::from_secs(9), Duration::from_secs(19));
    let after = plan.with_rounds(&[Round { group: position, sent, deadline, members }]);
    let (round, call) = (after.groups.last().unwrap(), after.calls.last().unwrap());
    assert_eq!((round.size, round.round, round.deadline), (1, 2, deadline));
    assert_eq!(round.key().unwrap().to_string(), format!("{}#2", group.key().unwrap()));
    assert_eq!((call.id.as_str(), call.redrives.as_ref()), ("again", Some(&group.members[2])));
    assert_eq!(after.group_of(call).unwrap().1, round);
    assert_eq!((after.calls.len(), after.groups.len()), (plan.calls.len() + 1, plan.groups.len() + 1));
}

#[test]
fn some_calls_alone_kill_their_workers_and_the_first_of_them_is_cured() {
    for (seconds, cured, left) in [(30, 1, 0), (300, 1, 1), (600, 2, 2)] {
        let plan = Plan::of(1, Shape { length: Duration::from_secs(seconds), ..SHAPE });
        let of = |kind| plan.deadly(kind).collect::<Vec<_>>();
        assert_eq!((of(Deadly::Cured).len(), of(Deadly::Left).len()), (cured, left), "{seconds} s");
        for call in plan.calls.iter().filter(|call| call.deadly.is_some()) {
            assert!(call.group.is_none() && call.supersede.is_none() && call.server == Server::Steady);
            assert!(call.priority == Priority::High && !call.is_safe() && call.notice);
        }
        assert!(of(Deadly::Cured)[0].at < Duration::from_secs(10));
    }
}

#[test]
fn results_are_stored_in_the_bucket_while_it_is_away() {
    for seed in 0..5 {
        let Plan { calls, events, .. } =
            Plan::of(seed, Shape { calls: 1_000, length: Duration::from_secs(45), ..SHAPE });
        let away = events.iter().find(|event| event.fault == Fault::BucketAway).unwrap();
        let within = |call: &&ChaosCall| call.at >= away.at && call.at < away.at + away.length;
        assert!(calls.iter().filter(within).any(|call| call.bytes >= LARGE_BYTES), "seed {seed}");
    }
}

#[test]
fn calls_follow_each_loss_of_sessions() {
    for seed in 0..50 {
        let short = Shape { calls: 250, length: Duration::from_secs(12), ..SHAPE };
        let Plan { calls, events, .. } = Plan::of(seed, short);
        let lost = events.iter().filter(|event| event.fault == Fault::SessionsLost);
        let last = lost.map(|event| event.at).max().unwrap();
        let after = calls.iter().filter(|call| call.server == Server::Forgetful && call.at >= last);
        assert!(after.count() >= 3, "seed {seed}");
    }
}

#[test]
fn a_changed_limit_is_lower_and_then_higher_or_the_reverse() {
    let event = |pick| Event { at: CALM, fault: Fault::RateChanged, length: CALM, pick };
    assert_eq!((event(0).limits(2), event(1).limits(2), event(3).limits(1)), ([1, 4], [4, 1], [2, 1]));
    assert_eq!(Limits::of(SHAPE), Limits { rate: 3, concurrency: 2 });
}

#[test]
fn every_fault_comes_and_two_of_a_kind_never_overlap() {
    for seconds in [30, 60, 600] {
        let shape = Shape { length: Duration::from_secs(seconds), ..SHAPE };
        let plan = Plan::of(3, shape);
        assert_eq!(plan.counts().len(), Fault::ALL.len());
        for fault in Fault::ALL {
            let of_kind: Vec<_> = plan.events.iter().filter(|event| event.fault == fault).collect();
            assert!(of_kind.windows(2).all(|pair| pair[0].at + pair[0].length <= pair[1].at));
            assert!(of_kind.iter().all(|e| e.at >= CALM && e.at + e.length <= shape.length));
        }
    }
}
