//! Why a call is not running: where it is, what it waits for, when it goes on, and what a person can do.
//!
//! [`explain`] makes an [`Explanation`] of what is known of a call: its row, what operators have set, the workers, the queues and the
//! dead-letter queue. What is not known is listed, never guessed.

mod cancel_rules;
mod evidence;
mod explain;
mod explanation;
mod pauses;
mod reasons;
mod workers;

pub use evidence::{DeadLetterFound, DeadLetterSeen, Evidence, HolderSeen, QueueState, WorkersSeen};
pub use explain::explain;
pub use explanation::{Explanation, Place, WaitsFor, WaitsForKind};
