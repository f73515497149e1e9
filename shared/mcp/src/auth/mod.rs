//! Owns how requests prove who we are: the credential of one server and tenant, ready to stamp a request, and to be renewed
//! when the server does not accept it.
//!
//! **Invariant:** what is stamped is marked as sensitive and remembered for [`Auth::scrub`], so that no echo of it leaves
//! the client.

mod certificate;
mod challenge;
mod client_auth;
mod cognito;
mod discovery;
mod echo;
mod fixed;
mod forms;
mod keyring;
mod oauth;
mod outlet;
mod scopes;
mod seen;
mod sigv4;
mod source;
mod token;

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use toolfleet_core::credential::{ClientCertificate, Credential, Template};
use toolfleet_core::fault::{Fault, RetryClass};
use url::Url;

pub(crate) use certificate::Identity;
pub(crate) use challenge::Challenge;
use cognito::Cognito;
pub(crate) use echo::without_echo;
pub(crate) use fixed::kept;
use fixed::{Fixed, write};
pub use keyring::{AwsKeys, Keyring, SecretText, Unsigned};
use oauth::Oauth;
pub(crate) use outlet::TokenHttpClient;
pub(crate) use seen::SecretScrubber;
use sigv4::Sigv4;
use source::{Kind, Source};
use token::Tokens;

/// The credential of one server and tenant. Keep it: what it has obtained is used again.
pub struct Auth {
    fixed: Fixed,
    source: Option<Arc<Source>>,
    tokens: Tokens,
    signing: Option<Sigv4>,
    certificate: Option<ClientCertificate>,
    seen: Arc<SecretScrubber>,
    keyring: Arc<dyn Keyring>,
}

/// Where a credential is used, and how those who give tokens are reached.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    pub(crate) server: &'a Url,
    pub(crate) outlet: TokenHttpClient,
    pub(crate) cognito_endpoint: Option<Url>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("fixed", &self.fixed)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// With what a request was stamped, to tell a credential from its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CredentialVersion {
    fixed: u64,
    token: Option<u64>,
    keys: Option<u64>,
}

/// What was already done about the refusals of one request.
#[derive(Debug, Default)]
pub(crate) struct AuthRetries {
    renewed: bool,
    widened: bool,
    rekeyed: bool,
}

impl Auth {
    /// The credential that a catalog describes, with the headers that go along. Nothing is read yet.
    pub(crate) fn new(
        credential: &Credential,
        headers: impl IntoIterator<Item = (String, Template)>,
        site: Site<'_>,
        keyring: Arc<dyn Keyring>,
    ) -> Self {
        let Site { server, outlet, cognito_endpoint } = site;
        let mut signing = None;
        let kind = match credential {
            Credential::ClientCredentials(of) => {
                Some(Kind::Oauth(Box::new(Oauth::new(of.clone(), server.clone(), outlet))))
            }
            Credential::Cognito(of) => {
                Some(Kind::Cognito(Box::new(Cognito::new(of.clone(), outlet, cognito_endpoint))))
            }
            Credential::AwsSigv4(of) => {
                signing = Some(Sigv4::new(of.clone()));
                None
            }
            Credential::None
            | Credential::Bearer(_)
            | Credential::ApiKey(_)
            | Credential::Basic(_)
            | Credential::Headers(_) => None,
        };
        let seen = Arc::<SecretScrubber>::default();
        let source = kind
            .map(|kind| Arc::new(Source { kind, keyring: Arc::clone(&keyring), seen: Arc::clone(&seen) }));
        let fixed = Fixed::new(credential, headers);
        Self { fixed, source, tokens: Tokens::default(), signing, certificate: None, seen, keyring }
    }

    /// The same, with a certificate that is shown when a connection is opened.
    #[must_use]
    pub fn with_certificate(mut self, certificate: Option<ClientCertificate>) -> Self {
        self.certificate = certificate;
        self
    }

    /// Obtains all that the first request will need, so that what is missing is known before a call is claimed.
    pub async fn ready(&self) -> Result<(), Fault> {
        self.stamp(&mut HeaderMap::new()).await?;
        self.identity(false).await?;
        self.keys(false).await.map(drop)
    }

    /// The certificate to show, if there is one.
    pub(crate) async fn identity(&self, fresh: bool) -> Result<Option<Identity>, Fault> {
        let Some(certificate) = &self.certificate else {
            return Ok(None);
        };
        let read = Identity::read(certificate, self.keyring.as_ref(), &self.seen, fresh).await;
        read.map(Some).map_err(|fault| self.scrub(fault))
    }

    async fn keys(&self, fresh: bool) -> Result<Option<(AwsKeys, u64)>, Fault> {
        let Some(signing) = &self.signing else {
            return Ok(None);
        };
        let keys = signing.keys(self.keyring.as_ref(), &self.seen, fresh).await;
        keys.map(Some).map_err(|fault| self.scrub(fault))
    }

