//! Owns the state of a load: calls in at their times, deaths at theirs, until every call has ended and every worker has left.
//!
//! **Invariant:** trouble that passes is borne, as an orchestrator would bear it: a send is sent again, a look is taken later.

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

use crate::evidence::left;
use crate::faults::{FaultKind, InjectedFault};
use crate::run_args::RunArgs;
use crate::stage::Stage;
use crate::usage::Usage;
use crate::worker::Workers;

/// Sends of a drain travel in rounds of so many.
const SENDERS: usize = 500;
/// How often the queue is asked how many calls have not ended: seldom enough not to be the load itself.
const LOOK: Duration = Duration::from_millis(50);
/// How long workers without calls are left alone before the load begins.
pub(crate) const IDLE: Duration = Duration::from_secs(1);
/// How long the endpoints are away when they were killed, not counting their start.
const AWAY: Duration = Duration::from_secs(1);
/// How long after its leases a frozen worker goes on.
const FROZEN_BEYOND_LEASE: Duration = Duration::from_secs(2);
/// How long held calls are left alone before memory is measured.
const SETTLED: Duration = Duration::from_secs(1);
/// The pause before a send that met passing trouble is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// The begin of the measured phase.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub(crate) at: Timestamp,
    /// What the workers' start took or will take, which is no call's.
    pub(crate) cpu_us: u64,
}

/// What a load in its state has learned.
#[derive(Debug, Default)]
pub(crate) struct RunState {
    pub(crate) injected: Vec<InjectedFault>,
    pub(crate) incidents: Vec<String>,
    /// Calls in flight when memory was measured, and what the largest worker had then.
    pub(crate) held: Option<(u32, Usage)>,
    /// What the workers took, before they were told to leave.
    pub(crate) usage: Usage,
}

pub(crate) struct Run<'a> {
    pub(crate) args: &'a RunArgs,
    pub(crate) stage: &'a Stage,
    pub(crate) requests: &'a [CallRequest],
    pub(crate) bar: &'a ProgressBar,
    pub(crate) begun: OnceLock<Begun>,
}

#[derive(Default)]
struct Progress {
    sent: AtomicU32,
    all_sent: AtomicBool,
}

