//! Drives a load: sends the calls, injects the faults, waits until every call has ended and every worker has exited.
//!
//! Transient AWS errors are retried, as an orchestrator does: a send is repeated, a poll of the queue is repeated later.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tokio::time::Instant;
use toolfleet_client::{AwsError, Client};
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

use crate::evidence::{messages_left, millis};
use crate::faults::{FaultKind, InjectedFault};
use crate::run_args::RunArgs;
use crate::testbed::TestBed;
use crate::usage::Usage;
use crate::verify::Violation;
use crate::worker::Workers;

/// How many sends of a drain run at once.
const SENDERS: usize = 500;
/// The interval of polls of the queue's depth, long enough not to add to the load.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long workers are idle before the load starts.
pub(crate) const IDLE: Duration = Duration::from_secs(1);
/// How long killed endpoints are away, not counting their start.
const ENDPOINTS_AWAY: Duration = Duration::from_secs(1);
/// How long after the end of its leases a stopped worker is continued.
const STOPPED_BEYOND_LEASE: Duration = Duration::from_secs(2);
/// How long calls are held before memory is measured.
const HELD_FOR: Duration = Duration::from_secs(1);
/// The pause before a send is retried.
const SEND_RETRY_DELAY: Duration = Duration::from_millis(200);

/// The start of the measured phase.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) at: Timestamp,
    /// The CPU time of the workers' start, which belongs to no call.
    pub(crate) cpu_us: u64,
}

/// The state of a run.
#[derive(Debug, Default)]
pub(crate) struct RunState {
    pub(crate) faults: Vec<InjectedFault>,
    pub(crate) violations: Vec<Violation>,
    /// Calls in flight when memory was measured, and the usage at that time.
    pub(crate) held: Option<(u32, Usage)>,
    /// The usage of the workers before they were drained.
    pub(crate) usage: Usage,
}

/// A run of the load.
pub(crate) struct Driver<'a> {
    pub(crate) args: &'a RunArgs,
    pub(crate) testbed: &'a TestBed,
    pub(crate) requests: &'a [CallRequest],
    pub(crate) bar: &'a ProgressBar,
    pub(crate) start: OnceLock<Start>,
}

/// How many calls were sent.
#[derive(Default)]
struct Progress {
    sent: AtomicU32,
    all_sent: AtomicBool,
}

