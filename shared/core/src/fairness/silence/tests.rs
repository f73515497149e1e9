//! Tests of what is silent and of the slots it may hold.

use proptest::prelude::*;

use super::*;

const SLOTS: SlotUse = SlotUse { all: 20, reserve: 2, free: 1, of_tenant: 1 };

fn server(name: &str) -> ServerId {
    ServerId::parse(name).unwrap()
}

/// A call has a slot, and its request is sent.
fn begin(silences: &mut Silences, server: &ServerId, tool: &str, now_ms: u64) -> bool {
    let entered = silences.enter(server, tool, SLOTS, now_ms).is_ok();
    if entered {
        silences.sent(server, Some(tool), now_ms);
    }
    entered
}

fn end(silences: &mut Silences, server: &ServerId, tool: &str, answered: bool, times: (u64, u64)) {
    silences.ended(server, Some(tool), answered, times.1 - times.0, times.1);
    silences.leave(server, tool, Placed::default(), times.1);
}

/// A server that answers, so that others compete for the slots.
fn with_a_live_server() -> (Silences, ServerId) {
    let (mut silences, live) = (Silences::default(), server("live"));
    assert!(begin(&mut silences, &live, "find", 1));
    end(&mut silences, &live, "find", true, (1, 101));
    (silences, live)
}

#[test]
fn a_silent_server_holds_the_reserve_until_it_answers() {
    let (mut silences, live) = with_a_live_server();
    let dead = server("dead");
    let begun = (0..9).filter(|_| begin(&mut silences, &dead, "find", 200)).count();
    assert_eq!(begun, 4, "a server that never answered begins with twice the reserve");
    assert_eq!(
        silences.enter(&dead, "find", SLOTS, 700),
        Err(Silent::Unknown { ask_again_ms: 500 }),
        "its first answer may come"
    );
    let silent = Silent::For { ms: 1_000, tool_only: false, held: 4 };
    assert_eq!(silences.enter(&dead, "find", SLOTS, 1_200), Err(silent));
    for _ in 0..4 {
        end(&mut silences, &dead, "find", false, (200, 10_200));
    }
    assert!(begin(&mut silences, &live, "find", 10_201));
    let begun = (0..9).filter(|_| begin(&mut silences, &dead, "find", 10_300)).count();
    assert_eq!(begun, 2, "it is known as silent from then on");
    end(&mut silences, &dead, "find", true, (10_300, 10_400));
    assert!((0..9).all(|_| begin(&mut silences, &dead, "find", 10_401)));
}

#[test]
fn a_slow_tool_is_silent_and_its_server_is_not() {
    let (mut silences, _) = with_a_live_server();
    let crm = server("crm");
    for now_ms in (200..5_000).step_by(100) {
        begin(&mut silences, &crm, "slow", now_ms);
        assert!(begin(&mut silences, &crm, "fast", now_ms), "{now_ms}");
        end(&mut silences, &crm, "fast", true, (now_ms, now_ms + 50));
    }
    let refused = silences.enter(&crm, "slow", SLOTS, 5_000).unwrap_err();
    assert!(matches!(refused, Silent::For { tool_only: true, held: 2..=4, .. }), "{refused:?}");
}

#[test]
fn calls_that_nobody_competes_with_are_never_refused() {
    let (mut silences, dead) = (Silences::default(), server("dead"));
    assert!((0..20).all(|n| begin(&mut silences, &dead, "find", n * 1_000)), "no other server was seen");
    let (mut silences, _) = with_a_live_server();
    let half_free = SlotUse { free: 11, ..SLOTS };
    for n in 1..20 {
        assert!(silences.enter(&dead, "find", half_free, n * 1_000).is_ok());
    }
}

#[test]
fn a_server_that_reports_progress_is_not_silent() {
    let (mut silences, _) = with_a_live_server();
    let slow = server("slow");
    assert!(begin(&mut silences, &slow, "report", 0) && begin(&mut silences, &slow, "report", 0));
    for now_ms in (0..10_000).step_by(900) {
        silences.heard(&slow, Some("report"), now_ms);
        assert!(!silences.is_silent_to_others(&slow, "report", now_ms + 899));
    }
    assert!(silences.is_silent_to_others(&slow, "report", 11_000));
}

#[test]
fn long_answers_are_waited_for() {
    let (mut silences, _) = with_a_live_server();
    let slow = server("slow");
    assert!(begin(&mut silences, &slow, "report", 0));
    end(&mut silences, &slow, "report", true, (0, 30_000));
    assert!(begin(&mut silences, &slow, "report", 30_000));
    assert!(begin(&mut silences, &server("live"), "find", 89_000));
    assert!((0..10).all(|_| silences.enter(&slow, "report", SLOTS, 89_999).is_ok()));
    assert!(silences.enter(&slow, "report", SLOTS, 90_000).is_err(), "twice as long as its longest answer");
}

