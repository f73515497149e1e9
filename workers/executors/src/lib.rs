//! Executors: how a worker calls each kind of target.
//!
//! The pipeline knows the trait [`Executor`] and the neutral types of `toolfleet_core` (`Answer`, `TaskStatus`, `Failure`). What a
//! protocol needs beside them (credentials, lists of tools, cursors, sessions) stays inside its executor. An executor knows no queue and
//! no tables. The kinds are MCP servers, whose transports (streamable HTTP and programs on stdio) belong to the MCP client, and Lambda
//! functions, which the worker invokes for it.

pub mod arguments;
pub mod blocking;
mod compiled_schemas;
mod executor;
mod gate;
mod kinds;
mod lambda;
mod mcp;
mod openapi;
mod single_flight;
pub mod spans;

pub use compiled_schemas::{CompiledFigures, CompiledSchemas};
pub use executor::{
    Attempt, Executor, Invocation, NotReady, OnProgress, PolledTask, Ready, ReadyLimits, ResumedCall,
};
pub use gate::{RequestGate, Stopped};
pub use kinds::{Executors, Target};
pub use lambda::executor::{LambdaExecutor, LambdaTarget};
pub use lambda::ports::{Asked, AttributeStore, Attributes, AttributesOf, LambdaInvoke};
pub use mcp::executor::{EndpointSource, McpExecutor};
pub use mcp::failure::failure_of;
pub use mcp::questions::{Questions, questions_in};
pub use toolfleet_mcp::{Admit, Pacer};
