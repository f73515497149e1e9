//! Rate and concurrency limits: their keys and forms, and the decisions that workers share through the limits' rows.
//!
//! A limit belongs to a server, a tool, a tenant, or a tenant's calls of one tool. A *rate limit* gives each call a turn: an absolute
//! time at which it may be sent ([`turn_book`]). A *concurrency limit* gives each open request a permit ([`holders`], [`exchange`], [`block`]). A worker
//! alone decides about retries ([`retry_budget`]) and about the concurrency that adapts to a server's answers ([`adaptive`]).
//!
//! **Invariant:** no clock and no randomness: `now` is an argument.

pub mod adaptive;
pub mod block;
pub mod exchange;
pub mod holders;
mod key;
pub mod retry_budget;
mod rule;
mod turn;
pub mod turn_book;
pub mod turn_search;
pub mod waits;

pub use key::{LimitKey, LimitKeyError};
pub use rule::{ConcurrencyLimit, LimitRules, OnLoss, Positive, PositiveError, RateLimit, RateLimitError};
pub use turn::{CarriedTurn, Turn};
