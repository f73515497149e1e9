//! Collects the evidence of a chaos run: rows, audit records, notices, the servers' ledger and the turns in the workers' log.
//!
//! The workers have exited by then, so nothing changes while it reads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use toolfleet_client::{CallResult, CallStatus};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::group::GroupNotice;
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::Priority;
use toolfleet_core::time::Timestamp;

use super::behaviour::TaskEnd;
use super::callers::{Callers, Notices, Sent, until_accepted};
use super::changes::{Unread, in_effect, known};
use super::decisions::Decisions;
use super::drive::Faults;
use super::evidence::{
    Attempt, CallSeen, Ended, EndlessTask, Evidence, GroupSeen, InEffect, Narrow, Open, Rated, SharedRequest,
    Start,
};
use super::ledger::{Brings, Fate, Request};
use super::operators::asked;
use super::plan::{ChaosCall, ChaosGroup, Limits, Plan, Repeats, Server, TENANTS, tool};
use super::rig::Rig;
use super::served::Served;
use super::servers::{answer_text, run_in};
use super::writes::{Loss, RowWrites, SentBy, Thaw};
use crate::flow::server::{Execution, micros};
use crate::flow::turns;

/// How many rows are read in one request of the client.
const ROWS: usize = 1_000;
/// An answer that the server gave later may have come after the end of the attempt.
const MAY_BE_TOO_LATE_US: u64 = 2_000_000;
/// For so long a worker hides dead letters that it reads.
const SCAN_HIDES_US: u64 = 60_000_000;
/// What a worker sends so soon after it was frozen may have been checked before.
const AFTER_FREEZE_US: u64 = 1_000_000;

/// What the run leaves beside its rows and records.
pub(crate) struct Left<'a> {
    pub(crate) callers: &'a Callers,
    pub(crate) sent: &'a Sent,
    pub(crate) notices: &'a Notices,
    pub(crate) decisions: &'a Decisions,
    pub(crate) faults: &'a Faults,
    pub(crate) limits: Limits,
}

/// Collects the evidence about all calls of the plan.
pub(crate) async fn collect(rig: &Rig, left: &Left<'_>) -> anyhow::Result<Evidence> {
    let plan = left.callers.plan.as_ref();
    let requests = rig.servers.ledger().requests();
    let mut seen = Seen::new(plan, rig, left);
    seen.rows(left.callers, rig).await?;
    seen.audits(plan.calls.len(), rig, left.callers.started_at).await?;
    seen.executions(&requests, &rig.thaws, &left.faults.unread);
    seen.tasks(rig);
    seen.writes(rig, &requests);
    let log = rig.bed.folder.log()?;
    let lost_leases = seen.lost_leases(&log);
    let answers_after_loss = seen.answers_after_loss(&rig.losses);
    let served = seen.dues(plan, clock_start_us(rig));
    seen.dead_letters(&log);
    let groups = groups(rig, left, &starts(plan, &seen.calls), &served).await?;
    let calls: Vec<_> = plan.calls.iter().filter_map(|call| seen.calls.remove(&call.id)).collect();
    let backlog_us = backlog_us(&calls, clock_start_us(rig));
    let mut strangers: Vec<_> = seen.strangers.into_iter().collect();
    strangers.sort_unstable();
    let faults = left.faults;
    let (messages_left, dead_letters) = super::drive::all_messages(rig).await?;
    Ok(Evidence {
        calls,
        groups,
        redrives: left.sent.redrives.clone(),
        shared: shared(&requests),
        strangers,
        rated: rated(&requests, rig, &log, in_effect(left.limits.rate, &faults.rate, &faults.unread)),
        narrow: narrow(
            &requests,
            rig,
            in_effect(left.limits.concurrency, &faults.concurrency, &faults.unread),
        ),
        messages_left,
        dead_letters,
        bad_exits: Vec::new(),
        own_ends: Vec::new(),
        stops: faults.operators.stops(&faults.unread),
        injected: BTreeMap::new(),
        used: BTreeMap::new(),
        redelivered_within_us: micros(faults.redelivered_within()) + served.longest_us(),
        done_within_us: micros(faults.redelivered_within()) + backlog_us,
        lost_leases,
        answers_after_loss,
    })
}

