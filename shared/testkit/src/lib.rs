//! Owns what tests need in place of the world: scripted MCP servers, over HTTP and as programs, and a proxy that cuts. Never part of a worker.
//!
//! **Invariant:** nothing here depends on the crates it tests (aws, worker, local), so that a test double can never agree
//! with its subject by sharing its code.

mod forward;
mod h2;
mod http1;
mod mock;
mod program;
mod proxy;
mod tls;

pub use forward::ForwardProxy;
pub use h2::{H2Fault, H2Mcp};
pub use mock::{
    HELD, Hold, MockFault, MockMcp, PendingTool, ProtocolRevision, Recorded, SessionLoss, ToolAnswer,
};
pub use program::{ScriptedProgram, is_there};
pub use proxy::{Cut, CuttingProxy, Rule};
pub use tls::{Authority, Issued, TlsSide};
