//! Executors: how a worker calls each kind of target.
//!
//! The pipeline knows the trait [`Executor`] and the neutral types of `toolfleet_core` (`Answer`, `TaskStatus`, `Failure`). What a
//! protocol needs beside them (credentials, lists of tools, cursors, sessions) stays inside its executor. An executor knows no queue and
//! no tables. MCP is the first kind; its transports, streamable HTTP and programs on stdio, belong to the MCP client behind it.

pub mod arguments;
pub mod blocking;
mod compiled_schemas;
mod executor;
mod gate;
mod kinds;
mod mcp;
mod single_flight;
pub mod spans;

pub use compiled_schemas::{CompiledFigures, CompiledSchemas};
pub use executor::{
    Attempt, Executor, Invocation, NotReady, OnProgress, PolledTask, Ready, ReadyLimits, ResumedCall,
};
pub use gate::{RequestGate, Stopped};
pub use kinds::{Executors, Target};
pub use mcp::executor::{EndpointSource, McpExecutor};
pub use mcp::failure::failure_of;
pub use mcp::questions::{Questions, questions_in};
