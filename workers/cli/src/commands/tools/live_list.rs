//! Lists the tools of servers, as a worker does, with the operator's own permission to read secrets.
//!
//! **Invariant:** a credential is sent only where a worker would send it; no secret is printed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use toolfleet_aws::{Aws, AwsOptions, Clock};
use toolfleet_catalog::openapi::Operation;
use toolfleet_catalog::{Catalog, Server, WrittenSecret};
use toolfleet_config::credentials::Credentials;
use toolfleet_config::keyring::AwsKeyring;
use toolfleet_core::credential::SecretRef;
use toolfleet_credentials::{AwsKeys, CredentialError, Keyring, SecretText, Unsigned};
use toolfleet_mcp::{Fault, McpClient, RemoteTool};

use crate::exit::CommandError;
use crate::network::{client, client_as_worker};

/// The time-out of a server's list, its credential included.
pub(super) const LIST_TIME_OUT: Duration = Duration::from_secs(10);

/// The same for a program, which may have to be downloaded first.
const START_TIME_OUT: Duration = Duration::from_secs(60);

/// The tools of a server, or why they are unknown.
pub(in crate::commands) type ListResult = Result<Vec<RemoteTool>, String>;

/// Lists the tools of servers.
pub(in crate::commands) struct ToolLister {
    /// For servers without a credential, at any address.
    open: McpClient,
    as_worker: McpClient,
    credentials: Credentials,
}

/// An operation of an OpenAPI document as a worker lists it.
fn of_operation(operation: &Operation) -> RemoteTool {
    let listed = operation.listed();
    RemoteTool {
        name: operation.name.clone(),
        description: operation.description.clone(),
        input_schema: operation.arguments(),
        read_only: operation.method.is_safe(),
        idempotent: operation.method.is_idempotent(),
        raw: serde_json::value::to_raw_value(&listed).unwrap_or_else(|_| RawValue::NULL.to_owned()),
    }
}

impl ToolLister {
    pub(in crate::commands) async fn of(catalog: &Catalog) -> Result<Self, CommandError> {
        let (open, as_worker) = (client().await?, client_as_worker().await?);
        let credentials = Credentials::new(as_worker.clone(), Arc::new(OperatorKeyring::of(catalog)));
        Ok(Self { open, as_worker, credentials })
    }

    pub(in crate::commands) async fn list(&self, server: &Arc<Server>) -> ListResult {
        let within = if server.stdio().is_some() { START_TIME_OUT } else { LIST_TIME_OUT };
        self.listed(server, Instant::now() + within).await.map_err(|fault| fault.to_string())
    }

    async fn listed(&self, server: &Arc<Server>, deadline: Instant) -> Result<Vec<RemoteTool>, Fault> {
        if let Some(openapi) = server.openapi() {
            return Ok(openapi.interface.document.operations.iter().map(of_operation).collect());
        }
        let endpoint = self.credentials.endpoint(server, None)?;
        let late = |_| Fault::CredentialPending { detail: "it was not available in time".to_owned() };
        timeout_at(deadline, endpoint.ready()).await.map_err(late)??;
        let client = if endpoint.auth.is_some() { &self.as_worker } else { &self.open };
        client.list_tools(&endpoint, None, deadline).await
    }

    /// Stops the programs that were started.
    pub(in crate::commands) async fn close(self) {
        self.open.close().await;
    }
}

/// Secrets Manager and the operator's own AWS identity; connects when they are first used.
#[derive(Debug, Default)]
struct OperatorKeyring {
    aws: OnceCell<AwsKeyring>,
    /// Those that the catalog holds as plain text.
    written: HashMap<String, SecretText>,
}

impl OperatorKeyring {
    fn of(catalog: &Catalog) -> Self {
        let text = |written: &WrittenSecret| (written.name.clone(), SecretText::new(written.value.expose()));
        Self { written: catalog.written_secrets().iter().map(text).collect(), aws: OnceCell::new() }
    }

    async fn of_aws(&self) -> &AwsKeyring {
        let connect = || async { AwsKeyring::new(&Aws::connect(AwsOptions::default()).await, Clock::System) };
        self.aws.get_or_init(connect).await
    }
}

impl Keyring for OperatorKeyring {
    fn secret<'a>(
        &'a self,
        reference: &'a SecretRef,
        fresh: bool,
    ) -> BoxFuture<'a, Result<SecretText, CredentialError>> {
        async move {
            match self.written.get(reference.name()) {
                Some(written) => Ok(written.clone()),
                None => self.of_aws().await.secret(reference, fresh).await,
            }
        }
        .boxed()
    }

    fn now_s(&self) -> u64 {
        u64::try_from(Clock::System.now().as_ms() / 1000).unwrap_or_default()
    }

    fn aws_keys(&self, fresh: bool) -> BoxFuture<'_, Result<AwsKeys, CredentialError>> {
        async move { self.of_aws().await.aws_keys(fresh).await }.boxed()
    }

    fn aws_sign(
        &self,
        keys: &AwsKeys,
        request: &Unsigned<'_>,
    ) -> Result<Vec<(String, String)>, CredentialError> {
        let missing = || CredentialError::Unavailable { detail: "there are no keys to sign with".to_owned() };
        self.aws.get().ok_or_else(missing)?.aws_sign(keys, request)
    }
}
