//! The plan of a chaos run: which calls are sent when, and which fault comes when. A pure function of the seed.
//!
//! **Invariant:** the same seed and shape give the same plan. What a server does with a request is decided by `behaviour`, from the same seed.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use toolfleet_core::request::Priority;

/// The first part of every call's id.
pub const ID_PREFIX: &str = "chaos-";
/// The tenants of the calls.
pub const TENANTS: [&str; 3] = ["acme", "blue", "crew"];
/// No fault begins before.
const CALM: Duration = Duration::from_secs(2);
/// Bytes of a result that is stored in the bucket where there is one, and of one that fits into no row.
const LARGE_BYTES: usize = 20_000;
const HUGE_BYTES: usize = 700_000;

/// A scripted MCP server, named after how it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Server {
    /// Answers.
    Steady,
    /// Answers late, at times later than an attempt may take, at times never.
    Slow,
    /// Refuses connections.
    Dead,
    /// Resets connections for seconds, then answers again.
    Flapping,
    /// Runs the tool and answers with an error that does not say so.
    Lying,
    /// Answers 429 with Retry-After.
    Limiting,
    /// Resets connections after a request was read: before or after the tool ran, or within the answer.
    Resetting,
    /// Speaks a protocol version with sessions, and loses them.
    Forgetful,
    /// Answers. The catalog limits how many calls start in a second.
    Rated,
    /// Answers. The catalog limits how many calls are open.
    Narrow,
}

impl Server {
    /// Every server.
    pub const ALL: [Self; 10] = [
        Self::Steady,
        Self::Slow,
        Self::Dead,
        Self::Flapping,
        Self::Lying,
        Self::Limiting,
        Self::Resetting,
        Self::Forgetful,
        Self::Rated,
        Self::Narrow,
    ];

    /// Its id in the catalog.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Slow => "slow",
            Self::Dead => "dead",
            Self::Flapping => "flapping",
            Self::Lying => "lying",
            Self::Limiting => "limiting",
            Self::Resetting => "resetting",
            Self::Forgetful => "forgetful",
            Self::Rated => "rated",
            Self::Narrow => "narrow",
        }
    }

    /// How many of a hundred calls are for it.
    pub const fn share(self) -> u32 {
        match self {
            Self::Steady => 34,
            Self::Slow | Self::Dead => 4,
            Self::Flapping | Self::Lying | Self::Limiting | Self::Forgetful => 9,
            Self::Resetting => 10,
            Self::Rated => 7,
            Self::Narrow => 5,
        }
    }

    /// Whether the catalog has a limit for it.
    pub const fn is_limited(self) -> bool {
        matches!(self, Self::Rated | Self::Narrow)
    }

    fn pick(rng: &mut Rng) -> Self {
        let mut left = rng.u32(..Self::ALL.iter().map(|server| server.share()).sum::<u32>());
        for server in Self::ALL {
            match left.checked_sub(server.share()) {
                Some(rest) => left = rest,
                None => return server,
            }
        }
        Self::Steady
    }
}

/// What the catalog says of a tool's repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Repeats {
    /// It is not safe to repeat.
    Once,
    /// It is safe to repeat.
    Safe,
    /// It is safe to repeat, and executed without a claim.
    Claimless,
}

impl Repeats {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Once, Self::Safe, Self::Claimless];

    /// The last part of the tool's id.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Safe => "safe",
            Self::Claimless => "claimless",
        }
    }
}

/// The id of a server's tool of that kind.
pub fn tool(server: Server, repeats: Repeats) -> String {
    format!("{}.{}", server.name(), repeats.name())
}

/// A call of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChaosCall {
    /// Its id.
    pub id: String,
    /// Its tenant.
    pub tenant: &'static str,
    /// The server that it calls.
    pub server: Server,
    /// Whether it may be repeated.
    pub repeats: Repeats,
    /// When it is sent, after the start.
    pub at: Duration,
    /// Its priority, which names its queue.
    pub priority: Priority,
    /// Its conversation.
    pub session: Option<String>,
    /// From its sending to its deadline.
    pub timeout_ms: u64,
    /// How many bytes its result has beside its id.
    pub bytes: usize,
    /// How often its message is sent.
    pub copies: u32,
    /// When its caller cancels it, after it was sent.
    pub cancelled_after: Option<Duration>,
    /// Whether its caller asks for a notice.
    pub notice: bool,
}

