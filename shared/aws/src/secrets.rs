//! Secrets: read from Secrets Manager, cached for a minute, never printed.
//!
//! **Invariant:** the text of a secret leaves this module only through [`SecretText::expose`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::put_secret_value::PutSecretValueError;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use crate::error::AwsError;

/// A rotated secret is picked up within this time.
const CACHE_TTL: Duration = Duration::from_secs(60);
/// A failed reading is cached this long, so that a broken secret is not read once per call.
const FAILURE_TTL: Duration = Duration::from_secs(1);
/// `refresh` accepts a reading younger than this.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// The text of a secret. It does not print.
#[derive(Clone)]
pub struct SecretText(Arc<str>);

impl SecretText {
    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText([redacted])")
    }
}

/// One reading of a secret, shared by all concurrent callers.
#[derive(Debug, Clone)]
struct Reading {
    started: Instant,
    outcome: Arc<OnceCell<Read>>,
}

/// The result of a reading, and when it was there.
#[derive(Debug)]
struct Read {
    at: Instant,
    secret: Result<SecretText, AwsError>,
}

impl Reading {
    fn new(now: Instant) -> Self {
        Self { started: now, outcome: Arc::default() }
    }

    /// Whether it has not expired; one in progress has not.
    fn is_current(&self, now: Instant) -> bool {
        self.outcome.get().is_none_or(|read| {
            let ttl = if read.secret.is_ok() { CACHE_TTL } else { FAILURE_TTL };
            now.saturating_duration_since(read.at) < ttl
        })
    }
}

/// Secrets Manager.
#[derive(Debug, Clone)]
pub struct Secrets {
    client: Client,
    cache: Arc<Mutex<HashMap<String, Reading>>>,
}

impl Secrets {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, cache: Arc::default() }
    }

    /// The current text of a secret, by name or ARN. Concurrent callers share one request and its result.
    pub async fn get(&self, name: &str) -> Result<SecretText, AwsError> {
        self.shared(name, |_, _| true).await
    }

    /// Reads the secret again, for a server that rejected the cached one. Concurrent callers share one reading.
    pub async fn refresh(&self, name: &str) -> Result<SecretText, AwsError> {
        self.shared(name, |reading, now| now.saturating_duration_since(reading.started) < REFRESH_INTERVAL)
            .await
    }

    /// Stores a text under that name and replaces an earlier one. Workers only read; `toolfleet dev` stores here the secrets that a catalog
    /// has as plain text.
    pub async fn store(&self, name: &str, text: &str) -> Result<(), AwsError> {
        let resource = format!("secret `{name}`");
        let put = Box::pin(self.client.put_secret_value().secret_id(name).secret_string(text).send()).await;
        match put {
            Ok(_) => {}
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(PutSecretValueError::is_resource_not_found_exception) =>
            {
                let created = self.client.create_secret().name(name).secret_string(text).send();
                Box::pin(created).await.map_err(|e| AwsError::of_sdk("CreateSecret", &resource, &e))?;
            }
            Err(error) => return Err(AwsError::of_sdk("PutSecretValue", &resource, &error)),
        }
        self.cache.lock().await.remove(name);
        Ok(())
    }

    async fn shared(
        &self,
        name: &str,
        new_enough: impl Fn(&Reading, Instant) -> bool,
    ) -> Result<SecretText, AwsError> {
        let reading = {
            let mut cache = self.cache.lock().await;
            let now = Instant::now();
            cache.retain(|_, reading| reading.is_current(now));
            match cache.get(name).filter(|reading| new_enough(reading, now)) {
                Some(reading) => reading.clone(),
                None => {
                    let reading = Reading::new(now);
                    cache.insert(name.to_owned(), reading.clone());
                    reading
                }
            }
        };
        let read = reading.outcome.get_or_init(|| async {
            let secret = self.read(name).await;
            Read { at: Instant::now(), secret }
        });
        read.await.secret.clone()
    }

    async fn read(&self, name: &str) -> Result<SecretText, AwsError> {
        let resource = format!("secret `{name}`");
        let request = self.client.get_secret_value().secret_id(name);
        let got = Box::pin(request.send()).await;
        let got = got.map_err(|e| AwsError::of_sdk("GetSecretValue", &resource, &e))?;
        match got.secret_string {
            Some(text) => Ok(SecretText(text.into())),
            None => Err(AwsError::configuration(format!("{resource} is binary; accepted is a text"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = SecretText("hunter2".into());
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(secret.expose(), "hunter2");
    }
}