struct Seen {
    calls: HashMap<String, CallSeen>,
    strangers: HashSet<String>,
}

impl Seen {
    fn new(plan: &Plan, rig: &Rig, left: &Left<'_>) -> Self {
        let mut notices = left.notices.all().calls;
        let start_us = micros(left.callers.start - rig.servers.ledger().start_of_clock());
        let one = |call: &ChaosCall| CallSeen {
            id: call.id.clone(),
            tenant: call.tenant,
            server: call.server.name(),
            question: call
                .question
                .as_ref()
                .map(|question| asked(question, &tool(call.server, call.repeats))),
            supersede: call.supersede.clone(),
            not_before_us: call.not_before.map(|_later| start_us + micros(call.due())),
            safe: call.is_safe(),
            claimless: call.repeats == Repeats::Claimless,
            sent: left.sent.ids.contains(&call.id),
            resumes: call.resumes.clone(),
            redrives: call.redrives.clone(),
            first_end: left.sent.ends.get(&call.id).copied(),
            notice: call.notice,
            notices: notices.remove(&call.id).unwrap_or_default(),
            ..CallSeen::default()
        };
        let calls = plan.calls.iter().map(one).map(|call| (call.id.clone(), call)).collect();
        Self { calls, strangers: HashSet::new() }
    }

    /// The call of that id; if there is none, the id is noted as a stranger's.
    fn call(&mut self, id: &str) -> Option<&mut CallSeen> {
        if !self.calls.contains_key(id) {
            self.strangers.insert(id.to_owned());
        }
        self.calls.get_mut(id)
    }

    async fn rows(&mut self, callers: &Callers, rig: &Rig) -> anyhow::Result<()> {
        for calls in callers.plan.calls.chunks(ROWS) {
            let keys: Vec<CallKey> = calls.iter().map(Callers::key).collect::<anyhow::Result<_>>()?;
            let statuses = until_accepted(|| rig.client.status_many(&keys)).await?;
            for (status, call) in statuses.into_iter().zip(calls) {
                if let CallStatus::Ended(result) = status
                    && let Some(seen) = self.calls.get_mut(&call.id)
                {
                    let text = text_of(&result);
                    seen.ended = Some(ended(call, &result, text.as_deref(), clock_start_us(rig)));
                    seen.enqueued_ms = Some(result.enqueued_at.as_ms());
                    seen.answer_of =
                        text.zip(call.question.as_ref()).and_then(|(t, asked)| run_in(&t, asked));
                }
            }
        }
        Ok(())
    }

    async fn audits(&mut self, calls: usize, rig: &Rig, from: Timestamp) -> anyhow::Result<()> {
        // More than three records of each call are a failure, however many there are.
        let limit = calls.saturating_mul(3).max(100);
        let to = (rig.bed.clock)().plus_ms(1_000);
        for tenant in TENANTS {
            let (tenant_id, history) = (Tenant::parse(tenant)?, rig.client.history());
            let records = until_accepted(|| history.by_hours(&tenant_id, from, to, limit)).await?;
            anyhow::ensure!(records.len() < limit, "there are {limit} audit records or more of {tenant}");
            for record in records {
                let Some(call) = self.call(record.call_id.as_str()) else { continue };
                match record.kind {
                    AuditKind::Call => {
                        call.audits.push(record.outcome);
                        call.cached_from = record.cached_from.or(call.cached_from.take());
                    }
                    kind @ (AuditKind::LateAnswer
                    | AuditKind::IdempotencyMismatch
                    | AuditKind::Duplicate
                    | AuditKind::Undecodable
                    | AuditKind::TenantNotAllowed
                    | AuditKind::Switch) => call.other_audits.push(kind),
                }
            }
        }
        Ok(())
    }

