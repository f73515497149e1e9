//! Owns what the commands that call servers themselves are told about the network: the variables that workers know.
//!
//! **Invariant:** a wrong value is the command's error, named by its variable, before anything is sent.

use toolfleet_mcp::{ClientOptions, McpClient, Reach};
use toolfleet_worker::config::Limits;
use toolfleet_worker::outbound::Outbound;
use toolfleet_worker::start::StartError;

use crate::ending::Failure;

/// A variable of the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the same variables as a worker's, read where a command wants them"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where requests may go, as a worker's environment says it.
pub(crate) fn outbound() -> Result<Outbound, Failure> {
    Outbound::read(&variable).map_err(|error| Failure::usage(error.to_string()))
}

/// The numbers a worker works by, as its environment says them.
pub(crate) fn limits() -> Result<Limits, Failure> {
    Limits::read(&variable).map_err(|error| Failure::usage(error.to_string()))
}

/// A client for servers that the operator names: at any address, through the environment's proxies, trusting its roots.
pub(crate) async fn client() -> Result<McpClient, Failure> {
    let outbound = Outbound { reach: Reach::anywhere(), ..outbound()?.with_loopback() };
    outbound.client(ClientOptions::default()).await.map_err(not_started)
}

/// A client that reaches what a worker here would: a credential goes nowhere else.
pub(crate) async fn client_as_worker() -> Result<McpClient, Failure> {
    outbound()?.with_loopback().client(ClientOptions::default()).await.map_err(not_started)
}

/// A wrong variable is a usage error.
pub(crate) fn not_started(error: StartError) -> Failure {
    match error {
        StartError::Config(error) => Failure::usage(error.to_string()),
        other @ (StartError::Catalog { .. } | StartError::Http(_) | StartError::Aws(_)) => {
            Failure::Ours(other.into())
        }
    }
}
