//! Reads the client certificate of a server and its key. Errors name the secret and the field, never their content.

use toolfleet_core::credential::ClientCertificate;
use toolfleet_egress::{ClientIdentity, IdentityError};

use crate::error::CredentialError;
use crate::secrets::Secrets;

/// A client certificate with its key, and where both are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateIdentity {
    identity: ClientIdentity,
    /// The references, for errors.
    names: String,
}

impl CertificateIdentity {
    pub(crate) async fn read(
        of: &ClientCertificate,
        secrets: Secrets<'_>,
        fresh: bool,
    ) -> Result<Self, CredentialError> {
        let key = secrets.reference(&of.key, fresh).await?;
        // A certificate is public; only its key is a secret.
        let certificate = secrets.keyring.secret(&of.certificate, fresh).await?;
        let names = format!("{} and {}", of.certificate, of.key);
        let wrong = |field: &str, reference: &dyn std::fmt::Display, what: &str| {
            let detail = format!("`client_certificate.{field}` ({reference}) holds no {what} in PEM format");
            CredentialError::Unavailable { detail }
        };
        match ClientIdentity::from_pem(certificate.expose(), key.expose()) {
            Ok(identity) => Ok(Self { identity, names }),
            Err(IdentityError::NoCertificate) => Err(wrong("certificate", &of.certificate, "certificate")),
            Err(IdentityError::NoKey | IdentityError::Mismatch | IdentityError::Client) => {
                Err(wrong("key", &of.key, "private key"))
            }
        }
    }

    /// The certificate and the key.
    pub const fn identity(&self) -> &ClientIdentity {
        &self.identity
    }

    /// The error where no client can be built with it.
    pub fn mismatch(&self) -> CredentialError {
        let detail = format!("the client certificate and its key ({}) do not belong together", self.names);
        CredentialError::Unavailable { detail }
    }

    /// The error where the server does not accept it.
    pub fn refused(&self, why: &str) -> CredentialError {
        let detail = format!("the server does not accept the client certificate ({}): {why}", self.names);
        CredentialError::Unavailable { detail }
    }
}
