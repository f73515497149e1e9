//! The rig of a flow scenario: endpoints, MCP servers and worker processes; it sends calls, waits for them and checks that each has ended.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use toolfleet_client::{AwsError, CallStatus, Client};
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::CallRequest;

use super::calls::FlowCall;
use super::server::{Execution, FlowServer, micros};
use crate::bed::{Bed, Front, WorkerSettings};
use crate::evidence::messages_left;
use crate::stored::StoredTimes;
use crate::traffic::Counts;
use crate::worker::Workers;

/// How long workers get to start before the load.
const SETTLE: Duration = Duration::from_millis(1_500);
/// The interval of polls of the queue's depth.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How many rows are read in one request of the client.
const ROWS: usize = 1_000;
/// How many sends of a backlog run at once.
const SENDERS: usize = 500;

/// What the scenarios start differently.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    pub(crate) binary: Option<&'a Path>,
    pub(crate) workers: u32,
    pub(crate) slots: u32,
    pub(crate) lease_ms: u32,
    /// Servers that accept connections and answer nothing.
    pub(crate) silent: &'a [&'a str],
    /// Whether there are queues for calls of high and of low priority.
    pub(crate) priority_queues: bool,
    /// Whether the catalog allows notices to the queue that is else empty.
    pub(crate) reply_queue: bool,
    /// Whether requests to AWS are counted; the proxy that counts makes other figures worse.
    pub(crate) counted: bool,
    /// How much longer a worker's request to SQS takes to arrive, and its answer: the embedded endpoints answer in less than a millisecond.
    pub(crate) sqs_one_way: Duration,
    /// Where it is recorded when each result was stored, if it is.
    pub(crate) stored: Option<StoredTimes>,
    /// Other variables of the workers.
    pub(crate) environment: &'a [(&'a str, String)],
}

impl Setup<'_> {
    fn front(&self) -> Option<Front> {
        let sqs_one_way = self.sqs_one_way;
        let counts = match &self.stored {
            Some(stored) => Counts::with_stored(stored.clone()),
            None if self.counted => Counts::with_receives(),
            None if sqs_one_way.is_zero() => return None,
            None => Counts::default(),
        };
        Some(Front { counts, sqs_one_way })
    }
}

/// Running endpoints, servers and workers. Dropping it kills the workers.
pub(crate) struct Rig {
    pub(crate) bed: Bed,
    pub(crate) server: FlowServer,
    pub(crate) workers: Workers,
    pub(crate) killed: HashSet<String>,
}

impl Rig {
    /// Starts endpoints, servers and workers with the catalog that `catalog` makes of the servers.
    pub(crate) async fn start(
        setup: &Setup<'_>,
        catalog: impl FnOnce(&FlowServer) -> Value,
    ) -> anyhow::Result<Self> {
        let server = FlowServer::start(setup.silent).await?;
        let mut bed = Bed::create(false, setup.front()).await?;
        let mut catalog = catalog(&server);
        if let Some(catalog) = catalog.as_object_mut().filter(|_| setup.reply_queue) {
            catalog.insert("reply_queues".to_owned(), json!([bed.addresses.idle_queue]));
        }
        bed.write_catalog(&catalog.to_string())?;
        let settings = WorkerSettings { binary: setup.binary, slots: setup.slots, lease_ms: setup.lease_ms };
        let mut command = bed.worker(settings)?;
        let more = setup.environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        command.environment.extend(more);
        if setup.priority_queues {
            let (high, low) = (bed.addresses.high_queue.clone(), bed.addresses.low_queue.clone());
            bed.client = bed.client.clone().with_priority_queues(Some(&high), Some(&low));
            let queues = [("TOOLFLEET_QUEUE_URL_HIGH", high), ("TOOLFLEET_QUEUE_URL_LOW", low)];
            command.environment.extend(queues.map(|(name, url)| (name.to_owned(), url)));
        }
        let mut workers = Workers::new(command);
        (0..setup.workers).try_for_each(|_| workers.start_one())?;
        tokio::time::sleep(SETTLE).await;
        workers.check()?;
        bed.start_counting();
        Ok(Self { bed, server, workers, killed: HashSet::new() })
    }

