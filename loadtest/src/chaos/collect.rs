//! Collects the evidence of a chaos run: rows, audit records, notices, the servers' ledger and the turns in the workers' log.
//!
//! The workers have exited by then, so nothing changes while it reads.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context as _;
use toolfleet_client::{CallResult, CallStatus};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::time::Timestamp;

use super::callers::{Notices, request};
use super::evidence::{CallSeen, Ended, Evidence, Narrow, Open, Rated, Start};
use super::ledger::Request;
use super::plan::{ChaosCall, Plan, Repeats, Server, TENANTS};
use super::rig::Rig;
use super::servers::answer_text;
use crate::flow::server::Execution;
use crate::flow::turns;

/// How many rows are read in one request of the client.
const ROWS: usize = 1_000;
/// An answer that the server gave later may have come after the end of the attempt.
const MAY_BE_TOO_LATE_US: u64 = 2_000_000;
/// What a worker sends so soon after it was frozen may have been checked before.
const AFTER_FREEZE_US: u64 = 1_000_000;

/// What the run leaves beside its rows and records.
pub(crate) struct Left<'a> {
    pub(crate) sent: &'a HashSet<String>,
    pub(crate) notices: &'a Notices,
    pub(crate) started_at: Timestamp,
    pub(crate) rate: u32,
    pub(crate) concurrency: u32,
}

/// Collects the evidence about all calls of the plan.
pub(crate) async fn collect(plan: &Plan, rig: &Rig, left: &Left<'_>) -> anyhow::Result<Evidence> {
    let requests = rig.servers.ledger().requests();
    let mut seen = Seen::new(plan, left);
    seen.rows(&plan.calls, rig).await?;
    seen.audits(plan.calls.len(), rig, left.started_at).await?;
    seen.executions(&requests);
    seen.writes(rig);
    let log = std::fs::read_to_string(rig.bed.folder.log()).context("cannot read the workers' log")?;
    let lost_leases = seen.lost_leases(&log);
    let calls = plan.calls.iter().filter_map(|call| seen.calls.remove(&call.id)).collect();
    let mut strangers: Vec<_> = seen.strangers.into_iter().collect();
    strangers.sort_unstable();
    let (messages_left, dead_letters) = super::drive::all_messages(rig).await?;
    Ok(Evidence {
        calls,
        strangers,
        rated: rated(&requests, rig, &log, left.rate),
        narrow: narrow(&requests, rig, left.concurrency),
        messages_left,
        dead_letters,
        bad_exits: Vec::new(),
        injected: BTreeMap::new(),
        lost_leases,
    })
}

struct Seen {
    calls: HashMap<String, CallSeen>,
    strangers: HashSet<String>,
}

impl Seen {
    fn new(plan: &Plan, left: &Left<'_>) -> Self {
        let mut notices = left.notices.all();
        let one = |call: &ChaosCall| CallSeen {
            id: call.id.clone(),
            server: call.server.name(),
            safe: call.repeats != Repeats::Once,
            sent: left.sent.contains(&call.id),
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

    async fn rows(&mut self, calls: &[ChaosCall], rig: &Rig) -> anyhow::Result<()> {
        for calls in calls.chunks(ROWS) {
            let keys = calls.iter().map(|call| Ok(request(call, &rig.bed.addresses.idle_queue)?.key));
            let keys: Vec<CallKey> = keys.collect::<anyhow::Result<_>>()?;
            for (status, call) in rig.client.status_many(&keys).await?.into_iter().zip(calls) {
                if let CallStatus::Ended(result) = status
                    && let Some(seen) = self.calls.get_mut(&call.id)
                {
                    seen.ended = Some(ended(call, &result));
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
            let records = rig.client.history().by_hours(&Tenant::parse(tenant)?, from, to, limit).await?;
            anyhow::ensure!(records.len() < limit, "there are {limit} audit records or more of {tenant}");
            for record in records {
                let Some(call) = self.call(record.call_id.as_str()) else { continue };
                match record.kind {
                    AuditKind::Call => call.audits.push(record.outcome),
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

    fn executions(&mut self, requests: &[Request]) {
        for request in requests {
            let Some(call) = self.call(&request.call) else { continue };
            call.requests += 1;
            call.executions += u32::from(request.ran);
            let took_us = request.end_us.map_or(0, |end| end - request.at_us);
            call.cut_at_server |= request.fate.is_cut() || took_us > MAY_BE_TOO_LATE_US;
        }
    }

    /// Marks the calls whose leases ran out in a living worker, because its tables did not answer in time. Returns how many there were.
    fn lost_leases(&mut self, log: &str) -> u64 {
        let mut lost = 0;
        for id in log.lines().filter_map(lost_lease) {
            lost += 1;
            if let Some(call) = self.call(&id) {
                call.cut_at_worker = true;
            }
        }
        lost
    }

    fn writes(&mut self, rig: &Rig) {
        for (id, row) in rig.writes.take() {
            if row.is_cut(&rig.losses)
                && let Some(call) = self.call(&id)
            {
                call.cut_at_worker = true;
            }
        }
    }
}

/// The call whose lease a worker says that it has lost, in a line of its log.
fn lost_lease(line: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Line {
        call: String,
        code: String,
    }
    let Line { call, code } = serde_json::from_str(line).ok()?;
    (code == "lease_lost").then(|| call.rsplit('#').next().unwrap_or_default().to_owned())
}

fn ended(call: &ChaosCall, result: &CallResult) -> Ended {
    let text = result.outcome.content().and_then(|content| {
        let content: serde_json::Value = serde_json::from_str(content.get()).ok()?;
        content.pointer("/content/0/text").and_then(|text| text.as_str().map(str::to_owned))
    });
    Ended {
        kind: result.outcome.kind,
        code: result.outcome.error.as_ref().map(|error| error.code.as_str()),
        may_have_run: result.outcome.error.as_ref().map(|error| error.may_have_run),
        own_answer: text.is_some_and(|text| text == answer_text(&call.id, call.bytes)),
    }
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

fn rated(requests: &[Request], rig: &Rig, log: &str, rate: u32) -> Rated {
    let ledger = rig.servers.ledger();
    // The start of the servers' clock since 1970, to a millisecond.
    let now_ms = u64::try_from((rig.bed.clock)().as_ms()).unwrap_or(0);
    let used = turns::in_log(log, (now_ms * 1_000).saturating_sub(ledger.now_us()));
    let executions = of_server(requests, Server::Rated, ledger.now_us());
    let delays = turns::delays(&used, executions.iter());
    let start = |(execution, delay_us): (&Execution, Option<u64>)| Start { at_us: execution.at_us, delay_us };
    Rated {
        limit: usize::try_from(rate).unwrap_or(usize::MAX),
        turns: used.iter().map(|turn| turn.at_us).collect(),
        starts: executions.iter().zip(delays).map(start).collect(),
    }
}

fn narrow(requests: &[Request], rig: &Rig, concurrency: u32) -> Narrow {
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
    Narrow { limit: usize::try_from(concurrency).unwrap_or(usize::MAX), requests: of_it.map(open).collect() }
}
