//! Decides when the task is protected, and when the worker stops receiving so that the protection ends once.
//!
//! **Invariant:** while another worker receives, the protection ends once within `most` (or three times as long as the last stop took, where that is
//! longer) and the longest call. The intake is stopped for a quarter of the time at most, and for `OPEN` besides.

use std::time::Duration;

use tokio::time::Instant;

/// The protection is asked for anew when so much of it is over.
const RENEW_AFTER: Duration = Duration::from_secs(5 * 60);
/// How long the intake stays stopped after the long calls have ended: the time in which ECS may choose the task.
const OPEN: Duration = Duration::from_secs(30);
/// Between two stops of the intake it goes on for so many times as long as the last one took.
const TIMES_AS_LONG: u32 = 3;

/// The protection, and the breaks in it.
#[derive(Debug)]
pub(super) struct Breaks {
    most: Duration,
    protected: Option<Protected>,
    stopped: Option<Stopped>,
    /// How long the long calls took to end when the intake was stopped last.
    last_stop: Duration,
}

/// The agent has protected the task.
#[derive(Debug, Clone, Copy)]
struct Protected {
    /// Without a break.
    since: Instant,
    renewed: Instant,
}

/// The intake is stopped.
#[derive(Debug, Clone, Copy)]
struct Stopped {
    since: Instant,
    /// When no long call ran any more.
    ended: Option<Instant>,
}

/// What to do with the intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intake {
    Stop,
    GoOn,
}

impl Breaks {
    /// A break is made when the protection has lasted for `most`.
    pub(super) const fn after(most: Duration) -> Self {
        Self { most, protected: None, stopped: None, last_stop: Duration::ZERO }
    }

    /// What the agent is to be told now: whether the task is protected.
    pub(super) fn due(&self, long_calls: u32, now: Instant) -> Option<bool> {
        match (long_calls > 0, self.protected) {
            (true, Some(protected)) => {
                (now.saturating_duration_since(protected.renewed) >= RENEW_AFTER).then_some(true)
            }
            (true, None) => Some(true),
            (false, Some(_)) => Some(false),
            (false, None) => None,
        }
    }

    /// The agent has done so.
    pub(super) fn told(&mut self, protected: bool, now: Instant) {
        let since = self.protected.map_or(now, |before| before.since);
        self.protected = protected.then_some(Protected { since, renewed: now });
    }

