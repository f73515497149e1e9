//! Groups: the calls of one agent turn, which are decided together, once.
//!
//! A group has a row of its own ([`GroupRow`]) and one row for each member, which says which call has that index. Here are the rules alone:
//! who is a member ([`join`]), when the group is decided ([`decide`]), and what its notice says. A worker performs them, `now` is an argument.
//!
//! **Invariant:** a row that is decided is never decided again, and the notice is made from the decision alone, so that each sending is equal.

mod decision;
mod join;
mod message;
mod notice;
mod redrive;
mod row;

pub use decision::{Occasion, decide, ended_by_decision};
pub use join::{Binding, Join, Place, join};
pub use message::{GroupEvent, GroupMessage, LONGEST_HOP_MS};
pub use notice::GroupNotice;
pub use redrive::{Fate, Redriven, Round, Skipped, redrive};
pub use row::{Decider, Decision, GroupResult, GroupRow, LATEST_DEADLINE_MS, Terms};
