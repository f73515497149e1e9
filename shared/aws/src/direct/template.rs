//! What the SDK made of its last request of an operation: the next ones are made after it.
//!
//! Address, headers, region, credentials, HTTP client and time-outs are the SDK's own, so there is no second configuration. So is its correction of
//! a wrong clock: the date of its request less the time at which it was made.

use std::time::{Duration, SystemTime};

use aws_smithy_runtime_api::client::auth::AuthSchemeId;
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector as _, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::identity::{
    ResolveCachedIdentity as _, SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::{GetIdentityResolver as _, RuntimeComponents};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::Bytes;
use tokio::time::Instant;
use toolfleet_core::time::Timestamp;

use super::signer::Signer;
use crate::error::chain;

const SIGNED_BY_KEYS: AuthSchemeId = AuthSchemeId::new("sigv4");
/// Headers of a single request.
const NOT_COPIED: [&str; 7] = [
    "authorization",
    "x-amz-date",
    "x-amz-security-token",
    "content-length",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "x-amzn-trace-id",
];

/// A request of the SDK without its body, date and signature, and what is needed to send one like it.
#[derive(Debug)]
pub(super) struct Template {
    request: HttpRequest,
    signer: Signer,
    /// The SDK's clock less this machine's, in milliseconds.
    ahead_ms: i64,
    connector: SharedHttpConnector,
    identities: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    made_at: Instant,
}

impl Template {
    pub(super) fn of(
        request: &HttpRequest,
        components: &RuntimeComponents,
        settings: &ConfigBag,
    ) -> Option<Self> {
        let scope = Scope::of(request.headers().get("authorization")?)?;
        let now = wall_ms(components)?;
        let date = date_of(request.headers().get("x-amz-date")?)?;
        let time_outs = settings.load::<TimeoutConfig>()?;
        let mut connector = HttpConnectorSettings::builder();
        connector.set_connect_timeout(time_outs.connect_timeout());
        connector.set_read_timeout(time_outs.read_timeout());
        let connector = components.http_client()?.http_connector(&connector.build(), components);
        let mut copy = HttpRequest::new(SdkBody::empty());
        copy.set_method(request.method()).ok()?;
        copy.set_uri(request.uri()).ok()?;
        for (name, value) in request.headers().iter().filter(|(name, _)| !NOT_COPIED.contains(name)) {
            copy.headers_mut().try_append(name.to_owned(), value.to_owned()).ok()?;
        }
        Some(Self {
            request: copy,
            signer: Signer::new(scope.region, scope.service),
            ahead_ms: correction_ms(date, now),
            connector,
            identities: components.identity_cache(),
            resolver: components.identity_resolver(SIGNED_BY_KEYS)?,
            components: components.clone(),
            made_at: Instant::now(),
        })
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.made_at)
    }

    /// Status and body of the answer. `count` is called if something is sent.
    pub(super) async fn send(&self, body: Vec<u8>, count: impl FnOnce()) -> Result<(u16, Bytes), Unanswered> {
        let request = self.signed(body).await.ok_or(Unanswered::Unsigned)?;
        count();
        let answer = self.connector.call(request).await.map_err(|error| Unanswered::broken(&error))?;
        let status = answer.status().as_u16();
        let body = ByteStream::new(answer.into_body()).collect().await;
        Ok((status, body.map_err(|error| Unanswered::broken(&error))?.into_bytes()))
    }

    async fn signed(&self, body: Vec<u8>) -> Option<HttpRequest> {
        let no_settings = ConfigBag::base();
        let resolver = self.resolver.clone();
        let identity = self.identities.resolve_cached_identity(resolver, &self.components, &no_settings);
        let identity = identity.await.ok()?;
        let mut request = self.request.try_clone()?;
        let at = Timestamp::from_ms(wall_ms(&self.components)?.saturating_add(self.ahead_ms));
        for (name, value) in self.signer.sign(&self.request, &identity, &body, at)? {
            request.headers_mut().try_insert(name, value).ok()?;
        }
        *request.body_mut() = SdkBody::from(body);
        Some(request)
    }
}

/// Why a request has no answer.
pub(super) enum Unanswered {
    /// Nothing was sent: there are no credentials.
    Unsigned,
    /// No connection, or one that broke.
    Broken(String),
}

impl Unanswered {
    fn broken(error: &dyn std::error::Error) -> Self {
        Self::Broken(chain(error))
    }
}

/// Region and service of a signature.
struct Scope {
    region: String,
    service: String,
}

impl Scope {
    /// Of an `Authorization` header of Signature Version 4; others have no scope of one region.
    fn of(authorization: &str) -> Option<Self> {
        let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=")?;
        let mut parts = rest.split(',').next()?.rsplit('/').skip(1).map(str::to_owned);
        let service = parts.next()?;
        Some(Self { region: parts.next()?, service })
    }
}

fn wall_ms(components: &RuntimeComponents) -> Option<i64> {
    let since = components.time_source()?.now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// The milliseconds of a date such as `20261130T083000Z`.
fn date_of(text: &str) -> Option<i64> {
    let part = |from: usize, to: usize| text.get(from..to);
    let (date, time) = (
        [part(0, 4)?, part(4, 6)?, part(6, 8)?].join("-"),
        [part(9, 11)?, part(11, 13)?, part(13, 15)?].join(":"),
    );
    Timestamp::parse(&format!("{date}T{time}Z")).ok().map(Timestamp::as_ms)
}

/// A date has whole seconds: less than two are no correction.
const fn correction_ms(date: i64, now: i64) -> i64 {
    let ahead = date.saturating_sub(now);
    if ahead.abs() < 2_000 { 0 } else { ahead }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_is_that_of_the_sdks_signature() {
        let header = "AWS4-HMAC-SHA256 Credential=AKID/20261130/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=0";
        let scope = Scope::of(header).unwrap();
        assert_eq!((scope.region.as_str(), scope.service.as_str()), ("eu-west-1", "sqs"));
        assert!(Scope::of("Bearer x").is_none());
        assert!(Scope::of("AWS4-ECDSA-P256-SHA256 Credential=AKID/20261130/sqs/aws4_request").is_none());
    }

    #[test]
    fn a_corrected_clock_is_taken_over() {
        let at = Timestamp::parse("2026-11-30T08:30:00Z").unwrap().as_ms();
        assert_eq!(date_of("20261130T083000Z"), Some(at));
        assert_eq!(date_of("today"), None);
        assert_eq!((correction_ms(at, at + 999), correction_ms(at, at + 3_600_000)), (0, -3_600_000));
    }
}
