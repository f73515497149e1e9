//! Credentials of outbound requests: static headers, OAuth 2 client credentials, Amazon Cognito, AWS SigV4, client certificates;
//! and the scrubbing of those secrets from text that servers send back.

mod auth;
mod certificate;
mod challenge;
mod client_auth;
mod cognito;
mod discovery;
mod error;
mod keyring;
mod oauth;
mod scopes;
mod scrub_bytes;
mod scrub_json;
mod scrubber;
mod secret_forms;
mod secrets;
mod sigv4;
mod static_headers;
mod static_query;
mod token_cache;
mod token_http;
mod token_source;

pub use auth::{Auth, AuthRetries, AuthSite, CredentialVersion};
pub use certificate::CertificateIdentity;
pub use challenge::Challenge;
pub use error::CredentialError;
pub use keyring::{AwsKeys, Keyring, Role, SecretText, Unsigned};
pub use scrubber::SecretScrubber;
pub use secrets::Secrets;
pub use token_http::{TokenHttpClient, TokenResponse};
