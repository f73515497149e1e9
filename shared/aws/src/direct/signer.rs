//! Signs the requests of one template, which differ in body and date alone (Signature Version 4). What is the same in all of them is made once
//! for each day and each pair of keys.
//!
//! **Invariant:** the parts are used only after a signature made of them equalled that of `aws-sigv4` for the same request.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use toolfleet_core::digest::sha256;
use toolfleet_core::time::Timestamp;

use crate::identity::{ToSign, sign};

const DATE: &str = "x-amz-date";
const TOKEN: &str = "x-amz-security-token";

/// Headers that sign a request: names and values.
type Signature = Vec<(Cow<'static, str>, String)>;

/// The signer of the requests of one template.
pub(super) struct Signer {
    region: String,
    service: String,
    parts: ArcSwapOption<Parts>,
}

/// What is the same in all signatures of a day with the same keys.
struct Parts {
    keys: Credentials,
    day: String,
    key: Vec<u8>,
    scope: String,
    /// The canonical request up to the date, and from there up to the digest of the body.
    canonical: [String; 2],
    /// The header up to the signature.
    authorization: String,
    /// Whether signatures are made of these parts; if not, by `aws-sigv4`.
    used: bool,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, service, parts: _ } = self;
        f.debug_struct("Signer").field("region", region).field("service", service).finish_non_exhaustive()
    }
}

impl Signer {
    pub(super) fn new(region: String, service: String) -> Self {
        Self { region, service, parts: ArcSwapOption::empty() }
    }

    /// The signature of `request` with that body; `None` if it cannot be signed.
    pub(super) fn sign(
        &self,
        request: &HttpRequest,
        identity: &Identity,
        body: &[u8],
        at: Timestamp,
    ) -> Option<Signature> {
        let keys = identity.data::<Credentials>()?;
        let date = date_of(at);
        let parts = self.parts.load();
        match parts.as_ref().filter(|parts| date.starts_with(&parts.day) && parts.keys == *keys) {
            Some(parts) if parts.used => Some(parts.sign(date, body)),
            Some(_) => self.by_aws(request, identity, body, at),
            None => {
                let signature = self.by_aws(request, identity, body, at)?;
                let parts = self.parts_of(request, keys, &date, at, &signature);
                let own = parts.sign(date, body);
                let used =
                    own.len() == signature.len() && own.iter().all(|header| signature.contains(header));
                self.parts.store(Some(Arc::new(Parts { used, ..parts })));
                Some(signature)
            }
        }
    }