/// A kind of fault, or of an operator's intervention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// A worker gets SIGKILL; another is started a little later.
    Kill,
    /// A worker gets SIGTERM; another is started.
    Term,
    /// A worker gets SIGSTOP until its leases have expired, then SIGCONT.
    Freeze,
    /// Queues, tables and bucket get SIGKILL and are started again with their data.
    Endpoints,
    /// DynamoDB throttles statements and requests.
    Throttled,
    /// DynamoDB answers 500.
    Failing,
    /// DynamoDB does what is asked, and its answers are lost.
    AnswersLost,
    /// SQS answers 500, or loses its answers.
    QueueFailing,
    /// The bucket cannot be reached.
    BucketAway,
    /// The server with sessions forgets them.
    SessionsLost,
    /// An operator pauses a server.
    PauseServer,
    /// An operator pauses a tenant.
    PauseTenant,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Kill,
        Self::Term,
        Self::Freeze,
        Self::Endpoints,
        Self::Throttled,
        Self::Failing,
        Self::AnswersLost,
        Self::QueueFailing,
        Self::BucketAway,
        Self::SessionsLost,
        Self::PauseServer,
        Self::PauseTenant,
    ];

    /// Its name in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "workers killed with -9",
            Self::Term => "workers told to leave (SIGTERM)",
            Self::Freeze => "workers frozen past their leases (SIGSTOP, SIGCONT)",
            Self::Endpoints => "restarts of queues, tables and bucket (-9)",
            Self::Throttled => "periods in which DynamoDB throttles",
            Self::Failing => "periods in which DynamoDB fails",
            Self::AnswersLost => "periods in which DynamoDB's answers are lost",
            Self::QueueFailing => "periods in which SQS fails",
            Self::BucketAway => "periods without S3",
            Self::SessionsLost => "times that a server lost all sessions",
            Self::PauseServer => "pauses of a server",
            Self::PauseTenant => "pauses of a tenant",
        }
    }

    /// How many come in ten minutes; at least one comes in any run.
    const fn in_ten_minutes(self) -> u64 {
        match self {
            Self::Kill => 60,
            Self::SessionsLost => 40,
            Self::Term | Self::Throttled | Self::AnswersLost => 20,
            Self::Freeze | Self::Failing | Self::QueueFailing | Self::BucketAway => 12,
            Self::Endpoints | Self::PauseServer | Self::PauseTenant => 8,
        }
    }

    /// The shortest and the longest, in milliseconds. Of a frozen worker it is the time beyond lease and skew.
    const fn lengths(self) -> (u64, u64) {
        match self {
            Self::Kill => (0, 1_000),
            Self::Term | Self::SessionsLost => (0, 1),
            Self::Freeze => (500, 3_000),
            Self::Endpoints => (500, 2_000),
            Self::Throttled | Self::AnswersLost => (2_000, 5_000),
            Self::Failing | Self::QueueFailing => (1_000, 3_000),
            Self::BucketAway => (2_000, 4_000),
            Self::PauseServer | Self::PauseTenant => (3_000, 6_000),
        }
    }
}

/// A fault of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When it begins, after the start.
    pub at: Duration,
    /// Its kind.
    pub fault: Fault,
    /// How long it lasts.
    pub length: Duration,
    /// Which worker, server or tenant: taken modulo their number.
    pub pick: usize,
}

/// The size of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How many calls are sent.
    pub calls: u32,
    /// For how long calls are sent and faults come.
    pub length: Duration,
    /// From a call's sending to its deadline, unless it is in a hurry.
    pub timeout_ms: u64,
}

/// What happens in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The calls, in the order of sending.
    pub calls: Vec<ChaosCall>,
    /// The faults, in the order of their beginnings.
    pub events: Vec<Event>,
}

impl Plan {
    /// The plan of that seed.
    pub fn of(seed: u64, shape: Shape) -> Self {
        let mut rng = Rng::with_seed(seed);
        let length_s = shape.length.as_secs_f64();
        let mut times: Vec<_> =
            (0..shape.calls).map(|_| Duration::from_secs_f64(rng.f64() * length_s)).collect();
        times.sort_unstable();
        let calls = (0..).zip(times).map(|(n, at)| call(seed, n, at, shape, &mut rng)).collect();
        let mut events: Vec<_> =
            Fault::ALL.into_iter().flat_map(|fault| events(fault, shape, &mut rng)).collect();
        events.sort_by_key(|event| event.at);
        Self { calls, events }
    }

    /// How many faults of each kind there are.
    pub fn counts(&self) -> BTreeMap<Fault, u64> {
        let mut counts = BTreeMap::new();
        for event in &self.events {
            *counts.entry(event.fault).or_default() += 1;
        }
        counts
    }

    /// The starts in a second that the rated server's limit allows: about as many as are sent.
    pub fn rate(shape: Shape) -> u32 {
        rounded_up(per_second(shape, Server::Rated) * 1.1).max(2)
    }

