//! Test doubles: scripted MCP servers over HTTP and as programs, a scripted endpoint of Lambda and its runtime API, an HTTP
//! interface, a provider of OpenID Connect, proxies that cut connections, TLS certificates, and an ear for traces.
//!
//! Nothing here depends on a crate that it tests (aws, mcp, worker, local). A test double that shares code with its subject can agree
//! with it in an error. Only the names and message shapes of MCP are shared (`mcp-protocol`), whose tests repeat them as literals.

mod accept;
mod echo;
mod forward;
mod h2;
mod hearing;
mod http1;
mod lambda;
mod mock;
mod oidc;
mod openapi_cases;
mod program;
mod proxy;
mod runtime_api;
mod tls;

pub use echo::{EchoFault, EchoHttp, EchoRequest};
pub use forward::ForwardProxy;
pub use h2::{H2Fault, H2Mcp};
pub use hearing::Hearing;
pub use lambda::{LambdaFault, LambdaInvocation, MockLambda};
pub use mock::{
    HELD, Hold, MockFault, MockMcp, PendingTool, ProtocolRevision, Recorded, SessionLoss, ToolAnswer,
};
pub use oidc::{MockOidc, OidcExchange, OidcFault};
pub use openapi_cases::{OpenApiCase, openapi_cases};
pub use program::{ScriptedProgram, is_there};
pub use proxy::{Cut, CuttingProxy, Rule};
pub use runtime_api::{MockRuntimeApi, RuntimeAnswer, RuntimeFault};
pub use tls::{Authority, Issued, TlsSide};