    /// Puts the credential into a request's headers, which are complete but for that: method, address and body are signed where
    /// the credential is a signature.
    pub(crate) async fn stamp_all(
        &self,
        request: (&str, &Url, &[u8]),
        headers: &mut HeaderMap,
    ) -> Result<CredentialVersion, Fault> {
        let stamp = self.stamp(headers).await?;
        let (Some(signing), Some((keys, mark))) = (&self.signing, self.keys(false).await?) else {
            return Ok(stamp);
        };
        let signed = signing.sign(self.keyring.as_ref(), &keys, request, headers);
        signed.map_err(|fault| self.scrub(fault))?;
        Ok(CredentialVersion { keys: Some(mark), ..stamp })
    }

    /// Puts the credential into a request's headers.
    async fn stamp(&self, headers: &mut HeaderMap) -> Result<CredentialVersion, Fault> {
        self.stamped(headers).await.map_err(|fault| self.scrub(fault))
    }

    async fn stamped(&self, headers: &mut HeaderMap) -> Result<CredentialVersion, Fault> {
        let fixed = self.fixed.stamp(self.keyring.as_ref(), &self.seen, headers, false).await?;
        let Some(source) = &self.source else {
            return Ok(CredentialVersion { fixed, token: None, keys: None });
        };
        let token = self.tokens.get(|| Arc::clone(source).obtain(false)).await?;
        write(headers, AUTHORIZATION.as_str(), &format!("Bearer {}", token.text.expose()))?;
        Ok(CredentialVersion { fixed, token: Some(token.serial), keys: None })
    }

    /// Whether a refused request may be sent again: once after a 401 with a credential that is new, once after a 403 with a
    /// token of wider scope.
    pub(crate) async fn cure(
        &self,
        status: u16,
        headers: &HeaderMap,
        used: CredentialVersion,
        cures: &mut AuthRetries,
    ) -> Result<bool, Fault> {
        // AWS says 403 to keys that have expired.
        if let (Some(mark), false) = (used.keys, std::mem::replace(&mut cures.rekeyed, true)) {
            return Ok(self.keys(true).await?.is_some_and(|(_, new)| new != mark));
        }
        let cured = match status {
            401 if !std::mem::replace(&mut cures.renewed, true) => self.renew(used).await,
            403 if !std::mem::replace(&mut cures.widened, true) => self.widen(headers, used).await,
            _ => Ok(false),
        };
        cured.map_err(|fault| self.scrub(fault))
    }

    async fn renew(&self, used: CredentialVersion) -> Result<bool, Fault> {
        let mut nowhere = HeaderMap::new();
        let fixed = self.fixed.stamp(self.keyring.as_ref(), &self.seen, &mut nowhere, true).await?;
        let token = match (&self.source, used.token) {
            (Some(source), Some(serial)) => {
                self.tokens.replace(serial, || Arc::clone(source).obtain(true)).await?
            }
            (Some(_) | None, _) => None,
        };
        Ok(fixed != used.fixed || token.is_some())
    }

    /// RFC 6750, section 3.1: `insufficient_scope`. A scope that is not granted leaves the refusal as it is.
    async fn widen(&self, headers: &HeaderMap, used: CredentialVersion) -> Result<bool, Fault> {
        let challenge = Challenge::of(headers);
        let (Some(source), Some(serial), Some(scope)) = (&self.source, used.token, challenge.scope) else {
            return Ok(false);
        };
        if challenge.error.is_some_and(|error| error != "insufficient_scope") {
            return Ok(false);
        }
        let Some(since) = source.widen(&scope) else {
            return Ok(false);
        };
        match self.tokens.with_scopes(since, || Arc::clone(source).obtain(false)).await {
            Ok(token) => Ok(token.serial != serial && source.asks_for(&scope)),
            Err(fault) if fault.retry_class() == RetryClass::Permanent => {
                tracing::info!(%fault, "no token of the scope that a server wants");
                Ok(false)
            }
            Err(fault) => Err(fault),
        }
    }

    /// The fault without any credential that a server's words may have echoed.
    pub(crate) fn scrub(&self, fault: Fault) -> Fault {
        fault.map_text(|text| self.scrub_words(text))
    }

    /// A server's words without any credential that they may have echoed.
    pub(crate) fn scrub_words(&self, text: String) -> String {
        self.seen.scrub(text)
    }

    /// A JSON text without any credential, or `None` where none stands in it.
    pub(crate) fn scrub_json(&self, text: &str) -> Option<String> {
        without_echo(&self.seen, text)
    }

    /// Whether a credential stands in the text.
    pub(crate) fn leaks_into(&self, text: &str) -> bool {
        self.seen.stands_in(text)
    }
}
