//! The error of an outbound request, and what a network failure proves about it.
//!
//! A failure counts as [`EgressError::Connect`] only where it proves that the server processed nothing.

use std::error::Error;
use std::io;
use std::iter::successors;

use rustls::AlertDescription;

use crate::policy::AddressRefused;
use crate::text::sanitize_text;

/// Why a request has no response, or its response no usable body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The policy does not allow the address. Nothing was sent.
    #[error("the server's address may not be called: {detail}")]
    AddressRefused {
        /// The host, its address, and the setting that would allow it.
        detail: String,
    },
    /// No connection: refused, DNS, TLS, or a refused HTTP/2 stream. The server processed nothing.
    #[error("cannot connect to the server: {detail}")]
    Connect {
        /// The innermost cause.
        detail: String,
    },
    /// The connection broke after the request was sent.
    #[error("the answer was lost: {detail}")]
    Interrupted {
        /// The innermost cause.
        detail: String,
    },
    /// The body has a content encoding that was not asked for.
    #[error("the server's answer cannot be decoded: {detail}")]
    Encoding {
        /// The encoding, and those that are accepted.
        detail: String,
    },
    /// The body is larger than the bound.
    #[error("the server's answer is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The bound.
        limit_bytes: u64,
    },
}

impl From<AddressRefused> for EgressError {
    fn from(refused: AddressRefused) -> Self {
        Self::AddressRefused { detail: refused.to_string() }
    }
}

/// The error of a request without a response; `sent` is whether its body had begun to be written.
pub fn request_error(error: reqwest::Error, sent: bool) -> EgressError {
    if let Some(refused) = cause_of_kind::<AddressRefused>(&error) {
        return refused.clone().into();
    }
    let not_processed =
        !sent || error.is_connect() || stream_refused(&error) || client_certificate_refused(&error).is_some();
    let detail = error_detail(error);
    if not_processed { EgressError::Connect { detail } } else { EgressError::Interrupted { detail } }
}

/// RFC 9113: a stream refused with `REFUSED_STREAM` (section 8.7), or opened after the last one that a GOAWAY names (6.8), was not
/// processed. h2 reports the peer's GOAWAY as a stream's error in that case only.
fn stream_refused(error: &reqwest::Error) -> bool {
    cause_of_kind::<h2::Error>(error).is_some_and(|h2| {
        h2.is_remote() && (h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// The TLS alert by which a server refuses our certificate, or refuses that there is none.
///
/// With TLS 1.3 the alert comes after our first bytes, but before the server reads any of them (RFC 8446, section 4.4.2.4). Once the
/// handshake is done no server sends one, because we offer no authentication after it.
pub fn client_certificate_refused(error: &reqwest::Error) -> Option<String> {
    let Some(rustls::Error::AlertReceived(alert)) = cause_of_kind(error) else {
        return None;
    };
    let about_certificate = matches!(
        alert,
        AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    );
    about_certificate.then(|| format!("TLS alert {alert:?}"))
}

/// The innermost cause of a network error, sanitised and without the URL, whose query may hold a secret.
pub fn error_detail(error: reqwest::Error) -> String {
    let error = error.without_url();
    let innermost = causes(&error).last().map(ToString::to_string).unwrap_or_default();
    match cause_of_kind::<rustls::Error>(&error) {
        Some(tls) => sanitize_text(&format!("TLS: {tls}")),
        None => sanitize_text(&innermost),
    }
}

/// The first cause of that type.
fn cause_of_kind<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The error and its causes.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    successors(Some(error as &(dyn Error + 'static)), |cause| cause_of(*cause))
}

/// The error that an I/O error wraps is returned by `get_ref`, not by `source`.
fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
