//! Owns the client certificate of a server: its current text, read for every connection that may be needed.
//!
//! **Invariant:** an error names the secret and the field, never what stands in it.

use reqwest::Certificate;
use toolfleet_core::credential::ClientCertificate;
use toolfleet_core::fault::Fault;

use super::fixed::kept;
use super::keyring::{Keyring, SecretText};
use super::seen::SecretScrubber;

/// A certificate and its key. It does not print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    certificate: SecretText,
    key: SecretText,
    /// Where they are kept, for errors.
    names: String,
}

impl Identity {
    pub(super) async fn read(
        of: &ClientCertificate,
        keyring: &dyn Keyring,
        seen: &SecretScrubber,
        fresh: bool,
    ) -> Result<Self, Fault> {
        let key = kept(keyring, seen, &of.key, fresh).await?;
        // A certificate is shown to everybody; only its key is a secret.
        let certificate = keyring.secret(&of.certificate, fresh).await?;
        let wrong = |field: &str, reference: &dyn std::fmt::Display, what: &str| {
            let detail = format!("`client_certificate.{field}` ({reference}) holds no {what} in PEM format");
            Fault::Credential { detail }
        };
        let chain = Certificate::from_pem_bundle(certificate.expose().as_bytes()).unwrap_or_default();
        if chain.is_empty() {
            return Err(wrong("certificate", &of.certificate, "certificate"));
        }
        let names = format!("{} and {}", of.certificate, of.key);
        let identity = Self { certificate, key, names };
        if reqwest::Identity::from_pem(&identity.pem()).is_err() {
            return Err(wrong("key", &of.key, "private key"));
        }
        Ok(identity)
    }

    fn pem(&self) -> Vec<u8> {
        format!("{}\n{}\n", self.certificate.expose(), self.key.expose()).into_bytes()
    }

    /// What a client is built with.
    pub(crate) fn material(&self) -> Result<reqwest::Identity, Fault> {
        reqwest::Identity::from_pem(&self.pem()).map_err(|_| self.unfit())
    }

    /// The fault of a client that cannot be built with it.
    pub(crate) fn unfit(&self) -> Fault {
        let detail = format!("the client certificate and its key ({}) do not belong together", self.names);
        Fault::Credential { detail }
    }

    /// The fault of a server that does not accept it.
    pub(crate) fn refused(&self, why: &str) -> Fault {
        let detail = format!("the server does not accept the client certificate ({}): {why}", self.names);
        Fault::Credential { detail }
    }
}
