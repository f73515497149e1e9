//! The state table as a table: for each state, what each event does to it.

mod callers;
mod claims;
mod ends;
mod rows;
mod tasks;
mod unclaimed;
mod waits;
