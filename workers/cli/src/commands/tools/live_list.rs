//! Lists the tools of servers, as a worker does, with the operator's own permission to read secrets.
//!
//! **Invariant:** a credential is sent only where a worker would send it; no secret is printed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, Method};
use serde_json::value::RawValue;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};
use toolfleet_aws::{Aws, AwsErrorKind, AwsOptions, Clock};
use toolfleet_catalog::openapi::Operation;
use toolfleet_catalog::{Catalog, LambdaPayload, LambdaTransport, Server, WrittenSecret};
use toolfleet_config::credentials::Credentials;
use toolfleet_config::keyring::AwsKeyring;
use toolfleet_config::lambda::function_of;
use toolfleet_core::credential::SecretRef;
use toolfleet_core::function::Event;
use toolfleet_credentials::{AwsKeys, CredentialError, Keyring, SecretText, Unsigned};
use toolfleet_egress::sanitize_text;
use toolfleet_mcp::{
    Endpoint, Fault, McpClient, PlainRequest, RemoteTool, SingleError, SingleForm, SingleList,
};

use crate::exit::CommandError;
use crate::network::{client, client_as_worker};

/// The time-out of a server's list, its credential included.
pub(super) const LIST_TIME_OUT: Duration = Duration::from_secs(10);

/// The same for a program, which may have to be downloaded first.
const START_TIME_OUT: Duration = Duration::from_secs(60);

/// The most bytes of a function's list: two of the largest answers that Lambda gives.
const MOST_LIST_BYTES: u64 = 12 * 1024 * 1024;

/// The tools of a server, or why they are unknown.
pub(in crate::commands) type ListResult = Result<Vec<RemoteTool>, String>;

/// Lists the tools of servers.
pub(in crate::commands) struct ToolLister {
    /// For servers without a credential, at any address.
    open: McpClient,
    as_worker: McpClient,
    credentials: Credentials,
    keyring: Arc<OperatorKeyring>,
}

