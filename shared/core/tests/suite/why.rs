//! Why a call is not running: every state and every reason has a sentence, and what is not known is said.

use serde_json::json;
use toolfleet_core::call::{
    CallRow, Decision, DeliveryContext, Event, Finished, Held, HeldReason, State, decide,
};
use toolfleet_core::control::{CallFilter, CancelRule, Control, ControlEntry, Strike, Switch, SwitchTarget};
use toolfleet_core::digest::Digest;
use toolfleet_core::fleet::{FleetSummary, WorkerRow};
use toolfleet_core::ids::{CallId, CallKey, Nonce, ServerId, Tenant, WorkerId};
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome};
use toolfleet_core::time::Timestamp;
use toolfleet_core::why::{
    DeadLetterFound, DeadLetterSeen, Evidence, Explanation, HolderSeen, Place, QueueState, WaitsForKind,
    WorkersSeen, explain,
};

const DEADLINE_MS: u64 = 600_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_795_000_000_000).plus_ms(ms)
}

fn key() -> CallKey {
    CallKey { tenant: Tenant::parse("acme").unwrap(), call_id: CallId::parse("c1").unwrap() }
}

fn delivery() -> DeliveryContext {
    DeliveryContext {
        key: key(),
        digest: Digest::of_text("question"),
        earlier_digest: None,
        caller: Box::default(),
        nonce: Nonce::from_random(1),
        worker: WorkerId::parse("w1").unwrap(),
        enqueued_at: at(0),
        deadline: Some(at(DEADLINE_MS)),
        now: at(0),
        skew_ms: 2_000,
        may_be_claimless: false,
        repeatable: false,
        expires_at: at(1_000_000),
    }
}

fn stored(seen: Option<&CallRow>, event: &Event) -> CallRow {
    match decide(seen, event) {
        Decision::Write { row, .. } => *row,
        Decision::Leave(rejection) => panic!("{rejection:?}"),
    }
}

fn held(reason: HeldReason) -> Held {
    let crm = ServerId::parse("crm").unwrap();
    Held::new(reason, Some(crm), at(0), 60_000).with_fault("refused").with_detail("server:crm 20/s")
}

/// A row in that state; one that no worker holds is held for `reason`, if there is one.
fn row(state: State, reason: Option<HeldReason>) -> CallRow {
    let claimed = stored(
        None,
        &Event::Claim { delivery: delivery(), lease_ms: 30_000, definition: None, answers: None },
    );
    let mut row = match state {
        State::AwaitingApproval => stored(None, &Event::AwaitApproval { delivery: delivery() }),
        State::Pending => stored(Some(&row(State::AwaitingApproval, None)), &Event::Approve),
        State::Claimed => claimed,
        State::Released | State::WaitingTask => {
            CallRow { state, attempts: 1, worker: claimed.worker.clone(), lease_until: None, ..claimed }
        }
        State::Done => {
            let error = CallError::new(Code::AnswerLost, "lost", MayHaveRun::Unknown);
            let outcome = Outcome::failed(error);
            CallRow { state, finished: Some(Finished { outcome, at: at(9) }), ..claimed }
        }
    };
    if state == State::WaitingTask {
        row = CallRow { task: Some("t".into()), poll_at: Some(at(40_000)), may_have_executed: true, ..row };
    }
    CallRow { held: reason.map(|reason| Box::new(held(reason))), ..row }
}

fn by_row(row: Option<&CallRow>, now: Timestamp) -> Explanation {
    explain(&Evidence::of_row(&key(), row, now))
}

fn workers(alive: u64, holder: HolderSeen) -> WorkersSeen {
    WorkersSeen { alive, draining: 0, slots: 64 * alive, busy: 3, tenant_share: Some(0.42), holder }
}

fn queue(priority: &str) -> QueueState {
    let name = format!("toolfleet-calls-{priority}");
    QueueState {
        name,
        priority: priority.into(),
        visible: 12,
        in_flight: 3,
        delayed: 7,
        wait_ms: Some(4_000),
    }
}

fn paused(target: &str, tenant: Option<&str>, until: Option<u64>) -> ControlEntry {
    ControlEntry::Pause(Switch {
        target: SwitchTarget::parse(target).unwrap(),
        tenant: tenant.map(|tenant| Tenant::parse(tenant).unwrap()),
        by: "ann".into(),
        why: "it drops orders".into(),
        since: at(0),
        until: until.map(at),
    })
}

