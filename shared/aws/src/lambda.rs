//! Invokes Lambda functions, as the process itself or with an assumed role. Nothing is retried here: an SDK that repeats an Invoke
//! would run a tool twice.
//!
//! **Invariant:** an error says whether the request may have reached Lambda; only a connection that was never made, or a credential
//! that is missing, proves that it did not.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_lambda::config::IdentityCache;
use aws_sdk_lambda::config::http::HttpResponse;
use aws_sdk_lambda::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use base64::Engine as _;

use toolfleet_core::function::{Event, FunctionAnswer, InvokeFault};

use crate::assumed_role::{CachedKeys, assume, why};
use crate::error::chain;
use crate::usage::Usage;

/// The most clients, each of one region and role, that are kept; beyond it all are made again.
const MOST_CLIENTS: usize = 200;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Which function is invoked, and as whom.
#[derive(Debug, Clone, Copy)]
pub struct LambdaFunction<'a> {
    /// Its ARN, with or without a version or alias.
    pub arn: &'a str,
    /// The region of its ARN.
    pub region: &'a str,
    /// The role to assume, and the external id that it asks for.
    pub role: Option<(&'a str, Option<&'a str>)>,
}

type ClientKey = (String, Option<(String, Option<String>)>);

/// Invokes functions. Its clones share clients and keys.
#[derive(Clone)]
pub struct Lambda(Arc<Shared>);

struct Shared {
    config: SdkConfig,
    /// The same with the endpoint of STS.
    sts: SdkConfig,
    endpoint: Option<String>,
    usage: Usage,
    clients: Mutex<HashMap<ClientKey, Invoker>>,
}

/// A client of one region and role, with its keys.
#[derive(Clone)]
struct Invoker {
    client: aws_sdk_lambda::Client,
    keys: Option<CachedKeys>,
}

impl fmt::Debug for Lambda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lambda").field("endpoint", &self.0.endpoint).finish_non_exhaustive()
    }
}

impl Lambda {
    pub(crate) fn new(config: SdkConfig, sts: SdkConfig, endpoint: Option<String>, usage: Usage) -> Self {
        Self(Arc::new(Shared { config, sts, endpoint, usage, clients: Mutex::default() }))
    }

    /// Obtains the keys that an Invoke of the function needs.
    ///
    /// # Errors
    /// [`InvokeFault::Credentials`].
    pub async fn ready(&self, function: LambdaFunction<'_>) -> Result<(), InvokeFault> {
        match self.0.invoker(function).await.keys {
            None => Ok(()),
            Some(keys) => keys.get().await.map(drop).map_err(|error| credentials(&error)),
        }
    }

    /// Invokes the function and waits for its answer, without a bound: dropping this ends the request.
    ///
    /// # Errors
    /// See [`InvokeFault`].
    pub async fn invoke(
        &self,
        function: LambdaFunction<'_>,
        event: Event,
    ) -> Result<FunctionAnswer, InvokeFault> {
        let invoker = self.0.invoker(function).await;
        let context = event.client_context.map(|text| base64::engine::general_purpose::STANDARD.encode(text));
        let sent = invoker
            .client
            .invoke()
            .function_name(function.arn)
            .set_client_context(context)
            .set_durable_execution_name(event.durable_name)
            .payload(Blob::new(event.payload))
            .send()
            .await;
        match sent {
            Ok(InvokeOutput { payload, function_error, .. }) => {
                let payload = payload.map(Blob::into_inner).unwrap_or_default();
                Ok(FunctionAnswer { payload, function_error })
            }
            Err(error) => {
                let fault = fault_of(&error);
                if let (InvokeFault::Service { status: 401 | 403, .. }, Some(keys)) = (&fault, &invoker.keys)
                {
                    keys.forget();
                }
                Err(fault)
            }
        }
    }
}

