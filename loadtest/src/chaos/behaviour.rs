//! What a scripted server does with a request for a tool: a pure function of the server, the seed, the call and how often it came.

use fastrand::Rng;

use super::plan::Server;

/// How long an attempt may take, in the catalog.
pub(crate) const ATTEMPT_MS: u64 = 3_000;
/// Within an attempt's time.
const QUICK_MS: std::ops::Range<u64> = 2..40;
/// Longer than an attempt may take ([`ATTEMPT_MS`]).
const TOO_LATE_MS: std::ops::Range<u64> = 3_400..5_000;
/// How long calls take under the concurrency limit, and those whose answers are stored: so long that others come meanwhile.
const NARROW_MS: u64 = 300;
const CACHING_MS: std::ops::Range<u64> = 150..400;
/// How long a tool takes that asks before it runs.
const ANSWERED_MS: std::ops::Range<u64> = 20..800;
/// How long tasks take.
const TASK_MS: std::ops::Range<u64> = 300..4_000;

/// An answer that does not say whether the tool ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unclear {
    /// An HTTP status without a JSON-RPC message.
    Status(u16),
    /// 503 with Retry-After.
    Later,
    /// A JSON-RPC error with the request's id.
    Rpc(i64),
    /// HTTP 200 with a text that is not MCP.
    NotMcp,
}

/// How a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskEnd {
    /// With the tool's answer, which may say that it failed.
    Answers {
        /// Whether the tool says that it failed.
        is_error: bool,
    },
    /// With a JSON-RPC error.
    Fails,
    /// The server does not know it any more.
    Forgotten,
    /// Never.
    Never,
}

/// What the server does with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Runs the tool for so long and answers; the tool may say that it failed.
    Answer {
        /// How long the tool takes.
        ms: u64,
        /// Whether the tool says that it failed.
        is_error: bool,
    },
    /// Runs the tool, and gives an answer that does not say so.
    Lie {
        /// How long the tool takes.
        ms: u64,
        /// The answer.
        answer: Unclear,
    },
    /// Resets the connection, and the tool does not run.
    ResetBefore,
    /// Runs the tool and resets the connection.
    ResetAfter {
        /// How long the tool takes.
        ms: u64,
    },
    /// Runs the tool and resets the connection within the answer.
    ResetWithin {
        /// How long the tool takes.
        ms: u64,
    },
    /// Answers 429 with Retry-After, and the tool does not run.
    Refuse,
    /// Runs the tool, and answers several calls with a list that lacks one.
    Short,
    /// Starts the tool, and answers with a task.
    Task {
        /// How long the task takes.
        ms: u64,
        /// How it ends.
        end: TaskEnd,
    },
    /// Asks a question, and the tool does not run.
    Ask,
    /// Never answers; the tool may run.
    Silent {
        /// Whether the tool runs.
        runs: bool,
    },
}

impl Act {
    /// The same where the tool may not run before its question is answered.
    pub(crate) const fn unanswered(self) -> Self {
        match self {
            Self::Answer { .. } => Self::Ask,
            Self::ResetAfter { .. } | Self::ResetWithin { .. } => Self::ResetBefore,
            Self::Silent { .. } => Self::Silent { runs: false },
            Self::Lie { .. } | Self::Short | Self::Task { .. } | Self::Refuse => Self::Refuse,
            Self::ResetBefore | Self::Ask => self,
        }
    }
}

/// What the server does with the `nth` request of a call.
pub(crate) fn decide(server: Server, seed: u64, call: &str, nth: u32) -> Act {
    let mut rng = Rng::with_seed(of_call(seed, call, nth));
    let ms = rng.u64(QUICK_MS);
    let answer = Act::Answer { ms, is_error: rng.u32(..100) < 3 };
    let of_hundred = rng.u32(..100);
    match server {
        Server::Steady | Server::Dead | Server::Flapping | Server::Forgetful | Server::Rated => answer,
        Server::Narrow => Act::Answer { ms: NARROW_MS, is_error: false },
        Server::Slow => match of_hundred {
            0..10 => Act::Answer { ms: rng.u64(TOO_LATE_MS), is_error: false },
            10..14 => Act::Silent { runs: rng.bool() },
            _ => Act::Answer { ms: rng.u64(100..1_500), is_error: false },
        },
        Server::Lying if of_hundred < 40 => Act::Lie { ms, answer: unclear(&mut rng) },
        Server::Limiting if of_hundred < 30 => Act::Refuse,
        Server::Resetting => match of_hundred {
            0..12 => Act::ResetBefore,
            12..24 => Act::ResetAfter { ms },
            24..32 => Act::ResetWithin { ms },
            _ => answer,
        },
        Server::Tasking => {
            let task = |end, rng: &mut Rng| Act::Task { ms: rng.u64(TASK_MS), end };
            match of_hundred {
                0..20 => answer,
                20..25 => Act::ResetAfter { ms },
                25..30 => task(TaskEnd::Fails, &mut rng),
                30..35 => task(TaskEnd::Forgotten, &mut rng),
                35..45 => task(TaskEnd::Never, &mut rng),
                _ => task(TaskEnd::Answers { is_error: rng.u32(..100) < 3 }, &mut rng),
            }
        }
        Server::Caching => match of_hundred {
            0..5 => Act::ResetBefore,
            5..10 => Act::ResetAfter { ms },
            _ => Act::Answer { ms: rng.u64(CACHING_MS), is_error: of_hundred < 13 },
        },
        Server::Batching => match of_hundred {
            0..4 => Act::ResetAfter { ms },
            4..8 => Act::Refuse,
            8..12 => Act::Short,
            _ => Act::Answer { ms: rng.u64(CACHING_MS), is_error: false },
        },
        Server::Asking => match of_hundred {
            0..6 => Act::ResetBefore,
            6..14 => Act::ResetAfter { ms },
            // So long that some workers are killed meanwhile.
            _ => Act::Answer { ms: rng.u64(ANSWERED_MS), is_error: of_hundred < 17 },
        },
        Server::Lying | Server::Limiting => answer,
    }
}

