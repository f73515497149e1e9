//! The process's own AWS identity: its keys, those of roles that it assumes, and signatures (Signature Version 4) for requests that other crates send.
//!
//! **Invariant:** a secret key and a session token are never printed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{self, SignableBody, SignableRequest, SigningSettings};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity as SdkIdentity;
use tokio::sync::Mutex;
use tokio::time::Instant;
use toolfleet_core::time::Timestamp;

use crate::assumed_role::{CachedKeys, assume, why};
use crate::error::AwsError;

/// Keys are read again after this time; a caller whose keys are rejected earlier asks for fresh ones.
const CACHE_TTL: Duration = Duration::from_secs(60);
/// A reading younger than this counts as fresh.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// The most roles whose keys are kept; beyond it all are assumed again.
const MOST_ROLES: usize = 200;

/// AWS keys. The secret ones are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The access key, which is a name.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// The session token of temporary keys.
    pub session_token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// A request to sign.
#[derive(Debug)]
pub struct ToSign<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The whole address.
    pub url: &'a str,
    /// The headers that the signature covers, beside `host`.
    pub headers: Vec<(&'a str, &'a str)>,
    /// The body.
    pub body: &'a [u8],
    /// The service's name in signatures.
    pub service: &'a str,
    /// The region.
    pub region: &'a str,
    /// When it is signed.
    pub at: Timestamp,
}

/// The process's own identity, from the SDK's chain: environment, profile, role.
#[derive(Clone)]
pub struct Identity {
    provider: Option<SharedCredentialsProvider>,
    region: Option<String>,
    cache: Arc<Mutex<Option<(Instant, Keys)>>>,
    sts: SdkConfig,
    roles: Arc<Mutex<HashMap<AssumedRole, CachedKeys>>>,
}

/// A role that is assumed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AssumedRole {
    /// Its ARN.
    pub arn: String,
    /// The external id that it asks for.
    pub external_id: Option<String>,
    /// Where STS is asked, if no region is configured.
    pub region: Option<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Identity {
    pub(crate) fn new(config: &SdkConfig, sts: SdkConfig) -> Self {
        let (provider, region) = (config.credentials_provider(), config.region().map(ToString::to_string));
        Self { provider, region, cache: Arc::default(), sts, roles: Arc::default() }
    }

    /// The configured region.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The keys; with `fresh` not from the cache. Concurrent callers share one reading.
    pub async fn keys(&self, fresh: bool) -> Result<Keys, AwsError> {
        let mut cache = self.cache.lock().await;
        let ttl = if fresh { REFRESH_INTERVAL } else { CACHE_TTL };
        if let Some((_, keys)) = cache.as_ref().filter(|(read, _)| read.elapsed() < ttl) {
            return Ok(keys.clone());
        }
        let Some(provider) = &self.provider else {
            return Err(AwsError::configuration("there are no AWS credentials to sign with"));
        };
        let found = provider.provide_credentials().await.map_err(|error| error_of(&error))?;
        let keys = keys_of(&found);
        *cache = Some((Instant::now(), keys.clone()));
        Ok(keys)
    }

    /// The keys of a role that this process assumes; with `fresh` not from the cache. Concurrent callers share one request.
    ///
    /// # Errors
    /// STS does not give them.
    pub async fn assumed(&self, role: &AssumedRole, fresh: bool) -> Result<Keys, AwsError> {
        let keys = self.role(role).await;
        if fresh {
            keys.forget_older_than(REFRESH_INTERVAL);
        }
        let found = keys.get().await.map_err(|error| {
            let (detail, permanent) = why(&error);
            let what = format!("the role `{}` cannot be assumed: {detail}", role.arn);
            if permanent { AwsError::configuration(what) } else { AwsError::passing(what) }
        })?;
        Ok(keys_of(&found))
    }

    async fn role(&self, role: &AssumedRole) -> CachedKeys {
        let mut roles = self.roles.lock().await;
        if let Some(known) = roles.get(role) {
            return known.clone();
        }
        let region = role.region.clone().map(Region::new);
        let keys = assume(&self.sts, (&role.arn, role.external_id.as_deref()), region).await;
        if roles.len() >= MOST_ROLES {
            roles.clear();
        }
        roles.insert(role.clone(), keys.clone());
        keys
    }
}

