//! The faults of a chaos run: which kinds there are, how often they come, and how long they last.

use std::time::Duration;

use fastrand::Rng;

use super::shape::Shape;

/// No fault begins before.
pub(super) const CALM: Duration = Duration::from_secs(2);

/// A period without a bucket lasts so much longer at most, until a worker has met it.
pub const MOST_LONGER: Duration = Duration::from_secs(6);

/// A kind of fault, or of an operator's intervention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// A worker gets SIGKILL; another is started a little later.
    Kill,
    /// A worker gets SIGTERM; another is started.
    Term,
    /// An operator tells a worker to leave in the fleet table; another is started.
    Drain,
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
    /// An operator strikes equal calls.
    Strike,
    /// An operator sets a rule that cancels the calls of a tenant which were sent before.
    CancelRule,
    /// An operator changes the weight of a tenant.
    WeightChanged,
    /// An operator lowers and raises the limit of starts in a second, then ends the change.
    RateChanged,
    /// An operator lowers and raises the limit of open requests, then ends the change.
    ConcurrencyChanged,
    /// The catalog of every worker is replaced by one with other definitions.
    CatalogChanged,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 19] = [
        Self::Kill,
        Self::Term,
        Self::Drain,
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
        Self::Strike,
        Self::CancelRule,
        Self::WeightChanged,
        Self::RateChanged,
        Self::ConcurrencyChanged,
        Self::CatalogChanged,
    ];

    /// Its name in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "workers killed with -9",
            Self::Term => "workers told to leave (SIGTERM)",
            Self::Drain => "workers told to leave (fleet table)",
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
            Self::Strike => "strikes of equal calls",
            Self::CancelRule => "rules that cancel calls of a tenant",
            Self::WeightChanged => "changes of a tenant's weight",
            Self::RateChanged => "live changes of a rate limit",
            Self::ConcurrencyChanged => "live changes of a concurrency limit",
            Self::CatalogChanged => "changes of the catalog while workers run",
        }
    }

    /// How many come in ten minutes; at least one comes in any run.
    const fn in_ten_minutes(self) -> u64 {
        match self {
            Self::Kill => 60,
            Self::SessionsLost => 40,
            Self::Term | Self::Throttled | Self::AnswersLost | Self::CatalogChanged => 20,
            Self::Drain | Self::Freeze | Self::Failing | Self::QueueFailing | Self::BucketAway => 12,
            Self::RateChanged | Self::ConcurrencyChanged => 10,
            Self::Endpoints | Self::PauseServer | Self::PauseTenant => 8,
            Self::Strike | Self::CancelRule | Self::WeightChanged => 6,
        }
    }

    /// The shortest and the longest, in milliseconds. Of a frozen worker it is the time beyond lease and skew.
    const fn lengths(self) -> (u64, u64) {
        match self {
            Self::Kill => (0, 1_000),
            Self::Term
            | Self::Drain
            | Self::SessionsLost
            | Self::CatalogChanged
            | Self::CancelRule
            | Self::WeightChanged => (0, 1),
            Self::Freeze => (500, 3_000),
            Self::Endpoints => (500, 2_000),
            Self::Throttled | Self::AnswersLost => (2_000, 5_000),
            Self::Failing | Self::QueueFailing => (1_000, 3_000),
            Self::BucketAway => (2_000, 4_000),
            // Longer than workers may take to learn of it.
            Self::PauseServer | Self::PauseTenant | Self::Strike => (9_000, 13_000),
            // Each of both values lasts much longer than workers may take to learn of it.
            Self::RateChanged | Self::ConcurrencyChanged => (28_000, 34_000),
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

impl Event {
    /// Whether what an operator sets ends by itself, as with `--for`: every second time, whatever else is taken from `pick`.
    pub const fn ends_by_itself(&self) -> bool {
        (self.pick / 30).is_multiple_of(2)
    }

    /// The limits that an operator sets in the place of `catalog`, one after the other: a lower and a higher one, in either order.
    pub fn limits(&self, catalog: u32) -> [u32; 2] {
        let (lower, higher) = ((catalog / 2).max(1), catalog.saturating_mul(2));
        if self.pick.is_multiple_of(2) { [lower, higher] } else { [higher, lower] }
    }
}

/// The faults of one kind: one in each of as many equal parts of the run, so that two of a kind never overlap.
pub(super) fn events(fault: Fault, shape: Shape, rng: &mut Rng) -> Vec<Event> {
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