/// Temporal's user interface, issue 884: nobody can say why something waits. Here every state of a call and every reason of a wait has a
/// sentence with the reason, and a time.
#[test]
fn every_state_and_every_held_reason_has_a_reason_and_a_time() {
    for state in State::ALL {
        for reason in HeldReason::ALL.map(Some).into_iter().chain([None]) {
            let row = row(state, reason);
            for now in [at(10), at(31_000), at(70_000)] {
                let context = format!("{state:?}, {reason:?}, at {now}");
                let explained = by_row(Some(&row), now);
                let line = explained.line(now);
                assert!(line.contains("2026-11-"), "{context} names no time: {line}");
                assert!(!explained.next.is_empty() && !explained.text.is_empty(), "{context}");
                if explained.place == Place::Ended {
                    assert!(explained.text.contains("answer_lost"), "{context}: {line}");
                    assert_eq!((explained.deadline, explained.waits_for.len()), (None, 0), "{context}");
                    continue;
                }
                assert!(!explained.waits_for.is_empty(), "{context} names no reason: {line}");
                assert_eq!(explained.deadline, Some(at(DEADLINE_MS)), "{context}");
                assert!(explained.at_deadline.is_some(), "{context}");
                if let Some(held) = row.held() {
                    assert_eq!(explained.place, Place::Held, "{context}");
                    for part in
                        [held.reason.as_str(), held.reason.sentence(), "server crm", "20/s", "refused"]
                    {
                        assert!(line.contains(part), "{context} does not say `{part}`: {line}");
                    }
                    assert_eq!(explained.next_at, Some(at(60_000)), "{context}");
                    assert!(!explained.remedies.is_empty(), "{context}");
                }
            }
        }
    }
}

#[test]
fn each_state_has_its_place() {
    for (state, now, place) in [
        (State::Pending, 10, Place::InQueue),
        (State::Released, 10, Place::InQueue),
        (State::Claimed, 30_000, Place::Running),
        (State::Claimed, 30_001, Place::WorkerLost),
        (State::WaitingTask, 10, Place::AtServer),
        (State::AwaitingApproval, 10, Place::AwaitingApproval),
        (State::Done, 10, Place::Ended),
    ] {
        assert_eq!(by_row(Some(&row(state, None)), at(now)).place, place, "{state:?} at {now}");
    }
    assert_eq!(by_row(None, at(0)).place, Place::NotReceived);
    let event = Event::Cancel { key: key(), now: at(5), expires_at: at(1_000_000) };
    let ahead = by_row(Some(&stored(None, &event)), at(9));
    assert_eq!((ahead.place, ahead.cancel_requested_at), (Place::CancelledAhead, Some(at(5))));
    assert!(ahead.next.contains("ends as cancelled"), "{}", ahead.next);
}

#[test]
fn a_call_without_a_row_says_that_it_may_not_have_been_sent() {
    let none = workers(0, HolderSeen::NotKnown);
    let (key, queues) = (key(), [queue("default")]);
    let dead_letter = DeadLetterSeen::NotFound { looked_at: 300, all: false };
    let seen = Evidence {
        workers: Some(&none),
        queues: &queues,
        dead_letter: &dead_letter,
        control: None,
        row_only: false,
        ..Evidence::of_row(&key, None, at(0))
    };
    let explained = explain(&seen);
    let line = explained.line(at(0));
    for part in
        ["was never sent", "no worker reports", "about 12 visible, 3 in flight, 7 delayed", "up to 4.0 s"]
    {
        assert!(line.contains(part), "`{part}` is not in: {line}");
    }
    assert_eq!((explained.next_at, explained.deadline), (None, None), "neither is known");
    let not_known = explained.not_known.join("\n");
    for part in ["its deadline", "the fleet table was not read", "only 300 messages"] {
        assert!(not_known.contains(part), "`{part}` is not in: {not_known}");
    }
    assert!(explained.remedies.iter().any(|remedy| remedy.contains("start a worker")));
}

#[test]
fn what_was_read_is_not_listed_as_unknown() {
    let (key, queues, control) = (key(), [queue("default")], Control::default());
    let one = workers(1, HolderSeen::NotKnown);
    let row = row(State::Released, Some(HeldReason::Share));
    let seen = Evidence {
        workers: Some(&one),
        queues: &queues,
        control: Some(&control),
        dead_letter: &DeadLetterSeen::NotFound { looked_at: 2, all: true },
        row_only: false,
        ..Evidence::of_row(&key, Some(&row), at(10))
    };
    assert_eq!(explain(&seen).not_known, Vec::<String>::new());
}

