//! Owns the credentials that are headers and nothing else: bearer, API key, basic, custom headers.
//!
//! **Invariant:** every value it writes is marked as sensitive; an error names the header, never its value.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::try_join_all;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use toolfleet_core::credential::{Basic, Credential, Secret, SecretRef, Setting, Template};
use toolfleet_core::fault::Fault;

use super::keyring::{Keyring, SecretText};
use super::seen::SecretScrubber;

/// Headers that come from the catalog and from secrets.
#[derive(Debug)]
pub(crate) struct Fixed {
    headers: Vec<(String, Template)>,
    basic: Option<Basic>,
    hasher: RandomState,
}

impl Fixed {
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

    /// Writes the headers and returns a mark that changes with their values.
    pub(crate) async fn stamp(
        &self,
        keyring: &dyn Keyring,
        seen: &SecretScrubber,
        headers: &mut HeaderMap,
        fresh: bool,
    ) -> Result<u64, Fault> {
        let mut mark = self.hasher.build_hasher();
        let values = self.headers.iter().map(|(_, value)| fill(keyring, seen, value, fresh));
        for ((name, _), value) in self.headers.iter().zip(try_join_all(values).await?) {
            value.hash(&mut mark);
            write(headers, name, &value)?;
        }
        if let Some(basic) = &self.basic {
            let user = setting(keyring, seen, &basic.username, fresh).await?;
            let password = kept(keyring, seen, &basic.password, fresh).await?;
            if user.contains(':') {
                let detail = "the user of a basic credential contains `:`, which RFC 7617 does not allow";
                return Err(Fault::Credential { detail: detail.to_owned() });
            }
            let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
            seen.add(&pair);
            pair.hash(&mut mark);
            write(headers, AUTHORIZATION.as_str(), &format!("Basic {pair}"))?;
        }
        Ok(mark.finish())
    }
}

/// The text of a setting of the catalog. One that is kept as a secret, a user's name for example, is taken out of faults, but
/// no tool's result is changed for it.
pub(crate) async fn setting(
    keyring: &dyn Keyring,
    seen: &SecretScrubber,
    setting: &Setting,
    fresh: bool,
) -> Result<String, Fault> {
    match setting {
        Setting::Plain(text) => Ok(text.clone()),
        Setting::Secret(of) => {
            let text = read(keyring, of, fresh).await?;
            seen.suspect(text.expose());
            Ok(text.expose().to_owned())
        }
    }
}

/// The text of a secret, remembered so that no echo of it leaves the client.
pub(super) async fn secret(
    keyring: &dyn Keyring,
    seen: &SecretScrubber,
    of: &Secret,
    fresh: bool,
) -> Result<SecretText, Fault> {
    let text = read(keyring, of, fresh).await?;
    seen.add(text.expose());
    Ok(text)
}

async fn read(keyring: &dyn Keyring, of: &Secret, fresh: bool) -> Result<SecretText, Fault> {
    match of {
        Secret::Kept(reference) => read_kept(keyring, reference, fresh).await,
        Secret::Inline(text) => Ok(SecretText::new(text.expose())),
    }
}

async fn read_kept(keyring: &dyn Keyring, of: &SecretRef, fresh: bool) -> Result<SecretText, Fault> {
    let text = keyring.secret(of, fresh).await?;
    // Files and consoles leave a line end behind a secret.
    Ok(SecretText::new(text.expose().trim_end_matches(['\r', '\n'])))
}

/// The text of a secret that is kept elsewhere, remembered likewise.
pub(crate) async fn kept(
    keyring: &dyn Keyring,
    seen: &SecretScrubber,
    reference: &SecretRef,
    fresh: bool,
) -> Result<SecretText, Fault> {
    let text = read_kept(keyring, reference, fresh).await?;
    seen.add(text.expose());
    Ok(text)
}

async fn fill(
    keyring: &dyn Keyring,
    seen: &SecretScrubber,
    value: &Template,
    fresh: bool,
) -> Result<String, Fault> {
    let Some(reference) = &value.secret else {
        // A value in the catalog itself may be a credential all the same, and then its last word is.
        seen.suspect(&value.before);
        value.before.split(' ').next_back().into_iter().for_each(|word| seen.suspect(word));
        return Ok(value.before.clone());
    };
    let text = kept(keyring, seen, reference, fresh).await?;
    Ok(format!("{}{}", value.before, text.expose()))
}

/// Writes one header and marks it as sensitive.
pub(crate) fn write(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), Fault> {
    let (Ok(header), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
        let detail = format!("header `{name}` has a name or value that HTTP does not allow");
        return Err(Fault::Credential { detail });
    };
    value.set_sensitive(true);
    headers.insert(header, value);
    Ok(())
}