    fn executions(&mut self, requests: &[Request], thaws: &[Thaw], unread: &[Unread]) {
        let after_freeze = |request: &Request| {
            let knows_nothing = |thaw: &Thaw| {
                let until_us = known(thaw.at_us, unread) + AFTER_FREEZE_US;
                thaw.worker == request.worker && (thaw.at_us..until_us).contains(&request.at_us)
            };
            thaws.iter().any(knows_nothing)
        };
        for request in requests {
            let Some(call) = self.call(&request.call) else { continue };
            call.requests += 1;
            call.attempts.push(Attempt { at_us: request.at_us, after_freeze: after_freeze(request) });
            call.first_request_us.get_or_insert(request.at_us);
            call.worker.get_or_insert_with(|| request.worker.clone());
            call.executions += u32::from(request.ran);
            call.asked += u32::from(request.fate == Fate::Asked);
            call.answers += u32::from(request.brings == Brings::Answer && request.fate != Fate::Refused);
            call.foreign_answers += u32::from(request.brings == Brings::Foreign);
            let took_us = request.end_us.map_or(0, |end| end - request.at_us);
            call.cut_at_server |= request.fate.is_cut() || took_us > MAY_BE_TOO_LATE_US;
        }
    }

    /// Gives calls that workers ended as dead letters more time: a worker that dies meanwhile has hidden the letter for a minute.
    fn dead_letters(&mut self, log: &str) {
        for id in log.lines().filter_map(|line| call_with(line, "dead_lettered")) {
            if let Some(call) = self.call(&id) {
                call.due_us = call.due_us.map(|due_us| due_us + SCAN_HIDES_US);
            }
        }
    }

    /// Notes by when each call was to end. Returns by when workers had come to what was sent.
    fn dues(&mut self, plan: &Plan, start_us: u64) -> Served {
        let sent_us = |seen: &CallSeen| {
            let sent_us = u64::try_from(seen.enqueued_ms?).ok()?.saturating_mul(1_000);
            Some(sent_us.saturating_sub(start_us))
        };
        let start = |call: &ChaosCall| {
            let waits = call.not_before.is_some() || call.deadly.is_some();
            let seen = self.calls.get(&call.id).filter(|_| !waits)?;
            Some((call.priority, sent_us(seen)?, seen.first_request_us?))
        };
        let served = Served::new(plan.calls.iter().filter_map(start));
        for call in &plan.calls {
            let Some(seen) = self.calls.get_mut(&call.id) else { continue };
            let begins_us = seen.not_before_us.or_else(|| sent_us(seen));
            let due = |us| served.by(call.priority, us + call.timeout_ms.saturating_mul(1_000));
            seen.due_us = begins_us.map(due);
        }
        served
    }

    fn tasks(&mut self, rig: &Rig) {
        for task in rig.servers.tasks() {
            let Some(call) = self.call(&task.call) else { continue };
            if task.end == TaskEnd::Never {
                let (id, cancelled, handed_us) = (task.id, task.cancelled, task.handed_us);
                call.endless.push(EndlessTask { id, cancelled, handed_us, known: false });
            }
            call.tasks_cancelled += u32::from(task.cancelled);
            call.polled_elsewhere |= task.polled_by.iter().any(|polled| *polled != task.worker);
        }
    }

    /// Marks the calls whose leases ran out in a living worker, because its tables did not answer in time. Returns how many there were.
    fn lost_leases(&mut self, log: &str) -> u64 {
        let mut lost = 0;
        for id in log.lines().filter_map(|line| call_with(line, "lease_lost")) {
            lost += 1;
            if let Some(call) = self.call(&id) {
                call.cut_at_worker = true;
            }
        }
        lost
    }

    /// Answers that were given after the worker that got the question was killed or frozen.
    fn answers_after_loss(&self, losses: &[Loss]) -> u64 {
        let is_after = |answer: &&CallSeen| {
            let asked = answer.resumes.as_ref().and_then(|id| self.calls.get(id));
            let times = asked.and_then(|asked| asked.first_request_us.zip(answer.first_request_us));
            let worker = asked.and_then(|asked| asked.worker.as_ref());
            let lost = |loss: &Loss| {
                Some(&loss.worker) == worker
                    && times.is_some_and(|(from, to)| (from..=to).contains(&loss.at_us))
            };
            losses.iter().any(lost)
        };
        u64::try_from(self.calls.values().filter(is_after).count()).unwrap_or(u64::MAX)
    }