/// Begins a call each 100 ms for two minutes after the first answer. `length` gives how long the n-th request takes, and whether it is
/// answered. Gives how many of the `counted` calls were refused, of how many.
fn refused_of_many(length: impl Fn(u64) -> (u64, bool), counted: impl Fn(u64) -> bool) -> (u64, u64) {
    let (mut silences, _) = with_a_live_server();
    let (crm, live) = (server("crm"), server("live"));
    let mut under_way: Vec<(u64, u64, bool)> = Vec::new();
    let (mut refused, mut all, mut answered_once) = (0, 0, false);
    for n in 0..1_300 {
        let now_ms = 200 + n * 100;
        for (begun_ms, end_ms, answered) in under_way.extract_if(.., |(_, end_ms, _)| *end_ms <= now_ms) {
            end(&mut silences, &crm, "find", answered, (begun_ms, end_ms));
            answered_once |= answered;
        }
        assert!(begin(&mut silences, &live, "find", now_ms));
        end(&mut silences, &live, "find", true, (now_ms, now_ms + 10));
        let begun = begin(&mut silences, &crm, "find", now_ms);
        if begun {
            let (ms, answered) = length(n);
            under_way.push((now_ms, now_ms + ms, answered));
        }
        if answered_once && counted(n) {
            all += 1;
            refused += u64::from(!begun);
        }
    }
    (refused, all)
}

#[test]
fn a_slow_server_that_always_answers_is_not_bounded() {
    let (refused, all) = refused_of_many(|_| (5_000, true), |_| true);
    assert!(refused == 0 && all > 1_200, "{refused} of {all}");
    let (refused, all) = refused_of_many(|n| (2_500 + n * 7_919 % 5_000, true), |_| true);
    assert!(refused == 0 && all > 1_200, "{refused} of {all}");
}

#[test]
fn a_server_that_answers_some_calls_late_is_not_starved() {
    // Of four requests one is answered, after eight seconds; the others time out after ten.
    let some_late = |n: u64| if n.is_multiple_of(4) { (8_000, true) } else { (10_000, false) };
    let (refused, all) = refused_of_many(some_late, |_| true);
    assert!(refused == 0 && all > 1_000, "{refused} of {all}");
    // It answers nothing for twenty seconds of each forty. When it answers again, the calls sent before have to time out first.
    let answers = |n: u64| (n / 200).is_multiple_of(2);
    let in_turns = |n| if answers(n) { (1_000, true) } else { (10_000, false) };
    let (refused, all) = refused_of_many(in_turns, |n| answers(n) && n % 200 >= 120);
    assert!(refused == 0 && all > 200, "{refused} of {all}");
    let (refused, all) = refused_of_many(in_turns, |n| !answers(n) && n % 200 >= 30);
    assert!(refused > all * 9 / 10, "{refused} of {all}");
}

#[test]
fn many_silent_servers_hold_twice_the_reserve_together() {
    let (mut silences, live) = with_a_live_server();
    let dead: Vec<_> = (0..10).map(|n| server(&format!("dead-{n}"))).collect();
    for one in &dead {
        assert!(begin(&mut silences, one, "find", 200));
        end(&mut silences, one, "find", false, (200, 10_000));
    }
    assert!(begin(&mut silences, &live, "find", 10_000));
    let begun = dead.iter().filter(|one| begin(&mut silences, one, "find", 10_001)).count();
    assert_eq!(begun, 4);
}

#[test]
fn calls_to_a_silent_server_lend_their_slots() {
    let (mut silences, _) = with_a_live_server();
    let dead = server("dead");
    let alone = SlotUse { free: 20, ..SLOTS };
    let mut placed: Vec<_> = (0..6).map(|_| silences.enter(&dead, "find", alone, 0).unwrap()).collect();
    silences.sent(&dead, Some("find"), 0);
    assert!(!silences.lend(&dead, "find", &mut placed[0], 2, 999), "it may answer");
    let lent = placed
        .iter_mut()
        .map(|placed| silences.lend(&dead, "find", placed, 2, 1_000))
        .filter(|lends| *lends)
        .count();
    assert_eq!(lent, 4, "twice the reserve");
    silences.leave(&dead, "find", placed[0], 1_001);
    assert!(silences.lend(&dead, "find", &mut placed[5], 2, 1_002));
}

#[test]
fn a_call_lends_its_slot_only_where_others_were_seen() {
    let (mut silences, dead) = (Silences::default(), server("dead"));
    let mut placed = silences.enter(&dead, "find", SLOTS, 0).unwrap();
    silences.sent(&dead, Some("find"), 0);
    assert!(
        !silences.lend(&dead, "find", &mut placed, 2, 5_000),
        "more of its calls would hang in its place"
    );
    silences.enter(&server("live"), "find", SLOTS, 6_000).unwrap();
    assert!(silences.lend(&dead, "find", &mut placed, 2, 6_000));
}