impl Run<'_> {
    /// Sends every call, waits until the queue is empty, and tells the workers to leave.
    pub(crate) async fn calls(
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
            self.begin(workers.usage().cpu_us);
            tokio::try_join!(self.send_at_rate(rate, &progress), self.watch(workers, &progress, state))?;
        } else {
            self.send_all(&progress).await?;
            self.begin(idle.cpu_us * u64::from(self.args.workers));
            self.start_all(workers)?;
            self.watch(workers, &progress, state).await?;
        }
        if self.args.resend {
            self.stage.begin_counting();
            self.send_all(&progress).await?;
            self.watch(workers, &progress, state).await?;
        }
        state.usage = workers.usage();
        workers.tell_all_to_leave()?;
        while workers.are_leaving() {
            self.see_off(workers, state).await?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn begin(&self, cpu_us: u64) {
        self.stage.begin_counting();
        // It begins once.
        let _begun = self.begun.set(Begun { at: (self.stage.clock)(), cpu_us });
    }

    fn start_all(&self, workers: &mut Workers) -> anyhow::Result<()> {
        (0..self.args.workers).try_for_each(|_| workers.start_one())
    }

    async fn send_all(&self, progress: &Progress) -> anyhow::Result<()> {
        for round in self.requests.chunks(SENDERS) {
            for sent in self.stage.client.send_many(round).await {
                sent?;
            }
        }
        progress.sent.store(self.args.calls, Ordering::Release);
        progress.all_sent.store(true, Ordering::Release);
        Ok(())
    }

    /// Sends each call at its time, whether or not the ones before it have ended.
    async fn send_at_rate(&self, rate: u32, progress: &Progress) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut sends = JoinSet::new();
        for (n, request) in (0_u32..).zip(self.requests) {
            tokio::time::sleep_until(begun + offset(n, rate)).await;
            sends.spawn(send(self.stage.client.clone(), request.clone()));
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

    /// Until all calls were sent, the queue is empty and every death is over.
    async fn watch(
        &self,
        workers: &mut Workers,
        progress: &Progress,
        state: &mut RunState,
    ) -> anyhow::Result<()> {
        let mut to_come = self.args.faults.schedule(self.args.calls).into_iter().peekable();
        if !state.injected.is_empty() {
            to_come = Vec::new().into_iter().peekable();
        }
        loop {
            workers.check()?;
            self.see_off(workers, state).await?;
            self.thaw(workers, state)?;
            self.measure_held(workers, state).await;
            // Asked in this order, so that no call counts as ended before it was sent.
            let all_sent = progress.all_sent.load(Ordering::Acquire);
            let sent = progress.sent.load(Ordering::Acquire);
            let left = match left(&self.stage.client).await {
                Ok(left) => left,
                // Endpoints that were killed answer again a moment later.
                Err(trouble) if passes(&trouble) => {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                Err(trouble) => return Err(trouble),
            };
            let ended = u64::from(sent).saturating_sub(left);
            self.bar.set_position(ended);
            if let Some((way, _)) = to_come.next_if(|(_, at)| ended >= u64::from(*at)) {
                if all_sent && left == 0 {
                    bail!("all calls had ended when `{}` was to come; give more calls", way.name());
                }
                self.strike(way, workers, state).await?;
            } else if all_sent
                && left == 0
                && state.injected.iter().all(|injected| injected.over_at.is_some())
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn strike(
        &self,
        way: FaultKind,
        workers: &mut Workers,
        state: &mut RunState,
    ) -> anyhow::Result<()> {
        let at = (self.stage.clock)();
        let mut injected = InjectedFault { way, at, worker: None, over_at: None };
        match way {
            FaultKind::Kill => {
                injected.worker = Some(workers.kill_one()?);
                injected.over_at = Some(at);
                workers.start_one()?;
            }
            // Where it is the only one, its successor comes when it has left: what is in flight then can be seen to be its own.
            FaultKind::Term => {
                injected.worker = Some(workers.tell_one_to_leave()?);
                if workers.count() > 0 {
                    workers.start_one()?;
                }
            }
            FaultKind::Stop => {
                injected.worker = Some(workers.freeze_one()?);
                if workers.count() == 0 {
                    workers.start_one()?;
                }
            }
            FaultKind::Endpoints => {
                self.stage.kill_endpoints()?;
                tokio::time::sleep(AWAY).await;
                self.stage.start_endpoints_again()?;
                injected.over_at = Some((self.stage.clock)());
            }
        }
        state.injected.push(injected);
        Ok(())
    }

    /// CallProgress which workers have left, and how.
    async fn see_off(&self, workers: &mut Workers, state: &mut RunState) -> anyhow::Result<()> {
        for left in workers.left()? {
            if !left.status.success() {
                state
                    .incidents
                    .push(format!("worker {} was told to leave and left with {}", left.name, left.status));
            }
            let injected =
                state.injected.iter_mut().find(|injected| injected.worker.as_deref() == Some(&left.name));
            let Some(injected) = injected.filter(|injected| injected.way == FaultKind::Term) else {
                continue;
            };
            injected.over_at = Some((self.stage.clock)());
            if workers.count() == 0 {
                let depth = self.stage.client.queue().depth().await.context("nobody says what it left")?;
                if depth.in_flight > 0 {
                    state.incidents.push(format!(
                        "worker {} left {} messages hidden instead of giving them back at once ({} are visible)",
                        left.name, depth.in_flight, depth.visible
                    ));
                }
                workers.start_one()?;
            }
        }
        Ok(())
    }

    /// Lets frozen workers go on whose leases are over.
    fn thaw(&self, workers: &mut Workers, state: &mut RunState) -> anyhow::Result<()> {
        let now = (self.stage.clock)();
        let frozen_ms = self.args.frozen_ms() + crate::evidence::millis(FROZEN_BEYOND_LEASE);
        for injected in state.injected.iter_mut().filter(|s| s.way == FaultKind::Stop && s.over_at.is_none())
        {
            if now.ms_since(injected.at) >= frozen_ms {
                workers.thaw(injected.worker.as_deref().unwrap_or_default())?;
                injected.over_at = Some(now);
            }
        }
        Ok(())
    }

    /// Measures memory once all slots hold a call, then lets the server answer.
    async fn measure_held(&self, workers: &mut Workers, state: &mut RunState) {
        let held = self.args.held();
        if self.args.hold && state.held.is_none() && self.stage.server.in_flight() >= held {
            tokio::time::sleep(SETTLED).await;
            state.held = Some((self.stage.server.in_flight(), workers.usage()));
            self.stage.server.open();
        }
    }
}

/// Sends until the queue has taken it; sent twice it is still one call.
async fn send(client: Client, request: CallRequest) -> Result<(), AwsError> {
    loop {
        match client.send(&request, None).await {
            Ok(_) => return Ok(()),
            Err(trouble) if trouble.is_permanent() => return Err(trouble),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

fn passes(error: &anyhow::Error) -> bool {
    error.downcast_ref::<AwsError>().is_some_and(|trouble| !trouble.is_permanent())
}

/// When the n-th call is sent, from the first one on.
pub(crate) fn offset(n: u32, rate: u32) -> Duration {
    Duration::from_micros(u64::from(n) * 1_000_000 / u64::from(rate.max(1)))
}