    fn writes(&mut self, rig: &Rig, requests: &[Request]) {
        let mut sent: HashMap<&str, Vec<SentBy>> = HashMap::new();
        for Request { call, worker, at_us, .. } in requests {
            sent.entry(call).or_default().push(SentBy { worker: worker.clone(), at_us: *at_us });
        }
        let mut rows = rig.writes.take();
        // A call without a claim may have no write at all.
        let unwritten: Vec<_> =
            sent.keys().filter(|call| !rows.contains_key(**call)).map(|call| (*call).to_owned()).collect();
        rows.extend(unwritten.into_iter().map(|call| (call, RowWrites::default())));
        for (id, row) in rows {
            if let Some(call) = self.call(&id) {
                let sent = sent.get(id.as_str()).map_or(&[][..], Vec::as_slice);
                call.cut_at_worker |= row.is_cut(&rig.losses, sent);
                call.claimed_us = row.first_claim_us(&rig.thaws);
                call.endless.iter_mut().for_each(|task| task.known = row.names(&task.id));
            }
        }
    }
}

/// The call of which a worker says that, in a line of its log.
fn call_with(line: &str, said: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Line {
        call: String,
        code: String,
    }
    let Line { call, code } = serde_json::from_str(line).ok()?;
    (code == said).then(|| call.rsplit('#').next().unwrap_or_default().to_owned())
}

/// The text of the stored answer, if there is one.
fn text_of(result: &CallResult) -> Option<String> {
    let content: serde_json::Value = serde_json::from_str(result.outcome.content()?.get()).ok()?;
    content.pointer("/content/0/text").and_then(|text| text.as_str().map(str::to_owned))
}

fn ended(call: &ChaosCall, result: &CallResult, text: Option<&str>, start_us: u64) -> Ended {
    let own = |text| match &call.question {
        Some(question) => run_in(text, question).is_some(),
        None => text == answer_text(&call.id, call.bytes),
    };
    Ended {
        kind: result.outcome.kind,
        code: result.outcome.error.as_ref().map(|error| error.code.as_str()),
        may_have_run: result.outcome.error.as_ref().map(|error| error.may_have_run),
        own_answer: text.is_some_and(own),
        at_us: us_of(result.finished_at).saturating_sub(start_us),
    }
}

/// How long a message waited in the queue at most before it was received: as long as those whose calls had expired by then. On a machine that
/// cannot keep up, one that is delivered again waits as long.
fn backlog_us(calls: &[CallSeen], start_us: u64) -> u64 {
    let expired = calls.iter().filter_map(|call| {
        let end = call.ended.filter(|end| end.kind == OutcomeKind::Expired)?;
        let enqueued_us = u64::try_from(call.enqueued_ms?).ok()?.saturating_mul(1_000);
        Some((end.at_us + start_us).saturating_sub(enqueued_us))
    });
    expired.max().unwrap_or(0)
}

/// An instant in microseconds since 1970.
fn us_of(at: Timestamp) -> u64 {
    u64::try_from(at.as_ms()).unwrap_or(0) * 1_000
}

/// When each call of normal priority was sent that waits for nothing, and when the first of those that were sent no earlier came to its server:
/// by then a worker has about come to what was sent before.
fn starts(plan: &Plan, seen: &HashMap<String, CallSeen>) -> Vec<(Duration, u64)> {
    let plain =
        plan.calls.iter().filter(|call| call.priority == Priority::Normal && call.not_before.is_none());
    let mut starts: Vec<_> =
        plain.filter_map(|call| Some((call.at, seen.get(&call.id)?.first_request_us?))).collect();
    starts.sort_unstable();
    let mut first_us = u64::MAX;
    for (_, at_us) in starts.iter_mut().rev() {
        first_us = first_us.min(*at_us);
        *at_us = first_us;
    }
    starts
}

