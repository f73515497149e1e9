//! What an issuer says of itself: its metadata (OpenID Connect Discovery, RFC 8414).

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toolfleet_credentials::TokenHttpClient;
use url::Url;

/// Why an issuer's keys or metadata cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IssuerError(pub String);

/// An issuer of tokens.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The client that reads its documents.
    pub http: TokenHttpClient,
    /// Its address.
    pub url: Url,
}

/// What an issuer says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Metadata {
    /// Who says it.
    pub issuer: String,
    /// Where its keys are.
    pub jwks_uri: Url,
    /// Where a browser logs in.
    #[serde(default)]
    pub authorization_endpoint: Option<Url>,
    /// Where a code becomes tokens.
    #[serde(default)]
    pub token_endpoint: Option<Url>,
    /// How clients may authenticate there.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Whether it names itself when it sends a browser back (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

impl Issuer {
    /// Its metadata.
    ///
    /// # Errors
    /// It cannot be read, or is that of another issuer.
    pub async fn metadata(&self) -> Result<Metadata, IssuerError> {
        let mut last = None;
        for url in metadata_urls(&self.url) {
            match self.document::<Metadata>(&url, "no metadata of an issuer").await {
                // Metadata of another issuer is not to be trusted (RFC 8414, section 3.3).
                Ok(found) if same_issuer(&found.issuer, self.url.as_str()) => return Ok(found),
                Ok(_) => last = Some(IssuerError(format!("{url}: is the metadata of another issuer"))),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| IssuerError("the issuer has no address".to_owned())))
    }

    /// A JSON document of it. `otherwise` is what it is if it cannot be read as one.
    pub(super) async fn document<T: DeserializeOwned>(
        &self,
        url: &Url,
        otherwise: &str,
    ) -> Result<T, IssuerError> {
        let response = self.http.document(url).await.map_err(|error| IssuerError(error.to_string()))?;
        if !response.status.is_success() {
            return Err(IssuerError(format!("{url}: answered with HTTP {}", response.status.as_u16())));
        }
        serde_json::from_value(response.body).map_err(|_| IssuerError(format!("{url}: is {otherwise}")))
    }
}

fn same_issuer(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

fn metadata_urls(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    };
    vec![
        at(format!("{path}/.well-known/openid-configuration")),
        at(format!("/.well-known/oauth-authorization-server{path}")),
    ]
}