#[test]
fn a_running_call_names_its_worker_its_attempt_and_its_lease() {
    let (key, mut row) = (key(), row(State::Claimed, Some(HeldReason::BackOff)));
    row.attempts = 2;
    for (holder, part) in [
        (HolderSeen::Reports(at(9)), "reported at"),
        (HolderSeen::SilentSince(at(1)), "has not reported since"),
        (HolderSeen::Absent, "has no row"),
    ] {
        let seen = workers(3, holder);
        let evidence =
            Evidence { workers: Some(&seen), row_only: false, ..Evidence::of_row(&key, Some(&row), at(10)) };
        let explained = explain(&evidence);
        let line = explained.line(at(10));
        assert!(line.contains("worker w1 runs it, attempt 3") && line.contains(part), "{line}");
        assert_eq!(explained.next_at, Some(at(30_000)));
        assert!(explained.at_deadline.unwrap().contains("timed_out"));
        assert!(explained.not_known.iter().any(|text| text.contains("timeout_ms")));
    }
    let lost = by_row(Some(&row), at(30_001));
    assert!(lost.next.contains("outcome_unknown"), "{}", lost.next);
}

/// A follower of an equal call and a member of a forming batch are claimed, and nothing of them was sent.
#[test]
fn a_call_before_its_first_attempt_may_wait_in_its_workers_hands() {
    let unknown = |row: &CallRow| {
        let explained = by_row(Some(row), at(10));
        let answer = explained.waits_for.first().unwrap().text.clone();
        (answer, explained.not_known.iter().any(|text| text.contains("whether its request was sent")))
    };
    let mut row = row(State::Claimed, None);
    assert_eq!(unknown(&row), ("the answer of its tool, or of an equal call".to_owned(), true));
    row.attempts = 1;
    assert_eq!(unknown(&row), ("the answer of its tool".to_owned(), false));
}

#[test]
fn an_overdue_try_waits_for_a_worker() {
    for state in [State::Pending, State::WaitingTask] {
        let row = row(state, Some(HeldReason::RateLimit));
        assert_eq!(by_row(Some(&row), at(65_000)).waits_for.len(), 1, "delays of SQS are no overdue try");
        let overdue = by_row(Some(&row), at(65_001));
        assert_eq!(overdue.waits_for[1].kind, WaitsForKind::Worker);
        assert!(overdue.next.contains("overdue"), "{}", overdue.next);
    }
    let task = by_row(Some(&row(State::WaitingTask, None)), at(45_001));
    assert!(task.next.contains("the poll is overdue"), "{}", task.next);
}

#[test]
fn a_rule_that_cancels_the_call_is_named_and_one_that_may_too() {
    let rule = |tenant: Option<&str>, tool: Option<&str>, sent_before: u64| {
        let filter = CallFilter {
            tenant: tenant.map(|tenant| Tenant::parse(tenant).unwrap()),
            tool: tool.map(str::to_owned),
            session: None,
            sent_before: at(sent_before),
        };
        let (id, by, why) = ("r1".to_owned(), "ann".to_owned(), "the user left".to_owned());
        ControlEntry::Cancel(CancelRule { id, filter, by, why, since: at(0), until: at(1_000_000) })
    };
    let row = row(State::Pending, Some(HeldReason::ServerUnreachable));
    let told = |rule: ControlEntry, row: Option<&CallRow>| {
        let (key, control) = (key(), Control::new(1, [rule], at(0)));
        let explained = explain(&Evidence { control: Some(&control), ..Evidence::of_row(&key, row, at(10)) });
        let certain = explained.next.contains("ends as cancelled, by an operator's rule r1 of ann");
        (certain, explained.not_known.iter().any(|text| text.contains("rule r1 of ann")))
    };
    assert_eq!(told(rule(Some("acme"), None, 10), Some(&row)), (true, false));
    assert_eq!(told(rule(Some("acme"), None, 10), None), (false, true), "it may be of later");
    assert_eq!(
        told(rule(Some("acme"), Some("crm.find"), 10), Some(&row)),
        (false, true),
        "no row knows its tool"
    );
    assert_eq!(told(rule(Some("acme"), None, 0), Some(&row)), (false, false), "it was sent later");
    assert_eq!(told(rule(Some("globex"), None, 10), Some(&row)), (false, false));
}