fn unclear(rng: &mut Rng) -> Unclear {
    match rng.u32(..8) {
        0 => Unclear::Status(500),
        1 => Unclear::Status(502),
        2 => Unclear::Status(408),
        3 => Unclear::Status(409),
        4 => Unclear::Later,
        5 => Unclear::Rpc(-32_603),
        6 => Unclear::Rpc(-32_000),
        _ => Unclear::NotMcp,
    }
}

/// Whether the tool says that it failed for that call of a batch.
pub(crate) fn fails_in_batch(seed: u64, call: &str) -> bool {
    Rng::with_seed(of_call(seed, call, u32::MAX)).u32(..100) < 5
}

/// A seed of its own for each request.
fn of_call(seed: u64, call: &str, nth: u32) -> u64 {
    let bytes = call.bytes().chain(nth.to_le_bytes());
    bytes.fold(seed ^ 0x9E37_79B9_7F4A_7C15, |hash, byte| {
        (hash.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517C_C1B7_2722_0A95)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Is = fn(&Act) -> bool;

    fn acts(server: Server) -> Vec<Act> {
        (0..500).map(|n| decide(server, 1, &format!("c-{n}"), n % 3)).collect()
    }

    #[test]
    fn the_same_request_is_always_treated_alike() {
        assert_eq!(acts(Server::Resetting), acts(Server::Resetting));
        assert_ne!(decide(Server::Lying, 1, "a", 0), decide(Server::Lying, 1, "a", 1));
    }

    #[test]
    fn no_tool_that_asks_runs_before_its_question_is_answered() {
        let acts: Vec<_> = acts(Server::Asking).into_iter().map(Act::unanswered).collect();
        assert!(acts.iter().all(|act| matches!(act, Act::Ask | Act::ResetBefore)));
        assert!(acts.contains(&Act::Ask) && acts.contains(&Act::ResetBefore));
    }

    #[test]
    fn every_server_fails_in_its_own_way_and_answers_too() {
        let some = |server, of: Is| acts(server).iter().any(of);
        let failures: [(Server, &[Is]); 8] = [
            (
                Server::Slow,
                &[
                    |a| matches!(a, Act::Silent { runs: true }),
                    |a| matches!(a, Act::Silent { runs: false }),
                    |a| matches!(a, Act::Answer { ms: ATTEMPT_MS.., .. }),
                ],
            ),
            (
                Server::Lying,
                &[
                    |a| matches!(a, Act::Lie { answer: Unclear::Status(500), .. }),
                    |a| matches!(a, Act::Lie { answer: Unclear::Later, .. }),
                    |a| matches!(a, Act::Lie { answer: Unclear::Rpc(_), .. }),
                    |a| matches!(a, Act::Lie { answer: Unclear::NotMcp, .. }),
                ],
            ),
            (Server::Limiting, &[|a| matches!(a, Act::Refuse)]),
            (
                Server::Tasking,
                &[
                    |a| matches!(a, Act::Task { end: TaskEnd::Answers { .. }, .. }),
                    |a| matches!(a, Act::Task { end: TaskEnd::Fails, .. }),
                    |a| matches!(a, Act::Task { end: TaskEnd::Forgotten, .. }),
                    |a| matches!(a, Act::Task { end: TaskEnd::Never, .. }),
                ],
            ),
            (
                Server::Caching,
                &[
                    |a| matches!(a, Act::ResetAfter { .. }),
                    |a| matches!(a, Act::Answer { is_error: true, .. }),
                ],
            ),
            (Server::Asking, &[|a| matches!(a, Act::ResetBefore), |a| matches!(a, Act::ResetAfter { .. })]),
            (Server::Batching, &[|a| matches!(a, Act::Refuse), |a| matches!(a, Act::Short)]),
            (
                Server::Resetting,
                &[
                    |a| matches!(a, Act::ResetBefore),
                    |a| matches!(a, Act::ResetAfter { .. }),
                    |a| matches!(a, Act::ResetWithin { .. }),
                ],
            ),
        ];
        for (server, ways) in failures {
            assert!(some(server, |act| matches!(act, Act::Answer { .. })), "{server:?}");
            assert!(ways.iter().all(|way| some(server, *way)), "{server:?}");
        }
        for server in [Server::Steady, Server::Rated, Server::Narrow, Server::Forgetful] {
            assert!(acts(server).iter().all(|act| matches!(act, Act::Answer { .. })));
        }
    }
}