#[test]
fn a_lent_slot_is_not_for_more_calls_to_what_is_silent() {
    let (mut silences, live) = with_a_live_server();
    let dead = server("dead");
    let half_free = SlotUse { free: 11, ..SLOTS };
    let mut placed: Vec<_> = (0..4).map(|_| silences.enter(&dead, "find", half_free, 200).unwrap()).collect();
    silences.sent(&dead, Some("find"), 200);
    assert!(silences.enter(&dead, "find", half_free, 5_000).is_ok(), "half of the slots are free");
    assert!(silences.lend(&dead, "find", &mut placed[0], 2, 5_000));
    assert!(silences.enter(&dead, "find", half_free, 5_001).is_err());
    assert!(silences.enter(&live, "find", half_free, 5_001).is_ok());
}

#[test]
fn a_tenant_without_a_call_at_a_silent_server_may_have_one() {
    let (mut silences, _) = with_a_live_server();
    let dead = server("dead");
    assert!((0..4).all(|_| begin(&mut silences, &dead, "find", 200)));
    let newcomer = SlotUse { of_tenant: 0, ..SLOTS };
    let placed: Vec<_> = (0..4).filter_map(|_| silences.enter(&dead, "find", newcomer, 5_000).ok()).collect();
    assert_eq!(placed.len(), 2, "as many tenants as the reserve");
    silences.leave(&dead, "find", placed[0], 5_001);
    assert!(silences.enter(&dead, "find", newcomer, 5_002).is_ok());
}

#[test]
fn servers_without_calls_are_forgotten_when_there_are_many() {
    let mut silences = Silences::default();
    for n in 0..20_000_u64 {
        let server = server(&format!("s{n}"));
        begin(&mut silences, &server, &format!("t{n}"), n);
        end(&mut silences, &server, &format!("t{n}"), n % 2 == 0, (n, n + 5_000));
    }
    assert!(silences.len() <= 2 * MANY, "{}", silences.len());
    let crm = server("crm");
    for n in 0..20_000_u64 {
        begin(&mut silences, &crm, &format!("t{n}"), 20_000);
        end(&mut silences, &crm, &format!("t{n}"), true, (20_000, 20_000));
    }
    assert!(silences.len() <= 3 * MANY + 1, "{}", silences.len());
}

proptest! {
    /// Servers that answer within a second are never refused, and what is silent never gets more than its share.
    #[test]
    fn what_answers_is_never_refused_and_silence_is_bounded(
        steps in prop::collection::vec((0_usize..6, 0_usize..3, 1_u64..400), 1..300)
    ) {
        let mut silences = Silences::default();
        let servers: Vec<_> = (0..6).map(|n| server(&format!("s{n}"))).collect();
        let mut now_ms = 0;
        let mut under_way: Vec<(usize, usize, u64)> = Vec::new();
        for (at, tool, pause_ms) in steps {
            now_ms += pause_ms;
            // The servers 0 to 3 answer within 500 ms; 4 and 5 never do, and their requests end after 5 s.
            let due = |(at, _, sent_ms): &(usize, usize, u64)| sent_ms + if *at < 4 { 500 } else { 5_000 } <= now_ms;
            let (over, rest): (Vec<_>, Vec<_>) = under_way.into_iter().partition(due);
            under_way = rest;
            for (at, tool, sent_ms) in over {
                end(&mut silences, &servers[at], &format!("t{tool}"), at < 4, (sent_ms, now_ms.min(sent_ms + 500).max(sent_ms)));
                silences.servers.get_mut(&servers[at]).unwrap().own.seen_ms = now_ms;
            }
            let name = format!("t{tool}");
            let held = under_way.iter().filter(|(of, ..)| *of == at).count() as u64;
            let before = silences.servers.get(&servers[at]).and_then(|known| known.own.silent_ms(now_ms));
            let others = silences.servers.iter().any(|(id, other)| *id != servers[at] && other.own.is_seen(now_ms));
            let entered = silences.enter(&servers[at], &name, SLOTS, now_ms);
            if at < 4 && silences.answers(&servers[at], &name, now_ms) {
                prop_assert!(entered.is_ok());
            }
            if before.is_some() && others && held >= SLOTS.reserve {
                prop_assert!(entered.is_err());
            }
            if entered.is_ok() {
                silences.sent(&servers[at], Some(&name), now_ms);
                under_way.push((at, tool, now_ms));
            }
        }
        for (at, tool, _) in under_way {
            end(&mut silences, &servers[at], &format!("t{tool}"), true, (now_ms, now_ms));
        }
        let left: u64 = silences.servers.values().map(|known| known.own.held + known.own.under_way).sum();
        prop_assert_eq!(left, 0);
    }
}