impl Lambda {
    /// Asks Lambda whether the function is there and may be invoked (`DryRun`). Nothing runs; the right to invoke it is enough.
    ///
    /// # Errors
    /// See [`InvokeFault`].
    pub async fn check(&self, function: LambdaFunction<'_>) -> Result<(), InvokeFault> {
        let client = self.0.invoker(function).await.client;
        let asked = client.invoke().function_name(function.arn).invocation_type(InvocationType::DryRun);
        asked.send().await.map(drop).map_err(|error| fault_of(&error))
    }
}

impl Shared {
    async fn invoker(&self, function: LambdaFunction<'_>) -> Invoker {
        let role = function.role.map(|(arn, id)| (arn.to_owned(), id.map(str::to_owned)));
        let key = (function.region.to_owned(), role);
        let known = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(invoker) = known {
            return invoker;
        }
        let invoker = self.connect(&key).await;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        clients.entry(key).or_insert(invoker).clone()
    }

    async fn connect(&self, (region, role): &ClientKey) -> Invoker {
        let region = Region::new(region.clone());
        let keys = match role {
            None => self.config.credentials_provider().map(CachedKeys::of),
            Some((arn, external_id)) => {
                let role = (arn.as_str(), external_id.as_deref());
                Some(assume(&self.sts, role, Some(region.clone())).await)
            }
        };
        // The caller bounds an Invoke: it knows how long the function may take.
        let time_outs = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .disable_read_timeout()
            .disable_operation_attempt_timeout()
            .disable_operation_timeout()
            .build();
        let mut config = aws_sdk_lambda::config::Builder::from(&self.config)
            .interceptor(self.usage.of("Lambda"))
            .region(region)
            .retry_config(RetryConfig::disabled())
            .timeout_config(time_outs)
            .identity_cache(IdentityCache::no_cache());
        config.set_credentials_provider(keys.clone().map(SharedCredentialsProvider::new));
        if self.endpoint.is_some() {
            config.set_endpoint_url(self.endpoint.clone());
        }
        Invoker { client: aws_sdk_lambda::Client::from_conf(config.build()), keys }
    }
}

fn fault_of(error: &SdkError<InvokeError, HttpResponse>) -> InvokeFault {
    if let SdkError::ServiceError(service) = error {
        let of = service.err();
        return InvokeFault::Service {
            status: service.raw().status().as_u16(),
            code: of.code().unwrap_or_default().rsplit(['#', '.']).next().unwrap_or_default().to_owned(),
            message: of.message().unwrap_or_default().to_owned(),
            retry_after_ms: retry_after_ms(service.raw()),
        };
    }
    if let Some(missing) = source::<CredentialsError>(error) {
        return credentials(missing);
    }
    let detail = chain(error).lines().next().unwrap_or_default().to_owned();
    let connecting = source::<hyper_util::client::legacy::Error>(error).is_some_and(|e| e.is_connect());
    match error {
        // The request could not be made.
        SdkError::ConstructionFailure(_) => InvokeFault::Credentials { detail, permanent: true },
        SdkError::DispatchFailure(_) if connecting => InvokeFault::NotConnected { detail },
        SdkError::ResponseError(response) if response.raw().status().as_u16() >= 400 => {
            InvokeFault::Service {
                status: response.raw().status().as_u16(),
                code: String::new(),
                message: detail,
                retry_after_ms: retry_after_ms(response.raw()),
            }
        }
        SdkError::DispatchFailure(_)
        | SdkError::TimeoutError(_)
        | SdkError::ResponseError(_)
        | SdkError::ServiceError(_)
        | _ => InvokeFault::AnswerLost { detail },
    }
}

fn retry_after_ms(response: &HttpResponse) -> Option<u64> {
    let seconds: f64 = response.headers().get("retry-after")?.trim().parse().ok()?;
    (0.0..=3_600.0).contains(&seconds).then_some((seconds * 1_000.0) as u64)
}

fn credentials(error: &CredentialsError) -> InvokeFault {
    let (detail, permanent) = why(error);
    InvokeFault::Credentials { detail, permanent }
}

fn source<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