/// What was seen of the groups of which a member was sent.
async fn groups(
    rig: &Rig,
    left: &Left<'_>,
    starts: &[(Duration, u64)],
    served: &Served,
) -> anyhow::Result<Vec<GroupSeen>> {
    let notices = left.notices.all().groups;
    let mut seen = Vec::new();
    let start_us = micros(left.callers.start - rig.servers.ledger().start_of_clock());
    let is_sent = |group: &&ChaosGroup| group.members.iter().any(|id| left.sent.ids.contains(id));
    for group in left.callers.plan.groups.iter().filter(is_sent) {
        let key = group.key()?;
        let row = until_accepted(|| rig.fleet.group(&key)).await?;
        let id = key.to_string();
        let of_group = |notice: &&GroupNotice| {
            (&notice.tenant, &notice.group, notice.round) == (&key.tenant, &key.id, key.round)
        };
        seen.push(GroupSeen {
            first: left.decisions.first(&key),
            id,
            round: group.round,
            policy: group.policy,
            size: group.size,
            deadline: left.callers.instant(group.deadline),
            cancelled: group.cancelled_at.is_some(),
            cancelled_us: group.cancelled_at.and_then(|at| {
                let at = at.max(group.first_at);
                let (_, first_us) = starts.get(starts.partition_point(|(sent, _)| *sent <= at))?;
                Some((start_us + micros(at)).max(*first_us))
            }),
            decided_us: row
                .as_ref()
                .and_then(|row| row.decision)
                .map(|decision| us_of(decision.at).saturating_sub(clock_start_us(rig))),
            // A group of which no member was received is unknown.
            due_us: Some(served.by_all(start_us + micros(group.deadline.max(group.first_at)))),
            read_us: left
                .decisions
                .first_at(&key)
                .map(|at| micros(at - rig.servers.ledger().start_of_clock())),
            members: group.members.clone(),
            decision: row.as_ref().and_then(|row| row.decision),
            ok: row.as_ref().map(|row| row.ok.clone()).unwrap_or_default(),
            failed: row.map(|row| row.failed).unwrap_or_default(),
            notices: notices.iter().filter(of_group).cloned().collect(),
        });
    }
    Ok(seen)
}

/// The requests that served several calls.
fn shared(requests: &[Request]) -> Vec<SharedRequest> {
    let of_one = requests.chunk_by(|one, next| one.number == next.number).filter(|calls| calls.len() > 1);
    let request = |calls: &[Request]| SharedRequest {
        server: calls.first().map_or("", |request| request.server),
        calls: calls.iter().map(|request| request.call.clone()).collect(),
    };
    of_one.map(request).collect()
}

/// The requests to that server, as the counts of flow scenarios take them.
fn of_server(requests: &[Request], server: Server, now_us: u64) -> Vec<Execution> {
    let of_it = requests.iter().filter(|request| request.server == server.name());
    let execution = |request: &Request| Execution {
        call: request.call.clone(),
        server: request.server.to_owned(),
        at_us: request.at_us,
        end_us: Some(request.end_us.unwrap_or(now_us)),
        abandoned: false,
    };
    of_it.map(execution).collect()
}

/// The start of the servers' clock, in microseconds since 1970, to a millisecond.
fn clock_start_us(rig: &Rig) -> u64 {
    let now_ms = u64::try_from((rig.bed.clock)().as_ms()).unwrap_or(0);
    (now_ms * 1_000).saturating_sub(rig.servers.ledger().now_us())
}

fn rated(requests: &[Request], rig: &Rig, log: &str, limits: Vec<InEffect>) -> Rated {
    let ledger = rig.servers.ledger();
    let used = turns::in_log(log, clock_start_us(rig));
    let executions = of_server(requests, Server::Rated, ledger.now_us());
    let delays = turns::delays(&used, executions.iter());
    let start = |(execution, delay_us): (&Execution, Option<u64>)| Start { at_us: execution.at_us, delay_us };
    Rated {
        limits,
        turns: used.iter().map(|turn| turn.at_us).collect(),
        starts: executions.iter().zip(delays).map(start).collect(),
    }
}

fn narrow(requests: &[Request], rig: &Rig, limits: Vec<InEffect>) -> Narrow {
    let now_us = rig.servers.ledger().now_us();
    let of_it = requests.iter().filter(|request| request.server == Server::Narrow.name());
    let after_freeze = |request: &Request| {
        rig.thaws.iter().any(|thaw| {
            thaw.worker == request.worker
                && (thaw.at_us..thaw.at_us + AFTER_FREEZE_US).contains(&request.at_us)
        })
    };
    let open = |request: &Request| Open {
        from_us: request.at_us,
        to_us: request.end_us.unwrap_or(now_us),
        after_freeze: after_freeze(request),
    };
    Narrow { limits, requests: of_it.map(open).collect() }
}
