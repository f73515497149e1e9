//! The credential of one server and tenant: it is applied to each request and renewed when the server refuses it.
//!
//! **Invariant:** every header value it writes is marked as sensitive, and remembered as those of the query are for [`Auth::scrub_text`].

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use toolfleet_core::credential::{ClientCertificate, Credential, Template};
use url::Url;

use crate::certificate::CertificateIdentity;
use crate::challenge::Challenge;
use crate::cognito::Cognito;
use crate::error::CredentialError;
use crate::keyring::{AwsKeys, Keyring};
use crate::oauth::Oauth;
use crate::scrubber::SecretScrubber;
use crate::secrets::Secrets;
use crate::sigv4::Sigv4;
use crate::static_headers::{StaticHeaders, insert_header};
use crate::static_query::StaticQuery;
use crate::token_cache::TokenCache;
use crate::token_http::TokenHttpClient;
use crate::token_source::{TokenProvider, TokenSource};

/// The credential of one server and tenant. It caches the tokens it obtains, so keep it.
pub struct Auth {
    headers: StaticHeaders,
    query: StaticQuery,
    source: Option<Arc<TokenSource>>,
    tokens: TokenCache,
    signing: Option<Sigv4>,
    certificate: Option<ClientCertificate>,
    scrubber: Arc<SecretScrubber>,
    keyring: Arc<dyn Keyring>,
}

/// Where a credential is used, and how authorization servers are called.
#[derive(Debug)]
pub struct AuthSite<'a> {
    /// The server that is called.
    pub server: &'a Url,
    /// The client for authorization servers.
    pub http: TokenHttpClient,
    /// Where Cognito is, in place of each region's endpoint.
    pub cognito_endpoint: Option<Url>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("headers", &self.headers)
            .field("query", &self.query)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Which versions of header values, token and keys a request was sent with; tells a credential from its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialVersion {
    headers: u64,
    token: Option<u64>,
    keys: Option<u64>,
}

/// The remedies already tried for one request.
#[derive(Debug, Default)]
pub struct AuthRetries {
    renewed: bool,
    widened: bool,
    refreshed_keys: bool,
}

impl Auth {
    /// The credential that a catalog describes, with the headers that go along. Nothing is read yet.
    pub fn new(
        credential: &Credential,
        headers: impl IntoIterator<Item = (String, Template)>,
        site: AuthSite<'_>,
        keyring: Arc<dyn Keyring>,
    ) -> Self {
        let AuthSite { server, http, cognito_endpoint } = site;
        let mut signing = None;
        let provider = match credential {
            Credential::ClientCredentials(of) => {
                Some(TokenProvider::Oauth(Box::new(Oauth::new(of.clone(), server.clone(), http))))
            }
            Credential::Cognito(of) => {
                Some(TokenProvider::Cognito(Box::new(Cognito::new(of.clone(), http, cognito_endpoint))))
            }
            Credential::AwsSigv4(of) => {
                signing = Some(Sigv4::new(of.clone(), server));
                None
            }
            Credential::None
            | Credential::Bearer(_)
            | Credential::ApiKey(_)
            | Credential::Basic(_)
            | Credential::Headers(_) => None,
        };
        let scrubber = Arc::<SecretScrubber>::default();
        let source = provider.map(|provider| {
            let (keyring, scrubber) = (Arc::clone(&keyring), Arc::clone(&scrubber));
            Arc::new(TokenSource { provider, keyring, scrubber })
        });
        let headers = StaticHeaders::new(credential, headers);
        let query = StaticQuery::default();
        Self {
            headers,
            query,
            source,
            tokens: TokenCache::default(),
            signing,
            certificate: None,
            scrubber,
            keyring,
        }
    }

    /// Adds a certificate that is presented when a connection is opened.
    #[must_use]
    pub fn with_certificate(mut self, certificate: Option<ClientCertificate>) -> Self {
        self.certificate = certificate;
        self
    }

    /// Adds parameters of the query.
    #[must_use]
    pub fn with_query(mut self, parameters: Vec<(String, Template)>) -> Self {
        self.query = StaticQuery::new(parameters);
        self
    }

    /// Obtains everything that the first request needs, so that a missing secret is known before a call is claimed.
    pub async fn ready(&self) -> Result<(), CredentialError> {
        self.write_headers(&mut HeaderMap::new()).await?;
        self.client_identity(false).await?;
        self.keys(false).await.map(drop)
    }

    /// The certificate to present, if there is one; `fresh` reads it again.
    pub async fn client_identity(&self, fresh: bool) -> Result<Option<CertificateIdentity>, CredentialError> {
        let Some(certificate) = &self.certificate else {
            return Ok(None);
        };
        let read = CertificateIdentity::read(certificate, self.secrets(), fresh).await;
        read.map(Some).map_err(|error| self.scrub(error))
    }

