//! The scripted servers of a chaos run, and the tools that the catalog has of each.

use fastrand::Rng;

/// How many calls one request serves at most, in the catalog.
pub const MOST_IN_BATCH: usize = 10;

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
    /// Answers with a task that goes on, and ends, fails, is forgotten, or never ends.
    Tasking,
    /// Answers. Its answers are stored for equal calls.
    Caching,
    /// Takes several calls in one request.
    Batching,
    /// Asks a question before it runs the tool, and runs it for the call that brings the answer.
    Asking,
}

impl Server {
    /// Every server.
    pub const ALL: [Self; 14] = [
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
        Self::Tasking,
        Self::Caching,
        Self::Batching,
        Self::Asking,
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
            Self::Tasking => "tasking",
            Self::Caching => "caching",
            Self::Batching => "batching",
            Self::Asking => "asking",
        }
    }

    /// How many of a hundred calls are for it.
    pub const fn share(self) -> u32 {
        match self {
            Self::Steady => 14,
            Self::Dead => 3,
            Self::Slow | Self::Narrow => 4,
            Self::Rated | Self::Asking => 6,
            Self::Flapping | Self::Lying | Self::Limiting | Self::Forgetful => 7,
            Self::Resetting | Self::Tasking | Self::Batching => 8,
            Self::Caching => 11,
        }
    }

    /// Whether the catalog has a limit for it.
    pub const fn is_limited(self) -> bool {
        matches!(self, Self::Rated | Self::Narrow)
    }

    /// Whether one request or one answer of it can serve several calls.
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Caching | Self::Batching)
    }

    /// Whether calls to it may be members of groups.
    pub const fn takes_members(self) -> bool {
        !matches!(self, Self::Caching | Self::Asking)
    }

    /// Whether no newer call replaces one to it.
    pub const fn is_alone(self) -> bool {
        self.is_shared() || matches!(self, Self::Asking)
    }

    /// What the catalog has of it: stored answers and batches need tools that are safe to repeat.
    pub const fn repeats(self) -> &'static [Repeats] {
        match self {
            Self::Caching | Self::Batching => &[Repeats::Safe, Repeats::Claimless],
            Self::Steady
            | Self::Slow
            | Self::Dead
            | Self::Flapping
            | Self::Lying
            | Self::Limiting
            | Self::Resetting
            | Self::Forgetful
            | Self::Rated
            | Self::Narrow
            | Self::Tasking
            | Self::Asking => &Repeats::ALL,
        }
    }

    pub(super) fn pick(rng: &mut Rng) -> Self {
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