    /// The open requests that the narrow server's limit allows: about as many as it needs.
    pub fn concurrency(shape: Shape) -> u32 {
        rounded_up(per_second(shape, Server::Narrow) * 0.4).max(2)
    }
}

fn per_second(shape: Shape, server: Server) -> f64 {
    let share = f64::from(server.share()) / 100.0;
    f64::from(shape.calls) * share / shape.length.as_secs_f64().max(1.0)
}

fn rounded_up(value: f64) -> u32 {
    let mut up = 0_u32;
    while f64::from(up) < value {
        up += 1;
    }
    up
}

fn call(seed: u64, n: u32, at: Duration, shape: Shape, rng: &mut Rng) -> ChaosCall {
    let server = Server::pick(rng);
    let repeats = match rng.u32(..100) {
        0..55 => Repeats::Once,
        55..85 => Repeats::Safe,
        _ => Repeats::Claimless,
    };
    let tenant = rng.choice(TENANTS).unwrap_or(TENANTS[0]);
    let priority = match rng.u32(..10) {
        0 => Priority::High,
        1 => Priority::Low,
        _ => Priority::Normal,
    };
    // The server with sessions keeps one for each conversation.
    let in_session = server == Server::Forgetful || rng.u32(..5) == 0;
    let session = in_session.then(|| format!("conversation-{seed}-{}", rng.u32(..20)));
    let hurries = rng.u32(..100) < 3;
    let bytes = match rng.u32(..1_000) {
        0..20 if server == Server::Steady => LARGE_BYTES,
        20..23 if server == Server::Steady => HUGE_BYTES,
        _ => 0,
    };
    let cancelled = rng.u32(..200) == 0;
    ChaosCall {
        id: format!("{ID_PREFIX}{seed}-{n}"),
        tenant,
        server,
        repeats,
        at,
        priority,
        session,
        timeout_ms: if hurries { rng.u64(500..3_000) } else { shape.timeout_ms },
        bytes,
        copies: if rng.u32(..50) == 0 { 2 } else { 1 },
        cancelled_after: cancelled.then(|| Duration::from_millis(rng.u64(..2_000))),
        notice: rng.bool(),
    }
}

/// The faults of one kind: one in each of as many equal parts of the run, so that two of a kind never overlap.
fn events(fault: Fault, shape: Shape, rng: &mut Rng) -> Vec<Event> {
    let length_ms = u64::try_from(shape.length.saturating_sub(CALM).as_millis()).unwrap_or(u64::MAX);
    let count = (fault.in_ten_minutes() * length_ms / 600_000).max(1);
    let part_ms = length_ms / count;
    let (shortest, longest) = fault.lengths();
    let event = |n: u64| {
        let lasts_ms = rng.u64(shortest..=longest).min(part_ms);
        let begins_ms = n * part_ms + rng.u64(..=part_ms - lasts_ms);
        Event {
            at: CALM + Duration::from_millis(begins_ms),
            fault,
            length: Duration::from_millis(lasts_ms),
            pick: rng.usize(..1_000_000),
        }
    };
    (0..count).map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { calls: 5_000, length: Duration::from_secs(120), timeout_ms: 20_000 };

    #[test]
    fn one_seed_gives_one_plan_and_another_seed_another() {
        assert_eq!(Plan::of(7, SHAPE), Plan::of(7, SHAPE));
        assert_ne!(Plan::of(7, SHAPE).calls, Plan::of(8, SHAPE).calls);
        assert_ne!(Plan::of(7, SHAPE).events, Plan::of(8, SHAPE).events);
    }

    #[test]
    fn every_server_kind_of_tool_and_variation_is_called() {
        let Plan { calls, .. } = Plan::of(1, SHAPE);
        assert_eq!(calls.len(), 5_000);
        for server in Server::ALL {
            for repeats in Repeats::ALL {
                assert!(calls.iter().any(|c| c.server == server && c.repeats == repeats), "{server:?}");
            }
        }
        for priority in Priority::ALL {
            assert!(calls.iter().any(|call| call.priority == priority));
        }
        let some = |of: fn(&ChaosCall) -> bool| calls.iter().any(of);
        assert!(some(|c| c.copies == 2) && some(|c| c.cancelled_after.is_some()) && some(|c| c.notice));
        assert!(some(|c| c.bytes == LARGE_BYTES) && some(|c| c.bytes == HUGE_BYTES));
        assert!(calls.iter().filter(|c| c.server == Server::Forgetful).all(|c| c.session.is_some()));
        assert!(calls.windows(2).all(|pair| pair[0].at <= pair[1].at));
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
}
