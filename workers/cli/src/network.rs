//! Owns what the commands that call servers themselves are told about the network: the variables that workers know.
//!
//! **Invariant:** a wrong value is the command's error, named by its variable, before anything is sent.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use toolfleet_catalog::Laptop;
use toolfleet_config::egress::{EgressConfig, EgressError};
use toolfleet_egress::EgressPolicy;
use toolfleet_mcp::{ClientOptions, McpClient};

use crate::ending::Failure;

/// A variable of the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the same variables as a worker's, read where a command wants them"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// This machine, for a catalog file in `folder` that names variables: its environment, and the folders that editors name.
pub(crate) fn laptop(folder: Option<&Path>) -> Laptop {
    let of_text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let mut variables: BTreeMap<String, String> = std::env::vars_os().filter_map(of_text).collect();
    let mut also = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            variables.insert(name.to_owned(), value);
        }
    };
    also("userHome", std::env::home_dir().map(|home| home.display().to_string()));
    also("pathSeparator", Some("/".to_owned()));
    also("/", Some("/".to_owned()));
    // Editors keep their file in a folder of the workspace.
    let editors = [".vscode", ".cursor", ".roo", ".gemini", ".amazonq", ".zed", ".kiro"];
    let within =
        |folder: &Path| folder.file_name().is_some_and(|name| editors.iter().any(|editor| name == *editor));
    let workspace =
        folder.map(|folder| if within(folder) { folder.parent().unwrap_or(folder) } else { folder });
    also("workspaceFolder", workspace.map(|folder| folder.display().to_string()));
    let name = workspace.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    also("workspaceFolderBasename", name);
    Laptop { variables }
}

/// Where requests may go, as a worker's environment says it.
pub(crate) fn outbound() -> Result<EgressConfig, Failure> {
    EgressConfig::read(&variable).map_err(|error| Failure::usage(error.to_string()))
}

/// A client for servers that the operator names: at any address, through the environment's proxies, trusting its roots.
pub(crate) async fn client() -> Result<McpClient, Failure> {
    let outbound = EgressConfig { reach: EgressPolicy::anywhere(), ..outbound()?.with_loopback() };
    outbound.client(ClientOptions::default()).await.map_err(no_client)
}

/// A client that reaches what a worker here would: a credential goes nowhere else.
pub(crate) async fn client_as_worker() -> Result<McpClient, Failure> {
    outbound()?.with_loopback().client(ClientOptions::default()).await.map_err(no_client)
}

/// A wrong variable is a usage error.
fn no_client(error: EgressError) -> Failure {
    match error {
        EgressError::Config(error) => Failure::usage(error.to_string()),
        other @ EgressError::Http(_) => Failure::Ours(other.into()),
    }
}