fn keys_of(found: &Credentials) -> Keys {
    Keys {
        access_key_id: found.access_key_id().to_owned(),
        secret_access_key: found.secret_access_key().to_owned(),
        session_token: found.session_token().map(str::to_owned),
    }
}

fn error_of(error: &CredentialsError) -> AwsError {
    let what = format!("the worker's own AWS credentials: {error}");
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            AwsError::configuration(what)
        }
        CredentialsError::ProviderTimedOut(_)
        | CredentialsError::ProviderError(_)
        | CredentialsError::Unhandled(_)
        | _ => AwsError::passing(what),
    }
}

/// The headers that sign a request: names and values.
pub fn signature(keys: &Keys, request: &ToSign<'_>) -> Result<Vec<(String, String)>, AwsError> {
    let Keys { access_key_id, secret_access_key, session_token } = keys.clone();
    let identity = Credentials::new(access_key_id, secret_access_key, session_token, None, "toolfleet");
    sign(&identity.into(), request)
}

/// The same with keys of the SDK.
pub(crate) fn sign(identity: &SdkIdentity, request: &ToSign<'_>) -> Result<Vec<(String, String)>, AwsError> {
    let broken =
        |why: &dyn fmt::Display| AwsError::configuration(format!("the request cannot be signed: {why}"));
    let since = Duration::from_millis(u64::try_from(request.at.as_ms()).unwrap_or_default());
    let params = v4::SigningParams::builder()
        .identity(identity)
        .region(request.region)
        .name(request.service)
        .time(SystemTime::UNIX_EPOCH + since)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| broken(&error))?
        .into();
    let body = SignableBody::Bytes(request.body);
    let headers = request.headers.iter().copied();
    let signable = SignableRequest::new(request.method, request.url, headers, body);
    let signable = signable.map_err(|error| broken(&error))?;
    let signed = http_request::sign(signable, &params).map_err(|error| broken(&error))?;
    let (headers, _) = signed.into_parts().0.into_parts();
    Ok(headers.into_iter().map(|header| (header.name().to_owned(), header.value().to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";

    fn signed(method: &str, path: &str, headers: &[(&str, &str)], token: Option<&str>) -> String {
        let keys = Keys {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: token.map(str::to_owned),
        };
        let request = ToSign {
            method,
            url: &format!("https://example.amazonaws.com{path}"),
            headers: headers.to_vec(),
            body: b"",
            service: "service",
            region: "us-east-1",
            at: Timestamp::parse("2015-08-30T12:36:00Z").unwrap(),
        };
        let headers = signature(&keys, &request).unwrap();
        let found = headers.into_iter().find(|(name, _)| name == "authorization").unwrap().1;
        found.split_once("SignedHeaders=").unwrap().1.to_owned()
    }

    /// AWS's own test suite of Signature Version 4 (`aws-sig-v4-test-suite`): the cases that our requests can look like.
    #[test]
    fn signatures_are_those_of_awss_published_test_vectors() {
        let plain = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        assert_eq!(signed("GET", "/", &[], None), format!("host;x-amz-date, Signature={plain}"));
        assert_eq!(
            signed("POST", "/", &[], None),
            "host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
        assert_eq!(
            signed("GET", "/?Param2=value2&Param1=value1", &[], None),
            "host;x-amz-date, Signature=b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
        );
        assert_eq!(
            signed("POST", "/", &[("My-Header1", "value1")], None),
            "host;my-header1;x-amz-date, Signature=c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"
        );
        assert_eq!(
            signed("GET", "/", &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")], None),
            "host;my-header1;my-header2;x-amz-date, Signature=acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"
        );
        assert_eq!(
            signed("GET", "/", &[], Some(TOKEN)),
            "host;x-amz-date;x-amz-security-token, Signature=07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"
        );
    }

    #[test]
    fn keys_do_not_print() {
        let keys = Keys {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "hunter2".to_owned(),
            session_token: Some("hunter3".to_owned()),
        };
        assert!(!format!("{keys:?}").contains("hunter"));
    }
}
