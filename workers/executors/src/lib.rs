//! Executors: how a worker calls each kind of target. They know no queue and no tables.

pub mod mcp;
