//! The tests of the client against the embedded endpoints. Workers are played by writing the rows that they write.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do: loudly, at the line"
)]

mod cancel;
mod dead_letters;
mod groups;
mod records;
mod results;
mod send;
mod sessions;
mod wait;
mod why;
mod world;
