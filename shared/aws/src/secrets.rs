//! Owns secrets: read from Secrets Manager, remembered for a minute, never printed.
//!
//! **Invariant:** the text of a secret leaves this module only through [`SecretText::expose`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use crate::trouble::Trouble;

/// A rotated secret is picked up within this time.
const GOOD_FOR: Duration = Duration::from_secs(60);

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

type Slot = Arc<OnceCell<SecretText>>;

/// Secrets Manager.
#[derive(Debug, Clone)]
pub struct Secrets {
    client: Client,
    known: Arc<Mutex<HashMap<String, (Instant, Slot)>>>,
}

impl Secrets {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, known: Arc::default() }
    }

    /// The current text of a secret, by name or ARN. Concurrent callers share one request.
    pub async fn get(&self, name: &str) -> Result<SecretText, Trouble> {
        let slot = {
            let mut known = self.known.lock().await;
            let now = Instant::now();
            known.retain(|_, (until, _)| *until > now);
            known.entry(name.to_owned()).or_insert_with(|| (now + GOOD_FOR, Slot::default())).1.clone()
        };
        slot.get_or_try_init(|| self.read(name)).await.cloned()
    }

    /// Reads the secret anew, for a server that did not accept the one we had.
    pub async fn refresh(&self, name: &str) -> Result<SecretText, Trouble> {
        self.known.lock().await.remove(name);
        self.get(name).await
    }

    async fn read(&self, name: &str) -> Result<SecretText, Trouble> {
        let resource = format!("secret `{name}`");
        let got = self
            .client
            .get_secret_value()
            .secret_id(name)
            .send()
            .await
            .map_err(|e| Trouble::of_sdk("GetSecretValue", &resource, &e))?;
        match got.secret_string {
            Some(text) => Ok(SecretText(text.into())),
            None => Err(Trouble::configuration(format!("{resource} is binary; accepted is a text"))),
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
