//! The network settings of commands that send requests to servers, read from the same environment variables as a worker's.
//!
//! A wrong value is a usage error that names the variable, before anything is sent.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use toolfleet_catalog::LocalEnvironment;
use toolfleet_config::egress::{EgressConfig, EgressError};
use toolfleet_egress::{EgressPolicy, HttpClients};
use toolfleet_mcp::{ClientOptions, McpClient};

use crate::exit::CommandError;

/// A variable of the environment.
#[expect(clippy::disallowed_methods, reason = "the one place where the command reads the environment itself")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The values of the variables that a catalog file in `folder` may name: the environment, and the folders that editors define.
pub(crate) fn local_environment(folder: Option<&Path>) -> LocalEnvironment {
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
    LocalEnvironment { variables }
}

/// The egress configuration.
pub(crate) fn egress() -> Result<EgressConfig, CommandError> {
    EgressConfig::read(&variable).map_err(|error| CommandError::usage(error.to_string()))
}

/// A client for servers that the operator names: at any address, with the environment's proxies and TLS roots.
pub(crate) async fn client() -> Result<McpClient, CommandError> {
    let config = EgressConfig { reach: EgressPolicy::anywhere(), ..egress()?.with_loopback() };
    config.client(ClientOptions::default()).await.map_err(no_client)
}

/// A client with a worker's egress policy: a credential is sent nowhere else.
pub(crate) async fn client_as_worker() -> Result<McpClient, CommandError> {
    egress()?.with_loopback().client(ClientOptions::default()).await.map_err(no_client)
}

/// HTTP clients with a worker's egress policy, for what a catalog names.
pub(crate) async fn http_clients() -> Result<HttpClients, CommandError> {
    egress()?.with_loopback().http_clients().await.map_err(no_client)
}

/// A wrong variable is a usage error.
pub(crate) fn no_client(error: EgressError) -> CommandError {
    match error {
        EgressError::Config(error) => CommandError::usage(error.to_string()),
        other @ EgressError::Http(_) => CommandError::Unavailable(other.into()),
    }
}
