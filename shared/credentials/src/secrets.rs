//! Reads secrets and settings of a catalog, and remembers each secret for scrubbing.

use toolfleet_core::credential::{Secret, SecretRef, Setting};

use crate::error::CredentialError;
use crate::keyring::{Keyring, SecretText};
use crate::scrubber::SecretScrubber;

/// Where secrets are read from, and the scrubber that remembers them.
#[derive(Debug, Clone, Copy)]
pub struct Secrets<'a> {
    /// Reads references.
    pub keyring: &'a dyn Keyring,
    /// Remembers what was read.
    pub scrubber: &'a SecretScrubber,
}

impl Secrets<'_> {
    /// The text of a setting. One that is kept as a secret, such as a user name, is scrubbed from errors, but not from results of
    /// tools. `fresh` bypasses caches.
    pub async fn setting(self, setting: &Setting, fresh: bool) -> Result<String, CredentialError> {
        match setting {
            Setting::Plain(text) => Ok(text.clone()),
            Setting::Secret(of) => {
                let text = self.read(of, fresh).await?;
                self.scrubber.add_suspected(text.expose());
                Ok(text.expose().to_owned())
            }
        }
    }

    /// The text of a secret. `fresh` bypasses caches.
    pub async fn secret(self, of: &Secret, fresh: bool) -> Result<SecretText, CredentialError> {
        let text = self.read(of, fresh).await?;
        self.scrubber.add(text.expose());
        Ok(text)
    }

    /// The text of a secret that a reference names. `fresh` bypasses caches.
    pub async fn reference(self, reference: &SecretRef, fresh: bool) -> Result<SecretText, CredentialError> {
        let text = self.read_reference(reference, fresh).await?;
        self.scrubber.add(text.expose());
        Ok(text)
    }

    async fn read(self, of: &Secret, fresh: bool) -> Result<SecretText, CredentialError> {
        match of {
            Secret::Kept(reference) => self.read_reference(reference, fresh).await,
            Secret::Inline(text) => Ok(SecretText::new(text.expose())),
        }
    }

    async fn read_reference(self, of: &SecretRef, fresh: bool) -> Result<SecretText, CredentialError> {
        let text = self.keyring.secret(of, fresh).await?;
        // Files and consoles leave a line end after a secret.
        Ok(SecretText::new(text.expose().trim_end_matches(['\r', '\n'])))
    }
}