    /// Whether the worker stops receiving now, or receives again.
    pub(super) fn intake(&mut self, long_calls: u32, others_receive: bool, now: Instant) -> Option<Intake> {
        let since = |then: Instant| now.saturating_duration_since(then);
        match self.stopped {
            None => {
                let most = self.most.max(self.last_stop.saturating_mul(TIMES_AS_LONG));
                let too_long = self.protected.is_some_and(|protected| since(protected.since) >= most);
                if !too_long || long_calls == 0 || !others_receive {
                    return None;
                }
                self.stopped = Some(Stopped { since: now, ended: None });
                Some(Intake::Stop)
            }
            Some(Stopped { since: begun, ended: None }) => {
                if long_calls == 0 {
                    self.last_stop = since(begun);
                    self.stopped = Some(Stopped { since: begun, ended: Some(now) });
                    // An agent that did not take the release leaves a protection that ends by itself: the worker does not wait for it.
                    if let Some(protected) = &mut self.protected {
                        protected.since = now;
                    }
                }
                None
            }
            Some(Stopped { ended: Some(ended), .. }) => {
                if since(ended) < OPEN {
                    return None;
                }
                self.stopped = None;
                Some(Intake::GoOn)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_secs(5);
    const MOST: Duration = Duration::from_secs(15 * 60);

    /// A worker that takes a call of `length` every `every`, while it receives; whether the agent answers, whether others receive.
    struct Worker {
        breaks: Breaks,
        now: Instant,
        begun: Instant,
        receives: bool,
        calls: Vec<Instant>,
        agent: bool,
        others: bool,
    }

    impl Worker {
        fn new() -> Self {
            let now = Instant::now();
            let breaks = Breaks::after(MOST);
            Self { breaks, now, begun: now, receives: true, calls: Vec::new(), agent: true, others: true }
        }

        /// Looks at the calls for `time`. Returns when the task was released, since the start.
        fn run(&mut self, time: Duration, length: Duration, every: Duration) -> Vec<Duration> {
            let (mut released, until, mut next) = (Vec::new(), self.now + time, self.now);
            while self.now < until {
                if self.receives && self.now >= next {
                    self.calls.push(self.now + length);
                    next = self.now + every;
                }
                self.calls.retain(|end| *end > self.now);
                let long_calls = u32::try_from(self.calls.len()).unwrap();
                if let Some(protected) = self.breaks.due(long_calls, self.now).filter(|_| self.agent) {
                    self.breaks.told(protected, self.now);
                    released.extend((!protected).then_some(self.now - self.begun));
                }
                match self.breaks.intake(long_calls, self.others, self.now) {
                    Some(Intake::Stop) => self.receives = false,
                    Some(Intake::GoOn) => self.receives = true,
                    None => {}
                }
                self.now += LOOK;
            }
            released
        }
    }

    const fn minutes(n: u64) -> Duration {
        Duration::from_secs(n * 60)
    }

    #[test]
    fn overlapping_long_calls_end_within_the_bound_and_the_longest_call() {
        for length in [minutes(1), minutes(4), minutes(20)] {
            let mut worker = Worker::new();
            let released = worker.run(minutes(240), length, length / 3);
            let (mut before, mut most) = (Duration::ZERO, MOST);
            for at in &released {
                assert!(*at - before <= most + length + OPEN + LOOK * 2, "{length:?}: {released:?}");
                (before, most) = (*at, MOST.max(length * TIMES_AS_LONG));
            }
            assert!(released.len() >= 2, "{length:?}: {released:?}");
        }
    }

    #[test]
    fn the_intake_is_stopped_for_a_quarter_of_the_time_at_most() {
        let (mut worker, mut stopped, mut looks) = (Worker::new(), 0, 0);
        worker.run(minutes(60), minutes(60), minutes(10));
        for _ in 0..(24 * 60 * 60 / 5) {
            worker.run(LOOK, minutes(60), minutes(10));
            looks += 1;
            stopped += u32::from(!worker.receives);
        }
        assert!(stopped * 100 <= looks * 27, "{stopped} of {looks}");
    }

    #[test]
    fn calls_that_leave_a_break_by_themselves_stop_nothing() {
        let mut worker = Worker::new();
        let released = worker.run(minutes(60), minutes(4), minutes(5));
        assert_eq!(released.len(), 12);
        assert!(worker.receives && worker.breaks.last_stop.is_zero());
    }

    #[test]
    fn the_only_worker_that_receives_goes_on() {
        let mut worker = Worker { others: false, ..Worker::new() };
        assert!(worker.run(minutes(60), minutes(4), minutes(1)).is_empty());
        assert!(worker.receives);
        worker.others = true;
        assert_eq!(worker.run(minutes(6), minutes(4), minutes(1)).len(), 1, "a new task has come");
    }

    #[test]
    fn an_agent_that_does_not_take_the_release_stops_no_intake() {
        let mut worker = Worker::new();
        worker.run(minutes(14), minutes(4), minutes(1));
        worker.agent = false;
        worker.run(minutes(8), minutes(4), minutes(1));
        assert!(worker.receives && !worker.breaks.last_stop.is_zero());
    }

    #[test]
    fn the_protection_is_renewed_while_a_call_runs() {
        let (mut breaks, now) = (Breaks::after(MOST), Instant::now());
        assert_eq!(breaks.due(0, now), None);
        assert_eq!(breaks.due(1, now), Some(true));
        breaks.told(true, now);
        assert_eq!(breaks.due(1, now + RENEW_AFTER - LOOK), None);
        assert_eq!(breaks.due(1, now + RENEW_AFTER), Some(true));
        assert_eq!(breaks.due(0, now + LOOK), Some(false));
    }
}