#[test]
fn a_pause_that_concerns_the_call_is_named_and_one_that_may_too() {
    let key = key();
    let digest = Digest::of_text("question").to_string().chars().take(12).collect();
    let strike = ControlEntry::Strike(Strike {
        digest,
        by: "ann".into(),
        why: "poison".into(),
        since: at(0),
        until: None,
    });
    let row = row(State::Pending, Some(HeldReason::RateLimit));
    let (pause, possible) = (Some(WaitsForKind::Pause), Some(WaitsForKind::PossiblePause));
    for (entry, with_row, without) in [
        (paused("tenant:acme", None, None), pause, pause),
        (paused("tenant:globex", None, None), None, None),
        (paused("server:crm", None, None), pause, possible),
        (paused("server:crm", Some("globex"), None), None, None),
        (paused("server:erp", None, None), None, possible),
        (paused("tool:crm.find", None, None), possible, possible),
        (paused("queue:default", None, None), pause, pause),
        (paused("queue:low", None, None), None, None),
        (strike, pause, None),
    ] {
        let name = format!("{entry:?}");
        let control = Control::new(1, [entry], at(0));
        let queues = [queue("default")];
        for (row, expected) in [(Some(&row), with_row), (None, without)] {
            let evidence =
                Evidence { control: Some(&control), queues: &queues, ..Evidence::of_row(&key, row, at(10)) };
            let explained = explain(&evidence);
            let kinds = [WaitsForKind::Pause, WaitsForKind::PossiblePause];
            let found = explained.waits_for.iter().find(|waits| kinds.contains(&waits.kind));
            assert_eq!(found.map(|waits| waits.kind), expected, "{name}, row: {}", row.is_some());
            if expected == pause {
                assert!(explained.line(at(10)).contains("ann"), "{}", explained.line(at(10)));
                assert!(explained.next.contains("when the pause is ended"), "{}", explained.next);
                assert_eq!(explained.next_at, None, "nobody knows when it is ended");
            }
        }
    }
}

#[test]
fn the_longest_pause_decides_when_a_call_goes_on() {
    let (key, row) = (key(), row(State::Released, Some(HeldReason::Paused)));
    let entries = [paused("server:crm", None, Some(90_000)), paused("tenant:acme", None, Some(400_000))];
    let control = Control::new(1, entries, at(0));
    let evidence = Evidence { control: Some(&control), ..Evidence::of_row(&key, Some(&row), at(10)) };
    assert_eq!(explain(&evidence).next_at, Some(at(400_000)));
    let entries = [paused("server:crm", None, Some(30_000))];
    let control = Control::new(1, entries, at(0));
    let evidence = Evidence { control: Some(&control), ..Evidence::of_row(&key, Some(&row), at(10)) };
    assert_eq!(explain(&evidence).next_at, Some(at(60_000)), "a parked call goes on at its next try");
}

#[test]
fn a_tool_pause_that_the_row_names_is_certain() {
    let (key, mut row) = (key(), row(State::Released, None));
    let control = Control::new(1, [paused("tool:crm.find", None, None)], at(0));
    let detail = control.switches[0].detail();
    row.held = Some(Box::new(Held::new(HeldReason::Paused, None, at(0), 60_000).with_detail(&detail)));
    let evidence = Evidence { control: Some(&control), ..Evidence::of_row(&key, Some(&row), at(10)) };
    assert_eq!(explain(&evidence).waits_for[1].kind, WaitsForKind::Pause);
}

#[test]
fn a_dead_letter_says_why_it_is_there_and_who_ends_it() {
    let key = key();
    let found = |reason: Option<&str>| {
        DeadLetterSeen::Found(DeadLetterFound {
            reason: reason.map(str::to_owned),
            first_sent: at(0),
            waited_until: at(0),
            deadline: Some(at(DEADLINE_MS)),
        })
    };
    let (often, kept) = (found(None), found(Some("undecodable")));
    let released = row(State::Released, Some(HeldReason::AwsError));
    for row in [None, Some(&released)] {
        let evidence =
            Evidence { dead_letter: &often, row_only: false, ..Evidence::of_row(&key, row, at(10)) };
        let explained = explain(&evidence);
        assert_eq!(explained.place, Place::DeadLetterQueue);
        assert!(explained.text.contains("received too often"), "{}", explained.text);
        assert_eq!((explained.next_at, explained.deadline), (Some(at(DEADLINE_MS)), Some(at(DEADLINE_MS))));
        assert!(explained.remedies.iter().any(|remedy| remedy.contains("dlq redrive")));
    }
    let evidence = Evidence { dead_letter: &kept, ..Evidence::of_row(&key, None, at(10)) };
    assert_eq!(explain(&evidence).next_at, None, "no worker ends what it cannot read");
    // A live claim and an end count for more than a second message of the call.
    for (state, place) in [(State::Claimed, Place::Running), (State::Done, Place::Ended)] {
        let row = row(state, None);
        let evidence = Evidence { dead_letter: &often, ..Evidence::of_row(&key, Some(&row), at(10)) };
        assert_eq!(explain(&evidence).place, place, "{state:?}");
    }
}

