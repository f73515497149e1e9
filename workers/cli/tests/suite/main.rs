//! The `toolfleet` command as its users meet it: the built binary, its two streams and its exit code.
//!
//! **Invariant:** no test sleeps: each waits for a line, an end, or an answer.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do: loudly, at the line"
)]

mod configurations;
mod dev;
mod help;
mod killed;
mod pins;
mod run;
mod tour;
mod wrong_input;