    fn by_aws(
        &self,
        request: &HttpRequest,
        identity: &Identity,
        body: &[u8],
        at: Timestamp,
    ) -> Option<Signature> {
        let to_sign = ToSign {
            method: request.method(),
            url: request.uri(),
            headers: request.headers().iter().collect(),
            body,
            service: &self.service,
            region: &self.region,
            at,
        };
        let headers = sign(identity, &to_sign).ok()?;
        Some(headers.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// The parts of a signature of `aws-sigv4`. It says which headers are signed.
    fn parts_of(
        &self,
        request: &HttpRequest,
        keys: &Credentials,
        date: &str,
        at: Timestamp,
        signature: &Signature,
    ) -> Parts {
        let Self { region, service, .. } = self;
        let day = date.get(..8).unwrap_or_default().to_owned();
        let authorization = signature.iter().find(|(name, _)| name == "authorization");
        let authorization = authorization.map_or("", |(_, value)| value.as_str());
        let names = authorization.split_once("SignedHeaders=").map_or("", |(_, rest)| rest);
        let names = names.split(',').next().unwrap_or_default();
        let (mut before, mut after) = (format!("{}\n/\n\n", request.method()), String::new());
        let mut part = &mut before;
        for name in names.split(';') {
            let value = match name {
                "host" => request.headers().get(name).unwrap_or_else(|| host_of(request.uri())),
                TOKEN => keys.session_token().unwrap_or_default(),
                DATE => "",
                _ => request.headers().get(name).unwrap_or_default(),
            };
            part.push_str(&[name, ":", value].concat());
            if name == DATE {
                part = &mut after;
            }
            part.push('\n');
        }
        part.push_str(&["\n", names, "\n"].concat());
        let since = Duration::from_millis(u64::try_from(at.as_ms()).unwrap_or_default());
        let key =
            generate_signing_key(keys.secret_access_key(), SystemTime::UNIX_EPOCH + since, region, service);
        let (prefix, _) = authorization.rsplit_once('=').unwrap_or_default();
        Parts {
            keys: keys.clone(),
            scope: format!("{day}/{region}/{service}/aws4_request"),
            day,
            key: key.as_ref().to_vec(),
            canonical: [before, after],
            authorization: format!("{prefix}="),
            used: false,
        }
    }
}

impl Parts {
    fn sign(&self, date: String, body: &[u8]) -> Signature {
        let [before, after] = &self.canonical;
        let canonical = [before.as_str(), &date, after, &sha256(body)].concat();
        let to_sign =
            ["AWS4-HMAC-SHA256\n", &date, "\n", &self.scope, "\n", &sha256(canonical.as_bytes())].concat();
        let signature = calculate_signature(&self.key, to_sign.as_bytes());
        let mut headers = vec![
            (DATE.into(), date),
            ("authorization".into(), [self.authorization.as_str(), &signature].concat()),
        ];
        headers.extend(self.keys.session_token().map(|token| (TOKEN.into(), token.to_owned())));
        headers
    }
}

/// A date such as `20261130T083000Z`.
fn date_of(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds = text.get(..19).unwrap_or_default();
    seconds.chars().filter(char::is_ascii_alphanumeric).chain(['Z']).collect()
}

/// The `Host` of a request to that address.
fn host_of(uri: &str) -> &str {
    let (scheme, rest) = uri.split_once("://").unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(default_port).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn request(uri: &str) -> HttpRequest {
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_method("POST").unwrap();
        request.set_uri(uri).unwrap();
        for (name, value) in [
            ("user-agent", "sdk"),
            ("content-type", "json"),
            ("x-amz-target", "T.Op"),
            ("x-amz-user-agent", "sdk"),
        ] {
            request.headers_mut().insert(name, value);
        }
        request
    }

    fn keys(secret: &str, token: Option<&str>) -> Identity {
        Credentials::new("AKID", secret, token.map(str::to_owned), None, "test").into()
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn signer() -> Signer {
        Signer::new("eu-west-1".to_owned(), "sqs".to_owned())
    }

    fn sorted(signature: Option<Signature>) -> Signature {
        let mut signature = signature.unwrap();
        signature.sort();
        signature
    }

    /// Whether signatures after the first are made of parts; each equals that of `aws-sigv4`.
    fn uses_parts(uri: &str) -> bool {
        let (signer, request) = (signer(), request(uri));
        let days = ["2026-11-30T23:59:59Z", "2026-12-01T00:00:00.999Z"].map(at);
        let identities = [keys("s1", None), keys("s2", None), keys("s2", Some("t1")), keys("s2", Some("t2"))];
        for (identity, day) in identities.iter().flat_map(|identity| days.map(|day| (identity, day))) {
            for body in ["first", "", "third"] {
                let signed = signer.sign(&request, identity, body.as_bytes(), day);
                let by_aws = signer.by_aws(&request, identity, body.as_bytes(), day);
                assert_eq!(sorted(signed), sorted(by_aws), "{uri}, {body}");
            }
        }
        let parts = signer.parts.load();
        parts.as_ref().unwrap().used
    }

    #[test]
    fn signatures_are_those_of_aws_whatever_the_keys_and_the_day() {
        for uri in [
            "https://sqs.eu-west-1.amazonaws.com/",
            "https://a.b:443/",
            "http://127.0.0.1:9324/",
            "http://a:80",
        ] {
            assert!(uses_parts(uri), "{uri}");
        }
    }

    #[test]
    fn an_address_with_a_path_is_signed_by_aws() {
        assert!(!uses_parts("http://127.0.0.1:8000/path?a=b"));
    }

    #[test]
    fn the_keys_do_not_print() {
        let signer = signer();
        let _signed = signer.sign(
            &request("https://a/"),
            &keys("hunter2", Some("hunter3")),
            b"",
            at("2026-11-30T00:00:00Z"),
        );
        assert!(!format!("{signer:?}").contains("hunter"));
    }
}