fn late() -> String {
    format!("no answer within {} s", LIST_TIME_OUT.as_secs())
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
        let keyring = Arc::new(OperatorKeyring::of(catalog));
        let credentials = Credentials::new(as_worker.clone(), Arc::clone(&keyring) as Arc<dyn Keyring>);
        Ok(Self { open, as_worker, credentials, keyring })
    }

    pub(in crate::commands) async fn list(&self, server: &Arc<Server>) -> ListResult {
        let within = if server.stdio().is_some() { START_TIME_OUT } else { LIST_TIME_OUT };
        let deadline = Instant::now() + within;
        match server.lambda() {
            Some(lambda) => self.of_function(server, lambda, deadline).await,
            None => self.listed(server, deadline).await.map_err(|fault| fault.to_string()),
        }
    }

    /// Whether a secret can be read. Its text is dropped.
    pub(in crate::commands) async fn read_secret(&self, reference: &SecretRef) -> Result<(), String> {
        let read = timeout(LIST_TIME_OUT, self.keyring.secret(reference, true)).await;
        read.map_err(|_| late())?.map(drop).map_err(|error| error.to_string())
    }

    /// Whether AWS denies this process the secret, so that it says nothing of whether workers may read it.
    pub(in crate::commands) async fn is_denied(&self, reference: &SecretRef) -> bool {
        if self.keyring.written.contains_key(reference.name()) {
            return false;
        }
        let secrets = self.keyring.aws().await.secrets();
        let read = timeout(LIST_TIME_OUT, secrets.get(reference.name())).await;
        matches!(read, Ok(Err(error)) if error.kind() == AwsErrorKind::Permission)
    }

    /// Whether Lambda would invoke the function. Nothing runs.
    pub(in crate::commands) async fn check_function(&self, lambda: &LambdaTransport) -> Result<(), String> {
        let aws = self.keyring.aws().await.lambda();
        let checked = timeout(LIST_TIME_OUT, aws.check(function_of(lambda))).await;
        checked.map_err(|_| late())?.map_err(|fault| sanitize_text(&fault.to_string()))
    }

    /// Asks the server of an HTTP interface for the headers of its address, with the credential. Any answer but HTTP 401 will do.
    pub(in crate::commands) async fn reach(&self, server: &Arc<Server>) -> Result<String, String> {
        let deadline = Instant::now() + LIST_TIME_OUT;
        let answered = async {
            let endpoint = self.ready(server, deadline).await?;
            let request = PlainRequest {
                endpoint: &endpoint,
                method: Method::HEAD,
                url: &endpoint.url,
                headers: HeaderMap::new(),
                body: None,
                admit: None,
                traceparent: None,
                tracestate: None,
                deadline,
            };
            self.client(&endpoint).plain_request(request).await
        };
        match answered.await {
            Ok(answer) => Ok(format!("HTTP {}", answer.status)),
            Err(Fault::ServerStatus { status, .. }) => Ok(format!("HTTP {status}")),
            Err(fault @ (Fault::RateLimited { .. } | Fault::Redirect { .. })) => Ok(fault.to_string()),
            Err(fault) => Err(fault.to_string()),
        }
    }

    async fn of_function(&self, server: &Server, lambda: &LambdaTransport, deadline: Instant) -> ListResult {
        let form = match lambda.payload {
            LambdaPayload::Mcp => SingleForm::Message,
            LambdaPayload::ApiGateway => SingleForm::ApiGateway,
            LambdaPayload::Bedrock | LambdaPayload::Arguments => {
                return Err(format!("the payload {} has no list of tools", lambda.payload.as_str()));
            }
        };
        let aws = self.keyring.aws().await.lambda();
        let invoke = |payload| {
            let aws = aws.clone();
            async move {
                let event = Event { payload, client_context: None, durable_name: None };
                let answer =
                    aws.invoke(function_of(lambda), event).await.map_err(|fault| fault.to_string())?;
                match answer.function_error {
                    None => Ok(answer.payload),
                    Some(kind) => {
                        let text = String::from_utf8_lossy(&answer.payload);
                        Err(format!("the function reported an error ({kind}): {text}"))
                    }
                }
            }
        };
        let send = |event| {
            let carried = form.in_session(event, None, &invoke);
            async move { carried.await.map(|(answer, _)| answer) }
        };
        let list = SingleList { form, server: &server.id, traceparent: None, tracestate: None };
        match timeout_at(deadline, Box::pin(list.tools(MOST_LIST_BYTES, &send))).await {
            Ok(Ok(list)) => Ok(list.tools),
            Ok(Err(SingleError::Fault(fault))) => Err(fault.to_string()),
            Ok(Err(SingleError::NotCarried(problem))) => Err(sanitize_text(&problem)),
            Err(_) => Err(late()),
        }
    }

    /// The endpoint with its credential.
    async fn ready(&self, server: &Arc<Server>, deadline: Instant) -> Result<Endpoint, Fault> {
        let endpoint = self.credentials.endpoint(server, None)?;
        let late = |_| Fault::CredentialPending { detail: "it was not available in time".to_owned() };
        timeout_at(deadline, endpoint.ready()).await.map_err(late)??;
        Ok(endpoint)
    }

    /// A credential is sent only where a worker would send it.
    const fn client(&self, endpoint: &Endpoint) -> &McpClient {
        if endpoint.auth.is_some() { &self.as_worker } else { &self.open }
    }

    async fn listed(&self, server: &Arc<Server>, deadline: Instant) -> Result<Vec<RemoteTool>, Fault> {
        if let Some(openapi) = server.openapi() {
            return Ok(openapi.interface.document.operations.iter().map(of_operation).collect());
        }
        let endpoint = self.ready(server, deadline).await?;
        self.client(&endpoint).list_tools(&endpoint, None, deadline).await
    }

    /// Stops the programs that were started.
    pub(in crate::commands) async fn close(self) {
        self.open.close().await;
    }
}

/// Secrets Manager and the operator's own AWS identity; connects when they are first used.
#[derive(Debug, Default)]
struct OperatorKeyring {
    aws: OnceCell<(Aws, AwsKeyring)>,
    /// Those that the catalog holds as plain text.
    written: HashMap<String, SecretText>,
}

impl OperatorKeyring {
    fn of(catalog: &Catalog) -> Self {
        let text = |written: &WrittenSecret| (written.name.clone(), SecretText::new(written.value.expose()));
        Self { written: catalog.written_secrets().iter().map(text).collect(), aws: OnceCell::new() }
    }

    async fn connected(&self) -> &(Aws, AwsKeyring) {
        let connect = || async {
            let aws = Aws::connect(AwsOptions::default()).await;
            let keyring = AwsKeyring::new(&aws, Clock::System);
            (aws, keyring)
        };
        self.aws.get_or_init(connect).await
    }

    async fn aws(&self) -> &Aws {
        &self.connected().await.0
    }

    async fn of_aws(&self) -> &AwsKeyring {
        &self.connected().await.1
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
        self.aws.get().ok_or_else(missing)?.1.aws_sign(keys, request)
    }
}