    /// Kills the worker at that position with SIGKILL and returns its name.
    pub(crate) fn kill(&mut self, position: usize) -> anyhow::Result<String> {
        let name = self.workers.kill_at(position)?;
        self.killed.insert(name.clone());
        Ok(name)
    }

    /// Sends each call at its time after now, whether or not earlier calls have ended. Returns the start of sending on the servers' clock.
    pub(crate) async fn send(&self, calls: &[FlowCall]) -> anyhow::Result<u64> {
        let start = Instant::now();
        send_to(&self.bed.client, calls, start).await?;
        Ok(micros(start.duration_since(self.server.start_of_clock())))
    }

    /// Waits until the queues of calls are empty; false if it is not within that time.
    pub(crate) async fn until_empty(&mut self, most: Duration) -> anyhow::Result<bool> {
        let until = Instant::now() + most;
        while messages_left(&self.bed.client).await? > 0 {
            if Instant::now() >= until {
                return Ok(false);
            }
            self.workers.check()?;
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(true)
    }

    /// Waits until that many requests are open at the servers.
    pub(crate) async fn until_open(&self, wanted: usize) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        while self.server.executions().iter().filter(|e| e.end_us.is_none()).count() < wanted {
            anyhow::ensure!(Instant::now() < until, "the workers did not start {wanted} calls within 30 s");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// How each call ended; a call that has not is left out.
    pub(crate) async fn outcomes(&self, calls: &[FlowCall]) -> anyhow::Result<HashMap<String, OutcomeKind>> {
        outcomes(&self.bed.client, calls).await
    }

    /// The violations of calls that must all succeed. `repeats`: a worker was killed, so a call may be executed again.
    pub(crate) async fn verify(&self, calls: &[FlowCall], repeats: bool) -> anyhow::Result<Vec<String>> {
        let outcomes = self.outcomes(calls).await?;
        Ok(violations(calls, &outcomes, &self.server.executions(), repeats))
    }

    /// Prints where the workers' log is, with its last lines.
    pub(crate) fn keep_log(&mut self) {
        eprintln!("{}", self.bed.folder.keep());
    }
}

/// How each call ended; a call that has not is left out.
pub(crate) async fn outcomes(
    client: &Client,
    calls: &[FlowCall],
) -> anyhow::Result<HashMap<String, OutcomeKind>> {
    let keys = calls.iter().map(|call| Ok(call.request()?.key));
    let keys: Vec<CallKey> = keys.collect::<anyhow::Result<_>>()?;
    let mut outcomes = HashMap::new();
    for (keys, calls) in keys.chunks(ROWS).zip(calls.chunks(ROWS)) {
        let statuses = client.status_many(keys).await?;
        for (status, call) in statuses.into_iter().zip(calls) {
            if let CallStatus::Ended(result) = status {
                outcomes.insert(call.id.clone(), result.outcome.kind);
            }
        }
    }
    Ok(outcomes)
}

/// Puts all calls into the queue at once.
pub(crate) async fn send_all(client: &Client, calls: &[FlowCall]) -> anyhow::Result<()> {
    let requests = calls.iter().map(FlowCall::request).collect::<anyhow::Result<Vec<_>>>()?;
    for round in requests.chunks(SENDERS) {
        client.send_many(round).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    Ok(())
}

/// Sends each call at its time after `start`.
pub(crate) async fn send_to(client: &Client, calls: &[FlowCall], start: Instant) -> anyhow::Result<()> {
    let mut sends: JoinSet<Result<(), AwsError>> = JoinSet::new();
    for call in calls {
        let (client, request) = (client.clone(), call.request()?);
        tokio::time::sleep_until(start + call.at).await;
        sends.spawn(send_one(client, request));
        while let Some(sent) = sends.try_join_next() {
            sent??;
        }
    }
    while let Some(sent) = sends.join_next().await {
        sent??;
    }
    Ok(())
}

async fn send_one(client: Client, request: CallRequest) -> Result<(), AwsError> {
    client.send(&request, None).await.map(|_message_id| ())
}

/// The violations of calls that must all succeed, each executed once, or at least once where workers were killed.
pub(crate) fn violations(
    calls: &[FlowCall],
    outcomes: &HashMap<String, OutcomeKind>,
    executions: &[Execution],
    repeats: bool,
) -> Vec<String> {
    let mut times: HashMap<&str, u32> = HashMap::new();
    for execution in executions {
        *times.entry(execution.call.as_str()).or_default() += 1;
    }
    let violation = |call: &FlowCall| {
        let FlowCall { id, .. } = call;
        match (outcomes.get(id), times.get(id.as_str()).copied().unwrap_or(0)) {
            (None, _) => Some(format!("`{id}` has no result")),
            (Some(OutcomeKind::Succeeded), 0) => Some(format!("`{id}` succeeded and was never executed")),
            (Some(OutcomeKind::Succeeded), 1) => None,
            (Some(OutcomeKind::Succeeded), _) if repeats => None,
            (Some(OutcomeKind::Succeeded), n) => Some(format!("`{id}` was executed {n} times")),
            (Some(kind), _) => Some(format!("`{id}` ended as {kind}, not as succeeded")),
        }
    };
    calls.iter().filter_map(violation).collect()
}

/// The wait of each call from its intended send to its first execution, in microseconds. Calls without one are left out.
pub(crate) fn waits(calls: &[FlowCall], sent_from_us: u64, executions: &[Execution]) -> Vec<u64> {
    let mut first: HashMap<&str, u64> = HashMap::new();
    for execution in executions {
        first.entry(execution.call.as_str()).or_insert(execution.at_us);
    }
    let wait = |call: &FlowCall| {
        first.get(call.id.as_str()).map(|at| at.saturating_sub(sent_from_us + micros(call.at)))
    };
    calls.iter().filter_map(wait).collect()
}

/// How long each call took from its intended send to the end of its first execution, in microseconds. Calls without one are left out.
pub(crate) fn latencies(calls: &[FlowCall], sent_from_us: u64, executions: &[Execution]) -> Vec<u64> {
    let mut first: HashMap<&str, u64> = HashMap::new();
    for execution in executions {
        if let Some(end_us) = execution.end_us {
            first.entry(execution.call.as_str()).or_insert(end_us);
        }
    }
    let latency = |call: &FlowCall| {
        first.get(call.id.as_str()).map(|end| end.saturating_sub(sent_from_us + micros(call.at)))
    };
    calls.iter().filter_map(latency).collect()
}

#[cfg(test)]
mod tests {
    use toolfleet_core::request::Priority;

    use super::*;

    fn call(id: &str) -> FlowCall {
        let at = Duration::from_millis(10);
        FlowCall {
            id: id.into(),
            tenant: "t".into(),
            tool: "s".into(),
            ms: 1,
            at,
            priority: Priority::Normal,
        }
    }

    fn execution(call: &str, at_us: u64) -> Execution {
        Execution { call: call.into(), server: "s".into(), at_us, end_us: Some(at_us + 1), abandoned: false }
    }

    #[test]
    fn every_planted_violation_of_a_call_is_found() {
        let calls = ["once", "twice", "never", "lost", "failed"].map(call);
        let mut outcomes: HashMap<_, _> =
            calls.iter().map(|call| (call.id.clone(), OutcomeKind::Succeeded)).collect();
        outcomes.remove("lost");
        outcomes.insert("failed".into(), OutcomeKind::Failed);
        let executions = ["once", "twice", "twice", "lost", "failed"].map(|call| execution(call, 1));
        let found = violations(&calls, &outcomes, &executions, false);
        let expected = [
            "`twice` was executed 2 times",
            "`never` succeeded and was never executed",
            "`lost` has no result",
            "`failed` ended as failed, not as succeeded",
        ];
        assert_eq!(found, expected);
        let after_a_kill = violations(&calls, &outcomes, &executions, true);
        assert_eq!(after_a_kill, expected[1..]);
    }

    #[test]
    fn a_wait_ends_with_the_first_execution() {
        let executions = [execution("a", 15_000), execution("a", 99_000)];
        assert_eq!(waits(&[call("a"), call("b")], 1_000, &executions), [4_000]);
        assert_eq!(latencies(&[call("a"), call("b")], 1_000, &executions), [4_001]);
    }
}