/// Else a call that waited for long would be ended before anybody could see it fail.
#[test]
fn a_dead_letter_is_due_so_long_after_its_own_message_was_sent() {
    let key = key();
    let letter =
        DeadLetterFound { reason: None, first_sent: at(0), waited_until: at(5_000_000), deadline: None };
    let found = DeadLetterSeen::Found(letter);
    let evidence = Evidence { dead_letter: &found, ..Evidence::of_row(&key, None, at(5_000_010)) };
    assert_eq!(explain(&evidence).next_at, Some(at(5_900_000)));
}

#[test]
fn a_cancelled_call_says_that_it_ends_as_cancelled() {
    let mut row = row(State::Released, Some(HeldReason::Share));
    row.cancel_requested_at = Some(at(5));
    assert!(by_row(Some(&row), at(10)).at_deadline.unwrap().contains("cancelled"));
}

fn worker_row(id: &str, reported_ms: u64) -> WorkerRow {
    let row = json!({
        "id": id, "boot": Nonce::from_random(3).to_string(), "version": "0.1.0", "started_at": at(0),
        "reported_at": at(reported_ms), "beat_ms": 5_000, "slots": 64, "busy": 3, "window_ms": 60_000,
        "slot_ms": {"acme": 3_000, "globex": 1_000},
    });
    serde_json::from_value(row).unwrap()
}

#[test]
fn the_workers_are_those_of_the_summary_while_it_is_renewed() {
    let (tenant, call) = (key().tenant, row(State::Claimed, None));
    let rows = [worker_row("w1", 1_000), worker_row("w2", 1_000)];
    let by = WorkerId::parse("w2").unwrap();
    let summary = FleetSummary::of(&rows, at(2_000), by);
    let seen = |rows, call, now_ms| WorkersSeen::of(&summary, rows, &tenant, call, at(now_ms));
    let now = seen(Some(&rows[..]), Some(&call), 3_000);
    assert_eq!((now.alive, now.slots, now.busy, now.tenant_share), (2, 128, 6, Some(0.75)));
    assert_eq!(now.holder, HolderSeen::Reports(at(1_000)));
    assert_eq!(seen(Some(&rows[..]), Some(&call), 20_000).holder, HolderSeen::SilentSince(at(1_000)));
    assert_eq!(seen(Some(&rows[1..]), Some(&call), 3_000).holder, HolderSeen::Absent);
    assert_eq!(seen(None, Some(&call), 3_000).holder, HolderSeen::NotKnown);
    let released = row(State::Released, None);
    assert_eq!(seen(Some(&rows[..]), Some(&released), 3_000).holder, HolderSeen::NotKnown);
    assert_eq!(seen(None, None, 30_000).alive, 0, "a summary that nobody renews says that no worker lives");
}

#[test]
fn a_call_that_waits_for_its_share_names_the_share() {
    let (key, row) = (key(), row(State::Released, Some(HeldReason::Share)));
    let mut row = row;
    row.held.as_mut().unwrap().detail = None;
    let seen = workers(3, HolderSeen::NotKnown);
    let evidence = Evidence { workers: Some(&seen), ..Evidence::of_row(&key, Some(&row), at(10)) };
    let line = explain(&evidence).line(at(10));
    assert!(line.contains("its tenant had 42 % of the workers' time"), "{line}");
}

#[test]
fn an_explanation_is_json_with_instants_as_texts() {
    let explained = by_row(Some(&row(State::Pending, Some(HeldReason::RateLimit))), at(10));
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!((&json["place"], &json["state"]), (&"held".into(), &"pending".into()));
    assert_eq!(json["waits_for"][0]["for"], "held");
    assert_eq!(json["waits_for"][0]["server"], "crm");
    assert_eq!(json["next_at"], at(60_000).to_string());
}
