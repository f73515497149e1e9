//! The MCP client against a scripted server.
//!
//! **Invariant:** every test that says "not executed" or "once" asks the server's own counter.

#![expect(clippy::unwrap_used, reason = "the whole binary is tests")]

#[path = "suite/addresses.rs"]
mod addresses;
#[path = "suite/answers.rs"]
mod answers;
#[path = "suite/connections.rs"]
mod connections;
#[path = "suite/eras.rs"]
mod eras;
#[path = "suite/faults.rs"]
mod faults;
#[path = "suite/frames.rs"]
mod frames;
#[path = "suite/noisy_programs.rs"]
mod noisy_programs;
#[path = "suite/program_places.rs"]
mod program_places;
#[path = "suite/program_starts.rs"]
mod program_starts;
#[path = "suite/programs.rs"]
mod programs;
#[path = "suite/proofs.rs"]
mod proofs;
#[path = "suite/sessions.rs"]
mod sessions;
#[path = "suite/streams.rs"]
mod streams;
#[path = "suite/support.rs"]
mod support;
#[path = "suite/tasks.rs"]
mod tasks;
#[path = "suite/tls.rs"]
mod tls;
#[path = "suite/tokens.rs"]
mod tokens;
#[path = "suite/upgrades.rs"]
mod upgrades;
#[path = "suite/wrong_addresses.rs"]
mod wrong_addresses;
