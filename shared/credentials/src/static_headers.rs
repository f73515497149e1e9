//! Credentials that are static headers: bearer, API key, basic, custom headers. Errors name the header, never its value.
//!
//! **Invariant:** every value it writes is marked as sensitive.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::try_join_all;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use toolfleet_core::credential::{Basic, Credential, Template};

use crate::error::CredentialError;
use crate::secrets::Secrets;

/// Headers whose values come from the catalog and from secrets.
#[derive(Debug)]
pub(crate) struct StaticHeaders {
    headers: Vec<(String, Template)>,
    basic: Option<Basic>,
    hasher: RandomState,
}

impl StaticHeaders {
    pub(crate) fn new(
        credential: &Credential,
        headers: impl IntoIterator<Item = (String, Template)>,
    ) -> Self {
        let mut headers: Vec<_> = headers.into_iter().collect();
        let mut basic = None;
        match credential {
            Credential::None
            | Credential::ClientCredentials(_)
            | Credential::Cognito(_)
            | Credential::AwsSigv4(_) => {}
            Credential::Bearer(bearer) => {
                let value = Template { before: "Bearer ".to_owned(), secret: Some(bearer.token.clone()) };
                headers.push((AUTHORIZATION.as_str().to_owned(), value));
            }
            Credential::ApiKey(key) => {
                let value = Template { before: String::new(), secret: Some(key.key.clone()) };
                headers.push((key.header.clone(), value));
            }
            Credential::Basic(of) => basic = Some(of.clone()),
            Credential::Headers(of) => {
                headers.extend(of.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        Self { headers, basic, hasher: RandomState::new() }
    }

    /// Writes the headers and returns a hash that changes with their values.
    pub(crate) async fn write(
        &self,
        secrets: Secrets<'_>,
        headers: &mut HeaderMap,
        fresh: bool,
    ) -> Result<u64, CredentialError> {
        let mut version = self.hasher.build_hasher();
        let values = self.headers.iter().map(|(_, value)| fill(secrets, value, fresh));
        for ((name, _), value) in self.headers.iter().zip(try_join_all(values).await?) {
            value.hash(&mut version);
            insert_header(headers, name, &value)?;
        }
        if let Some(basic) = &self.basic {
            let user = secrets.setting(&basic.username, fresh).await?;
            let password = secrets.reference(&basic.password, fresh).await?;
            if user.contains(':') {
                let detail = "the user of a basic credential contains `:`, which RFC 7617 does not allow";
                return Err(CredentialError::Unavailable { detail: detail.to_owned() });
            }
            let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
            secrets.scrubber.add(&pair);
            pair.hash(&mut version);
            insert_header(headers, AUTHORIZATION.as_str(), &format!("Basic {pair}"))?;
        }
        Ok(version.finish())
    }
}

/// The text of a value.
pub(crate) async fn fill(
    secrets: Secrets<'_>,
    value: &Template,
    fresh: bool,
) -> Result<String, CredentialError> {
    let Some(reference) = &value.secret else {
        // A plain value in the catalog may still be a credential, usually its last word.
        secrets.scrubber.add_suspected(&value.before);
        value.before.split(' ').next_back().into_iter().for_each(|word| secrets.scrubber.add_suspected(word));
        return Ok(value.before.clone());
    };
    let text = secrets.reference(reference, fresh).await?;
    Ok(format!("{}{}", value.before, text.expose()))
}

/// Writes one header and marks it as sensitive.
pub(crate) fn insert_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), CredentialError> {
    let (Ok(header), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
        let detail = format!("header `{name}` has a name or value that HTTP does not allow");
        return Err(CredentialError::Unavailable { detail });
    };
    value.set_sensitive(true);
    headers.insert(header, value);
    Ok(())
}