impl Driver<'_> {
    /// Sends every call, waits until the queue is empty, and drains the workers.
    pub(crate) async fn run(
        &self,
        workers: &mut Workers,
        idle: Usage,
        state: &mut RunState,
    ) -> anyhow::Result<()> {
        let progress = Progress::default();
        if let Some(rate) = self.args.rate {
            self.start_all(workers)?;
            tokio::time::sleep(IDLE).await;
            workers.check()?;
            self.start(workers.usage().cpu_us);
            tokio::try_join!(self.send_at_rate(rate, &progress), self.supervise(workers, &progress, state))?;
        } else {
            self.send_all(&progress).await?;
            self.start(idle.cpu_us * u64::from(self.args.workers));
            self.start_all(workers)?;
            self.supervise(workers, &progress, state).await?;
        }
        if self.args.resend {
            self.testbed.bed.start_counting();
            self.send_all(&progress).await?;
            self.supervise(workers, &progress, state).await?;
        }
        state.usage = workers.usage();
        workers.drain_all()?;
        while workers.is_draining() {
            self.record_exits(workers, state).await?;
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    fn start(&self, cpu_us: u64) {
        self.testbed.bed.start_counting();
        // It is called once.
        let _first = self.start.set(Start { at: (self.testbed.bed.clock)(), cpu_us });
    }

    fn start_all(&self, workers: &mut Workers) -> anyhow::Result<()> {
        (0..self.args.workers).try_for_each(|_| workers.start_one())
    }

    async fn send_all(&self, progress: &Progress) -> anyhow::Result<()> {
        for round in self.requests.chunks(SENDERS) {
            for sent in self.testbed.bed.client.send_many(round).await {
                sent?;
            }
        }
        progress.sent.store(self.args.calls, Ordering::Release);
        progress.all_sent.store(true, Ordering::Release);
        Ok(())
    }

    /// Sends each call at its time, whether or not earlier calls have ended.
    async fn send_at_rate(&self, rate: u32, progress: &Progress) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut sends = JoinSet::new();
        for (n, request) in (0_u32..).zip(self.requests) {
            tokio::time::sleep_until(start + offset(n, rate)).await;
            sends.spawn(send(self.testbed.bed.client.clone(), request.clone()));
            while let Some(sent) = sends.try_join_next() {
                sent??;
                progress.sent.fetch_add(1, Ordering::AcqRel);
            }
        }
        while let Some(sent) = sends.join_next().await {
            sent??;
            progress.sent.fetch_add(1, Ordering::AcqRel);
        }
        progress.all_sent.store(true, Ordering::Release);
        Ok(())
    }

    /// Injects the faults, and returns when all calls were sent, the queue is empty and every fault is over.
    async fn supervise(
        &self,
        workers: &mut Workers,
        progress: &Progress,
        state: &mut RunState,
    ) -> anyhow::Result<()> {
        let schedule = self.args.faults.schedule(self.args.calls);
        let mut pending = schedule.into_iter().skip(state.faults.len()).peekable();
        loop {
            workers.check()?;
            self.record_exits(workers, state).await?;
            self.continue_stopped(workers, state)?;
            self.measure_held(workers, state).await;
            // Read in this order, so that no call counts as ended before it was sent.
            let all_sent = progress.all_sent.load(Ordering::Acquire);
            let sent = progress.sent.load(Ordering::Acquire);
            let left = match messages_left(&self.testbed.bed.client).await {
                Ok(left) => left,
                // Killed endpoints answer again when they are restarted.
                Err(error) if is_transient(&error) => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let ended = u64::from(sent).saturating_sub(left);
            self.bar.set_position(ended);
            if let Some((kind, _)) = pending.next_if(|(_, at)| ended >= u64::from(*at)) {
                if all_sent && left == 0 {
                    bail!("all calls had ended before the fault `{}`; give more calls", kind.name());
                }
                self.inject(kind, workers, state).await?;
            } else if all_sent && left == 0 && state.faults.iter().all(|fault| fault.over_at.is_some()) {
                return Ok(());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn inject(
        &self,
        kind: FaultKind,
        workers: &mut Workers,
        state: &mut RunState,
    ) -> anyhow::Result<()> {
        let at = (self.testbed.bed.clock)();
        let mut fault = InjectedFault { kind, at, worker: None, over_at: None };
        match kind {
            FaultKind::Kill => {
                fault.worker = Some(workers.kill_one()?);
                fault.over_at = Some(at);
                workers.start_one()?;
            }
            // The only worker is replaced after it has exited, so that messages in flight then are its own.
            FaultKind::Term => {
                fault.worker = Some(workers.drain_one()?);
                if workers.count() > 0 {
                    workers.start_one()?;
                }
            }
            FaultKind::Stop => {
                fault.worker = Some(workers.stop_one()?);
                if workers.count() == 0 {
                    workers.start_one()?;
                }
            }
            FaultKind::Endpoints => {
                self.testbed.bed.kill_endpoints()?;
                tokio::time::sleep(ENDPOINTS_AWAY).await;
                self.testbed.bed.start_endpoints_again()?;
                fault.over_at = Some((self.testbed.bed.clock)());
            }
        }
        state.faults.push(fault);
        Ok(())
    }

    /// Records the exits of drained workers.
    async fn record_exits(&self, workers: &mut Workers, state: &mut RunState) -> anyhow::Result<()> {
        for exited in workers.exited()? {
            state.violations.extend(Violation::of_exit(&exited.name, exited.status));
            let fault = state.faults.iter_mut().find(|fault| fault.worker.as_deref() == Some(&exited.name));
            let Some(fault) = fault.filter(|fault| fault.kind == FaultKind::Term) else { continue };
            fault.over_at = Some((self.testbed.bed.clock)());
            if workers.count() == 0 {
                let depth =
                    self.testbed.bed.client.queue().depth().await.context("cannot read the queue's depth")?;
                let hidden = Violation::of_hidden_messages(&exited.name, depth.in_flight, depth.visible);
                state.violations.extend(hidden);
                workers.start_one()?;
            }
        }
        Ok(())
    }

    /// Continues stopped workers whose leases have expired.
    fn continue_stopped(&self, workers: &mut Workers, state: &mut RunState) -> anyhow::Result<()> {
        let now = (self.testbed.bed.clock)();
        let stopped_ms = self.args.lease_and_skew_ms() + millis(STOPPED_BEYOND_LEASE);
        let stopped = |fault: &&mut InjectedFault| fault.kind == FaultKind::Stop && fault.over_at.is_none();
        for fault in state.faults.iter_mut().filter(stopped) {
            if now.ms_since(fault.at) >= stopped_ms {
                workers.continue_one(fault.worker.as_deref().unwrap_or_default())?;
                fault.over_at = Some(now);
            }
        }
        Ok(())
    }

    /// Measures memory when all slots hold a call, then lets the server answer.
    async fn measure_held(&self, workers: &mut Workers, state: &mut RunState) {
        let held = self.args.held();
        if self.args.hold && state.held.is_none() && self.testbed.server.in_flight() >= held {
            tokio::time::sleep(HELD_FOR).await;
            state.held = Some((self.testbed.server.in_flight(), workers.usage()));
            self.testbed.server.release();
        }
    }
}

/// Sends until the queue has accepted it. A message that is sent twice is still one call.
async fn send(client: Client, request: CallRequest) -> Result<(), AwsError> {
    loop {
        match client.send(&request, None).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_permanent() => return Err(error),
            Err(_) => tokio::time::sleep(SEND_RETRY_DELAY).await,
        }
    }
}

fn is_transient(error: &anyhow::Error) -> bool {
    error.downcast_ref::<AwsError>().is_some_and(|error| !error.is_permanent())
}

/// The time between the first send and the n-th.
pub(crate) fn offset(n: u32, rate: u32) -> Duration {
    Duration::from_micros(u64::from(n) * 1_000_000 / u64::from(rate.max(1)))
}
