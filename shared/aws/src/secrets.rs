//! Owns secrets: read from Secrets Manager, remembered for a minute, never printed.
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
const GOOD_FOR: Duration = Duration::from_secs(60);
/// So long a failure stands for all who ask: a broken secret is not asked for once per call, one after the other.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// A reading younger than this is new enough for whoever wants the secret anew.
const NEW_FOR: Duration = Duration::from_secs(1);

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

/// One reading of a secret, shared by all who ask for it meanwhile.
#[derive(Debug, Clone)]
struct Reading {
    begun: Instant,
    outcome: Arc<OnceCell<Read>>,
}

/// What came of it, and when.
#[derive(Debug)]
struct Read {
    at: Instant,
    secret: Result<SecretText, AwsError>,
}

impl Reading {
    fn new(now: Instant) -> Self {
        Self { begun: now, outcome: Arc::default() }
    }

    /// Whether it still stands; one under way does.
    fn stands(&self, now: Instant) -> bool {
        self.outcome.get().is_none_or(|read| {
            let good_for = if read.secret.is_ok() { GOOD_FOR } else { FAILED_FOR };
            now.saturating_duration_since(read.at) < good_for
        })
    }
}

/// Secrets Manager.
#[derive(Debug, Clone)]
pub struct Secrets {
    client: Client,
    known: Arc<Mutex<HashMap<String, Reading>>>,
}

impl Secrets {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, known: Arc::default() }
    }

    /// The current text of a secret, by name or ARN. Concurrent callers share one request and its outcome.
    pub async fn get(&self, name: &str) -> Result<SecretText, AwsError> {
        self.shared(name, |_, _| true).await
    }

    /// Reads the secret anew, for a server that did not accept the one we had. Those who ask together share one reading.
    pub async fn refresh(&self, name: &str) -> Result<SecretText, AwsError> {
        self.shared(name, |reading, now| now.saturating_duration_since(reading.begun) < NEW_FOR).await
    }

    /// Stores a text under that name, whatever stood there. A fleet's workers only read; `toolfleet dev` keeps here what a catalog wrote
    /// out.
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
        self.known.lock().await.remove(name);
        Ok(())
    }

    async fn shared(
        &self,
        name: &str,
        new_enough: impl Fn(&Reading, Instant) -> bool,
    ) -> Result<SecretText, AwsError> {
        let reading = {
            let mut known = self.known.lock().await;
            let now = Instant::now();
            known.retain(|_, reading| reading.stands(now));
            match known.get(name).filter(|reading| new_enough(reading, now)) {
                Some(reading) => reading.clone(),
                None => {
                    let reading = Reading::new(now);
                    known.insert(name.to_owned(), reading.clone());
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