    async fn keys(&self, fresh: bool) -> Result<Option<(AwsKeys, u64)>, CredentialError> {
        let Some(signing) = &self.signing else {
            return Ok(None);
        };
        let keys = signing.keys(self.secrets(), fresh).await;
        keys.map(Some).map_err(|error| self.scrub(error))
    }

    /// Adds the parameters of the query to the address of a request that is about to leave.
    pub async fn write_query(&self, url: &mut Url) -> Result<(), CredentialError> {
        self.query.write(self.secrets(), url).await.map_err(|error| self.scrub(error))
    }

    /// Adds the static headers; gives a number that changes with their values and those of the query.
    async fn write_static(&self, headers: &mut HeaderMap, fresh: bool) -> Result<u64, CredentialError> {
        let of_headers = self.headers.write(self.secrets(), headers, fresh).await?;
        Ok(of_headers ^ self.query.version(self.secrets(), fresh).await?)
    }

    /// Adds the credential to a request's headers, which are complete otherwise: SigV4 signs method, URL, headers and body.
    pub async fn authorize(
        &self,
        request: (&str, &Url, &[u8]),
        headers: &mut HeaderMap,
    ) -> Result<CredentialVersion, CredentialError> {
        let version = self.write_headers(headers).await?;
        let (Some(signing), Some((keys, keys_version))) = (&self.signing, self.keys(false).await?) else {
            return Ok(version);
        };
        let signed = signing.sign(self.keyring.as_ref(), &keys, request, headers);
        signed.map_err(|error| self.scrub(error))?;
        Ok(CredentialVersion { keys: Some(keys_version), ..version })
    }

    /// Adds static headers and the token.
    async fn write_headers(&self, headers: &mut HeaderMap) -> Result<CredentialVersion, CredentialError> {
        self.write_unscrubbed(headers).await.map_err(|error| self.scrub(error))
    }

    async fn write_unscrubbed(&self, headers: &mut HeaderMap) -> Result<CredentialVersion, CredentialError> {
        let version = self.write_static(headers, false).await?;
        let Some(source) = &self.source else {
            return Ok(CredentialVersion { headers: version, token: None, keys: None });
        };
        let token = self.tokens.get(|| Arc::clone(source).obtain(false)).await?;
        insert_header(headers, AUTHORIZATION.as_str(), &format!("Bearer {}", token.text.expose()))?;
        Ok(CredentialVersion { headers: version, token: Some(token.serial), keys: None })
    }

    /// Whether a refused request is to be sent again: once after a 401 with a renewed credential, once after a 403 with a token of
    /// wider scope.
    pub async fn renew_after_refusal(
        &self,
        status: u16,
        headers: &HeaderMap,
        used: CredentialVersion,
        retries: &mut AuthRetries,
    ) -> Result<bool, CredentialError> {
        // AWS answers 403 to expired keys.
        if let (Some(version), false) = (used.keys, std::mem::replace(&mut retries.refreshed_keys, true)) {
            return Ok(self.keys(true).await?.is_some_and(|(_, new)| new != version));
        }
        let renewed = match status {
            401 if !std::mem::replace(&mut retries.renewed, true) => self.renew(used).await,
            403 if !std::mem::replace(&mut retries.widened, true) => self.widen(headers, used).await,
            _ => Ok(false),
        };
        renewed.map_err(|error| self.scrub(error))
    }

    async fn renew(&self, used: CredentialVersion) -> Result<bool, CredentialError> {
        let mut discarded = HeaderMap::new();
        let headers = self.write_static(&mut discarded, true).await?;
        let token = match (&self.source, used.token) {
            (Some(source), Some(serial)) => {
                self.tokens.replace(serial, || Arc::clone(source).obtain(true)).await?
            }
            (Some(_) | None, _) => None,
        };
        Ok(headers != used.headers || token.is_some())
    }

    /// RFC 6750, section 3.1: `insufficient_scope`. Where the scope is not granted, the refusal stands.
    async fn widen(&self, headers: &HeaderMap, used: CredentialVersion) -> Result<bool, CredentialError> {
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
            Err(error) if error.is_permanent() => {
                tracing::info!(%error, "no token of the scope that a server wants");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn secrets(&self) -> Secrets<'_> {
        Secrets { keyring: self.keyring.as_ref(), scrubber: &self.scrubber }
    }

    fn scrub(&self, error: CredentialError) -> CredentialError {
        error.map_text(|text| self.scrub_text(text))
    }

    /// A server's text without any credential that it may repeat.
    pub fn scrub_text(&self, text: String) -> String {
        self.scrubber.scrub(text)
    }

    /// A JSON text without any credential, or `None` where it holds none.
    pub fn scrub_json(&self, text: &str) -> Option<String> {
        self.scrubber.scrub_json(text)
    }

    /// A body that may be no UTF-8 without any credential, or `None` where it holds none.
    pub fn scrub_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.scrubber.scrub_bytes(bytes)
    }

    /// Whether the text holds a credential.
    pub fn is_in(&self, text: &str) -> bool {
        self.scrubber.is_in(text)
    }
}
