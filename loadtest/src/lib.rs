//! `toolfleet-loadtest` as a library, so that its plan, its verification and its reports can be tested without a load.
//!
//! **Invariant:** a figure is reported only beside the verification of every call that it was measured on.

pub mod cli;
mod drive;
mod evidence;
pub mod payload;
pub mod plan;
pub mod prices;
mod proxy;
pub mod report;
mod server;
mod stage;
pub mod traffic;
pub mod verify;
mod worker;

pub use drive::run;
